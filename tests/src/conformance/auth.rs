//! Users, roles, permissions and who may do what: random requests by people with and without
//! rights, while authentication is on.
//!
//! Root sets users and roles up and changes them; five people, some of whom come and go, read,
//! write and watch. Each server gives its own tokens out, so a request is sent with the token that
//! the server at hand gave to its asker.
//!
//! What newer releases refuse and 3.5.1 does not is left out here, and asked of Coracle alone in
//! the matrix of `tests/auth.rs` (ETCD.md AUTH-06; U-1 to U-6 of `conformance_differences.md`).

use std::collections::BTreeMap;

use anyhow::Result;
use bytes::Bytes;
use coracle_core::api::authpb::{Permission, UserAddOptions};
use coracle_core::api::etcdserverpb::request_op::Request as Op;
use coracle_core::api::etcdserverpb::watch_request::RequestUnion;
use coracle_core::api::etcdserverpb::*;
use prost::Message;
use serde_json::{Value, json};

use super::Speech;
use super::dice::Dice;
use super::json::{JsonClient, Refusal};
use super::operation::{Answer, Operation};
use crate::cluster::Cluster;
use crate::raw::{RawClient, metadata};

/// A user without a password.
const GUEST: &str = "guest";
const USERS: [&str; 5] = ["ann", "bob", "cid", "dan", "eve"];
const ROLES: [&str; 4] = ["r", "s", "t", "root"];
const PASSWORDS: [&str; 3] = ["one", "two", ""];
/// Keys and ends that meet: points, neighbours, prefixes.
const KEYS: [&str; 8] = ["a", "a\0", "b", "b/", "b/x", "c", "d", "\u{7f}"];
const LEASE: i64 = 77;

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
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

