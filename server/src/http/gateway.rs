//! The JSON gateway: requests of [`coracle_gateway`] carried out as the gRPC calls that they are.
//!
//! ```text
//! body ──Reader──► JSON ──Method::request──► message ─┐
//!                                                     LocalCall ── Router ── rpc
//! answer ◄── JSON, or a line of it ◄──Method::reply── message ◄┘
//! ```
//!
//! A call takes the way of every other: it is routed, counted and answered by the same functions,
//! and asked under the name that its headers give. What it is not, is a second copy of anything.

use std::sync::Arc;

use bytes::Bytes;
use coracle_core::error::Code;
use coracle_gateway::{
    ErrorForm, Method, Reader, error_line, error_reply, http_status, result_line,
};
use futures_util::{StreamExt, stream};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, request};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use super::{JSON, content};
use crate::front::body::{RequestBody, ResponseBody, pieces, whole};
use crate::front::call::{Status, framed};
use crate::front::local::{LocalCall, LocalRequests};
use crate::rpc::Router;

/// What marks a call as the gateway's (ETCD.md W-06).
const GATEWAY_ACCEPT: HeaderName = HeaderName::from_static("grpcgateway-accept");
/// Headers of this prefix are metadata without it.
const METADATA: &str = "grpc-metadata-";
/// JSON of a message is at most so many times its size: a third more for base64, and then names.
const JSON_PER_MESSAGE: usize = 2;

/// The gateway of a server.
pub(super) struct Gateway {
    router: Arc<Router>,
    max_message_bytes: usize,
    /// Calls under way: in etcd they are streams of one connection, bounded like every other's.
    streams: Arc<Semaphore>,
    form: ErrorForm,
}

impl Gateway {
    pub(super) fn new(
        router: Arc<Router>,
        max_message_bytes: usize,
        max_concurrent_streams: u32,
        form: ErrorForm,
    ) -> Gateway {
        let streams = (max_concurrent_streams as usize).min(Semaphore::MAX_PERMITS);
        Gateway { router, max_message_bytes, streams: Arc::new(Semaphore::new(streams)), form }
    }

    /// The longest request, in bytes of JSON.
    pub(super) fn max_json_bytes(&self) -> usize {
        JSON_PER_MESSAGE * self.max_message_bytes
    }

    /// Answers what is asked at a path of the gateway.
    #[allow(clippy::result_large_err)] // As `Handler::grpc`.
    pub(super) async fn answer(
        &self,
        head: &request::Parts,
        body: RequestBody,
    ) -> Response<ResponseBody> {
        let path = head.uri.path();
        let Some(method) = coracle_gateway::find(path) else {
            return self.error(&Status::new(Code::NotFound, "Not Found"));
        };
        if head.method != http::Method::POST {
            return self.error(&Status::new(Code::Unimplemented, "Method Not Allowed"));
        }
        let requests = if method.client_streams() {
            streamed(method, body, self.max_json_bytes())
        } else {
            match only(method, body, self.max_json_bytes()).await {
                Ok(request) => stream::iter([Ok(framed(&request))]).boxed(),
                Err(status) => return self.error(&status),
            }
        };
        // Closed it never is.
        let Ok(turn) = self.streams.clone().acquire_owned().await else {
            return self.error(&Status::new(Code::Unavailable, "the gateway is closed"));
        };
        let call =
            LocalCall::begin(metadata(&head.headers), requests, self.max_message_bytes, |call| {
                self.router.route(method.rpc(), call)
            });
        let call = call.with_turn(turn);
        if method.server_streams() {
            self.stream(method, call).await
        } else {
            self.unary(method, call).await
        }
    }

    async fn unary(&self, method: &Method, mut call: LocalCall) -> Response<ResponseBody> {
        let reply = match call.next().await {
            Some(Ok(reply)) => reply,
            Some(Err(status)) => return self.error(&status),
            None => return self.error(&Status::new(Code::Internal, "the call gave no answer")),
        };
        match method.reply(&reply) {
            Ok(json) => content(JSON, json).map(whole),
            Err(error) => self.error(&Status::new(Code::Internal, error.to_string())),
        }
    }

