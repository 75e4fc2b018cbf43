//! The front: sockets in, calls out to a [`Handler`].
//!
//! ```text
//! listener ──accept──► front thread 0, 1, … (round robin), each with its own runtime
//!                        └─ a task per connection: first bytes ► HTTP/2 (h2) or HTTP/1 (hyper)
//!                             └─ gRPC ► Handler::grpc      anything else ► Handler::http
//! ```
//!
//! One current-thread runtime per core, and a connection stays on its thread: calls of one
//! connection share h2's state, and moving them between threads doubles the CPU of a call. Both
//! protocols are served on the same port; the first bytes tell which one it is (ETCD.md W-01).
//!
//! Invariant: nothing that a client sends ends an accept loop or a thread.

mod authority;
pub(crate) mod body;
pub(crate) mod call;
pub(crate) mod counters;
mod http1;
mod http2;
pub(crate) mod io;
mod keepalive;
mod leftovers;
mod limits;
pub(crate) mod local;
mod wire;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{io as std_io, thread};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::body::{Answer, RequestBody};
use self::call::{Call, Status};
pub(crate) use self::http2::unknown_method;
use self::io::Socket;
use crate::config::settings::KeepaliveConfig;
use crate::descriptors;
use crate::net::{Accepted, Bare, Listener, Stream};
use crate::tls::{self, Acceptor};

/// What every HTTP/2 connection begins with (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What answers the calls.
pub(crate) trait Handler: Send + Sync + 'static {
    /// The work of a gRPC call, or the call itself and why nobody does it.
    #[allow(clippy::result_large_err)] // The call is handed back once, not propagated.
    fn grpc(
        self: &Arc<Self>,
        path: &str,
        call: Call,
    ) -> Result<BoxFuture<'static, ()>, (Call, Status)>;

    /// Answers a plain HTTP request that came by a listener with `settings`.
    fn http(
        self: &Arc<Self>,
        settings: Settings,
        request: http::Request<RequestBody>,
    ) -> impl Future<Output = Answer> + Send;
}

/// What is known of the client at the other end of a connection. Plain HTTP requests carry it among
/// their extensions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remote {
    /// Whether the connection is encrypted.
    pub(crate) secure: bool,
    /// The common name of the client's certificate, if there is one that was verified; never empty.
    pub(crate) common_name: Option<Arc<str>>,
}

/// What holds for the connections of one listener.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What does the handshakes of connections with TLS.
    pub(crate) tls: Option<Arc<Acceptor>>,
    /// Whether connections may be plain.
    pub(crate) plain: bool,
    /// Whether gRPC is served.
    pub(crate) grpc: bool,
    /// What plain HTTP is served.
    pub(crate) http: Plain,
    /// Largest message of a client, in bytes.
    pub(crate) max_message_bytes: usize,
    pub(crate) max_concurrent_streams: u32,
    pub(crate) keepalive: KeepaliveConfig,
}

/// The plain HTTP of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plain {
    /// All of it: JSON, health, version, metrics.
    Client,
    /// Health and metrics (`--listen-metrics-urls`).
    Metrics,
    /// None: it has a listener of its own (`--listen-client-http-urls`).
    Nothing,
}

/// The running threads.
pub(crate) struct Front {
    threads: Vec<JoinHandle<()>>,
    stopping: CancellationToken,
}

impl Front {
    /// Serves `listeners` on `threads` threads.
    pub(crate) fn start<H: Handler>(
        listeners: Vec<(Listener, Settings)>,
        threads: usize,
        handler: &Arc<H>,
    ) -> std_io::Result<Front> {
        let stopping = CancellationToken::new();
        let mut queues = Vec::new();
        let mut front = Front { threads: Vec::new(), stopping: stopping.clone() };
        let mut workers = Vec::new();
        for _ in 0..threads.max(1) {
            let (queue, accepted) = mpsc::channel(limits::ACCEPTED_QUEUE);
            queues.push(queue);
            workers.push(accepted);
        }
        // The first thread also accepts: an accept is rare and cheap.
        let mut listeners = Some(listeners);
        for (index, accepted) in workers.into_iter().enumerate() {
            let accepting = listeners.take().unwrap_or_default();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (handler, stopping, queues) = (handler.clone(), stopping.clone(), queues.clone());
            let run = move || {
                runtime.block_on(async move {
                    for (listener, settings) in accepting {
                        let accept = accept(listener, settings, queues.clone(), stopping.clone());
                        tokio::spawn(accept);
                    }
                    drop(queues);
                    serve_accepted(accepted, handler, stopping).await;
                });
                // A disk that does not give a certificate's file is not waited for.
                runtime.shutdown_background();
            };
            let thread = thread::Builder::new().name(format!("front-{index}")).spawn(run)?;
            front.threads.push(thread);
        }
        Ok(front)
    }

    /// Stops accepting, lets calls under way end for a moment, and closes all connections.
    pub(crate) fn stop(self) {
        self.stopping.cancel();
        for thread in self.threads {
            // A thread that panicked has said so; with `panic = "abort"` there is none.
            _ = thread.join();
        }
    }
}

/// An accepted connection on its way to its thread, with its place among those of its listener.
type Handed = (Accepted, Settings, OwnedSemaphorePermit);

