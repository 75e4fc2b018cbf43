//! What a node tells about its inner life: one [`Event`] for each thing a learner or a checker
//! would want to see.
//!
//! A host that wants to know gives a [`Trace`] with a listener, by its
//! [`Platform`](crate::platform::Platform::trace); without one an event costs a branch. Events say
//! what happened, never when: the listener knows its own clock. The step executor's host adds
//! virtual time and order, which makes the trace of a run the same, byte for byte, wherever the run
//! is repeated.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::api::coraclepb::Command;
use crate::api::coraclepb::command::Request;
use crate::api::etcdserverpb::WatchResponse;

/// The role of a Raft member, as the Raft paper (section 5.1) and etcd name them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    #[default]
    Follower,
    Candidate,
    Leader,
    Learner,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Leader => "leader",
            Role::Learner => "learner",
        }
    }
}

/// Something that happened inside a node. Members are named by their member id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The node runs, with what it found on its disk.
    Started {
        member: u64,
        applied: u64,
        revision: i64,
    },
    /// The node stopped by itself; the sentence says why.
    Stopped {
        reason: String,
    },
    /// Raft's role, term or known leader changed.
    Role {
        role: Role,
        term: u64,
        leader: Option<u64>,
    },
    /// How long, in milliseconds, this member waits for its leader before the next election,
    /// beyond the leader's lease.
    ElectionTimeout {
        millis: u64,
    },
    /// The vote was saved: for whom, and whether that candidate has won.
    Voted {
        term: u64,
        candidate: u64,
        committed: bool,
    },
    /// Entries `first` to `last` joined the log, in memory.
    Appended {
        first: u64,
        last: u64,
        term: u64,
    },
    /// Entries after `after` were dropped: another leader has others.
    Truncated {
        after: u64,
    },
    /// Entries up to `upto` were dropped, since a snapshot holds what they did.
    Purged {
        upto: u64,
    },
    /// The log's file was written and synced.
    LogSynced {
        bytes: u64,
        requests: u64,
    },
    /// The log is committed up to `index`, as this member knows.
    Committed {
        index: u64,
    },
    /// Entry `index` was applied; `revision` is the store's revision after it.
    Applied {
        index: u64,
        term: u64,
        revision: i64,
        change: Change,
    },
    /// A quorum confirmed the leader for reads at `index` (Raft dissertation, section 6.4).
    ReadIndex {
        index: u64,
    },
    /// A range was answered at `revision`.
    Read {
        serializable: bool,
        revision: i64,
    },
    /// The leader found leases expired and will revoke them.
    LeaseExpired {
        id: i64,
    },
    /// The leader prolonged a lease.
    LeaseKeptAlive {
        id: i64,
        ttl: i64,
    },
    WatchCreated {
        watch: i64,
        /// The store's revision then.
        revision: i64,
    },
    WatchCanceled {
        watch: i64,
        compact_revision: i64,
    },
    /// Events of `revision`, and earlier ones, went to a watcher.
    WatchSent {
        watch: i64,
        events: u64,
        revision: i64,
    },
    /// The state was made durable in the backend, up to the applied entry `applied`.
    StateFlushed {
        applied: u64,
    },
    /// A snapshot of the state up to `index` was made to be sent.
    SnapshotBuilt {
        index: u64,
    },
    /// The state was replaced by a snapshot up to `index`.
    SnapshotInstalled {
        index: u64,
    },
}

