//! The write-ahead log: what a member promised, on disk before it promises it.
//!
//! The log is a row of segments, files named `wal-` and their number in 16 hex digits. A segment
//! is a row of [records](Kind); the newest segment grows, the others never change:
//!
//! ```text
//! wal-0000000000000001          wal-0000000000000002
//! | Start | Vote | Entry | Entry || Start | Entry | Truncate | Entry | 0 0 0 0 0 |
//!         ^ oldest entry needed           ^ says where segment 1 ended
//! ```
//!
//! [`Wal`] is synchronous and has one writer: fill a [`Batch`], [`Wal::write`] it, [`Wal::sync`].
//! What records mean is their user's business (the raft log), with one exception: each segment
//! begins with the user's whole state but for the entries, so that earlier segments are needed for
//! their entries alone and can be removed from the front.
//!
//! Invariants:
//!
//! * A record counts only once a sync that began after its write has returned. After an error
//!   nothing is known, so the log refuses every further write: the member must stop and read the
//!   log again. (Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020.)
//! * Behind the last record there are only zeroes, written ahead in steps: a sync then finds the
//!   file's length and extents on disk already, and recovery tells the end from damage.
//! * A segment is begun only when all before it is durable, and its `Start` is durable before the
//!   first record follows: so at most the newest segment has a tail to argue about.
//! * Opening drops a torn tail durably and writes the last unconfirmed records once more before
//!   anything follows them: after a crash of the process alone they may be in memory only.
//!
//! Recovery is exact or refuses; `recovery.rs` tells by which rule.

mod record;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::error::Fatal;
use crate::platform::{Disk, File};

pub use record::{Batch, Kind, Position};
pub use recovery::{Recovered, Visit};
pub use segment::{Located, Segments};
use segment::{create_segment, io_error, remove_segment};

/// The layout that this code writes, and the only one that it reads.
const FORMAT: u32 = 1;
/// Format and end of the segment before: what a `Start` has ahead of its user's state.
const START_BYTES: usize = 8;
/// Zeroes are written in pieces of at most this many bytes.
const ZERO_PIECE: u64 = 256 * 1024;

/// Sizes, in bytes.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// A segment that would grow beyond this is followed by the next one. A single batch may be
    /// larger; it then has a segment for itself.
    pub segment_bytes: u64,
    /// How far zeroes are written ahead of the records at a time.
    pub preallocate_bytes: u64,
}

impl Default for WalOptions {
    fn default() -> Self {
        WalOptions { segment_bytes: 64 * 1024 * 1024, preallocate_bytes: 1024 * 1024 }
    }
}

/// The writing end of the log.
pub struct Wal {
    disk: Arc<dyn Disk>,
    options: WalOptions,
    segments: Segments,
    newest: u64,
    file: Arc<dyn File>,
    /// Where the next record goes.
    end: u64,
    /// Everything below is synced.
    durable_to: u64,
    /// From `end` to here the file holds zeroes.
    zeroed_to: u64,
    /// Where the records behind the newest segment's `Start` begin; 0 if it was opened, not begun.
    start_end: u64,
    failed: bool,
}

