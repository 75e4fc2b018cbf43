//! The storage seam is a file: the same WAL, backend and snapshot code runs on real files, on OPFS
//! sync access handles, in memory and on the simulator's faulty disk.

use std::io;
use std::sync::Arc;

/// A folder of files with flat names. One member owns it exclusively.
pub trait Disk: Send + Sync + 'static {
    /// Opens `name` for reading and writing; creates it, empty, if it is missing and `create`.
    ///
    /// A created file survives a crash once this returns (natively: the folder is synced too).
    /// Fails with [`io::ErrorKind::NotFound`] if the file is missing and not `create`.
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn File>>;

    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Removes `name`; durable when this returns.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// An open file. Reads and writes are synchronous and at explicit offsets.
///
/// What is written is durable only after a [`File::sync`] that began after the write returned `Ok`.
/// A crash may leave any subset of the unsynced writes, cut or torn at any byte. After an error of
/// `sync` nothing is known about unsynced writes: the caller must stop, not retry.
pub trait File: Send + Sync + 'static {
    /// Fills as much of `buffer` as there is from `offset` on; returns how many bytes, 0 at the
    /// end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `data` at `offset`, extending the file where needed (a gap reads as zeroes).
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Cuts or extends the file with zeroes to `length` bytes.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Makes all earlier writes and length changes durable (natively: `fdatasync`).
    fn sync(&self) -> io::Result<()>;

    /// Reads exactly `buffer.len()` bytes from `offset`, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let count = self.read_at(offset, buffer)?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buffer = &mut buffer[count..];
            offset += count as u64;
        }
        Ok(())
    }
}
