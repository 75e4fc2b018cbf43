//! What each RPC asks of whoever calls it, as a table, and the people who call it.
//!
//! There are five: nobody, a bad token, a user without rights, one with some, and root. What a row
//! needs says how each of them is answered.

use crate::grpc::{
    AuthClient, ClusterClient, ElectionClient, KvClient, LeaseClient, LockClient,
    MaintenanceClient, WatchClient,
};
use anyhow::{Context, Result};
use bytes::Bytes;
use coracle_core::api::authpb::{Permission, UserAddOptions, permission::Type};
use coracle_core::api::etcdserverpb::request_op::Request as Op;
use coracle_core::api::etcdserverpb::watch_request::RequestUnion;
use coracle_core::api::etcdserverpb::*;
use coracle_core::api::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use coracle_core::api::v3lockpb::{LockRequest, UnlockRequest};
use futures_util::future::BoxFuture;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// A lease whose keys are `a/held` and `z/held`, one with `a/own`, one without keys.
pub const SHARED: i64 = 101;
pub const OWN: i64 = 102;
pub const EMPTY: i64 = 103;

/// What an RPC asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// To be somebody.
    User,
    /// A right on keys, which alice has and mallory has not.
    Keys,
    /// A right on keys that alice has not either.
    OtherKeys,
    /// The role root.
    Admin,
}

use Needs::{Admin, Keys, Nothing, OtherKeys, User};

/// Who asks, in the order of the columns of [`expected`].
pub const ASKERS: [&str; 5] = ["nobody", "a bad token", "mallory", "alice", "root"];

pub type Token = Option<MetadataValue<Ascii>>;
pub type Ask = Box<dyn Fn(Channel, Token) -> BoxFuture<'static, Result<(), Status>>>;

pub struct Row {
    pub name: &'static str,
    pub needs: Needs,
    /// The rule is etcd 3.5.1's too.
    pub old: bool,
    pub ask: Ask,
}

/// A row that no macro writes.
fn row<F>(
    name: &'static str,
    needs: Needs,
    old: bool,
    ask: impl Fn(Channel, Token) -> F + 'static,
) -> Row
where
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    Row { name, needs, old, ask: Box::new(move |channel, token| Box::pin(ask(channel, token))) }
}

pub fn with_token<T>(message: T, token: Token) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token);
    }
    request
}

/// `needs [new] Client.method request`: `new` where etcd 3.5.1 asked for less, or in other words
/// (its maintenance says `auth: ...` with code Unknown).
macro_rules! rows {
    (@old new) => { false };
    (@old) => { true };
    ($($needs:ident $($new:ident)? : $client:ident $method:ident $request:expr;)*) => {
        vec![$(Row {
            name: concat!(stringify!($client), ".", stringify!($method)),
            needs: $needs,
            old: rows!(@old $($new)?),
            ask: Box::new(|channel, token| Box::pin(async move {
                let request = with_token($request, token);
                $client::new(channel).$method(request).await.map(drop)
            })),
        }),*]
    };
}

