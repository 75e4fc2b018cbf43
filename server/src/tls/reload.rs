//! Values that are made of files, and made anew when the files' content has changed.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::{fmt, fs, io};

/// The contents of some files, in the order of their paths.
pub(super) type Contents = Vec<Vec<u8>>;

/// How a value is made of contents.
type Make<T> = Box<dyn Fn(&Contents) -> Result<T, String> + Send + Sync>;

/// A value that follows its files.
///
/// The files are compared whole: a copy may keep the time and the length of what it replaces, and
/// two small files of the page cache cost far less than the handshake that they are read for.
pub(super) struct Reloaded<T> {
    paths: Vec<String>,
    make: Make<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    contents: Contents,
    value: T,
    /// Why the files do not make a value at present.
    complaint: Option<String>,
}

impl<T: Clone> Reloaded<T> {
    /// The first value. Its failure names the file.
    pub(super) fn load(
        paths: Vec<String>,
        make: impl Fn(&Contents) -> Result<T, String> + Send + Sync + 'static,
    ) -> Result<Reloaded<T>, String> {
        let contents = read(&paths)?;
        let value = make(&contents).map_err(|error| format!("{}: {error}", paths.join(", ")))?;
        let state = Mutex::new(State { contents, value, complaint: None });
        Ok(Reloaded { paths, make: Box::new(make), state })
    }

    /// The value of what the files hold now. While they hold nothing usable (a certificate was
    /// replaced and its key not yet) it is the former one, and a warning is logged.
    pub(super) fn current(&self) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = read(&self.paths).and_then(|contents| {
            if contents != state.contents {
                state.value = (self.make)(&contents)?;
                state.contents = contents;
                tracing::info!(files = self.paths.join(", "), "loaded changed TLS files");
            }
            Ok(())
        });
        if let Err(error) = &outcome
            && state.complaint.as_ref() != Some(error)
        {
            let files = self.paths.join(", ");
            tracing::warn!(files, error, "cannot use changed TLS files; keeping the former ones");
        }
        state.complaint = outcome.err();
        state.value.clone()
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

    #[test]
    fn tls_01_what_cannot_be_used_does_not_take_away_what_worked() {
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
            assert_eq!(reloaded.current(), value);
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(reloaded.current(), "six");
    }
}
