//! A watch channel: the last value, and who waits for a newer one.
//!
//! tokio's wakes its waiters in random order as soon as any crate of the build enables tokio's
//! runtime; this one wakes them in the order in which they began to wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Poll, Waker};

use openraft_rt::watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender};
use openraft_rt::{OptionalSend, OptionalSync};

/// openraft's watch channel.
pub struct StepWatch;

struct Channel<T> {
    value: RwLock<T>,
    waiting: Mutex<Waiting>,
    senders: AtomicUsize,
    receivers: AtomicUsize,
}

#[derive(Default)]
struct Waiting {
    /// Counts the values that were sent.
    version: u64,
    wakers: Vec<(u64, Waker)>,
    next_waiter: u64,
}

pub struct Sender<T>(Arc<Channel<T>>);

pub struct Receiver<T> {
    channel: Arc<Channel<T>>,
    seen: u64,
}

impl<T> Channel<T> {
    fn read(&self) -> RwLockReadGuard<'_, T> {
        self.value.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, newer: bool) {
        let wakers = {
            let mut waiting = self.waiting();
            waiting.version += u64::from(newer);
            std::mem::take(&mut waiting.wakers)
        };
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.senders.fetch_add(1, Ordering::Relaxed);
        Sender(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        if self.0.senders.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.wake(false);
        }
    }
}

impl<T> Receiver<T> {
    fn new(channel: &Arc<Channel<T>>, seen: u64) -> Receiver<T> {
        channel.receivers.fetch_add(1, Ordering::Relaxed);
        Receiver { channel: channel.clone(), seen }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        Receiver::new(&self.channel, self.seen)
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.channel.receivers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Watch for StepWatch {
    type Sender<T: OptionalSend + OptionalSync> = Sender<T>;
    type Receiver<T: OptionalSend + OptionalSync> = Receiver<T>;
    type Ref<'a, T: OptionalSend + 'a> = RwLockReadGuard<'a, T>;

    fn channel<T: OptionalSend + OptionalSync>(init: T) -> (Sender<T>, Receiver<T>) {
        let channel = Arc::new(Channel {
            value: RwLock::new(init),
            waiting: Mutex::default(),
            senders: AtomicUsize::new(1),
            receivers: AtomicUsize::new(0),
        });
        let receiver = Receiver::new(&channel, 0);
        (Sender(channel), receiver)
    }
}

impl<T: OptionalSend + OptionalSync> WatchSender<StepWatch, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.receivers.load(Ordering::Relaxed) == 0 {
            return Err(SendError(value));
        }
        self.send_if_modified(|current| {
            *current = value;
            true
        });
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let modified = {
            let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
            modify(&mut value)
        };
        if modified {
            self.0.wake(true);
        }
        modified
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.0.read()
    }

    fn subscribe(&self) -> Receiver<T> {
        let version = self.0.waiting().version;
        Receiver::new(&self.0, version)
    }
}

impl<T: OptionalSend + OptionalSync> WatchReceiver<StepWatch, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        let mut wait = Wait { channel: self.channel.clone(), waiter: None };
        let (channel, seen) = (&self.channel, &mut self.seen);
        std::future::poll_fn(move |context| {
            let mut waiting = channel.waiting();
            if waiting.version != *seen {
                *seen = waiting.version;
                return Poll::Ready(Ok(()));
            }
            if channel.senders.load(Ordering::Acquire) == 0 {
                return Poll::Ready(Err(RecvError(())));
            }
            wait.register(&mut waiting, context.waker());
            Poll::Pending
        })
        .await
    }

    fn borrow_watched(&self) -> RwLockReadGuard<'_, T> {
        self.channel.read()
    }

    fn borrow_and_update(&mut self) -> RwLockReadGuard<'_, T> {
        self.seen = self.channel.waiting().version;
        self.channel.read()
    }
}

/// A place among the waiting, given up when it is dropped.
struct Wait<T> {
    channel: Arc<Channel<T>>,
    waiter: Option<u64>,
}

impl<T> Wait<T> {
    fn register(&mut self, waiting: &mut Waiting, waker: &Waker) {
        let place = waiting.wakers.iter_mut().find(|(id, _)| Some(*id) == self.waiter);
        match place {
            Some((_, old)) => old.clone_from(waker),
            None => {
                let id = waiting.next_waiter;
                waiting.next_waiter += 1;
                waiting.wakers.push((id, waker.clone()));
                self.waiter = Some(id);
            }
        }
    }
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.channel.waiting().wakers.retain(|(id, _)| *id != waiter);
        }
    }
}
