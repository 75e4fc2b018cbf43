//! HTTP/1 connections: health checks, metrics, curl.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;

use super::io::{Socket, flushing};
use super::{Handler, Remote, limits};

/// Serves a connection until the client closes it, or the server stops.
pub(super) async fn serve<H: Handler>(
    socket: Socket,
    replay: Bytes,
    handler: Arc<H>,
    remote: Remote,
    stopping: CancellationToken,
) {
    let service = service_fn(|request: http::Request<Incoming>| {
        let (handler, remote) = (handler.clone(), remote.clone());
        async move {
            let (mut head, body) = request.into_parts();
            drop(body);
            head.extensions.insert(remote);
            let response = handler.http(http::Request::from_parts(head, ())).await;
            Ok::<_, Infallible>(response.map(Full::new))
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits::HANDSHAKE_DEADLINE)
        .max_buf_size(limits::HTTP1_BUFFER);
    let connection = builder.serve_connection(TokioIo::new(socket.io(replay)), service);
    let mut connection = pin!(connection);
    let mut stop = pin!(stopping.cancelled());
    let mut stopped = false;
    let run = poll_fn(|cx| {
        if !stopped && stop.as_mut().poll(cx).is_ready() {
            stopped = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    // What a client does wrong is answered by hyper, or ends the connection.
    _ = flushing(&socket, run).await;
}
