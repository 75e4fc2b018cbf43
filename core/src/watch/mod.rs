//! Watches: every change of a key range, in order, once, from a revision of the client's choice.
//!
//! etcd keeps a queue of events per watcher, and several groups of watchers whose queues are full
//! or whose past is still to be read. Here a watcher is no queue but a *cursor*: the next revision
//! that it has not seen. Whoever consumes a stream pulls responses out of it, so its pace is the
//! transport's, and a slow consumer costs the cluster a number.
//!
//! ```text
//!   apply ── publish(revision 9) ──► Hub   ring of recent revisions:  4 5 6 7 8 9
//!                                     │    interests: key or interval ─► streams
//!                                     │ wakes only the streams that match
//!                                     ▼
//!   WatchStream   cursor ───────────────────────────────────────►  8 (pending)
//!     synced watchers   one pass over the ring from the cursor on, for all of them
//!     unsynced watchers, grouped by revision
//!       at 2            History: slices of the past, one read per group, groups in turn ...
//!       at 6            ... and from the ring where it still reaches; merged when they meet
//!     batch             what the last pass found, as positions; responses are made when pulled
//! ```
//!
//! A stream that is not woken has nothing to see: of revisions that match none of its watchers it
//! needs to know only that they passed. So its cursor is its first matching revision not yet
//! looked at, and "one after the newest" if there is none. A stream whose cursor has left the ring
//! at its low end is behind: its watchers become unsynced at that cursor and go through history.
//! A watcher that starts in the past is unsynced at its start revision. Either becomes synced when
//! it reaches the stream's cursor, and sees what follows from the ring.
//!
//! Invariants:
//! - per watcher: created, then events by revision and, within it, by sub-revision, then canceled;
//! - all events of one revision are in one response, or in fragments marked as such (WATCH-08);
//! - a response's header never names a revision of which the watcher still misses an event
//!   (WATCH-12); the same for progress, which is `cursor - 1` (WATCH-11, etcd #15220);
//! - [`Hub::publish`] takes time in the streams that match, and waits for nobody;
//! - a stream that nobody pulls holds one batch at most.
//!
//! What is not here: permission to watch, the rest of the response header, timers (the caller
//! calls [`WatchStream::progress_tick`]), and encoding.
//!
//! Sources: ETCD.md 2.7, etcd `server/storage/mvcc/watchable_store.go`, and its issues #15220
//! (progress before events), #17529 (starvation of catching-up watchers), #16839 (memory).

mod batch;
mod catch_up;
mod hub;
mod interests;
mod intervals;
mod key_range;
mod stream;
mod watcher;

use crate::api::mvccpb::{Event, KeyValue};
use crate::error::{Error, Fatal};
use crate::limits::{MAX_REQUEST_BYTES, WATCH_RING_BYTES, WATCH_RING_REVISIONS};

pub use hub::{Hub, HubStats};
pub use stream::WatchStream;

/// What one revision changed, in sub-revision order. The events carry no previous values.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionEvents {
    pub revision: i64,
    pub events: Vec<Event>,
}

/// The past, as the key-value store knows it.
///
/// A revision that is published can be read here. What [`History::compact_revision`] does not
/// cover yet is complete: for every revision from there up to the current one, all its events.
pub trait History: Send + Sync + 'static {
    /// The newest revision. It may be ahead of what is published, never behind.
    fn current_revision(&self) -> i64;

    /// The revision below which history is gone; negative if it was never compacted.
    fn compact_revision(&self) -> i64;

    /// The revisions from `from` on, at most `max_revisions`, in order; fewer only where the newest
    /// revision is reached. [`Error::Compacted`] if `from` is below the compact revision.
    fn events(
        &self,
        from: i64,
        max_revisions: usize,
    ) -> Result<Result<Vec<RevisionEvents>, Error>, Fatal>;

    /// `key` as it was at `revision`; `None` if it did not exist or that is compacted.
    fn value_at(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, Fatal>;
}

/// Bounds of a [`Hub`].
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// Largest request, in bytes; a response grows to that and the transport's overhead before it
    /// is split.
    pub max_request_bytes: usize,
    /// Revisions kept at hand.
    pub ring_revisions: usize,
    /// Bytes of events kept at hand; the newest revision is kept whatever its size.
    pub ring_bytes: usize,
}

impl Default for WatchOptions {
    fn default() -> WatchOptions {
        WatchOptions {
            max_request_bytes: MAX_REQUEST_BYTES,
            ring_revisions: WATCH_RING_REVISIONS,
            ring_bytes: WATCH_RING_BYTES,
        }
    }
}

/// What an event counts beside its keys and values: the same on every platform.
const EVENT_OVERHEAD_BYTES: usize = 256;

/// About the memory that an event takes, in bytes.
fn event_bytes(event: &Event) -> usize {
    let kv = event.kv.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
    EVENT_OVERHEAD_BYTES + kv
}

/// About the memory that a revision's events take, in bytes.
fn revision_bytes(entry: &RevisionEvents) -> usize {
    entry.events.iter().map(event_bytes).sum()
}

#[cfg(test)]
mod tests;
