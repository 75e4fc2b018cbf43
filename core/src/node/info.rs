//! What a node tells about itself without asking anyone: for `/health`, `/metrics` and logs.

use crate::api::etcdserverpb::AlarmMember;
use crate::meters::Histogram;
use crate::trace::Role;

/// A node's view of itself and its cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeInfo {
    pub member_id: u64,
    pub cluster_id: u64,
    /// 0 if none is known.
    pub leader: u64,
    pub term: u64,
    pub committed: u64,
    pub applied: u64,
    pub is_leader: bool,
    pub is_learner: bool,
    pub alarms: Vec<AlarmMember>,
    pub db_size: u64,
    pub db_size_in_use: u64,
    pub db_quota: u64,
    pub revision: i64,
    pub auth_revision: u64,
    /// -1 if the store was never compacted.
    pub compact_revision: i64,
    pub keys: u64,
    pub leases: u64,
    pub watchers: u64,
    pub watch_streams: u64,
    pub leader_changes_seen: u64,
    pub proposals_pending: u64,
    pub proposals_failed: u64,
    pub puts: u64,
    pub ranges: u64,
    pub deletes: u64,
    pub txns: u64,
    pub slow_applies: u64,
    pub slow_watchers: u64,
    pub watch_events: u64,
    pub put_bytes: u64,
    pub compacted_keys: u64,
    /// Readers of the backend's file at this moment.
    pub open_reads: u64,
    pub wal_fsync: Histogram,
    pub wal_write: Histogram,
    pub wal_bytes_written: u64,
}

/// A node's place in Raft and in the store at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeProgress {
    pub role: Role,
    pub term: u64,
    /// As Raft remembers it: it may have gone silent.
    pub leader: Option<u64>,
    pub last_log_index: u64,
    pub committed: u64,
    pub applied: u64,
    pub revision: i64,
}

/// Why a node stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Storage failed or an invariant broke: the process must end with an error.
    Fatal(String),
    /// The member was removed from its cluster.
    Removed,
    /// [`super::Node::shutdown`] was called.
    Shutdown,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Storage(#[from] crate::error::Fatal),
    /// The configuration contradicts itself or the stored state; the sentence says what to do.
    #[error("{0}")]
    Config(String),
    /// A joining member could not reach the cluster it should join.
    #[error("{0}")]
    Join(String),
}
