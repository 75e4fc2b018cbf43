//! A store that keeps everything, and the behaviour of watches by the labels of ETCD.md 2.7.

mod behaviour;
mod load;
mod randomized;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;

use super::{History, Hub, RevisionEvents, WatchOptions, WatchStream, revision_bytes};
use crate::api::etcdserverpb::watch_request::RequestUnion;
use crate::api::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use crate::api::mvccpb::event::EventType;
use crate::api::mvccpb::{Event, KeyValue};
use crate::error::{Error, Fatal};
use crate::limits::WATCH_BATCH_BYTES;

/// A store that forgets nothing but refuses what is compacted. Revision 1 is empty.
pub(super) struct TestStore {
    state: Mutex<StoreState>,
    /// Calls of [`History::events`].
    pub(super) reads: AtomicUsize,
}

struct StoreState {
    log: Vec<RevisionEvents>,
    compacted: i64,
}

impl TestStore {
    /// The revisions from `first` to `last`, compacted or not.
    pub(super) fn between(&self, first: i64, last: i64) -> Vec<RevisionEvents> {
        let state = self.state.lock().unwrap();
        let revisions = state.log.iter().skip(place(first));
        revisions.take_while(|entry| entry.revision <= last).cloned().collect()
    }

    pub(super) fn compact(&self, revision: i64) {
        let mut state = self.state.lock().unwrap();
        state.compacted = state.compacted.max(revision);
    }

    /// Commits one revision: `(key, Some(value))` puts, `(key, None)` deletes.
    pub(super) fn commit(&self, changes: &[(&str, Option<&str>)]) -> RevisionEvents {
        let revision = self.current_revision() + 1;
        let events = changes.iter().map(|&(key, value)| {
            let old = self.value_before(key.as_bytes(), revision);
            let key = Bytes::copy_from_slice(key.as_bytes());
            match value {
                Some(value) => Event {
                    r#type: EventType::Put as i32,
                    kv: Some(KeyValue {
                        key,
                        create_revision: old.as_ref().map_or(revision, |kv| kv.create_revision),
                        mod_revision: revision,
                        version: old.map_or(1, |kv| kv.version + 1),
                        value: Bytes::copy_from_slice(value.as_bytes()),
                        lease: 0,
                    }),
                    prev_kv: None,
                },
                None => Event {
                    r#type: EventType::Delete as i32,
                    kv: Some(KeyValue { key, mod_revision: revision, ..KeyValue::default() }),
                    prev_kv: None,
                },
            }
        });
        let entry = RevisionEvents { revision, events: events.collect() };
        self.state.lock().unwrap().log.push(entry.clone());
        entry
    }

    /// What `key` was before `revision`, compacted or not.
    pub(super) fn value_before(&self, key: &[u8], revision: i64) -> Option<KeyValue> {
        let state = self.state.lock().unwrap();
        let older = state.log[..place(revision).min(state.log.len())].iter().rev();
        let mut events = older.flat_map(|entry| entry.events.iter().rev());
        let last = events.find(|event| event.kv.as_ref().unwrap().key == key)?;
        (last.r#type() == EventType::Put).then(|| last.kv.clone().unwrap())
    }
}

impl History for TestStore {
    fn current_revision(&self) -> i64 {
        self.state.lock().unwrap().log.last().map_or(1, |entry| entry.revision)
    }

    fn compact_revision(&self) -> i64 {
        self.state.lock().unwrap().compacted
    }

    fn events(
        &self,
        from: i64,
        max_revisions: usize,
    ) -> Result<Result<Vec<RevisionEvents>, Error>, Fatal> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let state = self.state.lock().unwrap();
        if from < state.compacted {
            return Ok(Err(Error::Compacted));
        }
        let (mut read, mut bytes): (Vec<RevisionEvents>, _) = (Vec::new(), 0);
        for entry in state.log.iter().skip(place(from)).take(max_revisions) {
            if bytes >= WATCH_BATCH_BYTES {
                break;
            }
            bytes += revision_bytes(entry);
            read.push(entry.clone());
        }
        Ok(Ok(read))
    }

    fn value_at(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, Fatal> {
        let compacted = revision < self.compact_revision();
        Ok(if compacted { None } else { self.value_before(key, revision + 1) })
    }
}

/// Where `revision` is in the log, which begins with revision 2.
fn place(revision: i64) -> usize {
    usize::try_from(revision - 2).unwrap_or(0)
}

/// A store with a hub on top of it.
pub(super) struct Harness {
    pub(super) store: Arc<TestStore>,
    pub(super) hub: Arc<Hub>,
}

impl Harness {
    pub(super) fn new() -> Harness {
        Harness::with(WatchOptions::default())
    }

