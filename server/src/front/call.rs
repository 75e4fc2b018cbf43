//! One gRPC call on one HTTP/2 stream: five-byte frames, status trailers, flow control.
//!
//! This is what a gRPC library does, written down for this server's needs: prost messages, no
//! compression, no interceptors. It sits directly on h2, because per call that costs about half
//! the CPU of the usual stack and a sixth of its memory.
//!
//! ```text
//! request   HEADERS (path, content-type)  DATA: 0 | length BE32 | message ...  END_STREAM
//! response  HEADERS (200, content-type)   DATA: 0 | length BE32 | message ...  HEADERS grpc-status
//! refusal   HEADERS (200, content-type, grpc-status, grpc-message) END_STREAM
//! ```
//!
//! Deadlines (`grpc-timeout`) are enforced by clients, which reset the stream; a reset drops the
//! call's future, and with it the work. Protocol: grpc/grpc, doc/PROTOCOL-HTTP2.md.

use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use coracle_core::error::{Code, Error};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName};
use prost::Message;

use super::Remote;
pub(crate) use super::counters::Counters;
use super::counters::Started;
use super::local::{LocalRequests, Mailbox};
pub(crate) use super::wire::framed;
use super::wire::{FRAME_HEADER, Http2Body, Inbound, Outbound, Responder};
use crate::traces::{CallTrace, Traced};

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// How a call ends badly: gRPC code and message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl Status {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Status {
        Status { code, message: message.into() }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        Status::new(error.code(), error.message())
    }
}

/// A call that has arrived; nothing is answered yet.
pub(crate) struct Call {
    headers: HeaderMap,
    body: Inbound,
    respond: Responder,
    remote: Remote,
    max_message_bytes: usize,
    counters: Started,
}

impl Call {
    pub(super) fn new(
        head: http::request::Parts,
        body: Http2Body,
        respond: SendResponse<Bytes>,
        remote: Remote,
        max_message_bytes: usize,
    ) -> Call {
        Call {
            headers: head.headers,
            body: Inbound::Http2(body),
            respond: Responder::Http2(respond),
            remote,
            max_message_bytes,
            counters: Started::default(),
        }
    }

    /// A call from inside the process; see [`super::local::LocalCall`]. No certificate came with
    /// it that would speak for its caller.
    pub(super) fn local(
        headers: HeaderMap,
        requests: LocalRequests,
        mailbox: Mailbox,
        max_message_bytes: usize,
    ) -> Call {
        Call {
            headers,
            body: Inbound::Local(requests),
            respond: Responder::Local(mailbox),
            remote: Remote::default(),
            max_message_bytes,
            counters: Started::default(),
        }
    }

    /// Counts this call in `counters` from now on, with the trace that `trace` makes of
    /// its metadata.
    pub(crate) fn counted(
        mut self,
        counters: Arc<Counters>,
        trace: impl FnOnce(&HeaderMap) -> Option<CallTrace>,
    ) -> Call {
        self.counters = Started::now(counters, trace(&self.headers));
        self
    }

    /// The metadata entry `name`, if it is there and text.
    pub(crate) fn metadata(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The common name of the client's verified certificate, if it has one.
    pub(crate) fn client_common_name(&self) -> Option<&str> {
        self.remote.common_name.as_deref()
    }

    /// The metadata entry `name` as the bytes that it is.
    pub(crate) fn metadata_bytes(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name).map(http::HeaderValue::as_bytes)
    }

    /// Ends the call without a message.
    pub(crate) fn refuse(self, status: Status) {
        self.counters.ended(Some(&status));
        self.respond.refuse(status);
    }

    /// One message in, one message out: `handle` makes the answer.
    pub(crate) async fn unary<Q, A, F>(mut self, handle: impl FnOnce(Q) -> F)
    where
        Q: Message + Default,
        A: Message,
        F: Future<Output = Result<A, Error>>,
    {
        let request = match self.only_message().await {
            Ok(request) => request,
            Err(status) => return self.refuse(status),
        };
        let gone = |cx: &mut Context<'_>| self.respond.poll_gone(cx);
        let Some(result) = unless(gone, handle(request)).await else {
            return self.counters.canceled();
        };
        match result {
            Ok(answer) => self.answer(&answer),
            Err(error) => self.refuse(error.into()),
        }
    }