pub fn bytes(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

pub fn get(key: &str, end: &str) -> RangeRequest {
    RangeRequest { key: bytes(key), range_end: bytes(end), ..Default::default() }
}

pub fn put(key: &str) -> PutRequest {
    PutRequest { key: bytes(key), value: bytes("v"), ..Default::default() }
}

pub fn delete(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: bytes(key), range_end: bytes(end), prev_kv: false }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// A transaction that compares `key`, with these branches.
fn txn(key: &str, then: Vec<Op>, or: Vec<Op>) -> TxnRequest {
    TxnRequest {
        compare: vec![Compare { key: bytes(key), ..Default::default() }],
        success: then.into_iter().map(op).collect(),
        failure: or.into_iter().map(op).collect(),
    }
}

/// One that does one thing.
fn doing(then: Op) -> TxnRequest {
    txn("a", vec![then], vec![])
}

fn nested(request: TxnRequest) -> TxnRequest {
    doing(Op::RequestTxn(request))
}

fn read(key: &str, end: &str) -> Op {
    Op::RequestRange(get(key, end))
}

fn write(key: &str) -> Op {
    Op::RequestPut(put(key))
}

fn write_prev(key: &str) -> Op {
    Op::RequestPut(PutRequest { prev_kv: true, ..put(key) })
}

fn write_on(lease: i64, key: &str) -> Op {
    Op::RequestPut(PutRequest { lease, ..put(key) })
}

fn remove_prev(key: &str) -> Op {
    Op::RequestDeleteRange(DeleteRangeRequest { prev_kv: true, ..delete(key, "") })
}

/// KV: alice may do everything with the keys `a...`, write `w`, and nothing else.
#[rustfmt::skip] // A table.
fn kv_rows() -> Vec<Row> {
    rows! {
        Keys: KvClient range get("a", "");
        Keys: KvClient range RangeRequest { serializable: true, ..get("a", "b") };
        OtherKeys: KvClient range get("w", "");
        OtherKeys: KvClient range get("a", "bb");
        OtherKeys: KvClient range get("a", "\0");
        OtherKeys: KvClient range RangeRequest { count_only: true, ..get("\0", "\0") };
        Keys: KvClient put put("a");
        Keys: KvClient put put("w");
        OtherKeys: KvClient put put("z");
        Keys: KvClient put PutRequest { prev_kv: true, ..put("a") };
        OtherKeys: KvClient put PutRequest { prev_kv: true, ..put("w") };
        Keys: KvClient put PutRequest { lease: OWN, ..put("a/own") };
        OtherKeys: KvClient put PutRequest { lease: SHARED, ..put("a") };
        Keys: KvClient delete_range delete("a/gone", "a/h");
        OtherKeys: KvClient delete_range delete("w", "x");
        OtherKeys: KvClient delete_range delete("zz", "\0");
        Keys: KvClient delete_range DeleteRangeRequest { prev_kv: true, ..delete("a/gone", "") };
        OtherKeys: KvClient delete_range DeleteRangeRequest { prev_kv: true, ..delete("w", "") };
        Keys: KvClient txn doing(read("a", "b"));
        OtherKeys: KvClient txn txn("z", vec![read("a", "b")], vec![]);
        OtherKeys: KvClient txn doing(read("z", ""));
        OtherKeys: KvClient txn txn("a", vec![], vec![read("z", "")]);
        Keys: KvClient txn txn("a", vec![write("a")], vec![write("w")]);
        OtherKeys: KvClient txn txn("a", vec![write("a")], vec![write("z")]);
        OtherKeys: KvClient txn doing(write("z"));
        OtherKeys: KvClient txn doing(Op::RequestDeleteRange(delete("w", "x")));
        OtherKeys: KvClient txn doing(remove_prev("w"));
        // GHSA-rfx7-8w68-q57q: what is nested counts.
        Keys new: KvClient txn nested(doing(write("w")));
        OtherKeys new: KvClient txn nested(doing(write("z")));
        OtherKeys new: KvClient txn nested(txn("a", vec![], vec![read("z", "")]));
        OtherKeys new: KvClient txn nested(txn("z", vec![], vec![]));
        OtherKeys new: KvClient txn nested(nested(doing(write("z"))));
        // GHSA-x35m-3gp4-4fh5: so do former values and leases.
        OtherKeys new: KvClient txn doing(write_prev("w"));
        OtherKeys new: KvClient txn doing(write_on(SHARED, "a"));
        Keys new: KvClient txn doing(write_on(OWN, "a/own"));
        // GHSA-q8m4-xhhv-38mg, as much of what follows.
        Admin new: KvClient compact CompactionRequest { revision: 1, physical: false };
    }
}

pub fn time_left(id: i64, keys: bool) -> LeaseTimeToLiveRequest {
    LeaseTimeToLiveRequest { id, keys }
}

#[rustfmt::skip] // A table.
fn lease_and_cluster_rows(peer_url: &str) -> Vec<Row> {
    let taken = vec![peer_url.to_owned()];
    let mut rows = rows! {
        User new: LeaseClient lease_grant LeaseGrantRequest { ttl: 600, id: 0 };
        OtherKeys new: LeaseClient lease_time_to_live time_left(SHARED, true);
        Keys new: LeaseClient lease_time_to_live time_left(OWN, true);
        User new: LeaseClient lease_time_to_live time_left(SHARED, false);
        OtherKeys new: LeaseClient lease_leases LeaseLeasesRequest {};
        User new: ClusterClient member_list MemberListRequest { linearizable: true };
        Admin: ClusterClient member_remove MemberRemoveRequest { id: 1 };
        Admin: ClusterClient member_promote MemberPromoteRequest { id: 1 };
        User new: MaintenanceClient status StatusRequest {};
        User new: MaintenanceClient alarm AlarmRequest::default();
        Admin new: MaintenanceClient alarm AlarmRequest { action: 1, member_id: 1, alarm: 0 };
        Admin new: MaintenanceClient defragment DefragmentRequest {};
        Admin new: MaintenanceClient hash HashRequest {};
        Admin new: MaintenanceClient hash_kv HashKvRequest { revision: 0 };
        Admin new: MaintenanceClient move_leader MoveLeaderRequest { target_id: 1 };
        Admin new: MaintenanceClient downgrade DowngradeRequest { action: 0, version: text("3.6") };
    };
    let (add, update) = (taken.clone(), taken);
    rows.push(row("ClusterClient.member_add", Admin, true, move |channel, token| {
        let request = MemberAddRequest { peer_ur_ls: add.clone(), is_learner: true };
        async move {
            ClusterClient::new(channel).member_add(with_token(request, token)).await.map(drop)
        }
    }));
    rows.push(row("ClusterClient.member_update", Admin, true, move |channel, token| {
        let request = MemberUpdateRequest { id: 1, peer_ur_ls: update.clone() };
        async move {
            ClusterClient::new(channel).member_update(with_token(request, token)).await.map(drop)
        }
    }));
    rows
}

pub fn text(text: &str) -> String {
    text.to_owned()
}

pub fn new_user(name: &str) -> AuthUserAddRequest {
    AuthUserAddRequest { name: text(name), password: text("p"), ..Default::default() }
}

fn new_password(name: &str) -> AuthUserChangePasswordRequest {
    AuthUserChangePasswordRequest { name: text(name), password: text("q"), ..Default::default() }
}

pub fn granting(role: &str, kind: Type, key: &str, end: &str) -> AuthRoleGrantPermissionRequest {
    let (key, range_end) = (bytes(key), bytes(end));
    let perm = Some(Permission { perm_type: kind as i32, key, range_end });
    AuthRoleGrantPermissionRequest { name: text(role), perm }
}

fn revoking(role: &str, key: &str) -> AuthRoleRevokePermissionRequest {
    let (key, range_end) = (bytes(key), Bytes::new());
    AuthRoleRevokePermissionRequest { role: text(role), key, range_end }
}

/// A user and a role that the table makes and removes.
const EXTRA: &str = "extra";
const MORE: &str = "more";

#[rustfmt::skip] // A table.
fn auth_rows() -> Vec<Row> {
    rows! {
        Nothing new: AuthClient auth_status AuthStatusRequest {};
        Admin: AuthClient auth_enable AuthEnableRequest {};
        Admin: AuthClient user_add new_user(EXTRA);
        Keys: AuthClient user_get AuthUserGetRequest { name: text("alice") };
        Admin: AuthClient user_get AuthUserGetRequest { name: text(EXTRA) };
        Admin: AuthClient user_list AuthUserListRequest {};
        Admin: AuthClient user_change_password new_password(EXTRA);
        Admin: AuthClient role_add AuthRoleAddRequest { name: text(MORE) };
        Keys: AuthClient role_get AuthRoleGetRequest { role: text("a") };
        Admin: AuthClient role_get AuthRoleGetRequest { role: text(MORE) };
        Admin: AuthClient role_list AuthRoleListRequest {};
        Admin: AuthClient role_grant_permission granting(MORE, Type::Read, "x", "");
        Admin: AuthClient user_grant_role AuthUserGrantRoleRequest {
            user: text(EXTRA), role: text(MORE)
        };
        Admin: AuthClient role_revoke_permission revoking(MORE, "x");
        Admin: AuthClient user_revoke_role AuthUserRevokeRoleRequest {
            name: text(EXTRA), role: text(MORE)
        };
        Admin: AuthClient role_delete AuthRoleDeleteRequest { role: text(MORE) };
        Admin: AuthClient user_delete AuthUserDeleteRequest { name: text(EXTRA) };
        // Last, as root does it: its keys go with it.
        OtherKeys: LeaseClient lease_revoke LeaseRevokeRequest { id: SHARED };
        Admin: AuthClient auth_disable AuthDisableRequest {};
    }
}

/// Streams answer with their first message, or their first error.
fn stream_rows() -> Vec<Row> {
    async fn renew(id: i64, channel: Channel, token: Token) -> Result<(), Status> {
        let requests = futures_util::stream::iter([LeaseKeepAliveRequest { id }]);
        let mut client = LeaseClient::new(channel);
        let replies = client.lease_keep_alive(with_token(requests, token)).await?;
        replies.into_inner().message().await.map(drop)
    }
    vec![
        row("Watch of a key", Keys, false, |c, t| watch("a", "", c, t)),
        row("Watch of a range", OtherKeys, false, |c, t| watch("a", "bb", c, t)),
        row("Watch of a key without the right", OtherKeys, false, |c, t| watch("w", "", c, t)),
        // GHSA-xg4h-6gfc-h4m8: to the end is not one key.
        row("Watch from a key on", OtherKeys, false, |c, t| watch("a", "\0", c, t)),
        row("Watch of everything", OtherKeys, false, |c, t| watch("", "\0", c, t)),
        row("LeaseKeepAlive of another's", OtherKeys, false, |c, t| renew(SHARED, c, t)),
        row("LeaseKeepAlive of one's own", Keys, false, |c, t| renew(OWN, c, t)),
        row("LeaseKeepAlive without keys", User, false, |c, t| renew(EMPTY, c, t)),
        row("RangeStream", Keys, false, |c, t| range_stream("a", c, t)),
        row("RangeStream of another's", OtherKeys, false, |c, t| range_stream("z", c, t)),
        row("Snapshot", Admin, false, |channel, token| async move {
            let mut client = MaintenanceClient::new(channel);
            let blobs = client.snapshot(with_token(SnapshotRequest {}, token)).await?;
            blobs.into_inner().message().await.map(drop)
        }),
    ]
}

async fn range_stream(key: &str, channel: Channel, token: Token) -> Result<(), Status> {
    let request = with_token(get(key, ""), token);
    let chunks = KvClient::new(channel).range_stream(request).await?;
    chunks.into_inner().message().await.map(drop)
}

/// Lock and Election work on keys below their names. Their errors are those of etcd's own client
/// inside the server, which have lost their code on the way.
#[rustfmt::skip] // A table.
fn concurrency_rows() -> Vec<Row> {
    let mut rows = rows! {
        Keys new: LockClient lock LockRequest { name: bytes("a/lock"), lease: OWN };
        OtherKeys new: LockClient lock LockRequest { name: bytes("z/lock"), lease: OWN };
        Keys new: LockClient unlock UnlockRequest { key: bytes("a/lock/66") };
        OtherKeys new: LockClient unlock UnlockRequest { key: bytes("z/lock/66") };
        Keys new: ElectionClient campaign CampaignRequest {
            name: bytes("a/elect"), lease: OWN, value: bytes("v")
        };
        Keys new: ElectionClient leader LeaderRequest { name: bytes("a/elect") };
        OtherKeys new: ElectionClient leader LeaderRequest { name: bytes("z/elect") };
        Keys new: ElectionClient proclaim ProclaimRequest {
            leader: Some(leader_key()), value: bytes("w")
        };
        Keys new: ElectionClient resign ResignRequest { leader: Some(leader_key()) };
    };
    for row in &mut rows {
        let ask = std::mem::replace(&mut row.ask, Box::new(|_, _| unreachable!("replaced")));
        row.ask = Box::new(move |channel, token| {
            let answer = ask(channel, token);
            Box::pin(async move { answer.await.map_err(|status| coded(&status)) })
        });
    }
    rows
}

fn leader_key() -> LeaderKey {
    LeaderKey { name: bytes("a/elect"), key: bytes("a/elect/66"), rev: 1, lease: OWN }
}

/// The status with the code that belongs to its text.
pub fn coded(status: &Status) -> Status {
    let mut known = [USER_EMPTY, BAD_TOKEN, DENIED].into_iter();
    known
        .find(|(_, text)| *text == status.message())
        .map_or(status.clone(), |(code, text)| Status::new(code, text))
}

/// A watcher that may not be is created and canceled, with Go's words for the error (WATCH-17).
pub async fn watch(key: &str, end: &str, channel: Channel, token: Token) -> Result<(), Status> {
    let (key, range_end) = (bytes(key), bytes(end));
    let create = WatchCreateRequest { key, range_end, ..Default::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = futures_util::stream::iter([request]);
    let replies = WatchClient::new(channel).watch(with_token(requests, token)).await?;
    let reply = replies.into_inner().message().await?.unwrap_or_default();
    if !reply.canceled {
        return Ok(());
    }
    assert!(reply.created, "{reply:?}");
    let reason = reply.cancel_reason.strip_prefix("rpc error: code = ").unwrap_or_default();
    let (code, text) = reason.split_once(" desc = ").unwrap_or_default();
    let code = match code {
        "PermissionDenied" => Code::PermissionDenied,
        "InvalidArgument" => Code::InvalidArgument,
        "Unauthenticated" => Code::Unauthenticated,
        _ => Code::Unknown,
    };
    Err(Status::new(code, text))
}

pub const USER_EMPTY: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
pub const BAD_TOKEN: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");
pub const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");

/// All rows; one of them adds a member at `peer_url`, which is taken.
pub fn table(peer_url: &str) -> Vec<Row> {
    let tables = [
        kv_rows(),
        lease_and_cluster_rows(peer_url),
        stream_rows(),
        concurrency_rows(),
        auth_rows(),
    ];
    tables.into_iter().flatten().collect()
}

/// The error that each asker gets; `None` where rights are no obstacle.
pub fn expected(needs: Needs) -> [Option<(Code, &'static str)>; 5] {
    let (nobody, bad, denied) = (Some(USER_EMPTY), Some(BAD_TOKEN), Some(DENIED));
    match needs {
        Nothing => [None; 5],
        User => [nobody, bad, None, None, None],
        Keys => [nobody, bad, denied, None, None],
        OtherKeys | Admin => [nobody, bad, denied, denied, None],
    }
}

/// A fresh token for each question: a change of users by root makes those before it void.
pub async fn token_of(asker: &str, channel: &Channel) -> Result<Token> {
    Ok(match asker {
        "nobody" => None,
        "a bad token" => Some("nonsense.1".parse()?),
        name => {
            let (name, password) = (name.to_owned(), "secret".to_owned());
            let request = AuthenticateRequest { name, password };
            let reply = AuthClient::new(channel.clone()).authenticate(request).await?;
            Some(reply.into_inner().token.parse()?)
        }
    })
}

/// Users, roles, keys and leases that the table speaks of; then authentication is on.
pub async fn prepare(channel: &Channel) -> Result<()> {
    let (mut kv, mut lease) = (KvClient::new(channel.clone()), LeaseClient::new(channel.clone()));
    for id in [SHARED, OWN, EMPTY] {
        lease.lease_grant(LeaseGrantRequest { ttl: 600, id }).await?;
    }
    for (key, lease) in [("a/held", SHARED), ("z/held", SHARED), ("a/own", OWN), ("w", 0)] {
        kv.put(PutRequest { lease, ..put(key) }).await?;
    }
    let mut auth = AuthClient::new(channel.clone());
    for name in ["root", "alice", "mallory"] {
        let options = Some(UserAddOptions { no_password: false });
        let password = text("secret");
        auth.user_add(AuthUserAddRequest { password, options, ..new_user(name) }).await?;
    }
    auth.role_add(AuthRoleAddRequest { name: text("a") }).await?;
    auth.role_grant_permission(granting("a", Type::Readwrite, "a", "b")).await?;
    auth.role_grant_permission(granting("a", Type::Write, "w", "")).await?;
    for (user, role) in [("root", "root"), ("alice", "a")] {
        let (user, role) = (text(user), text(role));
        auth.user_grant_role(AuthUserGrantRoleRequest { user, role }).await?;
    }
    auth.auth_enable(AuthEnableRequest {}).await.context("enabling")?;
    Ok(())
}
