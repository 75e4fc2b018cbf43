//! [`Client`] over gRPC.
//!
//! The first endpoint that answers is used until it fails, then the next one. A unary call that
//! never left (no connection) goes round the endpoints until one takes it, and the caller limits
//! that; a call that may be repeated does so for a while also when the member said `Unavailable`.
//! etcd's client does the same, because repeating a write could apply it twice (Jepsen on jetcd
//! 0.8.2).
//! A call whose token has aged is made again with a new one; a stream begins with a new one, since
//! some only say so when it is too late for that.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coracle_core::api::etcdserverpb::*;
use coracle_core::error::{Code, Error};
use coracle_ctl::client::{self as ctl_client, Client, Duplex, Replies, Reply, Requests, RpcError};
use coracle_ctl::environment::{Connection, Credentials};
use futures_util::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::channels::{Channels, causes, code_of, is_unsent};
use crate::grpc::etcdserverpb::auth_client::AuthClient;
use crate::grpc::etcdserverpb::cluster_client::ClusterClient;
use crate::grpc::etcdserverpb::kv_client::KvClient;
use crate::grpc::etcdserverpb::lease_client::LeaseClient;
use crate::grpc::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::grpc::etcdserverpb::watch_client::WatchClient;

/// What etcd's client sends at most unless told otherwise, in bytes.
const DEFAULT_SEND_BYTES: usize = 2 * 1024 * 1024;
const DEFAULT_RECEIVE_BYTES: usize = i32::MAX as usize;
/// How often a call is made while users and roles change under it.
const MAX_ATTEMPTS: u32 = 10;
/// Pause after each round of the endpoints in which no connection came about.
const UNSENT_PAUSE: Duration = Duration::from_millis(100);
/// How often a call is made that members refuse for the time being, and the pause between (as
/// etcd's client does).
const MAX_REFUSALS: u32 = 100;
const REFUSAL_PAUSE: Duration = Duration::from_millis(25);
/// Requests of a stream that wait to be sent.
const QUEUED_REQUESTS: usize = 1024;

/// A client of one cluster. Clones are one client.
#[derive(Clone)]
pub(crate) struct GrpcClient {
    channels: Channels,
    /// Name and password; without them a token is not renewed.
    user: Option<(String, String)>,
    token: Arc<Mutex<Option<Token>>>,
    limits: Limits,
}

type Token = MetadataValue<Ascii>;

/// The largest messages, in bytes.
#[derive(Clone, Copy)]
struct Limits {
    send: usize,
    receive: usize,
}

impl Limits {
    /// Refuses a message that is too large to be sent, in the words of Go's client.
    fn check_sent(self, message: &impl Message) -> Result<(), RpcError> {
        let (length, limit) = (message.encoded_len(), self.send);
        if length <= limit {
            return Ok(());
        }
        let text = format!("trying to send message larger than max ({length} vs. {limit})");
        Err(rpc_error(Code::ResourceExhausted, text))
    }
}

/// What a call does, and so whether it may be repeated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    /// Nothing, or what does no harm if it is done twice (`repeatable` in etcd's client).
    Repeatable,
    /// What must not be done twice.
    Once,
    /// Gets a token. One round of the endpoints is enough, since some callers have no time limit;
    /// those who want to wait ask again.
    LogsIn,
}

use Effect::{LogsIn, Once, Repeatable};

impl GrpcClient {
    /// Connects to the first endpoint that answers, and logs in if there are credentials.
    pub(crate) async fn connect(connection: Connection) -> Result<GrpcClient, RpcError> {
        let channels = Channels::connect(&connection).await?;
        let or = |bytes, default| if bytes == 0 { default } else { bytes };
        let (user, token) = match connection.credentials {
            // As Go's client: without a password there is nobody to log in.
            Some(Credentials::User(name, password)) => {
                let is_whole = !name.is_empty() && !password.is_empty();
                (is_whole.then_some((name, password)), None)
            }
            Some(Credentials::Token(token)) => (None, Some(token)),
            None => (None, None),
        };
        let client = GrpcClient {
            channels,
            user,
            token: Arc::default(),
            limits: Limits {
                send: or(connection.max_request_bytes, DEFAULT_SEND_BYTES),
                receive: or(connection.max_receive_bytes, DEFAULT_RECEIVE_BYTES),
            },
        };
        match token {
            Some(token) => client.take_token(&token)?,
            None => client.log_in().await?,
        }
        Ok(client)
    }

