//! What rights a request needs, and whether its asker has them (AUTH-06, AUTH-07).
//!
//! The same rules judge a write when it is applied and a read where it is answered. What a
//! transaction needs does not depend on which way it will go: every compare, both branches and
//! all that is nested in them count, or an answer would tell what may not be read.

use bytes::Bytes;

use super::LeaseKeeper;
use crate::api::coraclepb::AuthCommand;
use crate::api::coraclepb::auth_command::Request as AuthRequest;
use crate::api::coraclepb::command::Request;
use crate::api::etcdserverpb::alarm_request::AlarmAction;
use crate::api::etcdserverpb::request_op::Request as OpRequest;
use crate::api::etcdserverpb::{DeleteRangeRequest, PutRequest, RequestOp, TxnRequest};
use crate::auth::{AuthStore, Identity, Rights};
use crate::error::Error;
use crate::mvcc::KeyRange;

/// Who asks, and what the answer rests on.
#[derive(Clone, Copy)]
pub struct Permit<'a> {
    pub auth: &'a AuthStore,
    pub leases: &'a dyn LeaseKeeper,
    pub who: &'a Identity,
}

/// Goes through keys as long as what it is handed says yes of each.
type EveryKey<'e> = dyn FnMut(&mut dyn FnMut(&[u8]) -> bool) -> bool + 'e;

impl Permit<'_> {
    /// Whether a committed command may be carried out.
    pub fn command(&self, request: &Request) -> Result<(), Error> {
        if !self.auth.is_enabled() || *self.who == Identity::Internal {
            return Ok(());
        }
        match request {
            Request::Put(put) => self.keys(|rights| self.may_put(rights, put)),
            Request::DeleteRange(delete) => self.keys(|rights| may_delete(rights, delete)),
            Request::Txn(txn) => self.txn(txn),
            Request::LeaseGrant(_) => self.auth.check_user(self.who),
            Request::LeaseRevoke(revoke) => self.lease_change(revoke.id),
            Request::Alarm(alarm) if alarm.action() == AlarmAction::Get => {
                self.auth.check_user(self.who)
            }
            // The password was checked; whoever knows it needs no other right.
            Request::Auth(command) if is_authenticate(command) => Ok(()),
            Request::Alarm(_)
            | Request::Compaction(_)
            | Request::LeaseCheckpoint(_)
            | Request::MemberAdd(_)
            | Request::MemberRemove(_)
            | Request::MemberUpdate(_)
            | Request::MemberPromote(_)
            | Request::MemberPublish(_)
            | Request::ClusterVersionSet(_)
            | Request::DowngradeInfoSet(_)
            | Request::Auth(_) => self.auth.check_admin(self.who),
        }
    }

    /// Whether all of a transaction may take place.
    pub fn txn(&self, request: &TxnRequest) -> Result<(), Error> {
        self.keys(|rights| self.may_do(rights, request))
    }

    /// Whether a lease may be renewed or revoked: its keys would live on or go. One without keys
    /// is anybody's who is somebody.
    pub fn lease_change(&self, id: i64) -> Result<(), Error> {
        self.lease(Rights::may_write, &mut |may| self.leases.every_key(id, may))
    }

    /// Whether `keys` may be told.
    pub fn tell_keys<'k>(&self, mut keys: impl Iterator<Item = &'k Bytes>) -> Result<(), Error> {
        self.lease(Rights::may_read, &mut |may| keys.all(|key| may(key)))
    }

    /// Whether the keys of a lease may be told.
    fn lease_keys(&self, id: i64) -> Result<(), Error> {
        self.lease(Rights::may_read, &mut |may| self.leases.every_key(id, may))
    }

    /// Whether the keys of all of these leases may be told.
    pub fn all_lease_keys(&self, ids: &[i64]) -> Result<(), Error> {
        self.auth.check_user(self.who)?;
        ids.iter().try_for_each(|id| self.lease_keys(*id))
    }

    /// Asks `may` what the asker's rights allow, if there is anything to ask.
    fn keys(&self, may: impl FnOnce(&Rights) -> bool) -> Result<(), Error> {
        match self.auth.current_rights(self.who)? {
            // Spares an administrator the look at every key of a lease.
            Some(rights) if !rights.is_admin() && !may(&rights) => Err(Error::PermissionDenied),
            _ => Ok(()),
        }
    }

    /// Asks `may` of the keys of a lease, through which `every` goes. An old revision matters where
    /// there is a key to judge, as in etcd: tokens that are signed (JWT) age with every change of a
    /// user, and leases would end with them.
    fn lease(
        &self,
        may: fn(&Rights, &KeyRange<'_>) -> bool,
        every: &mut EveryKey<'_>,
    ) -> Result<(), Error> {
        let rights = match self.auth.rights_of(self.who)? {
            Some(rights) if !rights.is_admin() => rights,
            _ => return Ok(()),
        };
        let mut judged = Ok(());
        every(&mut |key| {
            judged = match may(&rights, &KeyRange::Key(key)) {
                _ if self.auth.is_old(self.who) => Err(Error::AuthOldRevision),
                true => Ok(()),
                false => Err(Error::PermissionDenied),
            };
            judged.is_ok()
        });
        judged
    }

    fn may_do(&self, rights: &Rights, txn: &TxnRequest) -> bool {
        let compares = txn.compare.iter();
        let mut compares = compares.map(|c| KeyRange::new(&c.key, &c.range_end));
        let mut ops = txn.success.iter().chain(&txn.failure);
        compares.all(|range| rights.may_read(&range)) && ops.all(|op| self.may_do_op(rights, op))
    }

    fn may_do_op(&self, rights: &Rights, op: &RequestOp) -> bool {
        match &op.request {
            Some(OpRequest::RequestRange(range)) => {
                rights.may_read(&KeyRange::new(&range.key, &range.range_end))
            }
            Some(OpRequest::RequestPut(put)) => self.may_put(rights, put),
            Some(OpRequest::RequestDeleteRange(delete)) => may_delete(rights, delete),
            Some(OpRequest::RequestTxn(txn)) => self.may_do(rights, txn),
            None => true,
        }
    }

    /// A key on a lease shares its fate: whoever may not write the lease's other keys could end
    /// them by revoking it.
    fn may_put(&self, rights: &Rights, put: &PutRequest) -> bool {
        let key = KeyRange::Key(&put.key);
        rights.may_write(&key)
            && (!put.prev_kv || rights.may_read(&key))
            && (put.lease == 0 || self.may_write_keys_of(rights, put.lease))
    }

    fn may_write_keys_of(&self, rights: &Rights, lease: i64) -> bool {
        self.leases.every_key(lease, &mut |key| rights.may_write(&KeyRange::Key(key)))
    }
}

fn is_authenticate(command: &AuthCommand) -> bool {
    matches!(command.request, Some(AuthRequest::Authenticate(_)))
}

fn may_delete(rights: &Rights, delete: &DeleteRangeRequest) -> bool {
    let range = KeyRange::new(&delete.key, &delete.range_end);
    rights.may_write(&range) && (!delete.prev_kv || rights.may_read(&range))
}
