//! A fence between a stopped member and the disk that it leaves to the next.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use crate::platform::{Disk, File};

/// A disk of which no file changes any more once it is fenced off, whoever still holds one. Reads
/// go on.
///
/// redb writes once more when the last reference to its database goes, and every read under way
/// holds one: that may be long after the member stopped, when the disk belongs to the next.
pub(super) struct FencedDisk {
    disk: Arc<dyn Disk>,
    fence: Arc<Fence>,
}

/// Whether the fence is up; held for reading while something changes.
#[derive(Default)]
struct Fence(RwLock<bool>);

impl FencedDisk {
    pub(super) fn new(disk: Arc<dyn Disk>) -> FencedDisk {
        FencedDisk { disk, fence: Arc::default() }
    }

    /// Lets changes under way end, and refuses all later ones.
    pub(super) fn fence_off(&self) {
        *self.fence.0.write().unwrap_or_else(PoisonError::into_inner) = true;
    }
}

impl Fence {
    fn pass<T>(&self, change: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match *self.0.read().unwrap_or_else(PoisonError::into_inner) {
            true => Err(io::Error::other("the member to which the disk belonged has stopped")),
            false => change(),
        }
    }
}

impl Disk for FencedDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn File>> {
        let file = self.fence.pass(|| self.disk.open(name, create))?;
        Ok(Arc::new(FencedFile { file, fence: self.fence.clone() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.fence.pass(|| self.disk.remove(name))
    }
}

struct FencedFile {
    file: Arc<dyn File>,
    fence: Arc<Fence>,
}

impl File for FencedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fence.pass(|| self.file.write_at(offset, data))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.fence.pass(|| self.file.set_len(length))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync(&self) -> io::Result<()> {
        self.fence.pass(|| self.file.sync())
    }
}
