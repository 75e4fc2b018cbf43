//! Where each entry of the log is: 24 bytes per entry, in memory.

use std::collections::VecDeque;

use super::super::types::{CommittedLeaderId, LogId};
use super::record::{Change, later};
use crate::wal::Position;

/// The entries after the purge point: term and place of each, without holes.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    purged: Option<LogId>,
    /// The index of the first slot, or of the next entry if there is none.
    first: u64,
    slots: VecDeque<Slot>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    term: u64,
    /// None while the entry is not durable.
    pub(super) position: Option<Position>,
}

impl Index {
    /// A log of which only the shape is known: purged up to `purged`, ended by `last`. The entries
    /// between them are missing; see [`Index::hole`].
    pub(super) fn without_entries(purged: Option<LogId>, last: Option<LogId>) -> Index {
        let first = last.map_or(0, |id| id.index + 1);
        Index { purged, first, slots: VecDeque::new() }
    }

    /// The last purged entry.
    pub(super) fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// The last entry, or the last purged one.
    pub(super) fn last(&self) -> Option<LogId> {
        let slot = self.slots.back();
        slot.map(|slot| log_id(slot.term, self.next() - 1)).or(self.purged)
    }

    /// The index of the first entry there is.
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The index that the next entry has.
    pub(super) fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    pub(super) fn get(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// The log id of the entry at `index`, if it is there.
    pub(super) fn log_id(&self, index: u64) -> Option<LogId> {
        self.get(index).map(|slot| log_id(slot.term, index))
    }

    /// Whether an entry at `index` can follow. A log without any past may start anywhere.
    pub(super) fn accepts(&self, index: u64) -> bool {
        let unborn = self.slots.is_empty() && self.purged.is_none() && self.first == 0;
        index == self.next() || unborn
    }

    /// Adds the entry `id`, which the log [`accepts`](Index::accepts).
    pub(super) fn append(&mut self, id: LogId, position: Option<Position>) {
        assert!(self.accepts(id.index), "entry {} would leave a hole", id.index);
        if self.slots.is_empty() {
            self.first = id.index;
        }
        self.slots.push_back(Slot { term: id.leader_id.term, position });
    }

    /// Notes that the entry `id` is durable at `position`, if the log still has it.
    pub(super) fn place(&mut self, id: LogId, position: Position) {
        let Some(at) = id.index.checked_sub(self.first) else { return };
        let slot = usize::try_from(at).ok().and_then(|at| self.slots.get_mut(at));
        if let Some(slot) = slot.filter(|slot| slot.term == id.leader_id.term) {
            slot.position = Some(position);
        }
    }

    /// Removes all entries after `after`; all if None.
    pub(super) fn truncate(&mut self, after: Option<LogId>) {
        let end = after.map_or(0, |id| id.index + 1);
        let keep = usize::try_from(end.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.slots.truncate(keep);
        if self.slots.is_empty() {
            let purged = self.purged.map_or(0, |id| id.index + 1);
            self.first = self.first.min(end).max(purged);
        }
    }

    /// Removes all entries up to `upto`, which may lie beyond the last one.
    pub(super) fn purge(&mut self, upto: LogId) {
        let next = upto.index + 1;
        let gone = usize::try_from(next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.slots.drain(..gone.min(self.slots.len()));
        self.first = self.first.max(next);
        self.purged = later(self.purged, Some(upto));
    }

    /// Applies a change read back from the log; says why it cannot follow what was read before.
    pub(super) fn replay(&mut self, change: &Change, position: Position) -> Result<(), String> {
        match *change {
            Change::Appended(id) if !self.accepts(id.index) => {
                return Err(format!("entry {} follows entry {}", id.index, self.next() - 1));
            }
            Change::Appended(id) => self.append(id, Some(position)),
            Change::Truncate(after) => self.truncate(after),
            Change::Purge(upto) => self.purge(upto),
            Change::Vote(_) | Change::Committed(_) => {}
        }
        Ok(())
    }

    /// The index of an entry that should be there and is not, after a replay that began late.
    pub(super) fn hole(&self) -> Option<u64> {
        let expected = self.purged.map_or(0, |id| id.index + 1);
        (self.first > expected).then_some(expected)
    }
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderId::new(term), index }
}
