//! The connections to a cluster's endpoints: which of them is used, and what became of a call.

use std::error::Error as _;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use coracle_core::api::etcdserverpb::StatusRequest;
use coracle_core::error::Code;
use coracle_ctl::client::RpcError;
use coracle_ctl::environment::Connection;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryFutureExt};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{ConnectError, Status};

use super::client::rpc_error;
use super::dial::{Dialer, Dialers};
use crate::grpc::etcdserverpb::maintenance_client::MaintenanceClient;

/// Pings closer than this are taken for abuse by gRPC servers (etcd's client raises them too).
const MIN_KEEPALIVE: Duration = Duration::from_secs(10);
/// Windows large enough that a client of many streams does not stall.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// How long an endpoint is waited for until the next one is tried, too (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Connections to all endpoints, dialled when they are needed. One is used until it fails.
#[derive(Clone)]
pub(super) struct Channels {
    all: Arc<[Channel]>,
    current: Arc<AtomicUsize>,
}

impl Channels {
    /// Begins with the endpoint that answers first, if there is one.
    pub(super) async fn connect(connection: &Connection) -> Result<Channels, RpcError> {
        // Zero is no limit, as in Go.
        let limit = match connection.dial_timeout {
            Duration::ZERO => Duration::MAX,
            limit => limit,
        };
        let mut dialers = Dialers::new(&connection.tls)?;
        let mut targets = Vec::with_capacity(connection.endpoints.len());
        let mut failure = None;
        for text in &connection.endpoints {
            match dialers.endpoint(text) {
                Ok((endpoint, dialer)) => {
                    let endpoint = tuned(endpoint, connection).connect_timeout(limit);
                    targets.push(Target { text, endpoint, dialer });
                }
                Err(error) => failure = Some(error),
            }
        }
        // One that makes no sense cannot be reached, as long as there is another one.
        if let Some(failure) = failure.filter(|_| targets.is_empty()) {
            return Err(failure);
        }
        let (place, first) = first_to_answer(&targets, limit).await?;
        targets.rotate_left(place);
        let others = targets.into_iter().skip(1).map(Target::dial_when_needed);
        let all = iter::once(first).chain(others).collect();
        Ok(Channels { all, current: Arc::default() })
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// The connection to use, and its number.
    pub(super) fn current(&self) -> (usize, Channel) {
        let number = self.current.load(Ordering::Relaxed);
        (number, self.all[number].clone())
    }

    /// Notes how a call on connection `number` failed: the next one is used if nobody was met.
    pub(super) fn failed(&self, number: usize, status: &Status) {
        if code_of(status) == tonic::Code::Unavailable {
            let next = (number + 1) % self.all.len();
            // Unless another call has moved on already.
            _ = self.current.compare_exchange(number, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

/// An endpoint, and how it is reached.
struct Target<'a> {
    text: &'a str,
    endpoint: Endpoint,
    dialer: Dialer,
}

impl Target<'_> {
    fn dial_when_needed(self) -> Channel {
        self.endpoint.connect_with_connector_lazy(self.dialer)
    }

    async fn dial(&self) -> Result<Channel, RpcError> {
        let dialled = self.endpoint.connect_with_connector(self.dialer.clone()).await;
        dialled.map_err(|error| {
            let cause = error.source().map_or_else(|| error.to_string(), |e| e.to_string());
            rpc_error(Code::Unavailable, format!("cannot connect to {}: {cause}", self.text))
        })
    }

    /// A connection to a process that answers: one that stands still is connected to as well.
    async fn dial_and_ask(&self, limit: Duration) -> Result<Channel, RpcError> {
        let channel = self.dial().await?;
        let mut client = MaintenanceClient::new(channel.clone());
        match timeout(limit, client.status(StatusRequest::default())).await {
            // A refusal is an answer, too.
            Ok(_) => Ok(channel),
            Err(_) => Err(rpc_error(Code::DeadlineExceeded, "context deadline exceeded".into())),
        }
    }
}

/// Dials the targets in their order, each when the one before has failed or was silent for a while.
/// Gives the first that answers, and its place.
async fn first_to_answer(
    targets: &[Target<'_>],
    limit: Duration,
) -> Result<(usize, Channel), RpcError> {
    if let [only] = targets {
        return Ok((0, only.dial().await?));
    }
    let mut failure = rpc_error(Code::Unavailable, "no endpoints available".to_owned());
    let mut waiting = targets.iter().enumerate();
    let mut dialled = FuturesUnordered::new();
    loop {
        if let Some((place, target)) = waiting.next() {
            let answered = target.dial_and_ask(limit);
            dialled.push(answered.map_ok(move |channel| (place, channel)));
        }
        match timeout(HEAD_START, dialled.next()).await {
            Ok(Some(Ok(found))) => return Ok(found),
            Ok(Some(Err(error))) => failure = error,
            Ok(None) => return Err(failure),
            // The next one may be quicker.
            Err(_) => {}
        }
    }
}

fn tuned(endpoint: Endpoint, connection: &Connection) -> Endpoint {
    endpoint
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(connection.keepalive_time.max(MIN_KEEPALIVE))
        .keep_alive_timeout(connection.keepalive_timeout)
}

/// As etcd's client has it: whatever becomes of a connection, its calls met nobody. tonic takes
/// some of that for canceled or unknown.
pub(super) fn code_of(status: &Status) -> tonic::Code {
    let is_broken = |cause: Cause<'_>| cause.downcast_ref().is_some_and(h2::Error::is_io);
    match causes(status).any(|cause| is_unsent(cause) || is_broken(cause)) {
        true => tonic::Code::Unavailable,
        false => status.code(),
    }
}

pub(super) type Cause<'a> = &'a (dyn std::error::Error + 'static);

pub(super) fn causes(status: &Status) -> impl Iterator<Item = Cause<'_>> {
    iter::successors(status.source(), |error: &Cause<'_>| (*error).source())
}

/// Whether the call never left: there was no connection, or it ended before.
pub(super) fn is_unsent(cause: Cause<'_>) -> bool {
    cause.is::<ConnectError>() || cause.downcast_ref().is_some_and(hyper::Error::is_canceled)
}
