//! Reads, when rights change in the middle.

use bytes::Bytes;

use super::cluster::Cluster;
use crate::api::authpb::{Permission, UserAddOptions};
use crate::api::coraclepb::AuthCommand;
use crate::api::coraclepb::auth_command::Request as Auth;
use crate::api::coraclepb::command::Request;
use crate::api::etcdserverpb as pb;
use crate::apply::Reply;
use crate::auth::{Caller, Credentials, Identity};
use crate::error::Error;

fn change(cluster: &Cluster, request: Auth) {
    let node = cluster.nodes[&1].clone();
    let command = Request::Auth(AuthCommand { request: Some(request) });
    let changed =
        cluster.run_on(1, async move { node.propose(&Identity::Internal, command).await });
    assert_eq!(changed, Ok(Reply::AuthChanged));
}

fn revoke(key: &'static str) -> Auth {
    let (key, range_end) = (key.into(), Bytes::new());
    Auth::RoleRevokePermission(pb::AuthRoleRevokePermissionRequest {
        role: "r".to_owned(),
        key,
        range_end,
    })
}

/// Everybody may log in as root; alice may read `k` and `z`.
fn enable_auth(cluster: &Cluster) {
    for (name, role) in [("root", "root"), ("alice", "r")] {
        let (user, role) = (name.to_owned(), role.to_owned());
        let options = Some(UserAddOptions { no_password: true });
        let add = pb::AuthUserAddRequest { name: user.clone(), options, ..Default::default() };
        change(cluster, Auth::UserAdd(add));
        if role != "root" {
            change(cluster, Auth::RoleAdd(pb::AuthRoleAddRequest { name: role.clone() }));
        }
        change(cluster, Auth::UserGrantRole(pb::AuthUserGrantRoleRequest { user, role }));
    }
    for (key, range_end) in [("k", "l"), ("z", "")] {
        let (key, range_end) = (key.into(), range_end.into());
        let perm = Some(Permission { perm_type: 0, key, range_end });
        let grant = pb::AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm };
        change(cluster, Auth::RoleGrantPermission(grant));
    }
    change(cluster, Auth::Enable(pb::AuthEnableRequest {}));
}

#[test]
fn auth_07_a_streamed_range_ends_when_rights_change() {
    let cluster = Cluster::new(1);
    for n in 0..50 {
        cluster.put(1, format!("k{n:02}"), "v");
    }
    enable_auth(&cluster);
    let node = cluster.nodes[&1].clone();
    let common_name = Some("alice".to_owned());
    let alice = Caller::Client(Credentials { token: None, common_name });
    let request = pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let opened = cluster.run_on(1, async move { node.range_stream(&alice, request).await });
    let mut stream = opened.expect("she may");
    assert!(stream.next().expect("a piece").is_ok());
    change(&cluster, revoke("z"));
    assert_eq!(stream.next(), Some(Err(Error::AuthOldRevision)));
    assert_eq!(stream.next(), None);
}
