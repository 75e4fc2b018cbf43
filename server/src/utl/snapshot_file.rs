//! Files of etcd's: a saved snapshot, or the database of an etcd that is not running.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use coracle_bolt::{Database, ReadAt, ReadError};
use sha2::{Digest, Sha256};

use super::Failure;

/// Behind the pages of a saved snapshot stands their SHA-256; sectors are what tells it apart.
const SECTOR_BYTES: u64 = 512;
const HASH_BYTES: usize = 32;

/// A file that is read at any place.
pub(super) struct Positioned(File);

impl ReadAt for Positioned {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

pub(super) fn open_file(path: &str) -> Result<File, Failure> {
    let failed = |action: &str, error: io::Error| {
        // Go's words for the commonest of all.
        let text = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Failure::error(format!("{action} {path}: {text}"))
    };
    let metadata = std::fs::metadata(path).map_err(|error| failed("stat", error))?;
    if metadata.is_dir() {
        return Err(Failure::error(format!("open {path}: is a directory")));
    }
    File::open(path).map_err(|error| failed("open", error))
}

/// Opens the database in the file at `path`.
pub(super) fn open(path: &str) -> Result<Database<Positioned>, Failure> {
    Database::open(Positioned(open_file(path)?)).map_err(unreadable)
}

/// A damaged page in the words of etcd's check, which is looked for in backups; here the first that
/// is met is the only one that is told.
fn unreadable(error: ReadError) -> Failure {
    match error {
        ReadError::Damaged { .. } => Failure::error(format!(
            "snapshot file integrity check failed. 1 errors found.\n{error}"
        )),
        other => Failure::error(other),
    }
}

/// Compares the file with the hash at its end, in the words of etcd's restore.
pub(super) fn check_hash(path: &str) -> Result<(), Failure> {
    let mut file = open_file(path)?;
    let mut check = || -> io::Result<Result<(), String>> {
        let length = file.metadata()?.len();
        if length % SECTOR_BYTES != HASH_BYTES as u64 {
            return Ok(Err("snapshot missing hash but --skip-hash-check=false".to_owned()));
        }
        let mut expected = [0; HASH_BYTES];
        file.seek(SeekFrom::End(-(HASH_BYTES as i64)))?;
        file.read_exact(&mut expected)?;
        file.rewind()?;
        let mut hash = Sha256::new();
        let mut rest = (&file).take(length - HASH_BYTES as u64);
        let mut buffer = vec![0; 1 << 20];
        loop {
            match rest.read(&mut buffer)? {
                0 => break,
                read => hash.update(&buffer[..read]),
            }
        }
        let found = hash.finalize();
        if found[..] == expected {
            return Ok(Ok(()));
        }
        let list = |bytes: &[u8]| {
            let numbers: Vec<_> = bytes.iter().map(u8::to_string).collect();
            numbers.join(" ")
        };
        Ok(Err(format!("expected sha256 [{}], got [{}]", list(&expected), list(&found))))
    };
    check()
        .map_err(|error| Failure::error(format!("read {path}: {error}")))?
        .map_err(Failure::error)
}

/// Goes through all entries of all buckets, which may share no page.
pub(super) fn for_each(
    database: &Database<Positioned>,
    mut visit: impl FnMut(&str, Option<(Bytes, Bytes)>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut seen = database.seen();
    for bucket in database.buckets() {
        let name = String::from_utf8_lossy(bucket.name());
        visit(&name, None)?;
        let mut entries = database.entries_unseen(bucket, seen).map_err(unreadable)?;
        while let Some(entry) = entries.next().map_err(unreadable)? {
            visit(&name, Some((entry.key, entry.value)))?;
        }
        seen = entries.into_seen();
    }
    Ok(())
}
