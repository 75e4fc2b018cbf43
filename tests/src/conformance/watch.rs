//! Watch streams of one server: requests out, responses sorted by watcher.
//!
//! Batching is not part of the contract, so events are flattened per watcher; what is part of it
//! is asserted here on each server by itself: events of one revision come in one response unless
//! it is a fragment, and revisions only grow.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coracle_core::api::etcdserverpb::*;
use coracle_core::api::mvccpb::Event;
use coracle_core::api::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use crate::grpc::WatchClient;

/// How long a response may take that must come.
const RESPONSE_DEADLINE: Duration = Duration::from_secs(10);
/// Requests that may wait to be sent.
const REQUEST_QUEUE: usize = 16;
/// Time after which an unanswered progress request is repeated: a server may drop it silently.
const PROGRESS_RETRY: Duration = Duration::from_millis(50);

/// One watch stream, with everything received and not yet taken.
pub struct WatchStream {
    requests: mpsc::Sender<WatchRequest>,
    responses: mpsc::UnboundedReceiver<Result<WatchResponse, Status>>,
    pump: JoinHandle<()>,
    created: VecDeque<WatchResponse>,
    progress: VecDeque<i64>,
    watchers: BTreeMap<i64, Inbox>,
}

/// What one watcher received.
#[derive(Default)]
struct Inbox {
    events: Vec<Event>,
    canceled: Option<WatchResponse>,
    /// The last revision received, and whether its response said that it goes on.
    last: Option<(i64, bool)>,
    /// Deletions of this revision are dropped (see `conformance_differences.md`, W-2).
    ignored_deletions: Option<i64>,
}

impl WatchStream {
    /// Opens a stream on `channel`.
    pub fn open(channel: Channel) -> WatchStream {
        let (requests, to_send) = mpsc::channel(REQUEST_QUEUE);
        let (received, responses) = mpsc::unbounded_channel();
        // etcd sends its response headers with the first response, so the call itself waits for
        // the first request: it runs in a task.
        let pump = tokio::spawn(async move {
            let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
            let mut stream = match client.watch(ReceiverStream::new(to_send)).await {
                Ok(response) => response.into_inner(),
                Err(status) => {
                    let _ = received.send(Err(status));
                    return;
                }
            };
            loop {
                let item = match stream.message().await {
                    Ok(Some(response)) => Ok(response),
                    Ok(None) => return,
                    Err(status) => Err(status),
                };
                let ended = item.is_err();
                if received.send(item).is_err() || ended {
                    return;
                }
            }
        });
        WatchStream {
            requests,
            responses,
            pump,
            created: VecDeque::new(),
            progress: VecDeque::new(),
            watchers: BTreeMap::new(),
        }
    }

    async fn send(&self, request: watch_request::RequestUnion) -> Result<()> {
        let request = WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.context("the watch stream has ended")
    }

    /// Takes one response in.
    async fn receive(&mut self, deadline: Instant) -> Result<()> {
        let response = timeout_at(deadline, self.responses.recv())
            .await
            .context("no response in time")?
            .context("the watch stream has ended")?
            .context("the watch stream failed")?;
        if response.created {
            self.watchers.insert(response.watch_id, Inbox::default());
            self.created.push_back(response);
        } else if response.watch_id == -1 {
            let revision = response.header.as_ref().map_or(0, |header| header.revision);
            self.progress.push_back(revision);
        } else {
            let id = response.watch_id;
            let inbox = self.watchers.get_mut(&id).with_context(|| {
                format!("a response for the unknown watcher {id}: {response:?}")
            })?;
            inbox.take(response)?;
        }
        Ok(())
    }

    /// Creates a watcher and returns the `created` response.
    ///
    /// Deletions at `ignored_deletions` will be dropped.
    pub async fn create(
        &mut self,
        request: WatchCreateRequest,
        ignored_deletions: Option<i64>,
    ) -> Result<WatchResponse> {
        self.send(watch_request::RequestUnion::CreateRequest(request)).await?;
        let deadline = Instant::now() + RESPONSE_DEADLINE;
        loop {
            if let Some(created) = self.created.pop_front() {
                if let Some(inbox) = self.watchers.get_mut(&created.watch_id) {
                    inbox.ignored_deletions = ignored_deletions;
                }
                return Ok(created);
            }
            self.receive(deadline).await.context("waiting for `created`")?;
        }
    }

