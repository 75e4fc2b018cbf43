//! The Watch service: one [`NodeWatch`] per stream, with complete headers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Node;
use crate::api::etcdserverpb as pb;
use crate::api::etcdserverpb::watch_request::RequestUnion;
use crate::auth::Caller;
use crate::error::Error;
use crate::mvcc::KeyRange;
use crate::platform::Platform;
use crate::raft::types::AsyncRuntime;
use crate::trace::Event;
use crate::watch::WatchStream;

type Sleep<P> = <<P as Platform>::Runtime as AsyncRuntime>::Sleep;

/// A stream of watch responses, and the way to its requests.
pub struct NodeWatch<P: Platform> {
    node: Arc<Node<P>>,
    stream: WatchStream,
    by: Caller,
    /// When the watchers that asked for it are next told how far they are. WATCH-13.
    progress: Pin<Box<Sleep<P>>>,
}

impl<P: Platform> Node<P> {
    /// Opens a watch stream. WATCH-01.
    pub async fn watch(self: &Arc<Self>, by: Caller) -> NodeWatch<P> {
        // Waits until a new token has come here; whether it is any good is asked for each watcher.
        let _ = self.identify(&by).await;
        let progress = Box::pin(self.progress_sleep());
        NodeWatch { node: self.clone(), stream: self.hub.stream(), by, progress }
    }

    fn progress_sleep(&self) -> Sleep<P> {
        P::Runtime::sleep(self.config.watch_progress_notify_interval)
    }
}

impl<P: Platform> NodeWatch<P> {
    /// Creates, cancels or asks for progress; answers come out of the stream.
    pub fn request(&mut self, request: pb::WatchRequest) {
        match &request.request_union {
            Some(RequestUnion::CreateRequest(create)) => match self.check_create(create) {
                Ok(()) => self.stream.request(request),
                Err(error) => self.stream.refuse_create(&go_text(&error)),
            },
            _ => self.stream.request(request),
        }
    }

    /// A watcher needs to read all of its range, now; losing that right later does not end it.
    /// WATCH-17.
    fn check_create(&self, request: &pb::WatchCreateRequest) -> Result<(), Error> {
        let node = &self.node;
        if request.start_revision < 0 {
            // The stream refuses it, whoever asks.
            return Ok(());
        }
        let who = match &self.by {
            Caller::Internal => return Ok(()),
            Caller::Client(_) if !node.auth.is_enabled() => return Ok(()),
            Caller::Client(credentials) => {
                node.identify_here(credentials)?.ok_or(Error::InvalidAuthToken)?
            }
        };
        let key = if request.key.is_empty() { &[0] } else { &request.key[..] };
        node.auth.check_read(&who, &KeyRange::new(key, &request.range_end))
    }

    /// Whether earlier requests should be answered before more are taken.
    pub fn is_backlogged(&self) -> bool {
        self.stream.is_backlogged()
    }

    /// The next response; none when the node stops.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<pb::WatchResponse>> {
        while self.progress.as_mut().poll(context).is_ready() {
            self.stream.progress_tick();
            self.progress = Box::pin(self.node.progress_sleep());
        }
        match self.stream.poll_next(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Ready(Some(Ok(mut response))) => {
                let revision = response.header.as_ref().map_or(0, |header| header.revision);
                response.header = Some(self.node.header(revision));
                if self.node.trace.listens()
                    && let Some(event) = Event::of_watch(&response)
                {
                    self.node.trace.emit(|| event);
                }
                Poll::Ready(Some(response))
            }
            Poll::Ready(Some(Err(fatal))) => {
                self.node.fail(fatal);
                Poll::Ready(None)
            }
        }
    }

    /// [`NodeWatch::poll_next`] as a future.
    pub async fn next(&mut self) -> Option<pb::WatchResponse> {
        std::future::poll_fn(|context| self.poll_next(context)).await
    }
}

/// An error as Go prints it: that is how etcd words why there is no watcher.
fn go_text(error: &Error) -> String {
    format!("rpc error: code = {} desc = {}", error.code().name(), error.message())
}
