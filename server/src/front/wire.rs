//! What a call's messages travel on: a stream of HTTP/2, or a mailbox inside the process.

use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use coracle_core::error::Code;
use futures_util::StreamExt;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use prost::Message;

use super::body::poll_piece;
use super::call::Status;
use super::leftovers::Leftovers;
use super::local::{LocalRequests, Mailbox};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Compression flag and length before every message.
pub(super) const FRAME_HEADER: usize = 5;

/// Where requests come from, framed.
pub(super) enum Inbound {
    Http2(Http2Body),
    Local(LocalRequests),
}

/// A request's stream. If it is dropped before its end, its rest is read by the connection.
pub(super) struct Http2Body {
    /// None once it has ended.
    stream: Option<RecvStream>,
    leftovers: Leftovers,
}

impl Http2Body {
    pub(super) fn new(stream: RecvStream, leftovers: Leftovers) -> Http2Body {
        Http2Body { stream: Some(stream), leftovers }
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(None)) };
        let piece = ready!(poll_piece(stream, cx));
        if !matches!(piece, Some(Ok(_))) {
            self.stream = None;
        }
        let piece = piece.transpose();
        Poll::Ready(piece.map_err(|error| Status::new(Code::Canceled, error.to_string())))
    }
}

impl Drop for Http2Body {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            self.leftovers.put(stream);
        }
    }
}

impl Inbound {
    /// The next bytes, whatever their borders. The window is opened again at once: what is unread
    /// is bounded by the largest message.
    pub(super) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Status>> {
        match self {
            Inbound::Http2(body) => body.poll_chunk(cx),
            Inbound::Local(requests) => requests.poll_next_unpin(cx).map(Option::transpose),
        }
    }
}

/// Where the response goes, before it has begun.
pub(super) enum Responder {
    Http2(SendResponse<Bytes>),
    Local(Mailbox),
}

impl Responder {
    /// Ends the call without a message.
    pub(super) fn refuse(self, status: Status) {
        match self {
            // A failure to send means that the client is gone: nobody is left to be told.
            Responder::Http2(mut respond) => {
                let mut head = response_head();
                put_status(head.headers_mut(), &status);
                _ = respond.send_response(head, true);
            }
            Responder::Local(mailbox) => mailbox.end(Err(status)),
        }
    }

    /// Ends the call with one message, and tells its size.
    pub(super) fn answer(self, answer: &impl Message) -> usize {
        match self {
            Responder::Http2(mut respond) => {
                let frame = frame(answer);
                let size = frame.len() - FRAME_HEADER;
                // Errors mean that the client has gone away meanwhile.
                if let Ok(mut send) = respond.send_response(response_head(), false)
                    && send.send_data(frame, false).is_ok()
                {
                    _ = send.send_trailers(ok_trailers());
                }
                size
            }
            Responder::Local(mailbox) => {
                let size = mailbox.send(answer);
                mailbox.end(Ok(()));
                size
            }
        }
    }

    /// Begins a response of many messages; `None` if the client is gone.
    pub(super) fn begin(self) -> Option<Outbound> {
        match self {
            Responder::Http2(mut respond) => {
                respond.send_response(response_head(), false).ok().map(Outbound::Http2)
            }
            Responder::Local(mailbox) => Some(Outbound::Local(mailbox)),
        }
    }

    /// Ready when the client has reset the call.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Responder::Http2(respond) => respond.poll_reset(cx).map(|_| ()),
            // Whoever goes takes the work along.
            Responder::Local(_) => Poll::Pending,
        }
    }
}

/// A response of many messages.
pub(super) enum Outbound {
    Http2(SendStream<Bytes>),
    Local(Mailbox),
}

impl Outbound {
    /// Ready when the client has reset the call.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Outbound::Http2(send) => send.poll_reset(cx).map(|_| ()),
            Outbound::Local(_) => Poll::Pending,
        }
    }

    /// Waits until the client has taken what was sent before. `false` if the client is gone.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(false);
        }
        let send = match self {
            Outbound::Http2(send) => send,
            Outbound::Local(mailbox) => return mailbox.poll_ready(cx).map(|()| true),
        };
        // One byte beyond what is buffered: granted when all of that has its place in the
        // window. More would be taken from the connection's window while this stream idles.
        while send.capacity() == 0 {
            send.reserve_capacity(1);
            match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
        Poll::Ready(true)
    }

    /// Sends a message, and tells its size. A client that is gone is noticed by the next
    /// [`Outbound::poll_ready`].
    pub(super) fn send(&mut self, message: &impl Message) -> usize {
        match self {
            Outbound::Http2(send) => {
                let frame = frame(message);
                let size = frame.len() - FRAME_HEADER;
                _ = send.send_data(frame, false);
                size
            }
            Outbound::Local(mailbox) => mailbox.send(message),
        }
    }

    pub(super) fn finish(self, result: Result<(), Status>) {
        let mut send = match self {
            Outbound::Http2(send) => send,
            Outbound::Local(mailbox) => return mailbox.end(result),
        };
        let trailers = match &result {
            Ok(()) => ok_trailers(),
            Err(status) => {
                let mut trailers = HeaderMap::with_capacity(2);
                put_status(&mut trailers, status);
                trailers
            }
        };
        _ = send.send_trailers(trailers);
    }

    /// Ends without a status.
    pub(super) fn reset(self) {
        if let Outbound::Http2(mut send) = self {
            send.send_reset(Reason::CANCEL);
        }
    }
}

/// A message with its five-byte header, in one buffer of its size.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = framed_buffer(length);
    message.encode(&mut buffer).expect("a BytesMut has room for what was just measured");
    buffer.freeze()
}

/// An encoded message with its five-byte header.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut buffer = framed_buffer(message.len());
    buffer.extend_from_slice(message);
    buffer.freeze()
}

fn framed_buffer(length: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(FRAME_HEADER + length);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).expect("a message of 4 GiB does not fit in memory"));
    buffer
}

fn response_head() -> Response<()> {
    let mut head = Response::new(());
    head.headers_mut().insert(CONTENT_TYPE, GRPC);
    head
}

fn ok_trailers() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    trailers
}

fn put_status(headers: &mut HeaderMap, status: &Status) {
    headers.insert(GRPC_STATUS, HeaderValue::from(status.code as u32));
    if let Ok(message) = HeaderValue::try_from(percent_encoded(&status.message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
}

/// `grpc-message` is printable ASCII; everything else, and `%`, is percent-encoded UTF-8.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_message_is_percent_encoded() {
        assert_eq!(percent_encoded("etcdserver: no leader"), "etcdserver: no leader");
        assert_eq!(percent_encoded("100% ü\n"), "100%25 %C3%BC%0A");
    }
}