    /// Cancels a watcher; returns the `canceled` response, or none for an unknown watcher, to
    /// which etcd does not reply.
    pub async fn cancel(&mut self, watch_id: i64) -> Result<Option<WatchResponse>> {
        let request = WatchCancelRequest { watch_id };
        self.send(watch_request::RequestUnion::CancelRequest(request)).await?;
        if !self.watchers.contains_key(&watch_id) {
            return Ok(None);
        }
        let deadline = Instant::now() + RESPONSE_DEADLINE;
        loop {
            if let Some(inbox) = self.watchers.get_mut(&watch_id)
                && let Some(canceled) = inbox.canceled.take()
            {
                self.watchers.remove(&watch_id);
                return Ok(Some(canceled));
            }
            self.receive(deadline).await.context("waiting for `canceled`")?;
        }
    }

    /// Asks for progress until it is announced, and returns the revision.
    pub async fn progress(&mut self) -> Result<i64> {
        self.progress.clear();
        let deadline = Instant::now() + RESPONSE_DEADLINE;
        loop {
            self.send(watch_request::RequestUnion::ProgressRequest(WatchProgressRequest {}))
                .await?;
            let retry = Instant::now() + PROGRESS_RETRY;
            while Instant::now() < retry {
                if let Some(revision) = self.progress.pop_front() {
                    return Ok(revision);
                }
                match self.receive(retry).await {
                    Ok(()) => {}
                    Err(error) if Instant::now() < retry => return Err(error),
                    Err(_) => break,
                }
            }
            if Instant::now() > deadline {
                bail!("no answer to progress requests");
            }
        }
    }

    /// Waits until watcher `watch_id` has received what is `due`, and takes what it received.
    /// Whoever waits in vain gets what there is.
    pub async fn take(
        &mut self,
        watch_id: i64,
        due: Due,
    ) -> Result<(Vec<Event>, Option<WatchResponse>)> {
        let deadline = Instant::now() + RESPONSE_DEADLINE;
        loop {
            let inbox = self.watchers.entry(watch_id).or_default();
            if inbox.holds(due) || Instant::now() > deadline {
                return Ok((std::mem::take(&mut inbox.events), inbox.canceled.take()));
            }
            if let Err(error) = self.receive(deadline).await
                && Instant::now() < deadline
            {
                return Err(error);
            }
        }
    }
}

/// What a watcher should have received.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Due {
    /// This many events since it was last looked at.
    Events(usize),
    /// All events up to this revision.
    Through(i64),
    /// Its cancellation.
    Cancellation,
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        self.pump.abort();
    }
}

impl Inbox {
    fn holds(&self, due: Due) -> bool {
        match due {
            Due::Events(count) => self.events.len() >= count || self.canceled.is_some(),
            Due::Through(revision) => {
                self.last.is_some_and(|(last, goes_on)| last >= revision && !goes_on)
            }
            Due::Cancellation => self.canceled.is_some(),
        }
    }

    fn take(&mut self, response: WatchResponse) -> Result<()> {
        if response.canceled {
            self.canceled = Some(response);
            return Ok(());
        }
        let header_revision = response.header.as_ref().map_or(0, |header| header.revision);
        for (index, event) in response.events.iter().enumerate() {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if revision > header_revision {
                bail!("an event of revision {revision} under header revision {header_revision}");
            }
            match self.last {
                Some((last, _)) if revision < last => {
                    bail!("revision {revision} delivered after {last}");
                }
                Some((last, false)) if revision == last && index == 0 => {
                    bail!("revision {revision} is split without being a fragment");
                }
                _ => {}
            }
            self.last = Some((revision, response.fragment));
        }
        let ignored = self.ignored_deletions;
        self.events.extend(response.events.into_iter().filter(|event| {
            let revision = event.kv.as_ref().map(|kv| kv.mod_revision);
            event.r#type() != EventType::Delete || ignored.is_none() || revision != ignored
        }));
        Ok(())
    }
}
