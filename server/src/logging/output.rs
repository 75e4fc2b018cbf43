//! Where lines of the log go: standard streams, files that may rotate, the journal.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{self, FormatTime};

use crate::config::settings::{LogOutput, LogRotation};

const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";
const MEGABYTE: u64 = 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// All outputs of the log; a line goes to each.
#[derive(Clone)]
pub(super) struct Outputs {
    all: Arc<Mutex<Vec<Output>>>,
}

enum Output {
    Stderr,
    Stdout,
    Journal(UnixDatagram),
    File(LogFile),
}

impl Outputs {
    /// Opens everything; a file that cannot be opened is an error, not a lost log.
    pub(super) fn open(outputs: &[LogOutput]) -> io::Result<Outputs> {
        let all = outputs.iter().map(Output::open).collect::<io::Result<_>>()?;
        Ok(Outputs { all: Arc::new(Mutex::new(all)) })
    }
}

impl Output {
    fn open(output: &LogOutput) -> io::Result<Output> {
        Ok(match output {
            LogOutput::Stderr => Output::Stderr,
            LogOutput::Stdout => Output::Stdout,
            LogOutput::Journal => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(JOURNAL_SOCKET).map_err(|error| {
                    io::Error::new(error.kind(), format!("cannot reach the journal: {error}"))
                })?;
                Output::Journal(socket)
            }
            LogOutput::File { path, rotation } => {
                let file = LogFile::open(path.clone(), *rotation).map_err(|error| {
                    let text = format!("cannot open the log {}: {error}", path.display());
                    io::Error::new(error.kind(), text)
                })?;
                Output::File(file)
            }
        })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self {
            Output::Stderr => io::stderr().write_all(line),
            Output::Stdout => io::stdout().write_all(line),
            Output::Journal(socket) => socket.send(&journal_message(line)).map(drop),
            Output::File(file) => file.write(line),
        }
    }
}

impl<'a> MakeWriter<'a> for Outputs {
    type Writer = Outputs;

    fn make_writer(&'a self) -> Outputs {
        self.clone()
    }
}

/// tracing's layer writes each line whole.
impl Write for Outputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failed = None;
        for output in all.iter_mut() {
            // A full disk under one output must not silence the others.
            failed = output.write(line).err().or(failed);
        }
        failed.map_or(Ok(line.len()), Err)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The journal's own form (systemd's "Native Journal Protocol"). The priority is found where both
/// forms of a line have the level, at its beginning.
fn journal_message(line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let head = String::from_utf8_lossy(&line[..line.len().min(64)]).into_owned();
    let priority = [("debug", 7), ("warn", 4), ("error", 3), ("fatal", 2), ("info", 6)]
        .into_iter()
        .find(|(level, _)| {
            head.contains(&format!("\"level\":\"{level}\""))
                || head.contains(&format!("\t{level}\t"))
        })
        .map_or(6, |(_, priority)| priority);
    let mut message =
        format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=etcd\nMESSAGE\n").into_bytes();
    message.extend_from_slice(&(line.len() as u64).to_le_bytes());
    message.extend_from_slice(line);
    message.push(b'\n');
    message
}

/// A file that begins anew when it has grown too large. Its former contents keep the name with the
/// time of the change in it, as lumberjack does it for etcd: `etcd-2026-01-02T15-04-05.000.log`.
struct LogFile {
    path: PathBuf,
    rotation: Option<LogRotation>,
    file: File,
    size: u64,
    /// The size at which it is tried again to begin anew, after that has failed.
    retry_at: u64,
}

