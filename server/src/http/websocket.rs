//! WebSocket on the gateway's paths (ETCD.md GW-07): a text for each JSON request, one for each
//! line of the answer.
//!
//! What a browser cannot do with `fetch`, send while it receives, it does so. The session ends
//! when the call does, or when the client goes: then the call goes with it.

use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_channel::mpsc;
use futures_util::future::{Either, select};
use futures_util::{SinkExt, Stream, StreamExt};
use http::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::gateway::Gateway;
use super::{error, whole_page};
use crate::front::body::{self, Answer, ResponseBody, whole};

/// The protocol by whose name a token comes: browsers let pages set no other header.
const BEARER: &str = "Bearer";

/// Whether a request asks for WebSocket.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    has_token(headers, CONNECTION, "upgrade") && has_token(headers, UPGRADE, "websocket")
}

fn has_token(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Agrees to speak WebSocket, and how.
pub(super) fn accept(gateway: &Arc<Gateway>, mut head: request::Parts) -> Answer {
    let key = head.headers.get(SEC_WEBSOCKET_KEY);
    let version = head.headers.get(SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes);
    let (Some(key), Some(b"13"), "GET") = (key, version, head.method.as_str()) else {
        return whole_page(error(StatusCode::BAD_REQUEST, "Bad Request")).into();
    };
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes())) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    if let Some(protocols) = head.headers.get(SEC_WEBSOCKET_PROTOCOL) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER));
        if let Some(token) = token(protocols) {
            head.headers.insert(AUTHORIZATION, token);
        }
    }
    head.method = Method::POST;
    let gateway = gateway.clone();
    let session = move |upgraded: Upgraded| Box::pin(serve(gateway, head, upgraded)) as _;
    Answer { response, session: Some(Box::new(session)) }
}

/// The token of `Bearer, TOKEN`.
fn token(protocols: &HeaderValue) -> Option<HeaderValue> {
    let (_, token) = protocols.to_str().ok()?.split_once("Bearer,")?;
    HeaderValue::try_from(format!("{BEARER} {}", token.trim())).ok()
}

async fn serve(gateway: Arc<Gateway>, head: request::Parts, upgraded: Upgraded) {
    let limit = gateway.max_json_bytes();
    let config =
        WebSocketConfig::default().max_message_size(Some(limit)).max_frame_size(Some(limit));
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut sink, texts) = socket.split();
    let (sender, requests) = mpsc::channel(1);
    let answer = async {
        let response = gateway.answer(&head, body::of_texts(requests)).await;
        send_lines(&mut sink, response.into_body()).await;
    };
    let gone = matches!(select(pin!(receive(texts, sender)), pin!(answer)).await, Either::Left(_));
    if !gone {
        // The client may be gone all the same.
        _ = sink.close().await;
    }
}

/// Passes requests on until the client goes. Those that nobody takes any more are dropped: pings
/// want their answers all the same.
async fn receive(
    mut texts: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut requests: mpsc::Sender<Bytes>,
) {
    while let Some(Ok(message)) = texts.next().await {
        if message.is_close() {
            return;
        }
        if message.is_text() || message.is_binary() {
            let mut request = BytesMut::from(&message.into_data()[..]);
            request.extend_from_slice(b"\n");
            _ = requests.send(request.freeze()).await;
        }
    }
}

/// Sends every line of the answer as a text of its own.
async fn send_lines(sink: &mut (impl futures_util::Sink<Message> + Unpin), mut body: ResponseBody) {
    // A piece is one line, or the whole of an answer that is no stream.
    while let Some(Ok(frame)) = body.frame().await {
        let piece = frame.into_data().unwrap_or_default();
        let Ok(text) = std::str::from_utf8(&piece) else { return };
        let line = text.trim_end_matches('\n').to_owned();
        if sink.send(Message::text(line)).await.is_err() {
            return;
        }
    }
}
