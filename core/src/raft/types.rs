//! openraft's type configuration: which identifiers, entries and replies this store uses.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
pub use openraft::AsyncRuntime;
use openraft::impls::{BoxedErrorSource, EmptyNode, InlineBatch, OneshotResponder};
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig};

use crate::apply::Outcome;

/// The type configuration over a host's runtime `R` (tokio, or the step executor).
pub struct TypeConfig<R>(PhantomData<fn() -> R>);

/// One leader per term, as in the Raft paper (section 5.2), and so a log id is (term, index).
pub type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
/// The leader part of a log id.
pub type CommittedLeaderId = <LeaderId as openraft::vote::RaftLeaderId>::Committed;
pub type LogId = openraft::LogId<CommittedLeaderId>;
pub type Vote = openraft::impls::Vote<LeaderId>;
pub type Payload = EntryPayload<ProposedCommand, u64, EmptyNode>;
pub type Entry = openraft::Entry<CommittedLeaderId, Payload>;
pub type Membership = openraft::Membership<u64, EmptyNode>;
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, u64, EmptyNode>;

/// A `coraclepb.Command`, encoded once by the proposer: these bytes go to the log, to the peers and
/// into `apply`, which decodes them.
#[derive(Clone, PartialEq, Eq)]
pub struct ProposedCommand(pub Bytes);

impl fmt::Debug for ProposedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.0.len())
    }
}

impl fmt::Display for ProposedCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl<R: AsyncRuntime> RaftTypeConfig for TypeConfig<R> {
    type D = ProposedCommand;
    type R = Outcome;
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = R;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

// openraft wants these of the configuration type; derives would ask them of `R` too.
impl<R> Clone for TypeConfig<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for TypeConfig<R> {}
impl<R> Default for TypeConfig<R> {
    fn default() -> Self {
        TypeConfig(PhantomData)
    }
}
impl<R> fmt::Debug for TypeConfig<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypeConfig")
    }
}
impl<R> PartialEq for TypeConfig<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<R> Eq for TypeConfig<R> {}
impl<R> PartialOrd for TypeConfig<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<R> Ord for TypeConfig<R> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}
