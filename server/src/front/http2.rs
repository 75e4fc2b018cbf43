//! One HTTP/2 connection: everything it does happens in one task.
//!
//! A task per call would be scheduled, woken and counted for itself, and each answer that comes
//! from the node's thread would wake this thread once more. Here the calls live in a
//! [`FuturesUnordered`] inside the connection's own future: however many of them become ready
//! together, the connection is woken once, writes all their frames, and flushes once.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_core::error::Code;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use h2::RecvStream;
use h2::server::{Connection, SendResponse};
use http::header::CONTENT_TYPE;
use hyper::body::Body;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::call::{Call, Status, unless};
use super::io::{CoalescingIo, Socket, flushing};
use super::keepalive::{Pinger, Traffic};
use super::leftovers::Leftovers;
use super::wire::Http2Body;
use super::{Handler, Remote, Settings, body, limits};

type Calls = FuturesUnordered<BoxFuture<'static, ()>>;

/// Serves a connection until it ends, or, after `stopping`, until its calls are done.
pub(super) async fn serve<H: Handler>(
    socket: Socket,
    replay: Bytes,
    handler: Arc<H>,
    settings: Settings,
    remote: Remote,
    stopping: CancellationToken,
) {
    socket.watch(Traffic::new(&settings.keepalive));
    let handshake = builder(&settings)
        .handshake::<_, Bytes>(socket.io(replay).mending_authority(limits::MAX_FRAME));
    let handshake = timeout(limits::HANDSHAKE_DEADLINE, flushing(&socket, handshake));
    // Whoever does not finish a handshake is not told why, and not worth a log line.
    let Ok(Ok(Ok(mut connection))) = handshake.await else { return };
    let pinger = Pinger::new(settings.keepalive, connection.ping_pong());
    let calls = Calls::new();
    let socket_of_driver = socket.clone();
    let mut driver = Driver {
        connection,
        calls,
        leftovers: Leftovers::default(),
        rests: Calls::new(),
        is_leaving: false,
        handler,
        settings,
        remote,
        pinger,
        socket: socket_of_driver,
    };
    let ended = {
        let mut stop = pin!(stopping.cancelled());
        let run = poll_fn(|cx| match driver.poll(cx) {
            Poll::Pending => stop.as_mut().poll(cx).map(|()| None),
            Poll::Ready(end) => Poll::Ready(Some(end)),
        });
        flushing(&socket, run).await
    };
    match ended {
        Err(_) | Ok(Some(End::Closed)) => {}
        Ok(Some(End::SentAway)) => {
            tracing::debug!("a client pinged too often and was sent away");
            _ = timeout(limits::STOP_GRACE, socket.hang_up()).await;
        }
        Ok(None) => {
            driver.leave();
            let rest = flushing(&socket, poll_fn(|cx| driver.poll(cx)));
            _ = timeout(limits::STOP_GRACE, rest).await;
        }
    }
}

/// Windows large enough that h2's guard against floods of small frames never hits honest clients,
/// and bounds on everything a client can make the server hold.
fn builder(settings: &Settings) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(limits::STREAM_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .max_frame_size(limits::MAX_FRAME)
        .max_concurrent_streams(settings.max_concurrent_streams)
        .max_header_list_size(limits::MAX_HEADER_LIST)
        .max_send_buffer_size(limits::SEND_BUFFER)
        .max_pending_accept_reset_streams(limits::PENDING_ACCEPT_RESETS)
        .max_local_error_reset_streams(Some(limits::LOCAL_ERROR_RESETS))
        .max_concurrent_reset_streams(limits::CONCURRENT_RESETS)
        .reset_stream_duration(Duration::from_secs(1));
    builder
}

/// How a connection ends.
enum End {
    /// It broke, or the client said goodbye, or does not answer any more.
    Closed,
    /// The client was told why, as the last thing.
    SentAway,
}

struct Driver<H> {
    socket: Socket,
    pinger: Pinger,
    connection: Connection<CoalescingIo, Bytes>,
    calls: Calls,
    leftovers: Leftovers,
    /// The reading of what was left over.
    rests: Calls,
    is_leaving: bool,
    handler: Arc<H>,
    settings: Settings,
    remote: Remote,
}