/// What an applied entry was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A new leader's empty entry.
    Blank,
    /// Raft's voters and learners.
    Membership {
        voters: Vec<u64>,
        learners: Vec<u64>,
    },
    Put {
        key: Vec<u8>,
        lease: i64,
    },
    DeleteRange {
        key: Vec<u8>,
        range_end: Vec<u8>,
    },
    Txn {
        operations: u64,
    },
    Compaction {
        revision: i64,
    },
    LeaseGrant {
        id: i64,
        ttl: i64,
    },
    LeaseRevoke {
        id: i64,
    },
    LeaseCheckpoint {
        leases: u64,
    },
    Alarm,
    MemberAdd {
        id: u64,
        learner: bool,
    },
    MemberRemove {
        id: u64,
    },
    MemberUpdate {
        id: u64,
    },
    MemberPromote {
        id: u64,
    },
    MemberPublish {
        id: u64,
    },
    /// Users, roles, permissions or tokens.
    Auth,
    ClusterVersionSet {
        version: String,
    },
    /// A downgrade was begun, to this version, or ended.
    Downgrade {
        target: Option<String>,
    },
    /// An entry of a kind that this version does not know, or an empty one.
    Other,
}

impl Change {
    /// What an encoded command changes.
    pub fn of_command(encoded: Bytes) -> Change {
        let request = Command::decode(encoded).ok().and_then(|command| command.request);
        match request {
            Some(Request::Put(put)) => Change::Put { key: put.key.into(), lease: put.lease },
            Some(Request::DeleteRange(delete)) => {
                Change::DeleteRange { key: delete.key.into(), range_end: delete.range_end.into() }
            }
            Some(Request::Txn(txn)) => {
                Change::Txn { operations: (txn.success.len() + txn.failure.len()) as u64 }
            }
            Some(Request::Compaction(compaction)) => {
                Change::Compaction { revision: compaction.revision }
            }
            Some(Request::LeaseGrant(grant)) => Change::LeaseGrant { id: grant.id, ttl: grant.ttl },
            Some(Request::LeaseRevoke(revoke)) => Change::LeaseRevoke { id: revoke.id },
            Some(Request::LeaseCheckpoint(checkpoint)) => {
                Change::LeaseCheckpoint { leases: checkpoint.checkpoints.len() as u64 }
            }
            Some(Request::Alarm(_)) => Change::Alarm,
            Some(Request::MemberAdd(add)) => {
                let member = add.member.unwrap_or_default();
                Change::MemberAdd { id: member.id, learner: member.is_learner }
            }
            Some(Request::MemberRemove(remove)) => Change::MemberRemove { id: remove.id },
            Some(Request::MemberUpdate(update)) => Change::MemberUpdate { id: update.id },
            Some(Request::MemberPromote(promote)) => Change::MemberPromote { id: promote.id },
            Some(Request::MemberPublish(publish)) => Change::MemberPublish { id: publish.id },
            Some(Request::Auth(_)) => Change::Auth,
            Some(Request::ClusterVersionSet(set)) => {
                Change::ClusterVersionSet { version: set.version }
            }
            Some(Request::DowngradeInfoSet(set)) => {
                Change::Downgrade { target: Some(set.target_version).filter(|_| set.enabled) }
            }
            None => Change::Other,
        }
    }
}

impl Event {
    /// What a response on a watch stream tells, if it is more than a sign of life.
    pub fn of_watch(response: &WatchResponse) -> Option<Event> {
        let watch = response.watch_id;
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.canceled {
            let compact_revision = response.compact_revision;
            return Some(Event::WatchCanceled { watch, compact_revision });
        }
        if response.created {
            return Some(Event::WatchCreated { watch, revision });
        }
        let events = response.events.len() as u64;
        (events > 0).then_some(Event::WatchSent { watch, events, revision })
    }
}

/// Whoever listens to a node.
pub trait Listener: Send + Sync + 'static {
    fn event(&self, event: Event);
}

/// The way to the listener, if there is one.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<dyn Listener>>);

impl Trace {
    pub fn to(listener: Arc<dyn Listener>) -> Trace {
        Trace(Some(listener))
    }

    /// Whether anybody listens, for those who would have to prepare an event.
    pub fn listens(&self) -> bool {
        self.0.is_some()
    }

    /// Tells the listener what `event` makes; without one `event` is not called.
    pub fn emit(&self, event: impl FnOnce() -> Event) {
        if let Some(listener) = &self.0 {
            listener.event(event());
        }
    }
}
