//! Values that are made of files, and made anew when the files' content has changed.

use std::path::Path;
use std::sync::Arc;
use std::{fmt, fs, io};

use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// The contents of some files, in the order of their paths.
pub(super) type Contents = Vec<Vec<u8>>;

/// How a value is made of contents.
type Make<T> = Box<dyn Fn(&Contents) -> Result<T, String> + Send>;

/// A value that follows its files.
///
/// The files are compared whole: a copy may keep the time and the length of what it replaces, and
/// two small files of the page cache cost far less than the handshake that they are read for.
///
/// They are read on a thread that may wait for a slow disk, and by one handshake at a time: a disk
/// that does not answer holds up the handshakes alone, and costs one thread.
pub(super) struct Reloaded<T> {
    paths: String,
    state: Arc<Mutex<State<T>>>,
}

struct State<T> {
    paths: Vec<String>,
    make: Make<T>,
    contents: Contents,
    value: T,
    /// Why the files do not make a value at present.
    complaint: Option<String>,
}

impl<T: Clone + Send + 'static> Reloaded<T> {
    /// The first value. Its failure names the file.
    pub(super) fn load(
        paths: Vec<String>,
        make: impl Fn(&Contents) -> Result<T, String> + Send + 'static,
    ) -> Result<Reloaded<T>, String> {
        let contents = read(&paths)?;
        let names = paths.join(", ");
        let value = make(&contents).map_err(|error| format!("{names}: {error}"))?;
        let state = State { paths, make: Box::new(make), contents, value, complaint: None };
        Ok(Reloaded { paths: names, state: Arc::new(Mutex::new(state)) })
    }

    /// The value of what the files hold now. While they hold nothing usable (a certificate was
    /// replaced and its key not yet) it is the former one, and a warning is logged. Fails only when
    /// the runtime ends.
    pub(super) async fn current(&self) -> io::Result<T> {
        // The thread keeps the lock, also if nobody waits for it any more.
        let mut state = self.state.clone().lock_owned().await;
        Ok(spawn_blocking(move || state.refreshed()).await?)
    }
}

impl<T: Clone> State<T> {
    fn refreshed(&mut self) -> T {
        let outcome = read(&self.paths).and_then(|contents| {
            if contents != self.contents {
                self.value = (self.make)(&contents)?;
                self.contents = contents;
                tracing::info!(files = self.paths.join(", "), "loaded changed TLS files");
            }
            Ok(())
        });
        if let Err(error) = &outcome
            && self.complaint.as_ref() != Some(error)
        {
            let files = self.paths.join(", ");
            tracing::warn!(files, error, "cannot use changed TLS files; keeping the former ones");
        }
        self.complaint = outcome.err();
        self.value.clone()
    }
}

impl<T> fmt::Debug for Reloaded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloaded").field(&self.paths).finish()
    }
}

fn read(paths: &[String]) -> Result<Contents, String> {
    paths.iter().map(|path| read_file(path)).collect()
}

/// The content of a file, or a sentence as Go has it.
pub(super) fn read_file(path: &str) -> Result<Vec<u8>, String> {
    fs::read(Path::new(path)).map_err(|error| {
        let cause = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        format!("open {path}: {cause}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tls_01_what_cannot_be_used_does_not_take_away_what_worked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file").to_str().unwrap().to_owned();
        let make = |contents: &Contents| {
            let text = String::from_utf8(contents[0].clone()).unwrap();
            if text == "bad" { Err(text) } else { Ok(text) }
        };
        let failed = Reloaded::load(vec![path.clone()], make).unwrap_err();
        assert_eq!(failed, format!("open {path}: no such file or directory"));
        fs::write(&path, "one").unwrap();
        let reloaded = Reloaded::load(vec![path.clone()], make).unwrap();
        for (content, value) in [("two", "two"), ("bad", "two"), ("six", "six")] {
            // Same length, and possibly the same time.
            fs::write(&path, content).unwrap();
            assert_eq!(reloaded.current().await.unwrap(), value);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(reloaded.current().await.unwrap(), "six");
    }

    #[tokio::test]
    async fn tls_01_a_disk_that_does_not_answer_holds_up_nobody_but_handshakes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "one").unwrap();
        let name = path.to_str().unwrap().to_owned();
        let reloaded = Reloaded::load(vec![name.clone()], |contents| Ok(contents.clone())).unwrap();
        // Whoever opens a pipe waits for a writer.
        fs::remove_file(&path).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        // This thread is free: the time limit is kept.
        let soon = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, reloaded.current()).await.is_err());
        let pipe = fs::OpenOptions::new().write(true).open(&path).unwrap();
        let file = folder.path().join("other");
        fs::write(&file, "two").unwrap();
        fs::rename(&file, &path).unwrap();
        drop(pipe);
        assert_eq!(reloaded.current().await.unwrap(), [b"two"]);
    }
}