impl Wal {
    /// Opens the log on `disk`, or begins one, and hands every record to `visit` in order.
    ///
    /// `visit` refuses a record that contradicts those before it with a reason, which becomes
    /// [`Fatal::Corrupt`], as does damage that is not a torn tail. A new log starts with `state`.
    /// When this returns, all records that were handed out are durable.
    pub fn open(
        disk: Arc<dyn Disk>,
        options: WalOptions,
        state: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<Wal, Fatal> {
        let segments = Segments::default();
        let newest = match recovery::recover(&*disk, &segments, visit)? {
            Some(newest) => newest,
            None => create_segment(&*disk, 1)?,
        };
        segments.insert(newest.number, newest.file.clone());
        let mut wal = Wal {
            disk,
            options,
            segments,
            newest: newest.number,
            file: newest.file,
            end: newest.end,
            durable_to: newest.end,
            zeroed_to: newest.length,
            start_end: 0,
            failed: false,
        };
        if wal.end == 0 {
            wal.write_start(0, state)?;
        }
        Ok(wal)
    }

    /// Writes `batch` behind all earlier records; durable only after [`Wal::sync`].
    ///
    /// Where the batch begins a new segment, `state` gives what that segment starts with: all that
    /// recovery needs of earlier records, except entries.
    pub fn write(
        &mut self,
        batch: &mut Batch,
        state: impl FnOnce() -> Vec<u8>,
    ) -> Result<(), Fatal> {
        self.guarded(|wal| {
            let full = wal.end + batch.len() as u64 > wal.options.segment_bytes;
            if full && wal.end > wal.start_end {
                wal.rotate(&state())?;
            }
            wal.append(batch)
        })
    }

    /// Writes `batch` only if the newest segment has room for it that is zeroed already. Returns
    /// whether it did. For what is of use but not needed, since nobody will wait for a sync.
    pub fn write_if_room(&mut self, batch: &mut Batch) -> Result<bool, Fatal> {
        if self.end + batch.len() as u64 > self.zeroed_to {
            return Ok(false);
        }
        self.guarded(|wal| wal.append(batch)).map(|()| true)
    }

    /// Makes all that was written durable.
    pub fn sync(&mut self) -> Result<(), Fatal> {
        self.guarded(|wal| wal.sync_newest())
    }

    /// Removes all segments before `segment`, oldest first; never the newest.
    ///
    /// The caller knows that no entry in them is needed, and that the record which says so is
    /// durable.
    pub fn remove_before(&mut self, segment: u64) -> Result<(), Fatal> {
        let limit = segment.min(self.newest);
        self.guarded(|wal| {
            while let Some(oldest) = wal.segments.oldest().filter(|oldest| *oldest < limit) {
                remove_segment(&*wal.disk, oldest)?;
                wal.segments.remove(oldest);
            }
            Ok(())
        })
    }

    /// The reading end, for any thread.
    pub fn segments(&self) -> Segments {
        self.segments.clone()
    }

    /// Runs a change; after the first that fails there are no more.
    fn guarded<T>(
        &mut self,
        change: impl FnOnce(&mut Wal) -> Result<T, Fatal>,
    ) -> Result<T, Fatal> {
        if self.failed {
            return Err(Fatal::Invariant("the write-ahead log failed before".to_owned()));
        }
        let result = change(self);
        self.failed = result.is_err();
        result
    }

    fn rotate(&mut self, state: &[u8]) -> Result<(), Fatal> {
        if self.durable_to < self.end {
            self.sync_newest()?;
        }
        let previous_end = self.end;
        let next = create_segment(&*self.disk, self.newest + 1)?;
        self.segments.insert(next.number, next.file.clone());
        self.newest = next.number;
        self.file = next.file;
        (self.end, self.durable_to, self.zeroed_to) = (0, 0, 0);
        self.write_start(previous_end, state)
    }

    fn write_start(&mut self, previous_end: u64, state: &[u8]) -> Result<(), Fatal> {
        let mut start = Batch::default();
        start.push(Kind::Start, |buffer| {
            buffer.extend(FORMAT.to_le_bytes());
            buffer.extend((previous_end as u32).to_le_bytes());
            buffer.extend(state);
        });
        self.append(&mut start)?;
        self.start_end = self.end;
        self.sync_newest()
    }

    fn append(&mut self, batch: &mut Batch) -> Result<(), Fatal> {
        let (start, end) = (self.end, self.end + batch.len() as u64);
        if u32::try_from(end).is_err() {
            return Err(Fatal::Invariant(format!("a batch of {} bytes", batch.len())));
        }
        let bytes = batch.seal(self.newest, start, self.durable_to);
        let written = self.file.write_at(start, bytes);
        written.map_err(|error| io_error("write", self.newest, error))?;
        if end > self.zeroed_to {
            self.zero_ahead(end)?;
        }
        self.end = end;
        Ok(())
    }

    /// Writes zeroes from `from` to the next step, but not beyond the segment's limit.
    fn zero_ahead(&mut self, from: u64) -> Result<(), Fatal> {
        let step = self.options.preallocate_bytes.max(1);
        let to = from.next_multiple_of(step).min(self.options.segment_bytes).max(from);
        let zeroes = vec![0; (to - from).min(ZERO_PIECE) as usize];
        let mut at = from;
        while at < to {
            let piece = &zeroes[..(to - at).min(ZERO_PIECE) as usize];
            let written = self.file.write_at(at, piece);
            written.map_err(|error| io_error("write", self.newest, error))?;
            at += piece.len() as u64;
        }
        self.zeroed_to = to;
        Ok(())
    }

    fn sync_newest(&mut self) -> Result<(), Fatal> {
        self.file.sync().map_err(|error| io_error("sync", self.newest, error))?;
        self.durable_to = self.end;
        Ok(())
    }
}
