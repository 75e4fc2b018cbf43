//! Who leads, readable from any thread without asking Raft, and a way to wait for a change.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::raft::Role;

/// The last known [`Role`], kept current by the node's role task.
#[derive(Default)]
pub(crate) struct Leadership {
    role: Mutex<Role>,
    term: AtomicU64,
    changes_seen: AtomicU64,
    waiters: Mutex<Waiters>,
}

impl Leadership {
    pub(crate) fn role(&self) -> Role {
        *lock(&self.role)
    }

    pub(crate) fn term(&self) -> u64 {
        self.term.load(Ordering::Relaxed)
    }

    pub(crate) fn changes_seen(&self) -> u64 {
        self.changes_seen.load(Ordering::Relaxed)
    }

    /// Stores a new role and wakes who waits for one; returns the former role.
    pub(crate) fn update(&self, role: Role) -> Role {
        let former = std::mem::replace(&mut *lock(&self.role), role);
        self.term.store(role.term, Ordering::Relaxed);
        if former.leader != role.leader && role.leader.is_some() {
            self.changes_seen.fetch_add(1, Ordering::Relaxed);
        }
        if former != role {
            let woken = {
                let mut waiters = lock(&self.waiters);
                waiters.changes += 1;
                std::mem::take(&mut waiters.wakers)
            };
            woken.into_values().for_each(Waker::wake);
        }
        former
    }

    /// Returns at the next change of role after this call.
    pub(crate) fn changed(&self) -> RoleChanged<'_> {
        RoleChanged { leadership: self, seen: lock(&self.waiters).changes, ticket: None }
    }
}

/// Who waits for a change of role. As many may wait as there are proposals, and most of them give
/// up soon, again and again: coming and going costs the logarithm of their number.
#[derive(Default)]
struct Waiters {
    /// Changes of role so far.
    changes: u64,
    next_ticket: u64,
    /// In the order in which they came.
    wakers: BTreeMap<u64, Waker>,
}

/// Ends at the next change of role.
pub(crate) struct RoleChanged<'a> {
    leadership: &'a Leadership,
    /// Changes when this began.
    seen: u64,
    ticket: Option<u64>,
}

impl Future for RoleChanged<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut waiters = lock(&self.leadership.waiters);
        if waiters.changes != self.seen {
            return Poll::Ready(());
        }
        let ticket = self.ticket.unwrap_or(waiters.next_ticket);
        if self.ticket.is_none() {
            waiters.next_ticket += 1;
        }
        waiters.wakers.insert(ticket, context.waker().clone());
        drop(waiters);
        self.ticket = Some(ticket);
        Poll::Pending
    }
}

impl Drop for RoleChanged<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            lock(&self.leadership.waiters).wakers.remove(&ticket);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use futures_util::task::noop_waker_ref;

    use super::*;

    #[test]
    fn who_waits_is_woken_once_and_who_gives_up_leaves_nothing_behind() {
        let leadership = Leadership::default();
        let mut context = Context::from_waker(noop_waker_ref());
        let mut waiting: Vec<_> = (0..1_000).map(|_| leadership.changed()).collect();
        for _ in 0..3 {
            assert!(waiting.iter_mut().all(|one| one.poll_unpin(&mut context).is_pending()));
            assert_eq!(lock(&leadership.waiters).wakers.len(), waiting.len());
        }
        waiting.truncate(10);
        assert_eq!(lock(&leadership.waiters).wakers.len(), 10);
        let role = Role { term: 1, leader: Some(1), ..Role::default() };
        leadership.update(role);
        assert!(waiting.iter_mut().all(|one| one.poll_unpin(&mut context).is_ready()));
        // The same role again is no change, and neither is what was before.
        let mut next = leadership.changed();
        leadership.update(role);
        assert!(next.poll_unpin(&mut context).is_pending());
    }
}
