//! A gRPC call from inside the process: the JSON gateway's, which has no HTTP/2 stream under it.
//!
//! The caller holds the call's work and polls it itself, so that both run in one task: dropped with
//! the connection of whoever asked, the work goes with it, as with a stream that is reset. At most
//! one message waits to be taken.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use coracle_core::error::Code;
use futures_util::Stream;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use http::HeaderMap;
use prost::Message;
use tokio::sync::OwnedSemaphorePermit;

use super::call::{Call, Status};

/// The messages of a local call, each framed as on the wire (see [`super::call::framed`]).
pub(crate) type LocalRequests = BoxStream<'static, Result<Bytes, Status>>;

/// The way of the answers from the work to whoever asked.
#[derive(Clone, Default)]
pub(super) struct Mailbox(Arc<Mutex<Letters>>);

#[derive(Default)]
struct Letters {
    message: Option<Bytes>,
    /// How the call has ended, after `message`.
    end: Option<Result<(), Status>>,
    /// The work, waiting for room.
    writer: Option<Waker>,
}

impl Mailbox {
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut letters = self.lock();
        if letters.message.is_none() {
            return Poll::Ready(());
        }
        letters.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Hands over a message, for which there is room, and tells its size.
    pub(super) fn send(&self, message: &impl Message) -> usize {
        let message = Bytes::from(message.encode_to_vec());
        let size = message.len();
        self.lock().message = Some(message);
        size
    }

    pub(super) fn end(&self, result: Result<(), Status>) {
        self.lock().end.get_or_insert(result);
    }

    fn lock(&self) -> MutexGuard<'_, Letters> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The caller's end of a local call: a stream of its answers, then, if it failed, its error.
pub(crate) struct LocalCall {
    /// `None` once it is done.
    work: Option<BoxFuture<'static, ()>>,
    mailbox: Mailbox,
    ended: bool,
    /// What it takes to be under way.
    turn: Option<OwnedSemaphorePermit>,
}

impl LocalCall {
    /// The same call, which gives `turn` back when it is over.
    pub(crate) fn with_turn(mut self, turn: OwnedSemaphorePermit) -> LocalCall {
        self.turn = Some(turn);
        self
    }

    /// Begins a call with `headers` as its metadata. `route` finds its work, or hands it back.
    #[allow(clippy::result_large_err)] // As `Handler::grpc`.
    pub(crate) fn begin(
        headers: HeaderMap,
        requests: LocalRequests,
        max_message_bytes: usize,
        route: impl FnOnce(Call) -> Result<BoxFuture<'static, ()>, (Call, Status)>,
    ) -> LocalCall {
        let mailbox = Mailbox::default();
        let call = Call::local(headers, requests, mailbox.clone(), max_message_bytes);
        let work = match route(call) {
            Ok(work) => Some(work),
            Err((call, status)) => {
                call.refuse(status);
                None
            }
        };
        LocalCall { work, mailbox, ended: false, turn: None }
    }
}

impl Stream for LocalCall {
    type Item = Result<Bytes, Status>;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            {
                let mut letters = self.mailbox.lock();
                if let Some(message) = letters.message.take() {
                    if let Some(writer) = letters.writer.take() {
                        writer.wake();
                    }
                    return Poll::Ready(Some(Ok(message)));
                }
                if let Some(end) = letters.end.take() {
                    drop(letters);
                    self.ended = true;
                    self.turn = None;
                    return Poll::Ready(end.err().map(Err));
                }
            }
            if self.ended {
                return Poll::Ready(None);
            }
            match self.work.as_mut().map(|work| work.as_mut().poll(cx)) {
                Some(Poll::Ready(())) => self.work = None,
                Some(Poll::Pending) => {
                    let letters = self.mailbox.lock();
                    if letters.message.is_none() && letters.end.is_none() {
                        return Poll::Pending;
                    }
                }
                // Work that is done has said how it ended; otherwise it was broken off.
                None => {
                    let status = Status::new(Code::Canceled, "context canceled");
                    self.mailbox.end(Err(status));
                }
            }
        }
    }
}
