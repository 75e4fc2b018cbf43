//! The hub: recent revisions at hand, and who wants to be woken for which key.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering as Memory};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::task::AtomicWaker;

use super::interests::Interests;
use super::key_range::KeyRange;
use super::{History, RevisionEvents, WatchOptions, WatchStream, revision_bytes};
use crate::api::mvccpb::event::EventType;

/// The meeting point of the applied revisions and all watch streams of a member.
///
/// One thread publishes; any number of threads consume streams. The lock is held for lookups and
/// reference counts only: never while history is read, matches are collected or wakers called.
pub struct Hub {
    pub(super) history: Arc<dyn History>,
    pub(super) options: WatchOptions,
    state: Mutex<State>,
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HubStats {
    pub streams: usize,
    pub watchers: usize,
    /// Watchers that are behind: `etcd_debugging_mvcc_slow_watcher_total`.
    pub slow_watchers: usize,
    /// Events published since the start.
    pub events: u64,
    /// Bytes of keys and values that were put.
    pub put_bytes: u64,
}

struct State {
    /// The newest published revision.
    published: i64,
    /// The newest revisions without a gap, up to `published`.
    ring: VecDeque<Arc<RevisionEvents>>,
    ring_bytes: usize,
    interests: Interests<StreamHandle>,
    streams: BTreeMap<u64, StreamHandle>,
    /// Streams to wake at the next publication, whatever it changes.
    awaiting: BTreeSet<StreamHandle>,
    next_stream: u64,
    closed: bool,
    watchers: usize,
    slow_watchers: usize,
    events: u64,
    put_bytes: u64,
}

/// What the hub knows of a stream.
pub(super) struct StreamSignal {
    id: u64,
    /// The first matching revision that the stream has not looked at; 0 if there is none. Changed
    /// under the hub's lock only.
    pending: AtomicI64,
    pub(super) waker: AtomicWaker,
}

/// A [`StreamSignal`], ordered by identifier so that streams are woken in a defined order.
#[derive(Clone)]
pub(super) struct StreamHandle(pub(super) Arc<StreamSignal>);

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Position {
    /// The hub is closed: nothing follows.
    Closed,
    /// Nothing is pending; the next revision that can matter is this one.
    CaughtUp(i64),
    /// Revisions from this one on are pending in the ring.
    Pending(i64),
    /// The first pending revision, `from`, has left the ring. The stream is now taken to stand at
    /// `cursor`; its watchers have to find the rest in history.
    Behind { from: i64, cursor: i64 },
}

/// A run of revisions out of the ring.
pub(super) struct RingSlice {
    pub(super) entries: Vec<Arc<RevisionEvents>>,
    /// Revisions that were pending, including these.
    pub(super) backlog: usize,
}

impl Hub {
    /// A hub at `history`'s current revision, with no streams.
    pub fn new(history: Arc<dyn History>, options: WatchOptions) -> Arc<Hub> {
        let state = State {
            published: history.current_revision(),
            ring: VecDeque::new(),
            ring_bytes: 0,
            interests: Interests::default(),
            streams: BTreeMap::new(),
            awaiting: BTreeSet::new(),
            next_stream: 1,
            closed: false,
            watchers: 0,
            slow_watchers: 0,
            events: 0,
            put_bytes: 0,
        };
        Arc::new(Hub { history, options, state: Mutex::new(state) })
    }

    /// A new stream without watchers, one per RPC.
    pub fn stream(self: &Arc<Hub>) -> WatchStream {
        let mut state = self.lock();
        let signal = Arc::new(StreamSignal {
            id: state.next_stream,
            pending: AtomicI64::new(0),
            waker: AtomicWaker::new(),
        });
        state.next_stream += 1;
        state.streams.insert(signal.id, StreamHandle(signal.clone()));
        let cursor = state.published + 1;
        drop(state);
        WatchStream::new(self.clone(), StreamHandle(signal), cursor)
    }

