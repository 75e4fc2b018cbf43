//! How far this member has applied, and who waits for it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_channel::oneshot;

/// The highest applied log index. Linearizable reads and forwarded proposals wait on it.
#[derive(Default)]
pub struct AppliedIndex {
    index: AtomicU64,
    waiters: Mutex<BTreeMap<u64, Vec<oneshot::Sender<()>>>>,
}

impl AppliedIndex {
    pub fn get(&self) -> u64 {
        self.index.load(Ordering::Acquire)
    }

    /// Moves the index forward and wakes whom it satisfies.
    pub fn advance(&self, index: u64) {
        self.index.fetch_max(index, Ordering::AcqRel);
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if waiters.first_key_value().is_none_or(|(first, _)| *first > index) {
            return;
        }
        let still_waiting = waiters.split_off(&(index + 1));
        let satisfied = std::mem::replace(&mut *waiters, still_waiting);
        drop(waiters);
        for waiter in satisfied.into_values().flatten() {
            // A waiter that gave up dropped its receiver; there is nobody left to tell.
            let _ = waiter.send(());
        }
    }

    /// Returns once `index` is applied here. It never returns if that never happens: the caller
    /// brings the deadline.
    pub async fn wait(&self, index: u64) {
        let receiver = {
            let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            // Looked at under the lock: `advance` stores the index before it takes the lock.
            if self.get() >= index {
                return;
            }
            waiters.retain(|_, senders| {
                senders.retain(|sender| !sender.is_canceled());
                !senders.is_empty()
            });
            let (sender, receiver) = oneshot::channel();
            waiters.entry(index).or_default().push(sender);
            receiver
        };
        // An error means that the member stops; its callers are told so by their deadlines.
        let _ = receiver.await;
    }
}