    /// Gets a token, if there is a name to get it for.
    async fn log_in(&self) -> Result<(), RpcError> {
        let Some((name, password)) = self.user.clone() else { return Ok(()) };
        let request = AuthenticateRequest { name, password };
        let answer = self.attempt(LogsIn, None, request, &|channel, request| async move {
            AuthClient::new(channel).authenticate(request).await
        });
        let token = match answer.await {
            // Where authentication is off there is no token, and none is needed.
            Err(status) if status.message() == Error::AuthNotEnabled.message() => return Ok(()),
            answer => answer.map_err(status_error)?.token,
        };
        self.take_token(&token)
    }

    fn take_token(&self, token: &str) -> Result<(), RpcError> {
        let broken = |_| rpc_error(Code::InvalidArgument, "the token is no text".to_owned());
        *self.token() = Some(token.parse().map_err(broken)?);
        Ok(())
    }

    fn token(&self) -> MutexGuard<'_, Option<Token>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a unary call, and again with a new token if the present one has aged: until then
    /// nothing has happened, whatever the call is for.
    async fn call<Q: Message + Clone, A, F>(
        &self,
        effect: Effect,
        message: Q,
        call: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A, RpcError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.limits.check_sent(&message)?;
        let mut attempts = 1;
        loop {
            let token = self.token().clone();
            match self.attempt(effect, token, message.clone(), &call).await {
                Err(status) if attempts < MAX_ATTEMPTS && self.is_worth_another(&status) => {
                    attempts += 1;
                    self.log_in().await?;
                }
                answer => return answer.map_err(status_error),
            }
        }
    }

    /// Whether a member does not take the token (any more): it has expired or got lost, or users
    /// and roles have changed since the call came in, which also befalls whom a certificate names.
    fn is_worth_another(&self, status: &Status) -> bool {
        let text = status.message();
        let is_aged = || {
            [Error::InvalidAuthToken, Error::UserEmpty].iter().any(|error| text == error.message())
        };
        text == Error::AuthOldRevision.message() || (self.user.is_some() && is_aged())
    }

    /// Makes a unary call, on the other endpoints too where that is safe. A call that never leaves
    /// is not given up: the caller limits the time.
    async fn attempt<Q: Clone, A, F>(
        &self,
        effect: Effect,
        token: Option<Token>,
        message: Q,
        call: &impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<A, Status>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let (mut tried, mut refusals) = (0, 0);
        loop {
            let (number, channel) = self.channels.current();
            let request = with_token(message.clone(), token.as_ref());
            let status = match call(channel, request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => status,
            };
            self.channels.failed(number, &status);
            tried += 1;
            let is_round_over = tried % self.channels.count() == 0;
            let is_unsent = causes(&status).any(is_unsent);
            let is_unavailable = is_unsent || code_of(&status) == tonic::Code::Unavailable;
            match effect {
                LogsIn if is_unavailable && !is_round_over => {}
                Repeatable | Once if is_unsent && !is_round_over => {}
                Repeatable | Once if is_unsent => sleep(UNSENT_PAUSE).await,
                Repeatable if is_unavailable && refusals + 1 < MAX_REFUSALS => {
                    refusals += 1;
                    sleep(REFUSAL_PAUSE).await;
                }
                _ => return Err(status),
            }
        }
    }
}

fn with_token<Q>(message: Q, token: Option<&Token>) -> Request<Q> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.clone());
    }
    request
}