    /// As [`Call::unary`], with a span within the call's for what `handle` does.
    pub(crate) async fn traced<Q, A, F>(self, handle: impl FnOnce(Q) -> F)
    where
        Q: Message + Default + Traced,
        A: Message,
        F: Future<Output = Result<A, Error>>,
    {
        let trace = self.counters.trace.clone();
        self.unary(async |request| {
            let _span = trace.map(|trace| trace.work(&request));
            handle(request).await
        })
        .await;
    }

    /// Many messages out, and as many in as the client sends. The response begins at once.
    ///
    /// `None` if the client is gone or asks for a compression that there is not.
    pub(crate) fn stream<Q: Message + Default>(self) -> Option<(Requests<Q>, Responses)> {
        if let Err(status) = self.check_encoding() {
            self.refuse(status);
            return None;
        }
        let Some(send) = self.respond.begin() else {
            self.counters.canceled();
            return None;
        };
        let requests = Requests {
            body: self.body,
            buffer: BytesMut::new(),
            max_message_bytes: self.max_message_bytes,
            counters: self.counters.clone(),
            message: PhantomData,
        };
        Some((requests, Responses { send: Some(send), counters: self.counters }))
    }

    fn answer(self, answer: &impl Message) {
        self.counters.ended(None);
        let size = self.respond.answer(answer);
        self.counters.sent(size);
    }

    fn check_encoding(&self) -> Result<(), Status> {
        match self.headers.get(GRPC_ENCODING) {
            Some(encoding) if encoding != "identity" => Err(Status::new(
                Code::Unimplemented,
                format!("grpc: Decompressor is not installed for grpc-encoding {encoding:?}"),
            )),
            _ => Ok(()),
        }
    }

    /// The message of a unary call, after the client has ended its side.
    async fn only_message<Q: Message + Default>(&mut self) -> Result<Q, Status> {
        self.check_encoding()?;
        let mut body = Bytes::new();
        let mut rest = BytesMut::new();
        while let Some(chunk) = poll_fn(|cx| self.body.poll_chunk(cx)).await? {
            if body.is_empty() {
                // Nearly always the whole message, and then it is not copied.
                check_length(&chunk, self.max_message_bytes)?;
                body = chunk;
                continue;
            }
            if rest.is_empty() {
                rest.extend_from_slice(&body);
                check_length(&rest, self.max_message_bytes)?;
            }
            let limit = FRAME_HEADER + self.max_message_bytes;
            if rest.len() + chunk.len() > limit {
                return Err(too_large(rest.len() + chunk.len(), self.max_message_bytes));
            }
            rest.extend_from_slice(&chunk);
        }
        let mut body = if rest.is_empty() { body } else { rest.freeze() };
        let length = check_length(&body, self.max_message_bytes)?;
        if length.is_none_or(|length| body.len() < FRAME_HEADER + length) {
            return Err(Status::new(Code::Internal, "unexpected EOF"));
        }
        body.advance(FRAME_HEADER);
        self.counters.received(body.len());
        decode(body)
    }
}

/// Runs `work` until it is done, or, with `None`, until the client has `gone`.
pub(super) async fn unless<F: Future>(
    mut gone: impl FnMut(&mut Context<'_>) -> Poll<()>,
    work: F,
) -> Option<F::Output> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(output) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        gone(cx).map(|()| None)
    })
    .await
}

/// The length of the message that `buffer` begins with, if its header is complete.
fn check_length(buffer: &[u8], limit: usize) -> Result<Option<usize>, Status> {
    let Some(header) = buffer.first_chunk::<FRAME_HEADER>() else { return Ok(None) };
    let [flag, length @ ..] = *header;
    if flag != 0 {
        let text = "grpc: compressed flag set with identity or empty encoding";
        return Err(Status::new(Code::Internal, text));
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        return Err(too_large(length, limit));
    }
    Ok(Some(length))
}

fn too_large(length: usize, limit: usize) -> Status {
    let text = format!("grpc: received message larger than max ({length} vs. {limit})");
    Status::new(Code::ResourceExhausted, text)
}

