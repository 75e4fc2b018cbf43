//! The deterministic heart: `apply` is a function of state and entry. No clock, no randomness, no
//! iteration over hash maps; what it answers is the same on every member.
//!
//! [`Applier::apply`] decodes a command, carries it out on the key space, the leases, the members
//! or the alarms, and publishes the events of the revision that it made, if it made one. An error
//! is a reply ([`Error`]); what must stop the member is a [`Fatal`].

mod auth;
#[cfg(test)]
mod auth_tests;
mod compact;
mod context;
mod delete_range;
mod glue;
#[cfg(test)]
mod key_tests;
mod lease;
mod permit;
mod put;
#[cfg(test)]
mod tests;
mod txn;

pub use compact::compact;
pub use context::{ApplyContext, LeaseKeeper};
pub use delete_range::delete_range;
pub use permit::Permit;
pub use put::put;
pub use txn::{is_read_only, read_only_txn, txn};

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::api::coraclepb::Command;
use crate::api::coraclepb::command::Request;
use crate::api::etcdserverpb as pb;
use crate::api::etcdserverpb::AlarmType;
use crate::api::etcdserverpb::request_op::Request as OpRequest;
use crate::auth::{AuthStore, Identity, LoadedAuth};
use crate::backend::Backend;
use crate::cluster::{Alarms, ClusterVersion, Members, NoVersion};
use crate::error::{Code, Error, Fatal};
use crate::lease::Lessor;
use crate::mvcc::{Committed, Loaded, Store};
use crate::quota::Quota;
use crate::watch::{Hub, RevisionEvents, WatchOptions};

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
    LeaseCheckpoint,
    Alarm(pb::AlarmResponse),
    /// The member table after a membership command.
    Members(Vec<pb::Member>),
    /// A user, a role or the whole of authentication is as the command wanted it.
    AuthChanged,
    Token(Token),
    /// The cluster's version or its downgrade is set.
    ClusterVersion,
}

/// A token that was given out. It is a secret: it has no printed form.
#[derive(Clone, PartialEq)]
pub struct Token(pub String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}

impl Reply {
    fn token(token: String) -> Reply {
        Reply::Token(Token(token))
    }
}

/// The replicated state of a member, and the only writer of it.
pub struct Applier {
    pub backend: Arc<Backend>,
    pub store: Arc<Store>,
    pub lessor: Arc<Lessor>,
    pub members: Arc<Members>,
    pub alarms: Arc<Alarms>,
    pub auth: Arc<AuthStore>,
    pub version: Arc<ClusterVersion>,
    pub quota: Arc<Quota>,
    pub hub: Arc<Hub>,
}

impl Applier {
    /// The state that `backend` holds.
    pub fn open(
        backend: Arc<Backend>,
        members: Arc<Members>,
        quota: Quota,
        max_request_bytes: usize,
    ) -> Result<Applier, Fatal> {
        let (store, attachments) = Store::open(backend.clone())?;
        let store = Arc::new(store);
        let records = lease::load_records(&*backend)?;
        let lessor = Arc::new(Lessor::open(records, attachments));
        let alarms = Arc::new(Alarms::open(backend.clone())?);
        let auth = Arc::new(AuthStore::open(backend.clone())?);
        let version = Arc::new(ClusterVersion::open(backend.clone())?);
        let hub = Hub::new(store.clone(), WatchOptions { max_request_bytes, ..Default::default() });
        let quota = Arc::new(quota);
        Ok(Applier { backend, store, lessor, members, alarms, auth, version, quota, hub })
    }

    /// Switches to the state that a finished raft snapshot left beside the backend's. Everything
    /// about it is read first; then keys, revisions and rights change in one moment, so that no
    /// reader finds a part of the one state beside a part of the other.
    pub fn replace_with_restored(&self) -> Result<(), Fatal> {
        let restored = self.backend.restored()?;
        let view = restored.view();
        let (keys, rights) = (Loaded::of(&view)?, LoadedAuth::of(&view)?);
        let (leases, attachments) = (lease::load_records(&view)?, keys.attachments());
        drop(view);
        let replaced = self.store.replace(keys, || {
            self.auth.replace(rights);
            restored.adopt()
        });
        replaced.remove()?;
        self.lessor.restore(leases, attachments);
        self.members.reload()?;
        self.alarms.reload()?;
        self.version.reload()?;
        self.hub.reset(self.store.current_revision());
        Ok(())
    }

    /// Applies the encoded command of entry `index`; answers its identifier, its operation's name
    /// and its outcome.
    pub fn apply(&self, index: u64, encoded: Bytes) -> Result<(u64, &'static str, Outcome), Fatal> {
        // The same bytes are refused on every member, and again at every restart.
        let command = match decode(encoded) {
            Ok(command) => command,
            Err(refused) => return Ok((0, UNDECODABLE, Err(refused))),
        };
        let id = command.id;
        let Some(request) = command.request else {
            return Err(unknown_kind());
        };
        let operation = name(&request);
        let who = Identity::from_asker(command.asker);
        let permit = Permit { auth: &self.auth, leases: &*self.lessor, who: &who };
        if let Err(refused) = permit.command(&request) {
            return Ok((id, operation, Err(refused)));
        }
        Ok((id, operation, self.carry_out(index, request)?))
    }