/// Asks for a member that has a leader: one that loses it ends the stream (`WithRequireLeader` in
/// Go).
fn with_leader<Q>(mut request: Request<Q>) -> Request<Q> {
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    request
}

pub(crate) fn rpc_error(code: Code, message: String) -> RpcError {
    RpcError { code: code as u32, message }
}

/// With the causes of a failure on the way, which tonic's own text leaves out.
fn status_error(status: Status) -> RpcError {
    let mut message = status.message().to_owned();
    for cause in causes(&status) {
        let text = cause.to_string();
        if !message.ends_with(&text) {
            message = format!("{message}: {text}");
        }
    }
    RpcError { code: code_of(&status) as u32, message }
}

/// A generated client on `channel`, with this client's limits.
macro_rules! service {
    ($limits:expr, $client:ident $channel:expr) => {
        $client::new($channel)
            .max_encoding_message_size($limits.send)
            .max_decoding_message_size($limits.receive)
    };
}

macro_rules! unary {
    ($($method:ident $effect:ident $client:ident $request:ident $reply:ident;)*) => {$(
        fn $method(&self, message: $request) -> Reply<'_, $reply> {
            let limits = self.limits;
            Box::pin(self.call($effect, message, move |channel, request| async move {
                service!(limits, $client channel).$method(request).await
            }))
        }
    )*};
}

impl Client for GrpcClient {
    unary! {
        range Repeatable KvClient RangeRequest RangeResponse;
        put Once KvClient PutRequest PutResponse;
        delete_range Once KvClient DeleteRangeRequest DeleteRangeResponse;
        txn Once KvClient TxnRequest TxnResponse;
        compact Once KvClient CompactionRequest CompactionResponse;
        lease_grant Repeatable LeaseClient LeaseGrantRequest LeaseGrantResponse;
        lease_revoke Repeatable LeaseClient LeaseRevokeRequest LeaseRevokeResponse;
        lease_time_to_live Repeatable LeaseClient LeaseTimeToLiveRequest LeaseTimeToLiveResponse;
        lease_leases Repeatable LeaseClient LeaseLeasesRequest LeaseLeasesResponse;
        member_add Once ClusterClient MemberAddRequest MemberAddResponse;
        member_remove Once ClusterClient MemberRemoveRequest MemberRemoveResponse;
        member_update Once ClusterClient MemberUpdateRequest MemberUpdateResponse;
        member_list Repeatable ClusterClient MemberListRequest MemberListResponse;
        member_promote Once ClusterClient MemberPromoteRequest MemberPromoteResponse;
        alarm Repeatable MaintenanceClient AlarmRequest AlarmResponse;
        status Repeatable MaintenanceClient StatusRequest StatusResponse;
        defragment Once MaintenanceClient DefragmentRequest DefragmentResponse;
        hash_kv Repeatable MaintenanceClient HashKvRequest HashKvResponse;
        move_leader Repeatable MaintenanceClient MoveLeaderRequest MoveLeaderResponse;
        downgrade Once MaintenanceClient DowngradeRequest DowngradeResponse;
    }

    fn auth(&self) -> Option<&dyn ctl_client::AuthClient> {
        Some(self)
    }

    fn watch(&self) -> Duplex<WatchRequest, WatchResponse> {
        let ((requests, queue), limits) = (requests(), self.limits);
        let replies = self.replies(queue, async move |channel, request| {
            service!(limits, WatchClient channel).watch(with_leader(request)).await
        });
        Duplex { requests, replies }
    }

    fn watch_without_leader(&self) -> Duplex<WatchRequest, WatchResponse> {
        let ((requests, queue), limits) = (requests(), self.limits);
        let replies = self.replies(queue, async move |channel, request| {
            service!(limits, WatchClient channel).watch(request).await
        });
        Duplex { requests, replies }
    }