    /// Makes the next revision known, after the store committed it: once per mutating entry, in
    /// revision order. Takes time in the number of matching streams, and waits for none of them.
    ///
    /// # Panics
    /// If the revision does not follow the last one: a watcher would lose events.
    pub fn publish(&self, entry: RevisionEvents) {
        let mut woken = Vec::new();
        let mut guard = self.lock();
        let state = &mut *guard;
        assert_eq!(entry.revision, state.published + 1, "revisions are published once, in order");
        for kv in entry.events.iter().filter_map(|event| event.kv.as_ref()) {
            state.interests.visit(&kv.key, &mut |stream| {
                if stream.mark(entry.revision) {
                    woken.push(stream.clone());
                }
            });
        }
        woken.extend(std::mem::take(&mut state.awaiting));
        state.push(entry, &self.options);
        drop(guard);
        wake_all(woken);
    }

    /// Continues at `revision` after a raft snapshot was installed in the store, which is newer
    /// than what was published. Watchers go on from where they are, through history.
    ///
    /// # Panics
    /// If the snapshot is older than what was published.
    pub fn reset(&self, revision: i64) {
        let mut state = self.lock();
        assert!(revision >= state.published, "a raft snapshot never takes revisions back");
        let missed = state.published + 1;
        state.ring.clear();
        state.ring_bytes = 0;
        state.published = revision;
        state.awaiting.clear();
        let streams: Vec<_> = state.streams.values().cloned().collect();
        if revision >= missed {
            streams.iter().for_each(|stream| {
                stream.mark(missed);
            });
        }
        drop(state);
        wake_all(streams);
    }

    /// Ends all streams: the member stops.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let streams: Vec<_> = state.streams.values().cloned().collect();
        drop(state);
        wake_all(streams);
    }

    /// Numbers for metrics.
    pub fn stats(&self) -> HubStats {
        let state = self.lock();
        HubStats {
            streams: state.streams.len(),
            watchers: state.watchers,
            slow_watchers: state.slow_watchers,
            events: state.events,
            put_bytes: state.put_bytes,
        }
    }

    /// Adds an interest of `stream`, and tells where the stream stands: what is published later
    /// and matches is pending.
    pub(super) fn join(&self, stream: &StreamHandle, range: &KeyRange) -> i64 {
        let mut state = self.lock();
        state.interests.add(range, stream);
        state.watchers += 1;
        stream.pending().unwrap_or(state.published + 1)
    }

    /// Takes an interest of `stream` back.
    pub(super) fn leave(&self, stream: &StreamHandle, range: &KeyRange) {
        let mut state = self.lock();
        state.interests.remove(range, stream);
        state.watchers -= 1;
    }

    /// Forgets `stream`, whose interests are all taken back.
    pub(super) fn remove(&self, stream: &StreamHandle) {
        let mut state = self.lock();
        state.streams.remove(&stream.0.id);
        state.awaiting.remove(stream);
    }

    /// Counts watchers that fell behind, and such that caught up or went away.
    pub(super) fn count_slow(&self, added: usize, removed: usize) {
        let mut state = self.lock();
        state.slow_watchers = state.slow_watchers + added - removed;
    }

    /// Where `stream` stands now.
    pub(super) fn position(&self, stream: &StreamHandle) -> Position {
        let state = self.lock();
        let end = state.published + 1;
        match stream.pending() {
            _ if state.closed => Position::Closed,
            None => Position::CaughtUp(end),
            Some(from) if from >= state.low() => Position::Pending(from),
            Some(from) => {
                stream.set_pending(None);
                Position::Behind { from, cursor: end }
            }
        }
    }

    /// Takes pending revisions of `stream` out of the ring: at most `max_revisions` and, after the
    /// first, `max_bytes`. They are not pending any more.
    pub(super) fn take_pending(
        &self,
        stream: &StreamHandle,
        max_revisions: usize,
        max_bytes: usize,
    ) -> RingSlice {
        let state = self.lock();
        let Some(from) = stream.pending() else {
            return RingSlice { entries: Vec::new(), backlog: 0 };
        };
        let entries = state.slice(from, state.published + 1, max_revisions, max_bytes);
        let next = entries.last().map_or(from, |entry| entry.revision + 1);
        stream.set_pending((next <= state.published).then_some(next));
        let backlog = usize::try_from(state.published + 1 - from).unwrap_or(usize::MAX);
        RingSlice { entries, backlog }
    }