impl LogFile {
    fn open(path: PathBuf, rotation: Option<LogRotation>) -> io::Result<LogFile> {
        // Who may read a new file is etcd's: zap's choice, and lumberjack's of one that rotates.
        let mode = if rotation.is_some() { 0o600 } else { 0o644 };
        let file = OpenOptions::new().create(true).append(true).mode(mode).open(&path)?;
        let size = file.metadata()?.len();
        Ok(LogFile { path, rotation, file, size, retry_at: 0 })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if let Some(rotation) = self.rotation
            && self.size > 0
            && self.size + line.len() as u64
                > rotation.max_size_megabytes.saturating_mul(MEGABYTE).max(self.retry_at)
        {
            return self.begin_anew(line, rotation);
        }
        self.append(line)
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    /// Writes `line` as the first of a new file. Whatever fails, it is written, if need be to the
    /// old file: better one that is too large than a log that has fallen silent.
    fn begin_anew(&mut self, line: &[u8], rotation: LogRotation) -> io::Result<()> {
        let rotated = self.rotate();
        if rotated.is_err() {
            self.retry_at = self.size.saturating_add(MEGABYTE);
        }
        self.append(line)?;
        rotated.and_then(|()| remove_old(&self.path, rotation))
    }

    fn rotate(&mut self) -> io::Result<()> {
        let kept = backup_name(&self.path, &now_for_a_name()?);
        match fs::rename(&self.path, &kept) {
            // Somebody has moved or removed it already.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        *self = LogFile::open(self.path.clone(), self.rotation)?;
        Ok(())
    }
}

fn now_for_a_name() -> io::Result<String> {
    let mut text = String::new();
    time::SystemTime.format_time(&mut Writer::new(&mut text)).map_err(io::Error::other)?;
    // 2026-01-02T15:04:05.123456Z becomes 2026-01-02T15-04-05.123456.
    Ok(text.trim_end_matches('Z').replace(':', "-"))
}

fn backup_name(path: &Path, time: &str) -> PathBuf {
    let (stem, extension) = name_parts(path);
    path.with_file_name(format!("{stem}-{time}{extension}"))
}

fn name_parts(path: &Path) -> (String, String) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let extension = path.extension().map(|text| format!(".{}", text.to_string_lossy()));
    (stem, extension.unwrap_or_default())
}

/// Removes the backups that are too many or too old.
fn remove_old(path: &Path, rotation: LogRotation) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let (stem, extension) = name_parts(path);
    let prefix = format!("{stem}-");
    let mut backups = Vec::new();
    for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&prefix) && name.ends_with(&extension) {
            backups.push((name, entry.path()));
        }
    }
    // The newest first: the time in the name sorts.
    backups.sort_by(|a, b| b.0.cmp(&a.0));
    let age_limit = DAY.saturating_mul(u32::try_from(rotation.max_age_days).unwrap_or(u32::MAX));
    for (index, (_, path)) in backups.iter().enumerate() {
        let modified = fs::metadata(path)?.modified()?;
        let age = SystemTime::now().duration_since(modified).unwrap_or_default();
        let too_many = rotation.max_backups > 0 && index as u64 >= rotation.max_backups;
        if too_many || (rotation.max_age_days > 0 && age > age_limit) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const ROTATION: LogRotation = LogRotation {
        max_size_megabytes: 1,
        max_age_days: 0,
        max_backups: 0,
        local_time: false,
        compress: false,
    };

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("coracle-{name}-{}", std::process::id()));
        _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn log_01_a_line_goes_to_every_file() {
        let folder = scratch("outputs");
        let files = ["a.log", "b.log"].map(|name| folder.join(name));
        let outputs = files.clone().map(|path| LogOutput::File { path, rotation: None });
        let mut outputs = Outputs::open(&outputs).unwrap();
        outputs.write_all(b"one\n").unwrap();
        outputs.write_all(b"two\n").unwrap();
        for file in files {
            assert_eq!(fs::read_to_string(file).unwrap(), "one\ntwo\n");
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn log_01_others_may_read_a_file_that_does_not_rotate() {
        let folder = scratch("modes");
        // What the mask of this process leaves.
        let masked = |mode: u32| {
            let path = folder.join(format!("{mode:o}"));
            OpenOptions::new().create(true).append(true).mode(mode).open(&path).unwrap();
            fs::metadata(&path).unwrap().permissions().mode()
        };
        for (rotation, mode) in [(None, 0o644), (Some(ROTATION), 0o600)] {
            let path = folder.join("etcd.log");
            LogFile::open(path.clone(), rotation).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode(), masked(mode));
            fs::remove_file(path).unwrap();
        }
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn log_01_a_large_file_rotates_and_old_ones_go() {
        let folder = scratch("rotation");
        let path = folder.join("etcd.log");
        let rotation = LogRotation { max_backups: 2, ..ROTATION };
        let mut file = LogFile::open(path.clone(), Some(rotation)).unwrap();
        let line = vec![b'x'; 700_000];
        for _ in 0..5 {
            file.write(&line).unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(names[0].starts_with("etcd-20") && names[0].ends_with(".log"), "{names:?}");
        assert_eq!(names[2], "etcd.log");
        assert_eq!(fs::metadata(&path).unwrap().len(), 700_000);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn log_01_a_rotation_that_fails_silences_nothing() {
        let folder = scratch("failing-rotation");
        let inner = folder.join("logs");
        fs::create_dir(&inner).unwrap();
        let path = inner.join("etcd.log");
        let mut file = LogFile::open(path.clone(), Some(ROTATION)).unwrap();
        let line = vec![b'x'; 700_000];
        file.write(&line).unwrap();
        // The folder has another name: neither renaming nor opening works.
        let elsewhere = folder.join("elsewhere");
        fs::rename(&inner, &elsewhere).unwrap();
        assert!(file.write(&line).is_err());
        file.write(b"tried again only later\n").unwrap();
        let moved = elsewhere.join("etcd.log");
        assert_eq!(fs::metadata(&moved).unwrap().len(), 1_400_023);
        // It is back; and then somebody takes the file away.
        fs::rename(&elsewhere, &inner).unwrap();
        for _ in 0..2 {
            file.write(&line).unwrap();
        }
        assert_eq!(fs::metadata(&path).unwrap().len(), 700_000);
        fs::remove_file(&path).unwrap();
        file.write(&line).unwrap();
        assert_eq!(fs::read(&path).unwrap(), line);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn log_01_the_journal_gets_priority_and_message() {
        let message = journal_message(b"{\"level\":\"warn\",\"msg\":\"x\"}\n");
        let text = String::from_utf8_lossy(&message);
        assert!(text.starts_with("PRIORITY=4\nSYSLOG_IDENTIFIER=etcd\nMESSAGE\n"), "{text}");
        assert!(message.ends_with(b"\"msg\":\"x\"}\n"));
        let console = journal_message(b"2026-01-02T15:04:05Z\terror\ta.rs:1\tx\n");
        assert!(console.starts_with(b"PRIORITY=3\n"));
    }
}
