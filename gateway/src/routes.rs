//! Which path is which RPC: etcd's annotations in `rpc.proto`, as a table (ETCD.md 1.2).

/// A path of the gateway.
pub(crate) struct Route {
    pub(crate) path: &'static str,
    /// With its package.
    pub(crate) service: &'static str,
    pub(crate) rpc: &'static str,
}

const fn route(path: &'static str, service: &'static str, rpc: &'static str) -> Route {
    Route { path, service, rpc }
}

const KV: &str = "etcdserverpb.KV";
const WATCH: &str = "etcdserverpb.Watch";
const LEASE: &str = "etcdserverpb.Lease";
const CLUSTER: &str = "etcdserverpb.Cluster";
const MAINTENANCE: &str = "etcdserverpb.Maintenance";
const AUTH: &str = "etcdserverpb.Auth";
const LOCK: &str = "v3lockpb.Lock";
const ELECTION: &str = "v3electionpb.Election";

/// Every RPC but `RangeStream`, which etcd gives no path. Some have two.
pub(crate) const ROUTES: &[Route] = &[
    route("/v3/kv/range", KV, "Range"),
    route("/v3/kv/put", KV, "Put"),
    route("/v3/kv/deleterange", KV, "DeleteRange"),
    route("/v3/kv/txn", KV, "Txn"),
    route("/v3/kv/compaction", KV, "Compact"),
    route("/v3/watch", WATCH, "Watch"),
    route("/v3/lease/grant", LEASE, "LeaseGrant"),
    route("/v3/lease/revoke", LEASE, "LeaseRevoke"),
    route("/v3/kv/lease/revoke", LEASE, "LeaseRevoke"),
    route("/v3/lease/keepalive", LEASE, "LeaseKeepAlive"),
    route("/v3/lease/timetolive", LEASE, "LeaseTimeToLive"),
    route("/v3/kv/lease/timetolive", LEASE, "LeaseTimeToLive"),
    route("/v3/lease/leases", LEASE, "LeaseLeases"),
    route("/v3/kv/lease/leases", LEASE, "LeaseLeases"),
    route("/v3/cluster/member/add", CLUSTER, "MemberAdd"),
    route("/v3/cluster/member/remove", CLUSTER, "MemberRemove"),
    route("/v3/cluster/member/update", CLUSTER, "MemberUpdate"),
    route("/v3/cluster/member/list", CLUSTER, "MemberList"),
    route("/v3/cluster/member/promote", CLUSTER, "MemberPromote"),
    route("/v3/maintenance/alarm", MAINTENANCE, "Alarm"),
    route("/v3/maintenance/status", MAINTENANCE, "Status"),
    route("/v3/maintenance/defragment", MAINTENANCE, "Defragment"),
    route("/v3/maintenance/hash", MAINTENANCE, "Hash"),
    route("/v3/maintenance/hashkv", MAINTENANCE, "HashKV"),
    route("/v3/maintenance/snapshot", MAINTENANCE, "Snapshot"),
    route("/v3/maintenance/transfer-leadership", MAINTENANCE, "MoveLeader"),
    route("/v3/maintenance/downgrade", MAINTENANCE, "Downgrade"),
    route("/v3/auth/enable", AUTH, "AuthEnable"),
    route("/v3/auth/disable", AUTH, "AuthDisable"),
    route("/v3/auth/status", AUTH, "AuthStatus"),
    route("/v3/auth/authenticate", AUTH, "Authenticate"),
    route("/v3/auth/user/add", AUTH, "UserAdd"),
    route("/v3/auth/user/get", AUTH, "UserGet"),
    route("/v3/auth/user/list", AUTH, "UserList"),
    route("/v3/auth/user/delete", AUTH, "UserDelete"),
    route("/v3/auth/user/changepw", AUTH, "UserChangePassword"),
    route("/v3/auth/user/grant", AUTH, "UserGrantRole"),
    route("/v3/auth/user/revoke", AUTH, "UserRevokeRole"),
    route("/v3/auth/role/add", AUTH, "RoleAdd"),
    route("/v3/auth/role/get", AUTH, "RoleGet"),
    route("/v3/auth/role/list", AUTH, "RoleList"),
    route("/v3/auth/role/delete", AUTH, "RoleDelete"),
    route("/v3/auth/role/grant", AUTH, "RoleGrantPermission"),
    route("/v3/auth/role/revoke", AUTH, "RoleRevokePermission"),
    route("/v3/lock/lock", LOCK, "Lock"),
    route("/v3/lock/unlock", LOCK, "Unlock"),
    route("/v3/election/campaign", ELECTION, "Campaign"),
    route("/v3/election/proclaim", ELECTION, "Proclaim"),
    route("/v3/election/leader", ELECTION, "Leader"),
    route("/v3/election/observe", ELECTION, "Observe"),
    route("/v3/election/resign", ELECTION, "Resign"),
];
