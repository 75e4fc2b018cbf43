//! Requests of calls that were over before their client had sent everything.
//!
//! What such a client has under way comes to a stream that nobody holds any more. h2 remembers some
//! of those for a while and ignores what comes; for others it is an error of the client's, and the
//! limit of such errors (`LOCAL_ERROR_RESETS`) ends the connection with everything else on it. It
//! is there for attackers, but a client that asks a member without a leader for many watches is
//! none. So these streams are held until the client has ended them, which it does when it reads how
//! its call ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use h2::RecvStream;

/// The leftovers of one connection, which its calls put here and its driver takes away.
#[derive(Clone, Default)]
pub(super) struct Leftovers(Arc<Mutex<Vec<RecvStream>>>);

impl Leftovers {
    pub(super) fn put(&self, body: RecvStream) {
        self.lock().push(body);
    }

    /// All that have been put here since the last time.
    pub(super) fn take(&self) -> Vec<RecvStream> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RecvStream>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
