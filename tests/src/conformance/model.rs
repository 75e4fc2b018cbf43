//! What the generator knows of the servers' state: enough to aim at interesting revisions, keys,
//! leases and watchers, learnt from the reference's answers. It judges nothing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coracle_core::api::etcdserverpb::*;

use super::leases::FIRST_NAME;
use super::operation::{Answer, Operation};
use super::ranges;

/// A sketch of the state after the operations so far.
pub struct Model {
    /// The store's revision.
    pub revision: i64,
    /// The last compacted revision; 0 if none was.
    pub compacted: i64,
    /// The revisions of all compactions.
    pub compactions: BTreeSet<i64>,
    /// Keys that probably exist (transactions are not followed).
    pub keys: BTreeSet<Bytes>,
    /// Leases granted and not revoked.
    pub leases: BTreeSet<i64>,
    /// Open watchers: stream and watch id.
    pub watchers: BTreeSet<(usize, i64)>,
    /// The highest start revision of a stream's watchers.
    pub highest_start: BTreeMap<usize, i64>,
    /// The name of the next lease whose id the server picks.
    pub next_lease_name: i64,
}

impl Model {
    /// The model of an empty store.
    pub fn new() -> Model {
        Model {
            revision: 1,
            compacted: 0,
            compactions: BTreeSet::new(),
            keys: BTreeSet::new(),
            leases: BTreeSet::new(),
            watchers: BTreeSet::new(),
            highest_start: BTreeMap::new(),
            next_lease_name: FIRST_NAME,
        }
    }

    /// Learns from an operation and the reference's answer to it.
    pub fn observe(&mut self, operation: &Operation, answer: &mut Answer) {
        if let Operation::WatchReset { stream } = operation {
            self.watchers.retain(|watcher| watcher.0 != *stream);
            self.highest_start.remove(stream);
        }
        if let Answer::Settled(received) = answer {
            for one in received.iter().filter(|one| one.canceled.is_some()) {
                self.watchers.remove(&(one.stream, one.watch_id));
            }
        }
        if !answer.is_ok() {
            return;
        }
        // The header of membership replies says 0.
        if let Some(header) = answer.header_mut() {
            self.revision = self.revision.max(header.revision);
        }
        match operation {
            Operation::Put(put) => {
                self.keys.insert(put.key.clone());
            }
            Operation::DeleteRange(delete) => {
                self.keys.retain(|key| !ranges::contains(&delete.key, &delete.range_end, key));
            }
            Operation::Compact(compaction) => {
                self.compacted = compaction.revision.max(0);
                self.compactions.insert(compaction.revision);
            }
            Operation::LeaseGrant(grant) => {
                if grant.id == 0 {
                    self.leases.insert(self.next_lease_name);
                    self.next_lease_name += 1;
                } else {
                    self.leases.insert(grant.id);
                }
            }
            Operation::LeaseRevoke(revoke) => {
                self.leases.remove(&revoke.id);
            }
            Operation::WatchCreate { stream, request } => {
                self.observe_watch(*stream, request, answer)
            }
            Operation::WatchCancel { stream, watch_id } => {
                self.watchers.remove(&(*stream, *watch_id));
            }
            _ => {}
        }
    }

    /// Whether some watcher of `stream` starts at a revision that does not exist yet.
    pub fn waits_for_future(&self, stream: usize) -> bool {
        self.highest_start.get(&stream).is_some_and(|start| *start > self.revision)
    }

    fn observe_watch(&mut self, stream: usize, request: &WatchCreateRequest, answer: &Answer) {
        if let Answer::Watch(created) = answer {
            self.watchers.insert((stream, created.watch_id));
            let highest = self.highest_start.entry(stream).or_default();
            *highest = request.start_revision.max(*highest);
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Model::new()
    }
}
