//! Users, roles, permissions and who may do what, against etcd: the same random requests by the
//! same people to both servers, every answer compared.
//!
//! Root sets users and roles up and changes them; five people, some of whom come and go, read,
//! write and watch. Each server gives its own tokens out, so a request is sent with the token that
//! the server at hand gave to its asker.
//!
//! What newer releases refuse and 3.5.1 does not is left out here, and asked of Coracle alone in
//! the matrix of `tests/auth.rs` (ETCD.md AUTH-06; U-1 to U-6 of `conformance_differences.md`).

use std::collections::BTreeMap;
use std::fmt::Debug;

use anyhow::{Result, ensure};
use bytes::Bytes;
use coracle_core::api::authpb::{Permission, UserAddOptions};
use coracle_core::api::etcdserverpb::request_op::Request as Op;
use coracle_core::api::etcdserverpb::watch_request::RequestUnion;
use coracle_core::api::etcdserverpb::*;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use super::dice::Dice;
use crate::cluster::{Cluster, Kind};
use crate::grpc::{AuthClient, KvClient, LeaseClient, WatchClient};

const FLAGS: [&str; 3] = ["--unsafe-no-fsync", "--log-level=error", "--bcrypt-cost=4"];
const USERS: [&str; 5] = ["ann", "bob", "cid", "dan", "eve"];
const ROLES: [&str; 4] = ["r", "s", "t", "root"];
const PASSWORDS: [&str; 3] = ["one", "two", ""];
/// Keys and ends that meet: points, neighbours, prefixes.
const KEYS: [&str; 8] = ["a", "a\0", "b", "b/", "b/x", "c", "d", "\u{7f}"];
const LEASE: i64 = 77;

/// One request, and who makes it.
#[derive(Clone, Debug)]
enum Ask {
    LogIn(AuthenticateRequest),
    Enable,
    Disable,
    UserAdd(AuthUserAddRequest),
    UserGet(AuthUserGetRequest),
    UserList,
    UserDelete(AuthUserDeleteRequest),
    ChangePassword(AuthUserChangePasswordRequest),
    GrantRole(AuthUserGrantRoleRequest),
    RevokeRole(AuthUserRevokeRoleRequest),
    RoleAdd(AuthRoleAddRequest),
    RoleGet(AuthRoleGetRequest),
    RoleList,
    RoleDelete(AuthRoleDeleteRequest),
    GrantPermission(AuthRoleGrantPermissionRequest),
    RevokePermission(AuthRoleRevokePermissionRequest),
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    LeaseRevoke,
    Watch(WatchCreateRequest),
}

/// Compares `requests` random requests of the sequence of `seed`.
///
/// # Errors
/// On the first difference, with what is needed to repeat it.
pub async fn run_sequence(subject: Kind, seed: u64, requests: usize) -> Result<()> {
    let reference = Cluster::start_with(Kind::Etcd, 1, &FLAGS)?;
    let subject = Cluster::start_with(subject, 1, &FLAGS)?;
    let mut reference = Server::connect(&reference).await?;
    let mut subject = Server::connect(&subject).await?;
    let mut people = People { dice: Dice::new(seed) };
    let mut queue = setting_up();
    let mut recent = Vec::new();
    for index in 0..requests {
        let (asker, ask) = queue.pop().unwrap_or_else(|| people.next());
        let expected = reference.answer(&asker, ask.clone()).await;
        let actual = subject.answer(&asker, ask.clone()).await;
        ensure!(
            expected == actual,
            "request {index} of seed {seed} by {asker:?}: {ask:?}\n  etcd answers    {expected}\n  \
             subject answers {actual}\nbefore it:\n{}",
            recent.join("\n")
        );
        recent.push(format!("  {asker:?}: {ask:?}\n    → {expected}"));
        if recent.len() > 12 {
            recent.remove(0);
        }
    }
    Ok(())
}

/// The first requests, last first: without them little would be permitted.
fn setting_up() -> Vec<(String, Ask)> {
    let root = |ask| ("root".to_owned(), ask);
    let mut asks = vec![root(Ask::Enable), root(Ask::Disable), root(Ask::Enable)];
    let (user, role) = ("root".to_owned(), "root".to_owned());
    asks.push(root(Ask::GrantRole(AuthUserGrantRoleRequest { user, role })));
    asks.push(root(Ask::Enable));
    for name in USERS.into_iter().chain(["root"]) {
        asks.push(root(Ask::UserAdd(new_user(name, "one", false))));
    }
    asks.push(root(Ask::Enable));
    asks
}

