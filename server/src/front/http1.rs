//! HTTP/1 connections: health checks, metrics, JSON, and WebSocket, which begins as HTTP/1.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{self, OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;

use super::body::{self, Session};
use super::io::{Socket, flushing};
use super::{Handler, Remote, Settings, limits};

/// Serves a connection until the client closes it, or the server stops.
pub(super) async fn serve<H: Handler>(
    socket: Socket,
    replay: Bytes,
    handler: Arc<H>,
    settings: Settings,
    remote: Remote,
    stopping: CancellationToken,
) {
    let next: Mutex<Option<(OnUpgrade, Session)>> = Mutex::default();
    let service = service_fn(|mut request: http::Request<Incoming>| {
        let (handler, settings, next) = (handler.clone(), settings.clone(), &next);
        request.extensions_mut().insert(remote.clone());
        async move {
            let upgrade = upgrade::on(&mut request);
            let (head, body) = request.into_parts();
            let (body, rest) = body::lend(body::of_http1(body));
            let most = settings.max_message_bytes;
            let answer = handler.http(settings, http::Request::from_parts(head, body)).await;
            rest.read(most).await;
            if let Some(session) = answer.session {
                *next.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, session));
            }
            Ok::<_, Infallible>(answer.response)
        }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // As Go writes them: there are scripts that look for `Content-Type`.
        .title_case_headers(true)
        .header_read_timeout(limits::HEADER_DEADLINE)
        .max_buf_size(limits::HTTP1_BUFFER);
    let connection = builder.serve_connection(TokioIo::new(socket.io(replay)), service);
    let mut connection = pin!(connection.with_upgrades());
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
    let next = next.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((upgrade, session)) = next else { return };
    let session = async {
        if let Ok(upgraded) = upgrade.await {
            session(upgraded).await;
        }
    };
    tokio::select! {
        _ = flushing(&socket, session) => {
            // The last words; the client may be gone.
            _ = socket.drained().await;
        }
        () = stopping.cancelled() => {}
    }
}
