//! `etcdserverpb.Cluster`: the member table.

use super::{Method, unary};

pub(super) const METHODS: [Method; 5] = [
    unary!("etcdserverpb.Cluster" "MemberAdd" member_add),
    unary!("etcdserverpb.Cluster" "MemberRemove" member_remove),
    unary!("etcdserverpb.Cluster" "MemberUpdate" member_update),
    unary!("etcdserverpb.Cluster" "MemberList" member_list),
    unary!("etcdserverpb.Cluster" "MemberPromote" member_promote),
];
