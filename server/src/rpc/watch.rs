//! `etcdserverpb.Watch`: one stream, many watchers.
//!
//! The node's watch stream is a cursor, so nothing queues up here: it is polled only when the
//! client has taken what was sent before. A slow client slows its own stream and nothing else.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use coracle_core::api::etcdserverpb::{WatchRequest, WatchResponse};
use coracle_core::error::Error;
use coracle_core::meters::Distribution;
use coracle_core::node::NodeWatch;

use super::{Context, Method, credentials, method, requires_leader};
use crate::front::call::{Call, Requests, Responses, Status};
use crate::platform::Native;

pub(super) const METHODS: [Method; 1] = [method!("etcdserverpb.Watch" "Watch" "bidi_stream" watch)];

/// Responses sent before other streams of the connection get their turn (WATCH-21).
const BURST: usize = 64;

async fn watch(context: Context, call: Call) {
    let required = requires_leader(&call);
    let by = credentials(&call);
    let Some((requests, mut responses)) = call.stream() else { return };
    let watch = context.member.watch(by).await;
    let mut stream =
        Stream { requests, half_closed: false, watch, sends: context.watch_sends.clone() };
    let ended = tokio::select! {
        ended = poll_fn(|cx| stream.poll(&mut responses, cx)) => ended,
        status = context.leader_lost(required) => Some(status),
    };
    if let Some(status) = ended {
        responses.finish(Err(status));
    }
}

struct Stream {
    requests: Requests<WatchRequest>,
    /// The client will ask for nothing more, and still wants its events (WATCH-19).
    half_closed: bool,
    watch: NodeWatch<Native>,
    sends: Arc<WatchSends>,
}

impl Stream {
    /// Moves requests in and responses out. Ready when the stream ends: with a status, or with
    /// `None` if the client has gone.
    fn poll(
        &mut self,
        responses: &mut Responses,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<Status>> {
        while !self.half_closed && !self.watch.is_backlogged() {
            match self.requests.poll_next(cx) {
                Poll::Ready(Some(Ok(request))) => self.watch.request(request),
                Poll::Ready(Some(Err(status))) => return Poll::Ready(Some(status)),
                Poll::Ready(None) => self.half_closed = true,
                Poll::Pending => break,
            }
        }
        // Then requests are left unread until answers have made room.
        let unread = self.watch.is_backlogged();
        for _ in 0..BURST {
            match responses.poll_ready(cx) {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
            match self.watch.poll_next(cx) {
                Poll::Ready(Some(response)) => self.send(responses, &response),
                Poll::Ready(None) => return Poll::Ready(Some(Error::Stopped.into())),
                Poll::Pending if unread => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn send(&self, responses: &mut Responses, response: &WatchResponse) {
        let start = Instant::now();
        responses.send(response);
        self.sends.sent(response, start.elapsed());
    }
}

/// How long sending took, of each kind of response.
pub(crate) struct WatchSends {
    pub(crate) events: Distribution,
    pub(crate) per_event: Distribution,
    /// That a watcher was created or canceled.
    pub(crate) control: Distribution,
    pub(crate) progress: Distribution,
}

impl Default for WatchSends {
    fn default() -> Self {
        let new = || Distribution::new(0.001, 14);
        WatchSends { events: new(), per_event: new(), control: new(), progress: new() }
    }
}

impl WatchSends {
    fn sent(&self, response: &WatchResponse, took: Duration) {
        if response.created || response.canceled {
            self.control.took(took);
        } else if response.events.is_empty() {
            self.progress.took(took);
        } else {
            self.events.took(took);
            self.per_event.observe(took.as_secs_f64() / response.events.len() as f64);
        }
    }
}