    fn carry_out(&self, index: u64, request: Request) -> Result<Outcome, Fatal> {
        if let Err(refused) = self.check_alarms(&request) {
            return Ok(Err(refused));
        }
        self.quota.judge_applied(self.backend.size(), &request);
        let context = ApplyContext { store: &self.store, leases: &*self.lessor };
        Ok(match request {
            Request::Put(request) => self.publish(put(&context, &request)?).map(Reply::Put),
            Request::DeleteRange(request) => {
                self.publish(delete_range(&context, &request)?).map(Reply::DeleteRange)
            }
            Request::Txn(request) => self.publish(txn(&context, &request)?).map(Reply::Txn),
            Request::Compaction(request) => compact(&context, &request).map(Reply::Compaction),
            Request::LeaseGrant(request) => self.lease_grant(&request),
            Request::LeaseRevoke(request) => {
                self.publish(self.lease_revoke(&request)?).map(Reply::LeaseRevoke)
            }
            Request::LeaseCheckpoint(request) => self.lease_checkpoint(&request),
            Request::Alarm(request) => {
                let alarms = self.alarms.apply(&request);
                Ok(Reply::Alarm(pb::AlarmResponse { header: None, alarms }))
            }
            Request::MemberAdd(request) => self.members.add(request).map(Reply::Members),
            Request::MemberRemove(request) => self.members.remove(&request).map(Reply::Members),
            Request::MemberUpdate(request) => self.members.update(request).map(Reply::Members),
            Request::MemberPromote(request) => self.members.promote(&request).map(Reply::Members),
            Request::MemberPublish(request) => Ok(Reply::Members(self.members.publish(request))),
            Request::Auth(command) => {
                let Some(request) = command.request else { return Err(unknown_kind()) };
                self.auth_command(index, request)
            }
            Request::ClusterVersionSet(request) => {
                let version = request.version.parse().map_err(|NoVersion| {
                    let detail = format!("a committed cluster version '{}'", request.version);
                    Fatal::Invariant(detail)
                })?;
                self.version.set(version);
                Ok(Reply::ClusterVersion)
            }
            Request::DowngradeInfoSet(request) => {
                self.version.set_downgrade(request);
                Ok(Reply::ClusterVersion)
            }
        })
    }

    /// Hands the events of a new revision to the watchers.
    fn publish<T>(&self, result: Result<(T, Committed), Error>) -> Result<T, Error> {
        let (response, committed) = result?;
        if !committed.events.is_empty() {
            self.hub
                .publish(RevisionEvents { revision: committed.revision, events: committed.events });
        }
        Ok(response)
    }

    /// What a raised alarm forbids, checked where all members see the same alarms. MNT-02, MNT-03.
    fn check_alarms(&self, request: &Request) -> Result<(), Error> {
        if self.alarms.is_raised(AlarmType::Corrupt) {
            let refused = matches!(
                request,
                Request::Put(_)
                    | Request::DeleteRange(_)
                    | Request::Txn(_)
                    | Request::Compaction(_)
                    | Request::LeaseGrant(_)
                    | Request::LeaseRevoke(_)
            );
            if refused {
                return Err(Error::Corrupt);
            }
        }
        if self.alarms.is_raised(AlarmType::Nospace) {
            let refused = match request {
                Request::Put(_) | Request::LeaseGrant(_) => true,
                Request::Txn(txn) => puts(txn),
                _ => false,
            };
            if refused {
                return Err(Error::NoSpace);
            }
        }
        Ok(())
    }
}

/// What metrics call a command that is none.
const UNDECODABLE: &str = "Undecodable";

/// The command in `encoded`. What fails here must not be proposed: it is nobody's to carry out.
pub fn decode(encoded: Bytes) -> Result<Command, Error> {
    Command::decode(encoded).map_err(|_| {
        let text = "etcdserver: the command cannot be decoded";
        Error::Other(Code::InvalidArgument, text.to_owned())
    })
}

/// The operation of a command, as metrics name it.
fn name(request: &Request) -> &'static str {
    match request {
        Request::Put(_) => "Put",
        Request::DeleteRange(_) => "DeleteRange",
        Request::Txn(_) => "Txn",
        Request::Compaction(_) => "Compaction",
        Request::LeaseGrant(_) => "LeaseGrant",
        Request::LeaseRevoke(_) => "LeaseRevoke",
        Request::LeaseCheckpoint(_) => "LeaseCheckpoint",
        Request::Alarm(_) => "Alarm",
        Request::MemberAdd(_) => "MemberAdd",
        Request::MemberRemove(_) => "MemberRemove",
        Request::MemberUpdate(_) => "MemberUpdate",
        Request::MemberPromote(_) => "MemberPromote",
        Request::MemberPublish(_) => "MemberPublish",
        Request::Auth(_) => "Auth",
        Request::ClusterVersionSet(_) => "ClusterVersionSet",
        Request::DowngradeInfoSet(_) => "DowngradeInfoSet",
    }
}

/// A newer member's command: skipping it would make this member differ.
fn unknown_kind() -> Fatal {
    Fatal::Invariant("a committed command of unknown kind".to_owned())
}

/// Whether any branch of the transaction, nested ones included, puts a key.
fn puts(txn: &pb::TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(OpRequest::RequestPut(_)) => true,
        Some(OpRequest::RequestTxn(nested)) => puts(nested),
        _ => false,
    })
}

/// A header that says the revision only; the rest is the answering member's to fill in.
fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}
