//! The deterministic heart: `apply` is a function of state and entry. No clock, no randomness.

use crate::api::etcdserverpb as pb;
use crate::error::Error;

/// What applying one entry answers. A failure is the same on every member, and so it is a reply.
pub type Outcome = Result<Reply, Error>;

/// The reply to a command, without the cluster, member and term of its header.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// The entry held nothing to answer: blank, or a change of Raft's own membership.
    Empty,
    Put(pb::PutResponse),
    DeleteRange(pb::DeleteRangeResponse),
    Txn(pb::TxnResponse),
    Compaction(pb::CompactionResponse),
    LeaseGrant(pb::LeaseGrantResponse),
    LeaseRevoke(pb::LeaseRevokeResponse),
    Alarm(pb::AlarmResponse),
    /// The member table after a membership command.
    Members(Vec<pb::Member>),
}
