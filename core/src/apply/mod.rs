//! The deterministic heart: `apply` is a function of state and entry. No clock, no randomness.

mod compact;
mod context;
mod delete_range;
mod put;
#[cfg(test)]
mod key_tests;
mod txn;

pub use compact::compact;
pub use context::{ApplyContext, LeaseKeeper};
pub use delete_range::delete_range;
pub use put::put;
pub use txn::{is_read_only, read_only_txn, txn};

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

/// A header that says the revision only; the rest is the answering member's to fill in.
fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}
