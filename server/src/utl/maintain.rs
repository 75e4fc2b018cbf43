//! `defrag` and `migrate`: a data directory of ours, while no member runs on it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

use coracle_core::backend::{Backend, BackendOptions};
use coracle_core::node::STORAGE_VERSION;
use coracle_core::platform::Disk;
use coracle_ctl::args::Parsed;
use coracle_ctl::go::parse_i64;

use super::Failure;
use super::adopt::etcds_database;
use crate::platform::NativeDisk;

/// Between two attempts to lock a directory that is in use.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// The oldest version that etcd's migration knows.
const OLDEST_VERSION: (i64, i64) = (3, 5);

/// Opens and locks the member's folder in `data_dir`, which must hold one; waits for the lock as
/// long as the flag `--timeout` says.
pub(super) fn open(data_dir: &str, parsed: &Parsed) -> Result<Arc<dyn Disk>, Failure> {
    let path = Path::new(data_dir);
    if let Some(database) = etcds_database(path) {
        return Err(Failure::error(format!(
            "{data_dir} is a data directory of etcd's own, not Coracle's: make it one by starting \
             on it, or with `snapshot restore {} --skip-hash-check`",
            database.display()
        )));
    }
    if !path.join("member").is_dir() {
        return Err(Failure::error(format!("{data_dir} is not a data directory")));
    }
    let patience = parsed.duration("timeout");
    let begun = Instant::now();
    loop {
        match NativeDisk::open(path, true) {
            Ok(disk) => return Ok(Arc::new(disk)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !patience.is_zero() && begun.elapsed() >= patience {
                    return Err(Failure::error(error));
                }
                thread::sleep(LOCK_PAUSE);
            }
            Err(error) => return Err(Failure::error(error)),
        }
    }
}

pub(super) fn defrag(parsed: &Parsed) -> Result<String, Failure> {
    let data_dir = parsed.text("data-dir");
    let defragment = || -> Result<(), Failure> {
        let backend = Backend::open(open(data_dir, parsed)?, BackendOptions::default());
        let backend = backend.map_err(Failure::error)?;
        let before = backend.size();
        backend.defragment().map_err(Failure::error)?;
        let after = backend.size();
        tracing::info!(data_dir, before, after, "finished defragmenting directory");
        Ok(())
    };
    defragment().map_err(|failure| {
        let reason = failure.message;
        Failure::error(format!("Failed to defragment etcd data[{data_dir}] ({reason})"))
    })?;
    Ok(String::new())
}

/// Our directories have one form, whatever version of etcd they are told to be for.
pub(super) fn migrate(parsed: &Parsed) -> Result<String, Failure> {
    let target = parsed.text("target-version");
    if target.matches('.').count() != 1 {
        let message = format!("wrong target version format, expected \"X.Y\", got {target:?}");
        return Err(Failure::arguments(message));
    }
    let number = |text: &str| {
        let number = parse_i64(text, 10);
        number
            .map_err(|error| Failure::arguments(format!("failed to parse target version: {error}")))
    };
    let (major, minor) = target.split_once('.').unwrap_or((target, ""));
    let version = (number(major)?, number(minor)?);
    if version < OLDEST_VERSION {
        let message = format!("target version {target:?} not supported. Minimal \"3.5\"");
        return Err(Failure::arguments(message));
    }
    let data_dir = parsed.text("data-dir");
    open(data_dir, parsed)?;
    let (own, _) = STORAGE_VERSION.rsplit_once('.').unwrap_or((STORAGE_VERSION, ""));
    if target != own {
        return Err(Failure::error(format!(
            "a Coracle data directory is of storage version {own} and cannot become {target}: to \
             go to etcd {target}, save a snapshot and restore it there with `etcdutl snapshot \
             restore`"
        )));
    }
    tracing::info!(storage_version = own, "storage version up-to-date");
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::utl::GLOBAL;
    use crate::utl::commands::ROOT;

    fn parsed(command: &str, words: &[&str]) -> Parsed {
        let words: Vec<_> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let command = ROOT.subcommand(command.as_bytes()).unwrap();
        Parsed::parse(&[command.flags, &GLOBAL], &words).unwrap()
    }

    fn data_dir() -> (TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        NativeDisk::open(folder.path(), false).unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        (folder, path)
    }

    #[test]
    fn what_a_directory_is_migrated_to_is_told_as_etcdutl_tells_it() {
        let (_folder, path) = data_dir();
        for (target, complaint) in [
            ("3", "wrong target version format, expected \"X.Y\", got \"3\""),
            ("3.7.1", "wrong target version format, expected \"X.Y\", got \"3.7.1\""),
            (
                "3.a",
                "failed to parse target version: strconv.ParseInt: parsing \"a\": invalid syntax",
            ),
            ("3.4", "target version \"3.4\" not supported. Minimal \"3.5\""),
        ] {
            let words = ["--data-dir", &path, "--target-version", target];
            let failure = migrate(&parsed("migrate", &words)).unwrap_err();
            assert_eq!((failure.exit, &failure.message[..]), (128, complaint));
        }
        let words = ["--data-dir", &path, "--target-version", "3.6"];
        let failure = migrate(&parsed("migrate", &words)).unwrap_err();
        assert!(failure.message.contains("cannot become 3.6"), "{}", failure.message);
        assert!(
            migrate(&parsed("migrate", &["--data-dir", &path, "--target-version", "3.7"])).is_ok()
        );
    }

    #[test]
    fn fs_01_a_command_waits_for_a_directory_in_use_until_its_timeout() {
        let (_folder, path) = data_dir();
        let disk = NativeDisk::open(Path::new(&path), false).unwrap();
        let failure = defrag(&parsed("defrag", &["--data-dir", &path, "--timeout", "10ms"]));
        let message = failure.unwrap_err().message;
        assert!(message.contains("is in use by another process"), "{message}");
        let waiting = {
            let path = path.clone();
            thread::spawn(move || defrag(&parsed("defrag", &["--data-dir", &path])))
        };
        thread::sleep(LOCK_PAUSE * 2);
        drop(disk);
        assert!(waiting.join().unwrap().is_ok());
    }
}