fn new_user(name: &str, password: &str, no_password: bool) -> AuthUserAddRequest {
    AuthUserAddRequest {
        name: name.to_owned(),
        password: password.to_owned(),
        options: Some(UserAddOptions { no_password }),
        hashed_password: String::new(),
    }
}

/// Chooses who asks what.
struct People {
    dice: Dice,
}

impl People {
    fn next(&mut self) -> (String, Ask) {
        let asker = match self.dice.weighted(&[40, 50, 6, 4]) {
            0 => "root".to_owned(),
            1 => self.user(),
            2 => String::new(),
            _ => "nonsense".to_owned(),
        };
        let ask = match self.dice.weighted(&[35, 65]) {
            0 => self.manage(),
            _ => self.use_keys(),
        };
        let ask = match ask {
            // U-2: 3.5.1 tells everybody that there is no permission.
            Ask::Watch(watch) if asker.is_empty() || asker == "nonsense" => {
                let WatchCreateRequest { key, range_end, .. } = watch;
                Ask::Range(RangeRequest { key, range_end, ..Default::default() })
            }
            // 3.5.1 takes nobody for the user without a name, who may ask about itself.
            Ask::UserGet(request) if request.name.is_empty() => Ask::UserList,
            // U-1: 3.5.1 lets everybody revoke a lease without keys.
            Ask::LeaseRevoke if asker != "root" => Ask::RoleList,
            ask => ask,
        };
        (asker, ask)
    }

    fn user(&mut self) -> String {
        (*self.dice.pick(&USERS)).to_owned()
    }

    /// Somebody who may not be there, or root.
    fn anybody(&mut self) -> String {
        match self.dice.below(12) {
            0 => "root".to_owned(),
            1 => "nobody".to_owned(),
            2 => String::new(),
            _ => self.user(),
        }
    }

    fn role(&mut self) -> String {
        match self.dice.below(15) {
            0 => "none".to_owned(),
            1 => String::new(),
            _ => (*self.dice.pick(&ROLES)).to_owned(),
        }
    }

    fn password(&mut self) -> String {
        (*self.dice.pick(&PASSWORDS)).to_owned()
    }

    /// A key and an end behind it: of points, intervals, and "from the key on".
    fn range(&mut self) -> (Bytes, Bytes) {
        let first = self.dice.below(KEYS.len());
        let end = match self.dice.below(8) {
            0 => "\0",
            1..=3 if first + 1 < KEYS.len() => {
                KEYS[first + 1 + self.dice.below(KEYS.len() - first - 1)]
            }
            _ => "",
        };
        (KEYS[first].into(), end.into())
    }

    /// As [`People::range`], with one end for each key: of two permissions that begin alike, 3.5.1
    /// replaces the first only, and then holds the other twice (U-6).
    fn granted_range(&mut self) -> (Bytes, Bytes) {
        let first = self.dice.below(KEYS.len());
        let end = match first % 4 {
            0 | 2 => "",
            1 => KEYS[(first + 3).min(KEYS.len() - 1)],
            _ => "\0",
        };
        (KEYS[first].into(), end.into())
    }