    pub(super) fn with(options: WatchOptions) -> Harness {
        let store = Arc::new(TestStore {
            state: Mutex::new(StoreState { log: Vec::new(), compacted: -1 }),
            reads: AtomicUsize::new(0),
        });
        let hub = Hub::new(store.clone(), options);
        Harness { store, hub }
    }

    /// A ring of so few revisions that history is needed soon.
    pub(super) fn with_ring(ring_revisions: usize) -> Harness {
        Harness::with(WatchOptions { ring_revisions, ..WatchOptions::default() })
    }

    pub(super) fn apply(&self, changes: &[(&str, Option<&str>)]) -> i64 {
        let entry = self.store.commit(changes);
        let revision = entry.revision;
        self.hub.publish(entry);
        revision
    }

    pub(super) fn put(&self, key: &str, value: &str) -> i64 {
        self.apply(&[(key, Some(value))])
    }

    pub(super) fn delete(&self, key: &str) -> i64 {
        self.apply(&[(key, None)])
    }

    pub(super) fn stream(&self) -> Client {
        Client { stream: self.hub.stream(), woken: Arc::new(Woken(AtomicBool::new(true))) }
    }
}

/// The consumer of a stream.
pub(super) struct Client {
    pub(super) stream: WatchStream,
    woken: Arc<Woken>,
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Client {
    pub(super) fn create(&mut self, request: WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(request));
    }

    pub(super) fn cancel(&mut self, watch_id: i64) {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    pub(super) fn request_progress(&mut self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    fn send(&mut self, union: RequestUnion) {
        self.woken.0.store(true, Ordering::Relaxed);
        self.stream.request(WatchRequest { request_union: Some(union) });
    }

    pub(super) fn tick(&mut self) {
        self.woken.0.store(true, Ordering::Relaxed);
        self.stream.progress_tick();
    }

    /// Whether the stream was woken, or never went to sleep.
    pub(super) fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::Relaxed)
    }

    /// The next response, as an executor would get it: no poll without a wake-up.
    pub(super) fn pull(&mut self) -> Option<WatchResponse> {
        while self.woken.0.swap(false, Ordering::Relaxed) {
            let waker = Waker::from(self.woken.clone());
            match self.stream.poll_next(&mut Context::from_waker(&waker)) {
                Poll::Ready(Some(response)) => {
                    self.woken.0.store(true, Ordering::Relaxed);
                    return Some(response.unwrap());
                }
                Poll::Ready(None) => return None,
                Poll::Pending => {}
            }
        }
        None
    }

    pub(super) fn drain(&mut self) -> Vec<WatchResponse> {
        std::iter::from_fn(|| self.pull()).collect()
    }

    /// Everything that is there, in short: see [`short`].
    pub(super) fn shorts(&mut self) -> Vec<String> {
        self.drain().iter().map(short).collect()
    }

    /// Creates a watcher and takes its reply.
    pub(super) fn watch(&mut self, request: WatchCreateRequest) -> i64 {
        self.create(request);
        let reply = self.pull().unwrap();
        assert!(reply.created && !reply.canceled, "{reply:?}");
        reply.watch_id
    }
}

/// A request for one key or, with a star at the end, a prefix.
pub(super) fn on(key: &str) -> WatchCreateRequest {
    let (key, range_end) = match key.strip_suffix('*') {
        None => (key, Bytes::new()),
        Some("") => ("", Bytes::from_static(b"\0")),
        Some(prefix) => {
            let mut end = prefix.as_bytes().to_vec();
            *end.last_mut().unwrap() += 1;
            (prefix, Bytes::from(end))
        }
    };
    let key = Bytes::copy_from_slice(key.as_bytes());
    WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() }
}

pub(super) fn from(start_revision: i64, request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest { start_revision, ..request }
}

/// A response in one line: `w0@5 created`, `w0@6 PUT a=1 DELETE b`, `w-1@6`.
pub(super) fn short(response: &WatchResponse) -> String {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let mut words =
        vec![format!("w{}@{}", response.watch_id, response.header.as_ref().unwrap().revision)];
    for (set, word) in [
        (response.created, "created"),
        (response.canceled, "canceled"),
        (response.fragment, "fragment"),
    ] {
        words.extend(set.then(|| word.to_owned()));
    }
    if response.compact_revision != 0 {
        words.push(format!("compacted={}", response.compact_revision));
    }
    if !response.cancel_reason.is_empty() {
        words.push(format!("({})", response.cancel_reason));
    }
    for event in &response.events {
        let kv = event.kv.as_ref().unwrap();
        words.push(match event.r#type() {
            EventType::Put => format!("PUT {}={}", text(&kv.key), text(&kv.value)),
            EventType::Delete => format!("DELETE {}", text(&kv.key)),
        });
        words.extend(event.prev_kv.as_ref().map(|kv| format!("[was {}]", text(&kv.value))));
    }
    words.join(" ")
}
