//! Who leads, readable from any thread without asking Raft, and a way to wait for a change.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_channel::oneshot;

use crate::raft::Role;

/// The last known [`Role`], kept current by the node's role task.
#[derive(Default)]
pub(crate) struct Leadership {
    role: Mutex<Role>,
    term: AtomicU64,
    changes_seen: AtomicU64,
    waiters: Mutex<Vec<oneshot::Sender<()>>>,
}

impl Leadership {
    pub(crate) fn role(&self) -> Role {
        *self.role.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub(crate) fn changes_seen(&self) -> u64 {
        self.changes_seen.load(Ordering::Relaxed)
    }

    /// Stores a new role and wakes who waits for one; returns the former role.
    pub(crate) fn update(&self, role: Role) -> Role {
        let former = {
            let mut current = self.role.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, role)
        };
        self.term.store(role.term, Ordering::Relaxed);
        if former.leader != role.leader && role.leader.is_some() {
            self.changes_seen.fetch_add(1, Ordering::Relaxed);
        }
        if former != role {
            let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            for waiter in waiters.drain(..) {
                // A waiter that gave up is gone.
                let _ = waiter.send(());
            }
        }
        former
    }

    /// Returns at the next change of role after this call began.
    pub(crate) async fn changed(&self) {
        let receiver = {
            let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            waiters.retain(|waiter| !waiter.is_canceled());
            let (sender, receiver) = oneshot::channel();
            waiters.push(sender);
            receiver
        };
        // An error means that the node is gone; the caller's deadline tells it.
        let _ = receiver.await;
    }
}