fn decode<Q: Message + Default>(bytes: Bytes) -> Result<Q, Status> {
    Q::decode(bytes).map_err(|error| {
        Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}"))
    })
}

/// The client's messages of a stream.
pub(crate) struct Requests<Q> {
    body: Inbound,
    buffer: BytesMut,
    max_message_bytes: usize,
    counters: Started,
    message: PhantomData<fn() -> Q>,
}

impl<Q: Message + Default> Requests<Q> {
    /// The next message; `None` once the client has ended its side.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Q, Status>>> {
        loop {
            match self.take_message() {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(Ok(message))),
                Err(status) => return Poll::Ready(Some(Err(self.failed(status)))),
            }
            match ready!(self.body.poll_chunk(cx)) {
                // Copied: a watcher's key must not keep h2's read buffer alive.
                Ok(Some(chunk)) => self.buffer.extend_from_slice(&chunk),
                Ok(None) => return Poll::Ready(None),
                Err(status) => return Poll::Ready(Some(Err(self.failed(status)))),
            }
        }
    }

    fn failed(&self, status: Status) -> Status {
        self.counters.receive_failed();
        status
    }

    /// [`Requests::poll_next`] as a future.
    pub(crate) async fn next(&mut self) -> Option<Result<Q, Status>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn take_message(&mut self) -> Result<Option<Q>, Status> {
        let Some(length) = check_length(&self.buffer, self.max_message_bytes)? else {
            return Ok(None);
        };
        if self.buffer.len() < FRAME_HEADER + length {
            return Ok(None);
        }
        self.buffer.advance(FRAME_HEADER);
        let message = Bytes::copy_from_slice(&self.buffer[..length]);
        self.buffer.advance(length);
        self.counters.received(length);
        decode(message).map(Some)
    }
}

/// The server's messages of a stream. Dropped without [`Responses::finish`], it resets the stream.
pub(crate) struct Responses {
    /// `None` once the stream is finished.
    send: Option<Outbound>,
    counters: Started,
}

impl Responses {
    /// Waits until the client has taken what was sent before: at most one message is buffered.
    /// `false` if the client is gone.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        match &mut self.send {
            Some(send) => send.poll_ready(cx),
            None => Poll::Ready(false),
        }
    }

    /// Sends one message. A client that is gone is noticed by the next [`Responses::poll_ready`].
    pub(crate) fn send(&mut self, message: &impl Message) {
        if let Some(send) = &mut self.send {
            let size = send.send(message);
            self.counters.sent(size);
        }
    }

    /// Waits for room, then sends. `false` if the client is gone.
    pub(crate) async fn send_when_ready(&mut self, message: &impl Message) -> bool {
        let ready = poll_fn(|cx| self.poll_ready(cx)).await;
        if ready {
            self.send(message);
        }
        ready
    }

    /// Runs `work` until it is done, or, with `None`, until the client is gone.
    pub(crate) async fn unless_gone<F: Future>(&mut self, work: F) -> Option<F::Output> {
        let gone = |cx: &mut Context<'_>| match &mut self.send {
            Some(send) => send.poll_gone(cx),
            None => Poll::Ready(()),
        };
        unless(gone, work).await
    }

    /// Ends the stream: with OK, or with an error.
    pub(crate) fn finish(mut self, result: Result<(), Status>) {
        let Some(send) = self.send.take() else { return };
        self.counters.ended(result.as_ref().err());
        send.finish(result);
    }
}

impl Drop for Responses {
    fn drop(&mut self) {
        if let Some(send) = self.send.take() {
            self.counters.canceled();
            self.counters.send_failed();
            send.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_length_is_checked_before_the_body() {
        assert_eq!(check_length(&[0, 0, 0], 10), Ok(None));
        assert_eq!(check_length(&[0, 0, 0, 0, 10], 10), Ok(Some(10)));
        let status = check_length(&[0, 0, 0, 0, 11], 10).unwrap_err();
        assert_eq!(status.code, Code::ResourceExhausted);
        assert_eq!(status.message, "grpc: received message larger than max (11 vs. 10)");
        assert_eq!(check_length(&[1, 0, 0, 0, 1], 10).unwrap_err().code, Code::Internal);
    }
}
