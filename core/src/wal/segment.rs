//! Segments as files: names, and reading records from any of them.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;

use super::record::{HEADER_BYTES, Header, Position};
use crate::error::Fatal;
use crate::platform::{Disk, File};

const PREFIX: &str = "wal-";

/// The reading end of the log. Clones share the same segments; any thread may read.
#[derive(Clone, Default)]
pub struct Segments {
    files: Arc<RwLock<BTreeMap<u64, Arc<dyn File>>>>,
}

impl Segments {
    /// The record at `position`, which must have been written there.
    ///
    /// Its segment may be removed meanwhile: the bytes stay readable. Fails with
    /// [`io::ErrorKind::NotFound`] if it was removed before.
    pub fn locate(&self, position: Position) -> Result<Located, Fatal> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        match files.get(&position.segment) {
            Some(file) => Ok(Located { file: file.clone(), position }),
            None => Err(io_error("read", position.segment, io::ErrorKind::NotFound.into())),
        }
    }

    /// The error for a log whose first segment is not the first one that is needed.
    pub fn begin_too_late(&self, entry: u64) -> Fatal {
        let detail = format!("entry {entry} is in an earlier segment, which is missing");
        corrupt(self.oldest().unwrap_or_default(), 0u64, detail)
    }

    /// How many segments there are, and the bytes of their files.
    pub fn size(&self) -> Result<(usize, u64), Fatal> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        for (number, file) in files.iter() {
            bytes += file.len().map_err(|error| io_error("measure", *number, error))?;
        }
        Ok((files.len(), bytes))
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.keys().next().copied()
    }

    pub(super) fn insert(&self, number: u64, file: Arc<dyn File>) {
        self.files.write().unwrap_or_else(PoisonError::into_inner).insert(number, file);
    }

    pub(super) fn remove(&self, number: u64) {
        self.files.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}

/// A record that was found but not read.
pub struct Located {
    file: Arc<dyn File>,
    position: Position,
}

impl Located {
    /// The payload. Fails with [`Fatal::Corrupt`] if it is not what was written.
    pub fn read(&self) -> Result<Bytes, Fatal> {
        let Position { segment, offset, length } = self.position;
        let length = length as usize;
        let mut bytes = vec![0; self.position.record_bytes()];
        let read = self.file.read_exact_at(u64::from(offset), &mut bytes);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => corrupt(segment, offset, "a record is cut off"),
            _ => io_error("read", segment, error),
        })?;
        let header = Header::parse(&bytes, segment, u64::from(offset));
        let valid = header.filter(|header| header.length == length);
        if valid.and_then(|header| header.payload(&bytes)).is_none() {
            return Err(corrupt(segment, offset, "a record that was written here is damaged"));
        }
        Ok(Bytes::from(bytes).slice(HEADER_BYTES..HEADER_BYTES + length))
    }

    /// The error for a payload that is whole, but not what its user wrote.
    pub fn corrupt(&self, detail: String) -> Fatal {
        corrupt(self.position.segment, self.position.offset, detail)
    }
}

/// The segment that grows.
pub(super) struct NewestSegment {
    pub(super) number: u64,
    pub(super) file: Arc<dyn File>,
    /// The end of its last record.
    pub(super) end: u64,
    /// The file's length.
    pub(super) length: u64,
}

/// Makes the empty file of segment `number`.
pub(super) fn create_segment(disk: &dyn Disk, number: u64) -> Result<NewestSegment, Fatal> {
    let file = disk.open(&segment_name(number), true);
    let file = file.map_err(|error| io_error("create", number, error))?;
    Ok(NewestSegment { number, file, end: 0, length: 0 })
}

pub(super) fn remove_segment(disk: &dyn Disk, number: u64) -> Result<(), Fatal> {
    disk.remove(&segment_name(number)).map_err(|error| io_error("remove", number, error))
}

/// Opens an existing segment and reads all of it.
pub(super) fn read_segment(
    disk: &dyn Disk,
    number: u64,
) -> Result<(Arc<dyn File>, Vec<u8>), Fatal> {
    let read = || {
        let file = disk.open(&segment_name(number), false)?;
        let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        file.read_exact_at(0, &mut bytes)?;
        Ok((file, bytes))
    };
    read().map_err(|error| io_error("read", number, error))
}

/// The numbers of all segments on `disk`, ascending.
pub(super) fn segment_numbers(disk: &dyn Disk) -> Result<Vec<u64>, Fatal> {
    let names = disk.list().map_err(|source| Fatal::Io {
        action: "list",
        file: format!("{PREFIX}*"),
        source,
    })?;
    let numbers = names.iter().filter_map(|name| {
        let number = u64::from_str_radix(name.strip_prefix(PREFIX)?, 16).ok()?;
        (segment_name(number) == *name).then_some(number)
    });
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn segment_name(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}

pub(super) fn io_error(action: &'static str, segment: u64, source: io::Error) -> Fatal {
    Fatal::Io { action, file: segment_name(segment), source }
}

pub(super) fn corrupt(segment: u64, offset: impl Into<u64>, detail: impl Into<String>) -> Fatal {
    Fatal::Corrupt { file: segment_name(segment), offset: offset.into(), detail: detail.into() }
}
