//! Rights are judged in the order of the log, whatever else is going on. The whole table of what
//! needs which right is in `tests/auth.rs`, against running members.

use std::sync::Arc;

use prost::Message;

use super::*;
use crate::api::authpb::{Permission, UserAddOptions};
use crate::api::coraclepb::AuthCommand;
use crate::api::coraclepb::auth_command::Request as AuthRequest;
use crate::api::etcdserverpb::alarm_request::AlarmAction;
use crate::backend::BackendOptions;
use crate::platform::MemoryDisk;
use crate::quota::Quota;

/// A member's state, and the index of the next entry.
struct Member {
    applier: Applier,
    index: u64,
}

impl Member {
    /// Users root and alice; alice may write `a`. Authentication is on.
    fn new() -> Member {
        let disk = Arc::new(MemoryDisk::default());
        let backend = Arc::new(Backend::open(disk, BackendOptions::default()).unwrap());
        let members = Arc::new(Members::open(backend.clone()).unwrap());
        let applier = Applier::open(backend, members, Quota::new(0), 1 << 20).unwrap();
        let mut member = Member { applier, index: 0 };
        for name in ["root", "alice"] {
            let options = Some(UserAddOptions { no_password: true });
            let name = name.to_owned();
            let request = pb::AuthUserAddRequest { name, options, ..Default::default() };
            member.change(AuthRequest::UserAdd(request));
        }
        member.change(AuthRequest::RoleAdd(pb::AuthRoleAddRequest { name: "r".to_owned() }));
        member.change(AuthRequest::RoleGrantPermission(permission()));
        for (user, role) in [("root", "root"), ("alice", "r")] {
            let (user, role) = (user.to_owned(), role.to_owned());
            let request = pb::AuthUserGrantRoleRequest { user, role };
            member.change(AuthRequest::UserGrantRole(request));
        }
        member.change(AuthRequest::Enable(pb::AuthEnableRequest {}));
        member
    }

    fn apply(&mut self, who: &Identity, request: Request) -> Outcome {
        self.index += 1;
        let command = Command { id: self.index, request: Some(request), asker: who.to_asker() };
        self.applier.apply(self.index, command.encode_to_vec().into()).unwrap().2
    }

    fn change(&mut self, request: AuthRequest) {
        let changed = self.apply(&Identity::Internal, auth(request));
        assert_eq!(changed, Ok(Reply::AuthChanged));
    }

    fn user(&self, name: &str) -> Identity {
        Identity::User { name: name.to_owned(), revision: self.applier.auth.revision() }
    }
}

fn permission() -> pb::AuthRoleGrantPermissionRequest {
    let perm = Permission { perm_type: 1, key: "a".into(), range_end: Bytes::new() };
    pb::AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm: Some(perm) }
}

fn auth(request: AuthRequest) -> Request {
    Request::Auth(AuthCommand { request: Some(request) })
}

fn put(key: &'static str) -> Request {
    Request::Put(pb::PutRequest { key: key.into(), ..Default::default() })
}

fn delete(key: &'static str) -> Request {
    Request::DeleteRange(pb::DeleteRangeRequest { key: key.into(), ..Default::default() })
}

#[test]
fn auth_07_a_right_that_was_lost_on_the_way_is_lost() {
    let mut member = Member::new();
    let alice = member.user("alice");
    assert!(member.apply(&alice, put("a")).is_ok());
    let revoke = pb::AuthRoleRevokePermissionRequest {
        role: "r".to_owned(),
        key: "a".into(),
        range_end: Bytes::new(),
    };
    member.change(AuthRequest::RoleRevokePermission(revoke));
    assert_eq!(member.apply(&alice, put("a")), Err(Error::AuthOldRevision));
    let alice = member.user("alice");
    assert_eq!(member.apply(&alice, put("a")), Err(Error::PermissionDenied));
}

#[test]
fn auth_07_what_was_proposed_before_authentication_was_on_is_nobodys() {
    let mut member = Member::new();
    assert_eq!(member.apply(&Identity::Nobody, put("a")), Err(Error::UserEmpty));
}

#[test]
fn auth_07_what_was_read_of_a_lease_is_judged_and_not_what_is_on_it_then() {
    let mut member = Member::new();
    let permission = Permission { perm_type: 2, key: "a".into(), range_end: Bytes::new() };
    let grant = pb::AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm: Some(permission) };
    member.change(AuthRequest::RoleGrantPermission(grant));
    let alice = member.user("alice");
    let permit =
        Permit { auth: &member.applier.auth, leases: &*member.applier.lessor, who: &alice };
    // No key is on any lease any more.
    assert_eq!(permit.tell_keys([Bytes::from("a")].iter()), Ok(()));
    let told = permit.tell_keys([Bytes::from("a"), Bytes::from("z")].iter());
    assert_eq!(told, Err(Error::PermissionDenied));
    let permit = Permit { who: &Identity::Nobody, ..permit };
    assert_eq!(permit.tell_keys([].iter()), Err(Error::UserEmpty));
}

#[test]
fn auth_12_the_cluster_itself_needs_no_rights() {
    let mut member = Member::new();
    let grant = pb::LeaseGrantRequest { id: 7, ttl: 60 };
    assert!(member.apply(&Identity::Internal, Request::LeaseGrant(grant)).is_ok());
    let revoke = || Request::LeaseRevoke(pb::LeaseRevokeRequest { id: 7 });
    assert_eq!(member.apply(&Identity::Nobody, revoke()), Err(Error::UserEmpty));
    assert!(member.apply(&Identity::Internal, revoke()).is_ok(), "it expired");
}

/// etcd #22386: with an alarm raised, etcd 3.5 forgets to ask for rights.
#[test]
fn auth_06_an_alarm_does_not_stop_the_checks() {
    let mut member = Member::new();
    let alarm = pb::AlarmRequest {
        action: AlarmAction::Activate as i32,
        member_id: 1,
        alarm: AlarmType::Nospace as i32,
    };
    assert!(member.apply(&Identity::Internal, Request::Alarm(alarm)).is_ok());
    let alice = member.user("alice");
    let disable = || auth(AuthRequest::Disable(pb::AuthDisableRequest {}));
    for request in [delete("z"), put("z"), disable()] {
        assert_eq!(member.apply(&alice, request), Err(Error::PermissionDenied));
    }
    assert_eq!(member.apply(&alice, put("a")), Err(Error::NoSpace));
    assert!(member.apply(&alice, delete("a")).is_ok());
}

#[test]
fn auth_07_an_old_token_may_end_leases_but_those_with_keys() {
    let mut member = Member::new();
    for id in [7, 8, 9] {
        let grant = pb::LeaseGrantRequest { id, ttl: 60 };
        assert!(member.apply(&Identity::Internal, Request::LeaseGrant(grant)).is_ok());
    }
    for lease in [8, 9] {
        let put = pb::PutRequest { key: "a".into(), lease, ..Default::default() };
        assert!(member.apply(&Identity::Internal, Request::Put(put)).is_ok());
    }
    let (root, alice) = (member.user("root"), member.user("alice"));
    member.change(AuthRequest::RoleAdd(pb::AuthRoleAddRequest { name: "other".to_owned() }));
    let revoke = |id| Request::LeaseRevoke(pb::LeaseRevokeRequest { id });
    assert!(member.apply(&alice, revoke(7)).is_ok(), "it has no keys");
    assert!(member.apply(&alice, revoke(8)).is_ok(), "its key went to the other lease");
    assert_eq!(member.apply(&alice, revoke(9)), Err(Error::AuthOldRevision));
    assert!(member.apply(&root, revoke(9)).is_ok());
}
