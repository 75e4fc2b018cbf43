//! The newest entries, in memory: replication and apply read what was just appended.

use std::collections::VecDeque;

use super::super::types::Entry;
use super::record::entry_bytes;

/// A row of consecutive entries that ends with the log's last one.
#[derive(Default)]
pub(super) struct Cache {
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl Cache {
    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.first()?)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// The index of the oldest entry that is kept.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.log_id.index)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry_bytes(&entry);
        self.entries.push_back(entry);
    }

    /// Keeps no entry before `index`.
    pub(super) fn drop_before(&mut self, index: u64) {
        while self.first().is_some_and(|first| first < index) {
            self.pop_front();
        }
    }

    /// Keeps no entry from `index` on.
    pub(super) fn drop_from(&mut self, index: u64) {
        while self.entries.back().is_some_and(|last| last.log_id.index >= index) {
            let last = self.entries.pop_back();
            self.bytes -= last.as_ref().map_or(0, entry_bytes);
        }
    }

    /// Drops the oldest entries while there are more than `limit` bytes, as far as `durable`
    /// allows: what the disk does not hold yet must stay.
    pub(super) fn shrink(&mut self, limit: usize, durable: impl Fn(u64) -> bool) {
        while self.bytes > limit && self.first().is_some_and(&durable) {
            self.pop_front();
        }
    }

    fn pop_front(&mut self) {
        let first = self.entries.pop_front();
        self.bytes -= first.as_ref().map_or(0, entry_bytes);
    }
}
