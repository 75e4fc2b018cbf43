//! How a task is told that there is work.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// Wakes the one task that waits for it. However often it is notified while that is at work, it is
/// woken once more. Nothing is locked while it is woken: a channel's lock, still held by whoever
/// woke it, would be the first thing that it waits for where both run on one core.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    notified: AtomicBool,
    waker: AtomicWaker,
}

impl Notify {
    pub(crate) fn notify(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Returns when it was notified since this returned last.
    pub(crate) async fn notified(&self) {
        poll_fn(|cx| {
            // Registered first: a notification in between finds the waker.
            self.waker.register(cx.waker());
            match self.notified.swap(false, Ordering::AcqRel) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::Context;

    use futures_util::task::noop_waker_ref;

    use super::*;

    #[test]
    fn notifications_before_and_while_it_waits_count_once() {
        let notify = Arc::new(Notify::default());
        let mut cx = Context::from_waker(noop_waker_ref());
        notify.notify();
        notify.notify();
        assert!(pin!(notify.notified()).poll(&mut cx).is_ready());
        let mut waiting = pin!(notify.notified());
        assert!(waiting.as_mut().poll(&mut cx).is_pending());
        notify.notify();
        assert!(waiting.poll(&mut cx).is_ready());
        assert!(pin!(notify.notified()).poll(&mut cx).is_pending());
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // Two threads are what is tested.
    fn no_notification_from_another_thread_is_missed() {
        const ROUNDS: u32 = 100_000;
        let (ask, answer) = (Arc::new(Notify::default()), Arc::new(Notify::default()));
        let (asked, answering) = (ask.clone(), answer.clone());
        let other = std::thread::spawn(move || {
            for _ in 0..ROUNDS {
                blocking(asked.notified());
                answering.notify();
            }
        });
        for _ in 0..ROUNDS {
            ask.notify();
            blocking(answer.notified());
        }
        other.join().unwrap();
    }

    fn blocking(future: impl Future<Output = ()>) {
        let waker = futures_util::task::waker(Arc::new(Unpark(std::thread::current())));
        let mut cx = Context::from_waker(&waker);
        let mut future = pin!(future);
        while future.as_mut().poll(&mut cx).is_pending() {
            std::thread::park();
        }
    }

    struct Unpark(std::thread::Thread);

    impl futures_util::task::ArcWake for Unpark {
        fn wake_by_ref(unpark: &Arc<Unpark>) {
            unpark.0.unpark();
        }
    }
}
