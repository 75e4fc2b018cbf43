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
use std::time::Duration;

use bytes::Bytes;
use coracle_core::error::Code;
use coracle_gateway::{
    ErrorForm, Method, Reader, error_line, error_reply, http_status, result_line,
};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, request};
use http_body_util::BodyExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::{JSON, content};
use crate::front::body::{RequestBody, ResponseBody, pieces, whole};
use crate::front::call::{Status, framed};
use crate::front::local::{LocalCall, LocalRequests};
use crate::rpc::Router;

/// What marks a call as the gateway's (ETCD.md W-06).
const GATEWAY_ACCEPT: HeaderName = HeaderName::from_static("grpcgateway-accept");
/// How long the client waits, in gRPC's form.
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
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
        let deadline = match deadline(&head.headers) {
            Ok(deadline) => deadline,
            Err(status) => return self.error(&status),
        };
        let requests = if method.client_streams() {
            streamed(method, body, self.max_json_bytes())
        } else {
            match only(method, body, self.max_json_bytes()).await {
                Ok(request) => stream::iter([Ok(framed(&request))]).boxed(),
                Err(status) => return self.error(&status),
            }
        };
        let turn = match in_time(deadline, self.streams.clone().acquire_owned()).await {
            Ok(Ok(turn)) => turn,
            // Closed it never is.
            Ok(Err(_)) => {
                return self.error(&Status::new(Code::Unavailable, "the gateway is closed"));
            }
            Err(status) => return self.error(&status),
        };
        let call =
            LocalCall::begin(metadata(&head.headers), requests, self.max_message_bytes, |call| {
                self.router.route(method.rpc(), call)
            });
        let call = answers(call.with_turn(turn), deadline);
        if method.server_streams() {
            self.stream(method, call).await
        } else {
            self.unary(method, call).await
        }
    }

    async fn unary(&self, method: &Method, mut call: Answers) -> Response<ResponseBody> {
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
    async fn stream(&self, method: &'static Method, mut call: Answers) -> Response<ResponseBody> {
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

/// The answers of a call, then, if it failed or took too long, its error.
type Answers = BoxStream<'static, Result<Bytes, Status>>;

/// What `call` answers until `deadline`, with which it is dropped.
fn answers(call: LocalCall, deadline: Option<Instant>) -> Answers {
    let next = move |call: Option<LocalCall>| async move {
        let mut call = call?;
        match in_time(deadline, call.next()).await {
            Ok(reply) => Some((reply?, Some(call))),
            Err(status) => Some((Err(status), None)),
        }
    };
    stream::unfold(Some(call), next).boxed()
}

/// What `work` gives, if it does so before `deadline`.
async fn in_time<F: Future>(deadline: Option<Instant>, work: F) -> Result<F::Output, Status> {
    let Some(deadline) = deadline else { return Ok(work.await) };
    // Work that is always ready is never found late.
    let is_late = deadline <= Instant::now();
    let timed = if is_late { None } else { timeout_at(deadline, work).await.ok() };
    timed.ok_or_else(|| Status::new(Code::DeadlineExceeded, "context deadline exceeded"))
}

/// When the client has no use for an answer any more; `None` if it does not say.
fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Status> {
    let Some(value) = headers.get(TIMEOUT).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let timeout = value.to_str().ok().and_then(parse_timeout).ok_or_else(|| {
        let value = String::from_utf8_lossy(value.as_bytes());
        Status::new(Code::InvalidArgument, format!("invalid grpc-timeout: {value}"))
    })?;
    // None is no limit, and so is one beyond what clocks can tell.
    Ok(Some(timeout)
        .filter(|time| !time.is_zero())
        .and_then(|time| Instant::now().checked_add(time)))
}

/// gRPC's form of a time: a number with a unit.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (unit_at, unit) = text.char_indices().next_back()?;
    let amount = text[..unit_at].parse().ok()?;
    Some(match unit {
        'H' => Duration::from_secs(3600_u64.saturating_mul(amount)),
        'M' => Duration::from_secs(60_u64.saturating_mul(amount)),
        'S' => Duration::from_secs(amount),
        'm' => Duration::from_millis(amount),
        'u' => Duration::from_micros(amount),
        'n' => Duration::from_nanos(amount),
        _ => return None,
    })
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
    fn gw_04_times_are_grpcs() {
        for (text, nanos) in [
            ("2H", 7_200_000_000_000),
            ("3M", 180_000_000_000),
            ("5S", 5_000_000_000),
            ("300m", 300_000_000),
            ("7u", 7_000),
            ("9n", 9),
        ] {
            assert_eq!(parse_timeout(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "5", "S", "5s", "5ü", "-5S", "1.5S", "99999999999999999999S"] {
            assert_eq!(parse_timeout(text), None, "{text}");
        }
        let given = |text| HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static(text))]);
        assert!(deadline(&HeaderMap::new()).is_ok_and(|deadline| deadline.is_none()));
        assert!(deadline(&given("0S")).is_ok_and(|deadline| deadline.is_none()));
        assert!(deadline(&given("18446744073709551615H")).is_ok_and(|time| time.is_none()));
        assert!(deadline(&given("5S")).is_ok_and(|deadline| deadline.is_some()));
        let status = deadline(&given("soon")).unwrap_err();
        assert_eq!(
            (status.code, status.message.as_ref()),
            (Code::InvalidArgument, "invalid grpc-timeout: soon")
        );
    }

    #[tokio::test]
    #[allow(clippy::result_large_err)] // As `Handler::grpc`.
    async fn gw_04_a_call_ends_with_its_time() {
        let call = || {
            LocalCall::begin(HeaderMap::new(), stream::empty().boxed(), 1, |_| {
                Ok(Box::pin(std::future::pending()))
            })
        };
        let deadline = Instant::now() + Duration::from_millis(10);
        let replies: Vec<_> = answers(call(), Some(deadline)).collect().await;
        let [Err(status)] = &replies[..] else { panic!("not one error") };
        assert_eq!(
            (status.code, status.message.as_ref(), status_of(status)),
            (Code::DeadlineExceeded, "context deadline exceeded", StatusCode::GATEWAY_TIMEOUT)
        );
        assert!(in_time(Some(deadline), std::future::ready(())).await.is_err());
        let mut patient = answers(call(), None);
        assert!(tokio::time::timeout(Duration::from_millis(20), patient.next()).await.is_err());
    }

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
