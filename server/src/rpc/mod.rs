//! etcd's gRPC services: one file per service, named as in `rpc.proto`.
//!
//! A service is a table of [`Method`]s. Each translates and forwards to the [`Node`] and nothing
//! else: what a request means is decided there, the same for every host. Methods that are not in a
//! table are answered with `Unimplemented`, as a client expects of a server that lacks them.

mod auth;
mod client_versions;
mod cluster;
mod election;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod messages;
mod reflection;
mod watch;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle_core::auth::{Caller, Credentials};
use coracle_core::error::Error;
use coracle_core::node::Node;
use futures_util::future::BoxFuture;
use tokio::sync::watch as watch_channel;
use tokio::time::{MissedTickBehavior, interval};

use self::client_versions::ClientVersions;
use crate::front::call::{Call, Counters, Status};
use crate::front::unknown_method;
use crate::platform::Native;
use crate::traces::Traces;
pub(crate) use watch::WatchSends;

/// The node that this server serves.
pub(crate) type Member = Node<Native>;

/// One RPC.
pub(crate) struct Method {
    /// With its package: `etcdserverpb.KV`.
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
    /// `/service/name`.
    path: &'static str,
    /// As `grpc_type` in metrics.
    pub(crate) kind: &'static str,
    run: fn(Context, Call) -> BoxFuture<'static, ()>,
}

/// What a method works with.
pub(crate) struct Context {
    member: Arc<Member>,
    outlook: watch_channel::Receiver<Outlook>,
    /// False once the server is about to stop.
    serving: watch_channel::Receiver<bool>,
    watch_sends: Arc<WatchSends>,
}

/// A method that takes one message and gives one, by forwarding to the node's method.
macro_rules! unary {
    ($service:literal $name:literal $method:ident) => {
        $crate::rpc::Method {
            service: $service,
            name: $name,
            path: concat!("/", $service, "/", $name),
            kind: "unary",
            run: |context, call| {
                Box::pin(async move {
                    let by = context.caller(&call);
                    call.unary(|request| context.member.$method(&by, request)).await;
                })
            },
        }
    };
}

/// A method of any kind, written as a function of context and call.
macro_rules! method {
    ($service:literal $name:literal $kind:literal $function:ident) => {
        $crate::rpc::Method {
            service: $service,
            name: $name,
            path: concat!("/", $service, "/", $name),
            kind: $kind,
            run: |context, call| Box::pin($function(context, call)),
        }
    };
}
use {method, unary};

const SERVICES: [&[Method]; 11] = [
    &kv::METHODS,
    &watch::METHODS,
    &lease::METHODS,
    &cluster::METHODS,
    &maintenance::METHODS,
    &auth::METHODS,
    &lock::METHODS,
    &election::METHODS,
    &health::METHODS,
    &reflection::V1,
    &reflection::V1_ALPHA,
];

/// What a learner answers (ETCD.md W-07); of ranges only the serializable ones. What it is asked
/// of itself needs no voter.
const LEARNERS_SERVE: [&str; 5] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Snapshot",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// All methods by path, and what was counted for each.
pub(crate) struct Router {
    member: Arc<Member>,
    by_path: HashMap<&'static str, (&'static Method, Arc<Counters>)>,
    outlook: watch_channel::Receiver<Outlook>,
    serving: watch_channel::Receiver<bool>,
    /// `--warning-unary-request-duration`
    slow_request: Duration,
    client_versions: ClientVersions,
    watch_sends: Arc<WatchSends>,
    /// With `--enable-distributed-tracing`.
    traces: Option<Arc<Traces>>,
}

impl Router {
    /// `outlook` is kept by [`keep_looking`]; `serving` becomes false when the server stops. With
    /// `reflection` it tells which services it has.
    pub(crate) fn new(
        member: Arc<Member>,
        outlook: watch_channel::Receiver<Outlook>,
        serving: watch_channel::Receiver<bool>,
        slow_request: Duration,
        reflection: bool,
        traces: Option<Arc<Traces>>,
    ) -> Router {
        let is_on =
            |methods: &&[Method]| reflection || !methods[0].service.starts_with("grpc.reflection.");
        let methods = SERVICES.into_iter().filter(is_on).flatten();
        let by_path = methods.map(|method| (method.path, (method, Arc::default()))).collect();
        let (client_versions, watch_sends) = Default::default();
        Router {
            member,
            by_path,
            outlook,
            serving,
            slow_request,
            client_versions,
            watch_sends,
            traces,
        }
    }

