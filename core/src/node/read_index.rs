//! Linearizable reads by read index (Raft dissertation 6.4), batched: everybody who asks while one
//! confirmation is under way shares the next one. KV-07.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::raft::types::AsyncRuntime;
use futures_channel::oneshot;
use futures_util::future::{BoxFuture, Either, select};

use super::Node;
use crate::api::coraclepb::ReadIndex;
use crate::api::coraclepb::peer_request::Request as PeerMessage;
use crate::api::coraclepb::peer_response::Response as PeerAnswer;
use crate::error::Error;
use crate::notify::Notify;
use crate::platform::Platform;
use crate::raft::ProposeError;
use crate::raft::ask::ask_until_answered;
use crate::trace::Event;

/// A confirmation that takes longer counts as slow, and the leader is asked again, as etcd does.
const SLOW_READ_INDEX: Duration = Duration::from_millis(500);

/// Who waits for a confirmation.
struct Waiter {
    /// Whether what was committed must also be applied here before it is told.
    applied: bool,
    done: oneshot::Sender<Confirmed>,
}

/// The index that was committed when the leader was confirmed.
type Confirmed = Result<u64, Error>;

/// The readers that wait for the next confirmation.
pub(crate) struct ReadIndexQueue {
    /// `None` once nothing is confirmed any more.
    waiting: Mutex<Option<Vec<Waiter>>>,
    /// Notified when there is somebody.
    somebody: Notify,
}

impl ReadIndexQueue {
    pub(crate) fn new() -> ReadIndexQueue {
        ReadIndexQueue { waiting: Mutex::new(Some(Vec::new())), somebody: Notify::default() }
    }

    /// A place in the next confirmation; it is cancelled if there will be none.
    fn push(&self, applied: bool) -> oneshot::Receiver<Confirmed> {
        let (done, receiver) = oneshot::channel();
        let first = self.lock().as_mut().is_some_and(|waiting| {
            waiting.push(Waiter { applied, done });
            waiting.len() == 1
        });
        if first {
            self.somebody.notify();
        }
        receiver
    }

    fn take(&self) -> Vec<Waiter> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Waiter>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the waiting away when nobody confirms any more: the node has stopped.
struct CloseOnDrop<'a>(&'a ReadIndexQueue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
    }
}

impl<P: Platform> Node<P> {
    /// Returns once everything that was committed before this call is applied here.
    pub(super) async fn linearize(&self) -> Result<(), Error> {
        self.confirmed(true).await.map(drop)
    }

    /// Returns once a quorum has confirmed the leader; answers what is committed, which need not be
    /// applied here.
    pub(super) async fn confirm_leader(&self) -> Confirmed {
        self.confirmed(false).await
    }

    async fn confirmed(&self, applied: bool) -> Confirmed {
        let confirmed = self.read_index.push(applied);
        match P::Runtime::timeout(self.request_timeout(), confirmed).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::Timeout),
        }
    }

    /// The task that confirms batch after batch, until the node stops.
    pub(super) async fn confirm_reads(self: &Arc<Self>) {
        let _open = CloseOnDrop(&self.read_index);
        loop {
            self.read_index.somebody.notified().await;
            let batch = self.read_index.take();
            if batch.is_empty() {
                continue;
            }
            let start = self.meters.now();
            let confirm = P::Runtime::timeout(self.request_timeout(), self.confirm_read_index());
            let result = confirm.await.unwrap_or(Err(Error::Timeout));
            if self.meters.since(start) > SLOW_READ_INDEX {
                self.meters.read_indexes_slow.add(1);
            }
            if result.is_err() {
                self.meters.read_indexes_failed.add(1);
            }
            let Ok(index) = result else {
                tell(batch, &result);
                continue;
            };
            if self.shared.applied.get() >= index {
                tell(batch, &result);
                continue;
            }
            let (readers, others) = batch.into_iter().partition(|waiter| waiter.applied);
            tell(others, &result);
            // The next confirmation does not wait for what these have to.
            self.spawn(|node| async move {
                node.shared.applied.wait(index).await;
                tell(readers, &Ok(index));
            });
        }
    }

    async fn confirm_read_index(&self) -> Confirmed {
        loop {
            let role = self.leadership.role();
            let index = match role.leader {
                _ if role.is_leader => self.read_index_here().await?,
                Some(leader) => self.read_index_of(leader).await,
                None => None,
            };
            match index {
                Some(index) => return Ok(index),
                None => self.pause_for_leader().await?,
            }
        }
    }

    /// The index from this leader's own Raft; nothing if it does not lead (any more).
    async fn read_index_here(&self) -> Result<Option<u64>, Error> {
        match self.consensus.read_index(self.config.lease_reads).await {
            Ok(index) => {
                self.trace.emit(|| Event::ReadIndex { index });
                Ok(Some(index))
            }
            Err(ProposeError::NotAccepted | ProposeError::Unknown) => Ok(None),
            Err(ProposeError::Stopped) => Err(Error::Stopped),
        }
    }

    /// The index from `leader`, for as long as it counts as the leader here. It may take the time
    /// of two round trips: one is the leader's own, to its quorum.
    async fn read_index_of(&self, leader: u64) -> Option<u64> {
        let ask = || -> BoxFuture<'_, _> {
            let question = PeerMessage::ReadIndex(ReadIndex {});
            Box::pin(self.call_peer(leader, question, self.request_timeout()))
        };
        let answer = Box::pin(ask_until_answered::<P::Runtime, _>(SLOW_READ_INDEX, ask));
        match select(answer, Box::pin(self.leadership.changed())).await {
            Either::Left((Ok(PeerAnswer::ReadIndex(answer)), _)) => Some(answer.index),
            _ => None,
        }
    }

    /// Answers a follower that wants to read.
    pub(super) async fn handle_read_index(&self) -> Result<u64, Error> {
        match self.consensus.read_index(self.config.lease_reads).await {
            Ok(index) => Ok(index),
            Err(ProposeError::NotAccepted | ProposeError::Unknown) => Err(Error::NotLeader),
            Err(ProposeError::Stopped) => Err(Error::Stopped),
        }
    }
}

fn tell(waiters: Vec<Waiter>, confirmed: &Confirmed) {
    for waiter in waiters {
        // Who gave up is gone.
        let _ = waiter.done.send(confirmed.clone());
    }
}