/// The first requests: without them little would be permitted.
fn setting_up() -> Vec<Ask> {
    let mut asks = vec![Ask::Enable];
    for name in ["root"].into_iter().chain(USERS) {
        asks.push(Ask::UserAdd(new_user(name, "one", false)));
    }
    asks.push(Ask::Enable);
    let (user, role) = ("root".to_owned(), "root".to_owned());
    asks.push(Ask::GrantRole(AuthUserGrantRoleRequest { user, role }));
    asks.extend([Ask::Enable, Ask::Disable, Ask::Enable]);
    // Others come without a password too seldom for one of them to be asked for it.
    asks.push(Ask::UserAdd(new_user(GUEST, "", true)));
    let (name, password) = (GUEST.to_owned(), "one".to_owned());
    asks.push(Ask::LogIn(AuthenticateRequest { name, password }));
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
pub struct People {
    dice: Dice,
}

impl People {
    /// People whose choices follow from the seed.
    pub fn new(seed: u64) -> People {
        People { dice: Dice::new(seed) }
    }

    /// Authentication is set up and turned on, people ask `count` things, and it is turned off.
    pub fn session(&mut self, count: usize) -> Vec<Operation> {
        let by_root = |ask| Operation::Ask { asker: "root".to_owned(), ask };
        let mut session: Vec<Operation> = setting_up().into_iter().map(by_root).collect();
        session.extend((0..count).map(|_| {
            let (asker, ask) = self.next();
            Operation::Ask { asker, ask }
        }));
        session.push(by_root(Ask::Disable));
        session
    }

    fn next(&mut self) -> (String, Ask) {
        let asker = match self.dice.weighted(&[55, 37, 5, 3]) {
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
                Ask::UserAdd(new_user(&name, &password, self.dice.percent(35)))
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
                let perm = perm.filter(|_| !self.dice.percent(10));
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

impl Ask {
    /// The gateway's path of the request, and its message.
    fn call(&self) -> (&'static str, Vec<u8>) {
        match self {
            Ask::LogIn(request) => ("/v3/auth/authenticate", request.encode_to_vec()),
            Ask::Enable => ("/v3/auth/enable", Vec::new()),
            Ask::Disable => ("/v3/auth/disable", Vec::new()),
            Ask::UserAdd(request) => ("/v3/auth/user/add", request.encode_to_vec()),
            Ask::UserGet(request) => ("/v3/auth/user/get", request.encode_to_vec()),
            Ask::UserList => ("/v3/auth/user/list", Vec::new()),
            Ask::UserDelete(request) => ("/v3/auth/user/delete", request.encode_to_vec()),
            Ask::ChangePassword(request) => ("/v3/auth/user/changepw", request.encode_to_vec()),
            Ask::GrantRole(request) => ("/v3/auth/user/grant", request.encode_to_vec()),
            Ask::RevokeRole(request) => ("/v3/auth/user/revoke", request.encode_to_vec()),
            Ask::RoleAdd(request) => ("/v3/auth/role/add", request.encode_to_vec()),
            Ask::RoleGet(request) => ("/v3/auth/role/get", request.encode_to_vec()),
            Ask::RoleList => ("/v3/auth/role/list", Vec::new()),
            Ask::RoleDelete(request) => ("/v3/auth/role/delete", request.encode_to_vec()),
            Ask::GrantPermission(request) => ("/v3/auth/role/grant", request.encode_to_vec()),
            Ask::RevokePermission(request) => ("/v3/auth/role/revoke", request.encode_to_vec()),
            Ask::Range(request) => ("/v3/kv/range", request.encode_to_vec()),
            Ask::Put(request) => ("/v3/kv/put", request.encode_to_vec()),
            Ask::DeleteRange(request) => ("/v3/kv/deleterange", request.encode_to_vec()),
            Ask::Txn(request) => ("/v3/kv/txn", request.encode_to_vec()),
            Ask::LeaseRevoke => {
                ("/v3/lease/revoke", LeaseRevokeRequest { id: LEASE }.encode_to_vec())
            }
            Ask::Watch(request) => {
                let request_union = Some(RequestUnion::CreateRequest(request.clone()));
                ("/v3/watch", WatchRequest { request_union }.encode_to_vec())
            }
        }
    }

    /// The name of the request, for counts.
    pub fn name(&self) -> String {
        let shown = format!("{self:?}");
        let end = shown.find('(').unwrap_or(shown.len());
        format!("auth {}", &shown[..end])
    }
}

/// A server, and the tokens that it gave out.
pub struct Askers {
    client: RawClient,
    json: JsonClient,
    tokens: BTreeMap<String, String>,
}

impl Askers {
    /// Those who ask the first member of `cluster`.
    ///
    /// # Errors
    /// If it cannot be reached.
    pub async fn new(cluster: &Cluster) -> Result<Askers> {
        let client = RawClient::connect(cluster.endpoint(0)).await?;
        Ok(Askers { client, json: JsonClient::new(cluster)?, tokens: BTreeMap::new() })
    }

    /// What the server answers to `asker`.
    ///
    /// # Errors
    /// If the answer is none that the protocol allows; an error reply is an answer.
    pub async fn answer(&mut self, speech: Speech, asker: &str, ask: &Ask) -> Result<Answer> {
        // Logs the asker in where there is no token, with whichever password is right.
        if !self.tokens.contains_key(asker) && (USERS.contains(&asker) || asker == "root") {
            for password in PASSWORDS {
                let name = asker.to_owned();
                let request = AuthenticateRequest { name, password: password.to_owned() };
                self.call(speech, asker, &Ask::LogIn(request)).await?;
            }
        }
        let answer = self.call(speech, asker, ask).await?;
        if matches!(ask, Ask::LeaseRevoke) {
            // By root, as 3.5.1 lets everybody grant.
            let grant = LeaseGrantRequest { id: LEASE, ttl: 9_000 }.encode_to_vec();
            _ = self.send(Speech::Grpc, "root", "/v3/lease/grant", grant).await?;
        }
        // U-5: 3.5.1 looks at tokens while authentication is off.
        if matches!(ask, Ask::Disable) {
            self.tokens.clear();
        }
        let has_bad_token = |message: &str| message.contains("invalid auth token");
        if matches!(&answer, Answer::Error { message, .. } if has_bad_token(message)) {
            self.tokens.remove(asker);
        }
        Ok(answer)
    }

    async fn call(&mut self, speech: Speech, asker: &str, ask: &Ask) -> Result<Answer> {
        // The gateway's streams are asked elsewhere, and only the first answer counts here.
        let speech = if matches!(ask, Ask::Watch(_)) { Speech::Grpc } else { speech };
        // A log-in carries no token: etcd 3.5.1 would look at it.
        let carrier = if matches!(ask, Ask::LogIn(_)) { "" } else { asker };
        let (path, request) = ask.call();
        let mut reply = match self.send(speech, carrier, path, request).await? {
            Ok(reply) => reply,
            Err(Refusal { code, message }) => return Ok(Answer::Error { code, message }),
        };
        if let (Ask::LogIn(request), Some(token)) = (ask, reply["token"].as_str()) {
            self.tokens.insert(request.name.clone(), token.to_owned());
            reply["token"] = json!("a token");
        }
        if let Some(header) = reply.get_mut("header") {
            *header = json!({ "revision": header["revision"] });
        }
        if let (Ask::Watch(_), Some(reply)) = (ask, reply.as_object_mut()) {
            // U-2: a refused watcher has the number 0 in 3.5.1, and one reason for all.
            reply.remove("watch_id");
            reply.remove("cancel_reason");
        }
        Ok(Answer::Told(reply.to_string()))
    }

    async fn send(
        &mut self,
        speech: Speech,
        asker: &str,
        path: &'static str,
        request: Vec<u8>,
    ) -> Result<Result<Value, Refusal>> {
        let nonsense = "nonsense.1".to_owned();
        let token = match asker {
            "nonsense" => Some(&nonsense),
            asker => self.tokens.get(asker),
        };
        if speech == Speech::Json {
            return self.json.ask(path, &request, token.map(String::as_str)).await;
        }
        let metadata = match token {
            Some(token) => metadata("token", token.as_bytes())?,
            None => Default::default(),
        };
        let method = self.json.method(path)?;
        let rpc = format!("/{}/{}", method.parent_service().full_name(), method.name());
        Ok(match self.client.call_with(&rpc, request.into(), metadata).await {
            Ok(reply) => Ok(self.json.written(path, &reply)?),
            Err(status) => Err(Refusal::from(status)),
        })
    }
}
