//! The Watch service: one [`NodeWatch`] per stream, with complete headers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Node;
use crate::api::etcdserverpb as pb;
use crate::platform::Platform;
use crate::raft::types::AsyncRuntime;
use crate::trace::Event;
use crate::watch::WatchStream;

type Sleep<P> = <<P as Platform>::Runtime as AsyncRuntime>::Sleep;

/// A stream of watch responses, and the way to its requests.
pub struct NodeWatch<P: Platform> {
    node: Arc<Node<P>>,
    stream: WatchStream,
    /// When the watchers that asked for it are next told how far they are. WATCH-13.
    progress: Pin<Box<Sleep<P>>>,
}

impl<P: Platform> Node<P> {
    /// Opens a watch stream. WATCH-01.
    pub fn watch(self: &Arc<Self>) -> NodeWatch<P> {
        let progress = Box::pin(self.progress_sleep());
        NodeWatch { node: self.clone(), stream: self.hub.stream(), progress }
    }

    fn progress_sleep(&self) -> Sleep<P> {
        P::Runtime::sleep(self.config.watch_progress_notify_interval)
    }
}

impl<P: Platform> NodeWatch<P> {
    /// Creates, cancels or asks for progress; answers come out of the stream.
    pub fn request(&mut self, request: pb::WatchRequest) {
        self.stream.request(request);
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