/// Hands accepted sockets to the threads in turn. An error of `accept` (no file descriptors, a
/// client that left) never ends the loop.
async fn accept(
    listener: Listener,
    settings: Settings,
    queues: Vec<mpsc::Sender<Handed>>,
    stopping: CancellationToken,
) {
    let listener = match listener.into_async() {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot watch a listening socket"),
    };
    // Who finds no place waits in the listener's backlog.
    let places = Arc::new(Semaphore::new(descriptors::for_clients()));
    let mut next = 0;
    loop {
        let accept_next = async {
            // The semaphore is never closed.
            let place = places.clone().acquire_owned().await.map_err(std_io::Error::other)?;
            Ok::<_, std_io::Error>((listener.accept().await?, place))
        };
        let accepted = tokio::select! {
            accepted = accept_next => accepted,
            () = stopping.cancelled() => return,
        };
        let (stream, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again");
                sleep(limits::ACCEPT_PAUSE).await;
                continue;
            }
        };
        let queue = &queues[next % queues.len()];
        next = next.wrapping_add(1);
        if queue.send((stream, settings.clone(), place)).await.is_err() {
            return;
        }
    }
}

/// The main task of a front thread: a task for each connection handed to it.
async fn serve_accepted<H: Handler>(
    mut accepted: mpsc::Receiver<Handed>,
    handler: Arc<H>,
    stopping: CancellationToken,
) {
    let connections = tokio_util::task::TaskTracker::new();
    loop {
        let next = tokio::select! {
            next = accepted.recv() => next,
            () = stopping.cancelled() => None,
        };
        let Some((stream, settings, place)) = next else { break };
        let connection = connection(stream, settings, handler.clone(), stopping.clone());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
    }
    connections.close();
    _ = timeout(limits::STOP_GRACE + Duration::from_secs(1), connections.wait()).await;
}

async fn connection<H: Handler>(
    accepted: Accepted,
    settings: Settings,
    handler: Arc<H>,
    stopping: CancellationToken,
) {
    // A client that left already is no news.
    let Ok(stream) = accepted.into_async() else { return };
    if prepare(&stream).is_err() {
        return;
    }
    let opening = open(stream, settings.tls.as_deref(), settings.plain);
    let opened = in_time(limits::HANDSHAKE_DEADLINE, opening, &stopping).await;
    let Some(Opened { stream, remote, http2, replay }) = opened else { return };
    let socket = Socket::new(stream);
    if http2 {
        http2::serve(socket, replay, handler, settings, remote, stopping).await;
    } else if settings.http != Plain::Nothing {
        http1::serve(socket, replay, handler, settings, remote, stopping).await;
    }
}

/// A connection of which it is known what the client speaks.
struct Opened {
    stream: Stream,
    remote: Remote,
    http2: bool,
    /// What was read to find that out.
    replay: Bytes,
}

/// What `opening` comes to, unless it fails, takes longer than `limit` (one limit for all its
/// steps, or a client could be silent twice), or the server stops: then the connection goes with
/// it.
async fn in_time(
    limit: Duration,
    opening: impl Future<Output = Option<Opened>>,
    stopping: &CancellationToken,
) -> Option<Opened> {
    // A pattern of `select!` that does not match only disables its branch: none is matched here.
    tokio::select! {
        opened = timeout(limit, opening) => opened.ok().flatten(),
        () = stopping.cancelled() => None,
    }
}

/// The first byte of a connection with TLS: a record of the handshake.
const TLS_HANDSHAKE: u8 = 22;

/// Does the handshake, if there is to be one, and finds out whether the client speaks HTTP/2. With
/// `plain` a client may do without TLS although it is offered.
async fn open(stream: Bare, mut tls: Option<&Acceptor>, plain: bool) -> Option<Opened> {
    if plain && tls.is_some() && stream.first_byte().await.ok()? != TLS_HANDSHAKE {
        tls = None;
    }
    let (mut stream, remote) = match tls {
        None => (Stream::Bare(stream), Remote::default()),
        Some(acceptor) => {
            let address = stream.remote_address();
            match acceptor.accept(stream).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    report_rejected("rejected connection on client endpoint", address, &error);
                    return None;
                }
            }
        }
    };
    let (http2, replay) = is_http2(&mut stream).await.ok()?;
    Some(Opened { stream, remote, http2, replay })
}

/// Logs a handshake that failed, in etcd's words. Whoever only looked whether somebody listens, as
/// load balancers do, is not worth a warning.
pub(crate) fn report_rejected(text: &str, remote: Option<SocketAddr>, error: &std_io::Error) {
    let remote = remote.map(|address| address.to_string()).unwrap_or_default();
    let (kind, error) = (error.kind(), tls::told(error));
    if kind == std_io::ErrorKind::UnexpectedEof {
        tracing::debug!(remote_addr = remote, error, "{text}");
    } else {
        tracing::warn!(remote_addr = remote, error, "{text}");
    }
}

/// No delay (40 ms stalls otherwise), and a dead client is noticed without pings from us.
fn prepare(stream: &Bare) -> std_io::Result<()> {
    let Some(stream) = stream.tcp() else { return Ok(()) };
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(limits::KEEPALIVE_IDLE)
        .with_interval(limits::KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// Reads until it is certain whether the client speaks HTTP/2; also gives back what was read.
async fn is_http2(stream: &mut Stream) -> std_io::Result<(bool, Bytes)> {
    let mut first = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut first).await? == 0 {
            return Err(std_io::ErrorKind::UnexpectedEof.into());
        }
        let common = first.len().min(PREFACE.len());
        if first[..common] != PREFACE[..common] {
            return Ok((false, first.freeze()));
        }
        if common == PREFACE.len() {
            return Ok((true, first.freeze()));
        }
    }
}

#[cfg(test)]
mod tests;