    /// The work of a call, or why there is none.
    #[allow(clippy::result_large_err)] // The call is handed back once, not propagated.
    pub(crate) fn route(
        &self,
        path: &str,
        call: Call,
    ) -> Result<BoxFuture<'static, ()>, (Call, Status)> {
        let Some((method, counters)) = self.by_path.get(path) else {
            let known =
                |service: &str| self.by_path.values().any(|(method, _)| method.service == service);
            return Err((call, unknown_method(path, known)));
        };
        let call = call.counted(counters.clone(), |headers| {
            Some(self.traces.as_ref()?.call(method.service, method.name, headers))
        });
        let outlook = *self.outlook.borrow();
        if outlook.is_learner && !LEARNERS_SERVE.contains(&method.path) {
            return Err((call, Error::NotSupportedForLearner.into()));
        }
        match call.metadata_bytes("client-api-version").map(std::str::from_utf8).transpose() {
            Ok(version) => self.client_versions.count(version, method.kind == "unary"),
            Err(_) => return Err((call, Error::InvalidClientAPIVersion.into())),
        }
        // A stream that has begun ends later, when the leader stays away. The last look is asked
        // first; a leader that was found since then is one too.
        let has_leader = || outlook.has_leader || self.member.has_leader();
        if requires_leader(&call) && !has_leader() {
            return Err((call, Error::NoLeader.into()));
        }
        let context = Context {
            member: self.member.clone(),
            outlook: self.outlook.clone(),
            serving: self.serving.clone(),
            watch_sends: self.watch_sends.clone(),
        };
        let work = (method.run)(context, call);
        // Streams last as long as their clients like.
        let is_timed = method.kind == "unary";
        Ok(if is_timed { Box::pin(timed(work, self.slow_request, method.path)) } else { work })
    }

    /// How long sending on watch streams takes.
    pub(crate) fn watch_sends(&self) -> &WatchSends {
        &self.watch_sends
    }

    /// Requests by the API version that clients say they speak: (kind, version, count).
    pub(crate) fn client_requests(&self) -> Vec<(&'static str, String, u64)> {
        self.client_versions.list()
    }

    /// Every method with its counters, in the order of the tables.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (&'static Method, &Counters)> {
        let methods = SERVICES.into_iter().flatten();
        methods.filter_map(|method| Some((method, &*self.by_path.get(method.path)?.1)))
    }
}

/// Tells the log of a call that takes longer than `limit`, in etcd's words.
async fn timed(work: BoxFuture<'static, ()>, limit: Duration, path: &'static str) {
    let began = Instant::now();
    work.await;
    let spent = began.elapsed();
    if spent > limit {
        tracing::warn!(
            "time spent" = format!("{spent:?}"),
            "response type" = path,
            "request stats"
        );
    }
}

/// Whether the client wants to be cut off from a member that has no leader (ETCD.md W-06).
fn requires_leader(call: &Call) -> bool {
    call.metadata("hasleader") == Some("true")
}

/// What the client of a call shows. A gateway's connection says nothing of who is behind it.
fn credentials(call: &Call) -> Caller {
    let gateway = call.metadata("grpcgateway-accept").is_some();
    let common_name = call.client_common_name().filter(|_| !gateway).map(str::to_owned);
    Caller::Client(Credentials { token: token(call), common_name })
}

/// The token of a call: `token`, or `authorization` with or without `Bearer` (ETCD.md W-06).
fn token(call: &Call) -> Option<String> {
    let given = call.metadata("token").or_else(|| call.metadata("authorization"))?;
    Some(given.strip_prefix("Bearer ").unwrap_or(given).to_owned())
}

impl Context {
    /// What the client shows of itself. While authentication is off nobody asks, and so nothing is
    /// looked for.
    fn caller(&self, call: &Call) -> Caller {
        match self.member.auth_enabled() {
            true => credentials(call),
            false => Caller::anonymous(),
        }
    }

    /// Ends when a stream that requires a leader has lost it; never if it does not require one.
    async fn leader_lost(&self, required: bool) -> Status {
        if required {
            let mut outlook = self.outlook.clone();
            if outlook.wait_for(|outlook| outlook.leader_lost).await.is_ok() {
                return Error::NoLeader.into();
            }
        }
        pending().await
    }

    fn is_learner(&self) -> bool {
        self.outlook.borrow().is_learner
    }
}

/// What was seen at the last look at the node. Asking it for every call would cost too much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outlook {
    has_leader: bool,
    /// There was no leader for three election timeouts: streams that require one end, as with etcd.
    leader_lost: bool,
    is_learner: bool,
}

/// Looks at the node in one election timeout.
const LOOKS_PER_TIMEOUT: u32 = 10;
/// Looks without a leader after which streams that require one end: three timeouts, as with etcd.
const LOST_AFTER: u32 = 3 * LOOKS_PER_TIMEOUT;

/// Looks at the node for ever, and ten times as often as leaders may be lost: a member that
/// has just
/// found its leader must not refuse its first clients.
pub(crate) async fn keep_looking(
    member: Arc<Member>,
    election_timeout: Duration,
    outlook: watch_channel::Sender<Outlook>,
) {
    let mut looks = interval((election_timeout / LOOKS_PER_TIMEOUT).max(Duration::from_millis(1)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut misses = 0;
    loop {
        looks.tick().await;
        let has_leader = member.has_leader();
        misses = if has_leader { 0 } else { misses + 1 };
        let (leader_lost, is_learner) = (misses >= LOST_AFTER, member.is_learner());
        let seen = Outlook { has_leader, leader_lost, is_learner };
        outlook.send_if_modified(|former| std::mem::replace(former, seen) != seen);
    }
}