impl<H: Handler> Driver<H> {
    /// Runs what can run; ready when the connection is over.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.pinger.poll(cx, &self.socket).is_ready() {
            return Poll::Ready(End::Closed);
        }
        loop {
            while let Poll::Ready(Some(())) = self.calls.poll_next_unpin(cx) {}
            while let Poll::Ready(Some(())) = self.rests.poll_next_unpin(cx) {}
            // Accepting is also what makes h2 read and write.
            let mut accepted = false;
            loop {
                match self.connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, respond)))) => {
                        accepted = true;
                        self.begin(request, respond);
                    }
                    // The connection broke, or said goodbye: its calls go with it.
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(End::Closed),
                    Poll::Pending => break,
                }
            }
            if !self.socket.is_welcome(!self.calls.is_empty()) {
                return Poll::Ready(End::SentAway);
            }
            if !self.read_leftovers() && !accepted {
                return Poll::Pending;
            }
        }
    }

    /// Says goodbye: the connection ends with the calls that are under way. It is not kept for what
    /// clients have still to say of others, since they would make further calls on it.
    fn leave(&mut self) {
        self.is_leaving = true;
        self.rests.clear();
        self.connection.graceful_shutdown();
    }

    /// Goes on reading what calls have left of their requests; `false` if there is nothing.
    fn read_leftovers(&mut self) -> bool {
        let left = self.leftovers.take();
        let most = self.settings.max_message_bytes;
        let found = !left.is_empty();
        if !self.is_leaving {
            let reading = left.into_iter().map(|rest| body::read_rest(body::of_http2(rest), most));
            self.rests.extend(reading.map(|reading| Box::pin(reading) as _));
        }
        found
    }

    fn begin(&mut self, mut request: http::Request<RecvStream>, respond: SendResponse<Bytes>) {
        if !self.settings.grpc || !is_grpc(&request) {
            request.extensions_mut().insert(self.remote.clone());
            let (handler, settings) = (self.handler.clone(), self.settings.clone());
            self.calls.push(Box::pin(plain(handler, settings, request, respond)));
            return;
        }
        let path = request.uri().path().to_owned();
        let (head, body) = request.into_parts();
        let body = Http2Body::new(body, self.leftovers.clone());
        let remote = self.remote.clone();
        let call = Call::new(head, body, respond, remote, self.settings.max_message_bytes);
        match self.handler.grpc(&path, call) {
            Ok(work) => self.calls.push(work),
            Err((call, status)) => call.refuse(status),
        }
    }
}

/// gRPC's name for a path that leads nowhere, as grpc-go words it.
pub(crate) fn unknown_method(path: &str, services: impl Fn(&str) -> bool) -> Status {
    let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.rsplit_once('/'))
    else {
        return Status::new(Code::Unimplemented, format!("malformed method name: {path:?}"));
    };
    Status::new(
        Code::Unimplemented,
        if services(service) {
            format!("unknown method {method} for service {service}")
        } else {
            format!("unknown service {service}")
        },
    )
}

fn is_grpc(request: &http::Request<RecvStream>) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// A request over HTTP/2 that is not gRPC: for the same handler as HTTP/1's.
async fn plain<H: Handler>(
    handler: Arc<H>,
    settings: Settings,
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let head_only = request.method() == http::Method::HEAD;
    let (head, body) = request.into_parts();
    let (body, rest) = body::lend(body::of_http2(body));
    let most = settings.max_message_bytes;
    let answer = async {
        let answer = handler.http(settings, http::Request::from_parts(head, body)).await;
        rest.read(most).await;
        answer
    };
    // Whoever has gone does not want it any more: a lock, say, must not be taken for nobody.
    let gone = |cx: &mut Context<'_>| respond.poll_reset(cx).map(drop);
    let Some(answer) = unless(gone, answer).await else { return };
    let (head, body) = answer.response.into_parts();
    let ended = head_only || body.is_end_stream();
    // Errors mean that the client is gone.
    if let Ok(stream) = respond.send_response(http::Response::from_parts(head, ()), ended)
        && !ended
    {
        body::send(stream, body).await;
    }
}