    /// The answer begins with the first reply: until then, an error is the whole of it, and comes
    /// as the one line of a stream, without what unary calls add for a browser.
    async fn stream(&self, method: &'static Method, mut call: LocalCall) -> Response<ResponseBody> {
        let first = match call.next().await {
            Some(Ok(first)) => first,
            Some(Err(status)) => {
                let line = Bytes::from(error_line(status.code as u32, &status.message, self.form));
                let mut response = content(JSON, "").map(|_| pieces(stream::iter([line])));
                *response.status_mut() = status_of(&status);
                return response;
            }
            None => return content(JSON, "").map(|_| pieces(stream::empty())),
        };
        let form = self.form;
        let lines = stream::iter([Ok(first)]).chain(call).map(move |reply| {
            let line = reply.and_then(|reply| {
                let json = method.reply(&reply);
                json.map_err(|error| Status::new(Code::Internal, error.to_string()))
            });
            let line = line.map_or_else(
                |status| error_line(status.code as u32, &status.message, form),
                |json| result_line(&json),
            );
            Bytes::from(line)
        });
        content(JSON, "").map(|_| pieces(lines))
    }

    fn error(&self, status: &Status) -> Response<ResponseBody> {
        let body = error_reply(status.code as u32, &status.message, self.form);
        let mut response = content(JSON, body).map(whole);
        *response.status_mut() = status_of(status);
        if status.code == Code::Unauthenticated
            && let Ok(message) = HeaderValue::from_str(&status.message)
        {
            response.headers_mut().insert(WWW_AUTHENTICATE, message);
        }
        response
    }
}

fn status_of(status: &Status) -> StatusCode {
    let number = http_status(status.code as u32);
    StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The metadata of a call: who asks, and what else the client wants its RPC to know.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    metadata.insert(GATEWAY_ACCEPT, HeaderValue::from_static("*/*"));
    for (name, value) in headers {
        let name = match name.as_str().strip_prefix(METADATA) {
            Some(name) => HeaderName::try_from(name).ok(),
            None if name == AUTHORIZATION => Some(AUTHORIZATION),
            None => None,
        };
        if let Some(name) = name {
            metadata.append(name, value.clone());
        }
    }
    metadata
}

/// The one request of a body, encoded. What follows it is not looked at.
async fn only(method: &Method, body: RequestBody, limit: usize) -> Result<Vec<u8>, Status> {
    let mut values = Values::new(body, limit);
    let json = values.next().await?.unwrap_or_default();
    method.request(&json).map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))
}

/// The requests of a body as they come in, encoded and framed.
fn streamed(method: &'static Method, body: RequestBody, limit: usize) -> LocalRequests {
    let values = Values::new(body, limit);
    let next = move |values: Option<Values>| async move {
        let mut values = values?;
        let request = values.next().await.transpose()?.and_then(|json| {
            let request = method.request(&json);
            request.map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))
        });
        match request {
            Ok(request) => Some((Ok(framed(&request)), Some(values))),
            // Whatever follows is not to be trusted.
            Err(status) => Some((Err(status), None)),
        }
    };
    stream::unfold(Some(values), next).boxed()
}

/// The JSON values of a body.
struct Values {
    body: RequestBody,
    reader: Reader,
    limit: usize,
    ended: bool,
}

impl Values {
    fn new(body: RequestBody, limit: usize) -> Values {
        Values { body, reader: Reader::default(), limit, ended: false }
    }

    /// The next value, or `None` at the end of the body.
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(value) = self.reader.take() {
                return Ok(Some(value));
            }
            if self.ended {
                return Ok(self.reader.rest());
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.push(&frame.into_data().unwrap_or_default())?,
                Some(Err(error)) => return Err(Status::new(Code::Canceled, error.to_string())),
                None => self.ended = true,
            }
        }
    }

    fn push(&mut self, piece: &[u8]) -> Result<(), Status> {
        let length = self.reader.held() + piece.len();
        if length > self.limit {
            let text = format!(
                "grpc: received message larger than max ({length} bytes of JSON vs. {})",
                self.limit
            );
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        self.reader.push(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gw_08_who_asks_is_passed_on() {
        let headers = HeaderMap::from_iter([
            (AUTHORIZATION, HeaderValue::from_static("Bearer abc")),
            (HeaderName::from_static("grpc-metadata-hasleader"), HeaderValue::from_static("true")),
            (HeaderName::from_static("cookie"), HeaderValue::from_static("x=y")),
        ]);
        let metadata = metadata(&headers);
        assert_eq!(metadata["authorization"], "Bearer abc");
        assert_eq!(metadata["hasleader"], "true");
        assert!(metadata.contains_key(GATEWAY_ACCEPT));
        assert!(!metadata.contains_key("cookie"));
    }
}