    fn manage(&mut self) -> Ask {
        match self.dice.weighted(&[8, 8, 3, 6, 6, 14, 8, 8, 8, 3, 5, 30, 12, 3]) {
            0 => {
                let (name, password) = (self.anybody(), self.password());
                Ask::UserAdd(new_user(&name, &password, self.dice.percent(10)))
            }
            1 => Ask::UserGet(AuthUserGetRequest { name: self.anybody() }),
            2 => Ask::UserList,
            3 => Ask::UserDelete(AuthUserDeleteRequest { name: self.anybody() }),
            4 => Ask::ChangePassword(AuthUserChangePasswordRequest {
                name: self.user(),
                password: self.password(),
                hashed_password: String::new(),
            }),
            5 => {
                let (user, role) = (self.anybody(), self.role());
                Ask::GrantRole(AuthUserGrantRoleRequest { user, role })
            }
            6 => {
                let (name, role) = (self.anybody(), self.role());
                Ask::RevokeRole(AuthUserRevokeRoleRequest { name, role })
            }
            7 => Ask::RoleAdd(AuthRoleAddRequest { name: self.role() }),
            8 => Ask::RoleGet(AuthRoleGetRequest { role: self.role() }),
            9 => Ask::RoleList,
            10 => Ask::RoleDelete(AuthRoleDeleteRequest { role: self.role() }),
            11 => {
                let (key, range_end) = self.granted_range();
                let perm_type = self.dice.below(3) as i32;
                let perm = Some(Permission { perm_type, key, range_end });
                let perm = perm.filter(|_| !self.dice.percent(3));
                Ask::GrantPermission(AuthRoleGrantPermissionRequest { name: self.role(), perm })
            }
            12 => {
                let (key, range_end) = self.granted_range();
                let role = self.role();
                Ask::RevokePermission(AuthRoleRevokePermissionRequest { role, key, range_end })
            }
            _ => Ask::Enable,
        }
    }

    fn use_keys(&mut self) -> Ask {
        let (key, range_end) = self.range();
        let range =
            RangeRequest { key: key.clone(), range_end: range_end.clone(), ..Default::default() };
        let put = PutRequest { key: key.clone(), value: "v".into(), ..Default::default() };
        match self.dice.weighted(&[28, 22, 8, 20, 10, 3, 9]) {
            0 => Ask::Range(RangeRequest { serializable: self.dice.percent(30), ..range }),
            1 => Ask::Put(PutRequest {
                prev_kv: self.dice.percent(25),
                lease: if self.dice.percent(20) { LEASE } else { 0 },
                ..put
            }),
            2 => Ask::DeleteRange(DeleteRangeRequest {
                key,
                range_end,
                prev_kv: self.dice.percent(30),
            }),
            3 => {
                let compare = Compare { key, range_end, ..Default::default() };
                let mut op = || {
                    let (key, range_end) = self.range();
                    let request = match self.dice.below(3) {
                        0 => Op::RequestPut(PutRequest {
                            key,
                            value: "w".into(),
                            ..Default::default()
                        }),
                        1 => Op::RequestDeleteRange(DeleteRangeRequest {
                            key,
                            range_end,
                            prev_kv: false,
                        }),
                        _ => {
                            Op::RequestRange(RangeRequest { key, range_end, ..Default::default() })
                        }
                    };
                    RequestOp { request: Some(request) }
                };
                let (success, failure) = (vec![op()], vec![op()]);
                Ask::Txn(TxnRequest { compare: vec![compare], success, failure })
            }
            4 => {
                let (name, password) = (self.anybody(), self.password());
                Ask::LogIn(AuthenticateRequest { name, password })
            }
            5 => Ask::LeaseRevoke,
            // 3.5.1 takes "from the key on" for the one key (GHSA-xg4h-6gfc-h4m8).
            _ if range_end == "\0" => Ask::Range(range),
            _ => Ask::Watch(WatchCreateRequest { key, range_end, ..Default::default() }),
        }
    }
}

/// A server, and the tokens that it gave out.
struct Server {
    channel: Channel,
    tokens: BTreeMap<String, MetadataValue<Ascii>>,
}

impl Server {
    async fn connect(cluster: &Cluster) -> Result<Server> {
        let channel = Channel::from_shared(cluster.endpoint(0))?.connect().await?;
        Ok(Server { channel, tokens: BTreeMap::new() })
    }