    /// Makes the revisions from `from` on pending again: fewer were looked at than were taken.
    pub(super) fn return_pending(&self, stream: &StreamHandle, from: i64) {
        let state = self.lock();
        stream.set_pending((from <= state.published).then_some(from));
    }

    /// Revisions from `from` to before `until`, bounded as in [`Hub::take_pending`]; `None` if
    /// `from` has left the ring.
    pub(super) fn recent(
        &self,
        from: i64,
        until: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Option<Vec<Arc<RevisionEvents>>> {
        let state = self.lock();
        (from >= state.low()).then(|| state.slice(from, until, max_revisions, max_bytes))
    }

    /// Whether `revision` is published; if not, `stream` is woken at the next publication.
    pub(super) fn await_revision(&self, stream: &StreamHandle, revision: i64) -> bool {
        let mut state = self.lock();
        let published = revision <= state.published;
        if !published {
            state.awaiting.insert(stream.clone());
        }
        published
    }

    /// Revisions and bytes in the ring.
    #[cfg(test)]
    pub(super) fn ring_size(&self) -> (usize, usize) {
        let state = self.lock();
        (state.ring.len(), state.ring_bytes)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The oldest revision that is at hand; the next to come if none is.
    fn low(&self) -> i64 {
        self.ring.front().map_or(self.published + 1, |entry| entry.revision)
    }

    fn push(&mut self, entry: RevisionEvents, options: &WatchOptions) {
        self.published = entry.revision;
        self.events += entry.events.len() as u64;
        let puts = entry.events.iter().filter(|event| event.r#type() == EventType::Put);
        let put_bytes = puts.filter_map(|event| event.kv.as_ref());
        self.put_bytes += put_bytes.map(|kv| (kv.key.len() + kv.value.len()) as u64).sum::<u64>();
        self.ring_bytes += revision_bytes(&entry);
        self.ring.push_back(Arc::new(entry));
        while self.ring.len() > 1
            && (self.ring.len() > options.ring_revisions || self.ring_bytes > options.ring_bytes)
        {
            if let Some(oldest) = self.ring.pop_front() {
                self.ring_bytes -= revision_bytes(&oldest);
            }
        }
    }

    /// Revisions from `from`, which is not below the ring, to before `until`.
    fn slice(
        &self,
        from: i64,
        until: i64,
        max_revisions: usize,
        max_bytes: usize,
    ) -> Vec<Arc<RevisionEvents>> {
        let skipped = usize::try_from(from - self.low()).unwrap_or(0);
        let mut bytes = 0;
        let entries = self.ring.iter().skip(skipped).take(max_revisions);
        entries
            .take_while(|entry| {
                let first = bytes == 0;
                bytes += revision_bytes(entry);
                entry.revision < until && (first || bytes <= max_bytes)
            })
            .cloned()
            .collect()
    }
}

impl StreamHandle {
    fn pending(&self) -> Option<i64> {
        let revision = self.0.pending.load(Memory::Relaxed);
        (revision != 0).then_some(revision)
    }

    fn set_pending(&self, revision: Option<i64>) {
        self.0.pending.store(revision.unwrap_or(0), Memory::Relaxed);
    }

    /// Makes `revision` pending if nothing earlier is, and tells whether it did.
    fn mark(&self, revision: i64) -> bool {
        let first = self.pending().is_none();
        if first {
            self.set_pending(Some(revision));
        }
        first
    }
}

impl PartialEq for StreamHandle {
    fn eq(&self, other: &StreamHandle) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for StreamHandle {}

impl PartialOrd for StreamHandle {
    fn partial_cmp(&self, other: &StreamHandle) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StreamHandle {
    fn cmp(&self, other: &StreamHandle) -> Ordering {
        self.0.id.cmp(&other.0.id)
    }
}

fn wake_all(streams: impl IntoIterator<Item = StreamHandle>) {
    streams.into_iter().for_each(|stream| stream.0.waker.wake());
}