    fn range_stream(&self, request: RangeRequest) -> Replies<RangeStreamResponse> {
        let limits = self.limits;
        self.replies(request, async move |channel, request| {
            service!(limits, KvClient channel).range_stream(request).await
        })
    }

    fn lease_keep_alive(&self) -> Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse> {
        let ((requests, queue), limits) = (requests(), self.limits);
        let replies = self.replies(queue, async move |channel, request| {
            service!(limits, LeaseClient channel).lease_keep_alive(with_leader(request)).await
        });
        Duplex { requests, replies }
    }

    fn snapshot(&self, request: SnapshotRequest) -> Replies<SnapshotResponse> {
        let limits = self.limits;
        self.replies(request, async move |channel, request| {
            service!(limits, MaintenanceClient channel).snapshot(request).await
        })
    }
}

#[rustfmt::skip] // A table.
impl ctl_client::AuthClient for GrpcClient {
    unary! {
        auth_enable Once AuthClient AuthEnableRequest AuthEnableResponse;
        auth_disable Once AuthClient AuthDisableRequest AuthDisableResponse;
        auth_status Repeatable AuthClient AuthStatusRequest AuthStatusResponse;
        user_add Once AuthClient AuthUserAddRequest AuthUserAddResponse;
        user_get Repeatable AuthClient AuthUserGetRequest AuthUserGetResponse;
        user_list Repeatable AuthClient AuthUserListRequest AuthUserListResponse;
        user_delete Once AuthClient AuthUserDeleteRequest AuthUserDeleteResponse;
        user_change_password Once AuthClient
            AuthUserChangePasswordRequest AuthUserChangePasswordResponse;
        user_grant_role Once AuthClient AuthUserGrantRoleRequest AuthUserGrantRoleResponse;
        user_revoke_role Once AuthClient AuthUserRevokeRoleRequest AuthUserRevokeRoleResponse;
        role_add Once AuthClient AuthRoleAddRequest AuthRoleAddResponse;
        role_get Repeatable AuthClient AuthRoleGetRequest AuthRoleGetResponse;
        role_list Repeatable AuthClient AuthRoleListRequest AuthRoleListResponse;
        role_delete Once AuthClient AuthRoleDeleteRequest AuthRoleDeleteResponse;
        role_grant_permission Once AuthClient
            AuthRoleGrantPermissionRequest AuthRoleGrantPermissionResponse;
        role_revoke_permission Once AuthClient
            AuthRoleRevokePermissionRequest AuthRoleRevokePermissionResponse;
    }
}

impl GrpcClient {
    /// The stream that `open` opens with `message`; its failure to open is the first item.
    fn replies<Q: 'static, A: 'static>(
        &self,
        message: Q,
        open: impl AsyncFnOnce(Channel, Request<Q>) -> Opened<A> + 'static,
    ) -> Replies<A> {
        let client = self.clone();
        let opened = async move {
            client.log_in().await?;
            let request = with_token(message, client.token().as_ref());
            let (number, channel) = client.channels.current();
            let failed = move |status| {
                client.channels.failed(number, &status);
                status_error(status)
            };
            let stream = open(channel, request).await.map_err(&failed)?;
            Ok(stream.into_inner().map_err(failed))
        };
        stream::once(opened).try_flatten().boxed_local()
    }
}

type Opened<A> = Result<Response<Streaming<A>>, Status>;

struct Queue<Q>(mpsc::Sender<Q>);

fn requests<Q: 'static>() -> (Box<dyn Requests<Q>>, ReceiverStream<Q>) {
    let (sender, receiver) = mpsc::channel(QUEUED_REQUESTS);
    (Box::new(Queue(sender)), ReceiverStream::new(receiver))
}

impl<Q> Requests<Q> for Queue<Q> {
    fn send(&self, request: Q) -> Result<(), RpcError> {
        let ended = |_| rpc_error(Code::Unavailable, "the stream has ended".to_owned());
        self.0.try_send(request).map_err(ended)
    }
}
