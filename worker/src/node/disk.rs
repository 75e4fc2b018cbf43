//! The disk under a node of the laboratory: a real one below, a visitor's faults above.

use std::io;
use std::sync::Arc;

use coracle_core::platform::{Disk, File};

use super::Shared;
use crate::protocol::Tamper;

/// Names of the log's files begin with it.
const LOG_PREFIX: &str = "wal-";
/// Bytes that a torn write lost.
const TORN_BYTES: u64 = 24;
/// A damaged log is read this many bytes at a time.
const CHUNK: usize = 64 * 1024;

/// Any disk, which can be told to be full.
pub(super) struct LabDisk {
    below: Arc<dyn Disk>,
    shared: Arc<Shared>,
}

struct LabFile {
    below: Arc<dyn File>,
    shared: Arc<Shared>,
}

impl LabDisk {
    pub(super) fn new(below: Arc<dyn Disk>, shared: Arc<Shared>) -> LabDisk {
        LabDisk { below, shared }
    }
}

impl Shared {
    fn check_room(&self) -> io::Result<()> {
        match self.lock().disk.full {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Disk for LabDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn File>> {
        let below = self.below.open(name, create)?;
        Ok(Arc::new(LabFile { below, shared: self.shared.clone() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.below.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.below.remove(name)
    }
}

impl File for LabFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.below.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.shared.check_room()?;
        self.below.write_at(offset, data)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.shared.check_room()?;
        self.below.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        self.below.len()
    }

    fn sync(&self) -> io::Result<()> {
        self.below.sync()
    }
}

/// Does to a disk what a visitor asked for, before a node opens it.
pub(super) fn tamper(disk: &dyn Disk, kind: Tamper) -> io::Result<()> {
    let names = disk.list()?;
    if kind == Tamper::Wipe {
        return names.iter().try_for_each(|name| disk.remove(name));
    }
    let Some(newest) = names.iter().rfind(|name| name.starts_with(LOG_PREFIX)) else {
        return Ok(());
    };
    let log = disk.open(newest, false)?;
    let end = written_end(&*log)?;
    match kind {
        Tamper::TearLog => {
            let lost = TORN_BYTES.min(end);
            log.write_at(end - lost, &vec![0; lost as usize])?;
        }
        _ => {
            let middle = end / 2;
            let mut byte = [0];
            log.read_exact_at(middle, &mut byte)?;
            log.write_at(middle, &[byte[0] ^ 1])?;
        }
    }
    log.sync()
}

/// Where the last byte that is not zero ends: behind it is preallocated room.
fn written_end(file: &dyn File) -> io::Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut end = file.len()?;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let chunk = &mut buffer[..(end - start) as usize];
        file.read_exact_at(start, chunk)?;
        if let Some(last) = chunk.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}
