//! Why and when a node stops, told once to everybody who waits for it.

use std::sync::{Mutex, PoisonError};

use futures_channel::oneshot;

use super::StopReason;

/// A latch: the first reason wins.
#[derive(Default)]
pub(crate) struct StopSignal {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    reason: Option<StopReason>,
    waiters: Vec<oneshot::Sender<()>>,
}

impl StopSignal {
    pub(crate) fn stop(&self, reason: StopReason) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.reason.is_some() {
            return;
        }
        state.reason = Some(reason);
        for waiter in state.waiters.drain(..) {
            // A waiter that was dropped wants to know nothing.
            let _ = waiter.send(());
        }
    }

    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).reason.clone()
    }

    pub(crate) async fn wait(&self) -> StopReason {
        loop {
            let receiver = {
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(reason) = &state.reason {
                    return reason.clone();
                }
                state.waiters.retain(|waiter| !waiter.is_canceled());
                let (sender, receiver) = oneshot::channel();
                state.waiters.push(sender);
                receiver
            };
            // Woken or not, the loop looks again.
            let _ = receiver.await;
        }
    }
}
