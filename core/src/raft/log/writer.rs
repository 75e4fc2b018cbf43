//! The log's writing end: turns requests into records, in order, and one sync.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::types::{Entry, LogId, Vote};
use super::metrics::Counters;
use super::record::{
    Change, LogBase, push_committed, push_entry, push_purge, push_truncate, push_vote,
};
use crate::error::Fatal;
use crate::wal::{Batch, Kind, Position, Wal};

/// Bytes of the encoding buffer that are kept for the next batch.
const KEPT_BUFFER_BYTES: usize = 1024 * 1024;

/// What the raft core asked for.
pub(super) enum Request {
    Vote(Vote),
    Append(Vec<Entry>),
    Truncate(Option<LogId>),
    Purge(LogId),
    /// Nothing of its own, but a sync of all before it.
    Flush,
}

/// The WAL and what its records add up to.
pub(super) struct Writer {
    wal: Wal,
    base: LogBase,
    /// The highest entry in each segment, truncated ones included. A segment is needed until that
    /// one is purged.
    highest: BTreeMap<u64, u64>,
    batch: Batch,
}

impl Writer {
    pub(super) fn new(wal: Wal, base: LogBase, highest: BTreeMap<u64, u64>) -> Writer {
        Writer { wal, base, highest, batch: Batch::default() }
    }

    /// Makes `requests` durable, and notes `committed` with them. Returns where the entries are.
    pub(super) fn write<'a>(
        &mut self,
        requests: impl Iterator<Item = &'a Request>,
        committed: Option<LogId>,
        clock: &dyn Fn() -> Duration,
        counters: &Counters,
    ) -> Result<Vec<(LogId, Position)>, Fatal> {
        // A segment that this batch begins starts with the state before it.
        let before = self.base;
        let mut ids = Vec::new();
        let mut count = 0;
        self.batch.clear(KEPT_BUFFER_BYTES);
        for request in requests {
            self.push(request, &mut ids);
            count += 1;
        }
        if let Some(committed) = committed {
            push_committed(&mut self.batch, committed);
            self.base.apply(&Change::Committed(committed));
        }
        if self.batch.is_empty() {
            return Ok(Vec::new());
        }
        let start = clock();
        self.wal.write(&mut self.batch, || before.encode())?;
        counters.count_written(self.batch.len(), clock().saturating_sub(start));
        let start = clock();
        self.wal.sync()?;
        counters.count_sync(clock().saturating_sub(start), count);
        let entries = self.batch.positions().filter(|(kind, _)| *kind == Kind::Entry);
        let placed: Vec<_> = ids.into_iter().zip(entries.map(|(_, position)| position)).collect();
        for (id, position) in &placed {
            let highest = self.highest.entry(position.segment).or_default();
            *highest = id.index.max(*highest);
        }
        Ok(placed)
    }

    fn push(&mut self, request: &Request, ids: &mut Vec<LogId>) {
        match request {
            Request::Vote(vote) => {
                push_vote(&mut self.batch, *vote);
                self.base.apply(&Change::Vote(*vote));
            }
            Request::Append(entries) => {
                for entry in entries {
                    push_entry(&mut self.batch, entry);
                    self.base.apply(&Change::Appended(entry.log_id));
                    ids.push(entry.log_id);
                }
            }
            Request::Truncate(after) => {
                push_truncate(&mut self.batch, *after);
                self.base.apply(&Change::Truncate(*after));
            }
            Request::Purge(upto) => {
                push_purge(&mut self.batch, *upto);
                self.base.apply(&Change::Purge(*upto));
            }
            Request::Flush => self.batch.push(Kind::Mark, |_| {}),
        }
    }

    /// Removes the segments whose entries are all purged, durably.
    pub(super) fn remove_purged(&mut self) -> Result<(), Fatal> {
        let Some(purged) = self.base.purged else { return Ok(()) };
        let needed = self.highest.iter().find(|(_, highest)| **highest > purged.index);
        // Segments without entries in between go with those before them.
        let needed = needed.map_or(u64::MAX, |(segment, _)| *segment);
        self.highest.retain(|segment, _| *segment >= needed);
        self.wal.remove_before(needed)
    }

    /// Writes, without a sync, that all before is durable, and `committed`. Lost in a crash, this
    /// costs nothing; kept, it lets recovery tell a damaged last record from a torn one.
    pub(super) fn mark(&mut self, committed: Option<LogId>) -> Result<(), Fatal> {
        self.batch.clear(KEPT_BUFFER_BYTES);
        match committed {
            Some(committed) => push_committed(&mut self.batch, committed),
            None => self.batch.push(Kind::Mark, |_| {}),
        }
        let written = self.wal.write_if_room(&mut self.batch)?;
        if let (true, Some(committed)) = (written, committed) {
            self.base.apply(&Change::Committed(committed));
        }
        Ok(())
    }
}
