//! Unsynced watchers: which of them stand where, and the reading of what they missed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::hub::Hub;
use super::{RevisionEvents, revision_bytes};
use crate::error::{Error, Fatal};
use crate::limits::{WATCH_BATCH_REVISIONS, WATCH_FIRST_READ_REVISIONS};

/// The unsynced watchers of a stream, grouped by the next revision that they have to see.
///
/// One read serves a whole group. Groups take turns, so that one that has far to go does not keep
/// another waiting; and no group goes past the next one, so that they become one when they meet.
#[derive(Default)]
pub(super) struct CatchUp {
    groups: BTreeMap<i64, BTreeSet<u64>>,
    /// Where the group that had its last turn ended up.
    last_turn: i64,
}

/// What was read for a group.
pub(super) enum Past {
    /// All revisions from where the group stands to before `next`.
    Slice { entries: Vec<Arc<RevisionEvents>>, next: i64 },
    /// History begins only at this revision.
    Compacted(i64),
}

impl CatchUp {
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Adds a watcher that has to see `next`, or moves up to there.
    pub(super) fn insert(&mut self, next: i64, serial: u64) {
        self.groups.entry(next).or_default().insert(serial);
    }

    pub(super) fn remove(&mut self, next: i64, serial: u64) {
        if let Some(group) = self.groups.get_mut(&next) {
            group.remove(&serial);
            if group.is_empty() {
                self.groups.remove(&next);
            }
        }
    }

    /// The group whose turn it is, with the revision where it stands and the one where the next
    /// group (or the end, `until`) is. The group is taken out; its watchers go to a new place.
    pub(super) fn take_turn(&mut self, until: i64) -> Option<(i64, i64, BTreeSet<u64>)> {
        let after = self.groups.range(self.last_turn + 1..).next();
        let (&from, _) = after.or_else(|| self.groups.first_key_value())?;
        let group = self.groups.remove(&from)?;
        let next_group = self.groups.range(from + 1..).next().map(|(&next, _)| next);
        Some((from, next_group.map_or(until, |next| next.min(until)), group))
    }

    /// Notes where the group of this turn ended up.
    pub(super) fn end_turn(&mut self, next: i64) {
        self.last_turn = next;
    }
}

/// Reads revisions from `from` to before `until`: at most [`WATCH_BATCH_REVISIONS`] and, after the
/// first, `max_bytes`. From the ring where that still reaches, else from history.
pub(super) fn read_past(hub: &Hub, from: i64, until: i64, max_bytes: usize) -> Result<Past, Fatal> {
    let compacted = hub.history.compact_revision();
    if from < compacted {
        return Ok(Past::Compacted(compacted));
    }
    if let Some(entries) = hub.recent(from, until, WATCH_BATCH_REVISIONS, max_bytes) {
        let next = entries.last().map_or(until, |entry| entry.revision + 1);
        return Ok(Past::Slice { entries, next });
    }
    let (mut entries, mut next, mut bytes) = (Vec::new(), from, 0);
    let mut count = WATCH_FIRST_READ_REVISIONS;
    while next < until && entries.len() < WATCH_BATCH_REVISIONS && bytes < max_bytes {
        count = count.min(WATCH_BATCH_REVISIONS - entries.len());
        let read = match hub.history.events(next, count)? {
            Ok(read) => read,
            // Compacted since: what was read already still counts.
            Err(Error::Compacted) if next > from => break,
            Err(Error::Compacted) => return Ok(Past::Compacted(hub.history.compact_revision())),
            Err(error) => return Err(Fatal::Invariant(format!("history of {next}: {error}"))),
        };
        // A read may end early, since it is bounded in bytes too: only one that finds nothing, or
        // comes to `until`, says that there is no more before it.
        let complete = read.last().is_none_or(|last| last.revision + 1 >= until);
        let mut cut = false;
        for entry in read.into_iter().take_while(|entry| entry.revision < until) {
            bytes += revision_bytes(&entry);
            if bytes > max_bytes && !entries.is_empty() {
                cut = true;
                break;
            }
            next = entry.revision + 1;
            entries.push(Arc::new(entry));
        }
        if complete && !cut {
            next = until;
        }
        // Small revisions so far: read more of them at once.
        count *= 2;
    }
    Ok(Past::Slice { entries, next })
}