    fn request<T>(&self, asker: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let nonsense = MetadataValue::from_static("nonsense.1");
        let token = match asker {
            "nonsense" => Some(&nonsense),
            asker => self.tokens.get(asker),
        };
        if let Some(token) = token {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// The answer as text, without what differs between servers.
    async fn answer(&mut self, asker: &str, ask: Ask) -> String {
        // Logs the asker in where there is no token, with whichever password is right.
        if !self.tokens.contains_key(asker) && (USERS.contains(&asker) || asker == "root") {
            for password in PASSWORDS {
                let name = asker.to_owned();
                let request = AuthenticateRequest { name, password: password.to_owned() };
                self.log_in(request).await;
            }
        }
        // U-5: 3.5.1 looks at tokens while authentication is off.
        let disables = matches!(ask, Ask::Disable);
        let text = self.call(asker, ask).await;
        if disables {
            self.tokens.clear();
        }
        if text.contains("invalid auth token") {
            self.tokens.remove(asker);
        }
        text
    }

    async fn log_in(&mut self, request: AuthenticateRequest) -> String {
        let name = request.name.clone();
        match AuthClient::new(self.channel.clone()).authenticate(request).await {
            Ok(reply) => {
                let token = reply.into_inner().token;
                if let Ok(token) = token.parse() {
                    self.tokens.insert(name, token);
                }
                "a token".to_owned()
            }
            Err(status) => error(&status),
        }
    }

    async fn call(&mut self, asker: &str, ask: Ask) -> String {
        let mut auth = AuthClient::new(self.channel.clone());
        let mut kv = KvClient::new(self.channel.clone());
        /// Calls a method with the asker's token.
        macro_rules! call {
            ($client:ident $method:ident $message:expr) => {{
                let request = self.request(asker, $message);
                told($client.$method(request).await, |reply| mask(&mut reply.header))
            }};
        }
        match ask {
            Ask::LogIn(request) => self.log_in(request).await,
            Ask::Enable => call!(auth auth_enable AuthEnableRequest {}),
            Ask::Disable => call!(auth auth_disable AuthDisableRequest {}),
            Ask::UserAdd(request) => call!(auth user_add request),
            Ask::UserGet(request) => call!(auth user_get request),
            Ask::UserList => call!(auth user_list AuthUserListRequest {}),
            Ask::UserDelete(request) => call!(auth user_delete request),
            Ask::ChangePassword(request) => call!(auth user_change_password request),
            Ask::GrantRole(request) => call!(auth user_grant_role request),
            Ask::RevokeRole(request) => call!(auth user_revoke_role request),
            Ask::RoleAdd(request) => call!(auth role_add request),
            Ask::RoleGet(request) => call!(auth role_get request),
            Ask::RoleList => call!(auth role_list AuthRoleListRequest {}),
            Ask::RoleDelete(request) => call!(auth role_delete request),
            Ask::GrantPermission(request) => call!(auth role_grant_permission request),
            Ask::RevokePermission(request) => call!(auth role_revoke_permission request),
            Ask::Range(request) => call!(kv range request),
            Ask::Put(request) => call!(kv put request),
            Ask::DeleteRange(request) => call!(kv delete_range request),
            Ask::Txn(request) => call!(kv txn request),
            Ask::LeaseRevoke => {
                let mut lease = LeaseClient::new(self.channel.clone());
                let revoked = call!(lease lease_revoke LeaseRevokeRequest { id: LEASE });
                // By root, as 3.5.1 lets everybody grant.
                let grant = self.request("root", LeaseGrantRequest { id: LEASE, ttl: 9_000 });
                _ = lease.lease_grant(grant).await;
                revoked
            }
            Ask::Watch(request) => self.watch(asker, request).await,
        }
    }

    /// The first answer of a watch stream.
    async fn watch(&self, asker: &str, create: WatchCreateRequest) -> String {
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let requests = self.request(asker, tokio_stream::iter([request]));
        let first = async {
            let mut replies = WatchClient::new(self.channel.clone()).watch(requests).await?;
            let reply = replies.get_mut().message().await?;
            Ok(Response::new(reply.unwrap_or_default()))
        };
        told(first.await, |reply| {
            mask(&mut reply.header);
            // U-2: a refused watcher has the number 0 in 3.5.1, and one reason for all.
            reply.watch_id = 0;
            if reply.canceled {
                reply.cancel_reason = "not permitted".to_owned();
            }
        })
    }
}

/// Leaves the revision of a header.
fn mask(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        *header = ResponseHeader { revision: header.revision, ..Default::default() };
    }
}

fn told<T: Debug>(result: Result<Response<T>, Status>, mask: impl FnOnce(&mut T)) -> String {
    match result {
        Ok(reply) => {
            let mut reply = reply.into_inner();
            mask(&mut reply);
            format!("{reply:?}")
        }
        Err(status) => error(&status),
    }
}

fn error(status: &Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
