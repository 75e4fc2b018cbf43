//! Random histories against a naive model: every watcher sees exactly what it should.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{Client, Harness, TestStore};
use crate::api::etcdserverpb::watch_create_request::FilterType;
use crate::api::etcdserverpb::{WatchCreateRequest, WatchResponse};
use crate::api::mvccpb::Event;
use crate::api::mvccpb::event::EventType;
use crate::watch::{History, RevisionEvents, WatchOptions};

/// A generator of random numbers (Knuth's MMIX constants), so that a seed repeats a run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn key(&mut self) -> String {
        format!("k{}", self.below(12))
    }
}

/// What the model knows of one watcher.
struct Expected {
    request: WatchCreateRequest,
    /// The first revision that the watcher may see.
    start: i64,
    /// Events received so far that complete their revision are below this revision.
    next: i64,
    /// Events of a response of which more fragments follow.
    partial: Vec<Event>,
}

impl Expected {
    fn wants(&self, event: &Event) -> bool {
        let key = &event.kv.as_ref().unwrap().key;
        let (start, end) = (&self.request.key, &self.request.range_end);
        let in_range = match end.as_ref() {
            b"" => key == start,
            b"\0" => key >= start,
            _ => key >= start && key < end,
        };
        let dropped = match event.r#type() {
            EventType::Put => FilterType::Noput,
            EventType::Delete => FilterType::Nodelete,
        };
        in_range && !self.request.filters.contains(&(dropped as i32))
    }

    /// The events that the watcher should get of revisions from `next` to `last`.
    fn events(&self, last: i64, store: &TestStore) -> Vec<Event> {
        let revisions = store.between(self.next, last);
        let events = revisions.into_iter().flat_map(|entry| entry.events);
        events
            .filter(|event| self.wants(event))
            .map(|event| {
                let kv = event.kv.as_ref().unwrap();
                let created = kv.create_revision == kv.mod_revision;
                let prev_kv = (self.request.prev_kv && !created)
                    .then(|| store.value_before(&kv.key, kv.mod_revision))
                    .flatten();
                Event { prev_kv, ..event }
            })
            .collect()
    }
}

/// A client with the model's view of it.
struct Checked {
    client: Client,
    live: BTreeMap<i64, Expected>,
    /// Requests whose reply has not come, in order.
    creating: Vec<WatchCreateRequest>,
    /// Of whom fragments have come and more must follow at once.
    fragmented: Option<i64>,
    canceling: BTreeSet<i64>,
    seen: Seen,
}

/// How often rare things happened, to see that the test does not miss its point.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    progress: usize,
    fragments: usize,
    canceled: usize,
    compacted: usize,
    several_revisions: usize,
    slow: usize,
}

impl Checked {
    fn check(&mut self, response: WatchResponse, store: &TestStore) {
        let revision = response.header.as_ref().unwrap().revision;
        let id = response.watch_id;
        assert!(revision <= store.current_revision());
        if let Some(fragmented) = self.fragmented.take() {
            assert!(id == fragmented || self.canceling.contains(&fragmented), "{fragmented} {id}");
        }
        self.fragmented = response.fragment.then_some(id);
        if response.created {
            let request = self.creating.remove(0);
            let start = match request.start_revision {
                0 => revision + 1,
                start => start,
            };
            let expected = Expected { request, start, next: start, partial: Vec::new() };
            assert!(self.live.insert(id, expected).is_none(), "{response:?}");
        } else if response.canceled {
            let Some(expected) = self.live.remove(&id) else {
                // A compaction was faster than the client's own cancellation.
                assert!(self.canceling.remove(&id), "only live watchers are canceled");
                return;
            };
            // A compaction's cancellation leaves the client's own to be answered still.
            let asked = response.compact_revision == 0 && self.canceling.remove(&id);
            assert!(asked || response.compact_revision != 0);
            self.seen.canceled += 1;
            if response.compact_revision != 0 {
                self.seen.compacted += 1;
                assert_eq!(expected.partial, []);
                assert!(response.compact_revision <= store.compact_revision());
                assert!(expected.next < response.compact_revision);
            }
        } else if id == -1 {
            self.seen.progress += 1;
            self.live.values_mut().for_each(|e| check_progress(e, revision, store));
        } else if response.events.is_empty() {
            self.seen.progress += 1;
            check_progress(self.live.get_mut(&id).unwrap(), revision, store);
        } else {
            self.check_events(id, revision, response, store);
        }
    }

    fn check_events(&mut self, id: i64, revision: i64, response: WatchResponse, store: &TestStore) {
        let expected = self.live.get_mut(&id).expect("events only for live watchers");
        expected.partial.extend(response.events);
        if response.fragment {
            assert!(expected.request.fragment);
            self.seen.fragments += 1;
            return;
        }
        // The header names the last revision covered: nothing up to it may be missing.
        let mut wanted = expected.events(revision, store);
        for (got, wanted) in expected.partial.iter().zip(&mut wanted) {
            if got.prev_kv.is_none() && mod_revision(got) - 1 < store.compact_revision() {
                wanted.prev_kv = None;
            }
        }
        let revisions: BTreeSet<_> = wanted.iter().map(mod_revision).collect();
        self.seen.several_revisions += usize::from(revisions.len() > 1);
        let (got, next) = (summary(&expected.partial), expected.next);
        let wanted = summary(&wanted);
        assert_eq!(got, wanted, "watcher {id} from revision {next} up to {revision}");
        expected.partial.clear();
        expected.next = expected.start.max(revision + 1);
    }

    fn pull(&mut self, store: &TestStore) -> bool {
        let Some(response) = self.client.pull() else { return false };
        self.check(response, store);
        true
    }

    fn create(&mut self, random: &mut Random, current: i64) {
        let (key, other) = (random.key(), random.key());
        let (key, range_end) = match random.below(4) {
            0 | 1 => (key, String::new()),
            2 => (key, "\0".to_owned()),
            _ => (key.clone().min(other.clone()), format!("{}x", key.max(other))),
        };
        let start_revision = match random.below(4) {
            0 | 1 => 0,
            2 => (current - i64::try_from(random.below(60)).unwrap()).max(1),
            _ => current + i64::try_from(random.below(20)).unwrap(),
        };
        let filters = match random.below(6) {
            0 => vec![FilterType::Noput as i32],
            1 => vec![FilterType::Nodelete as i32],
            _ => Vec::new(),
        };
        let request = WatchCreateRequest {
            key: Bytes::from(key),
            range_end: Bytes::from(range_end),
            start_revision,
            progress_notify: random.one_in(2),
            filters,
            prev_kv: random.one_in(3),
            watch_id: 0,
            fragment: random.one_in(3),
        };
        self.creating.push(request.clone());
        self.client.create(request);
    }
}

fn mod_revision(event: &Event) -> i64 {
    event.kv.as_ref().unwrap().mod_revision
}

/// Events in short: what matters of them is told apart by revision, key and previous revision.
fn summary(events: &[Event]) -> Vec<(i64, Bytes, i32, usize, Option<i64>)> {
    let summary = |event: &Event| {
        let kv = event.kv.as_ref().unwrap();
        let previous = event.prev_kv.as_ref().map(|kv| kv.mod_revision);
        (kv.mod_revision, kv.key.clone(), event.r#type, kv.value.len(), previous)
    };
    events.iter().map(summary).collect()
}

fn check_progress(expected: &mut Expected, revision: i64, store: &TestStore) {
    // A watcher that was told of events up to a later revision is not told less.
    assert_eq!(summary(&expected.events(revision, store)), []);
    assert!(revision >= expected.request.start_revision, "no progress before the start");
    expected.next = expected.next.max(revision + 1);
}

fn commit(harness: &Harness, random: &mut Random) -> RevisionEvents {
    let value = if random.one_in(12) { "x".repeat(300_000) } else { random.below(99).to_string() };
    let mut keys: Vec<String> = (0..=random.below(4)).map(|_| random.key()).collect();
    keys.sort();
    keys.dedup();
    let changes: Vec<_> = keys
        .iter()
        .map(|key| (key.as_str(), (!random.one_in(3)).then_some(value.as_str())))
        .collect();
    harness.store.commit(&changes)
}

fn run(seed: u64, seen: &mut Seen) {
    let random = &mut Random(seed);
    let harness = Harness::with(WatchOptions {
        max_request_bytes: 1,
        ring_revisions: usize::try_from(1 + random.below(12)).unwrap(),
        ring_bytes: 1_000_000,
    });
    let mut unpublished = Vec::new();
    let mut clients: Vec<Checked> = Vec::new();
    for _ in 0..1_500 {
        let current = harness.store.current_revision();
        let chosen = usize::try_from(random.below(clients.len().max(1) as u64)).unwrap();
        match random.below(100) {
            0..30 => unpublished.push(commit(&harness, random)),
            30..55 => unpublished.drain(..).for_each(|entry| harness.hub.publish(entry)),
            55..57 if clients.len() < 6 => clients.push(Checked {
                client: harness.stream(),
                live: BTreeMap::new(),
                creating: Vec::new(),
                fragmented: None,
                canceling: BTreeSet::new(),
                seen: Seen::default(),
            }),
            57 => harness.store.compact((current - 15).max(1)),
            58 if random.one_in(4) => {
                // A raft snapshot overtakes publication.
                unpublished.clear();
                harness.hub.reset(current);
            }
            59 if clients.len() > 1 && random.one_in(8) => drop(clients.remove(chosen)),
            _ => {}
        }
        seen.slow = seen.slow.max(harness.hub.stats().slow_watchers);
        let Some(client) = clients.get_mut(chosen) else { continue };
        match random.below(100) {
            0..6 => client.create(random, current),
            6..8 => {
                if let Some((&id, _)) = client.live.first_key_value() {
                    client.client.cancel(id);
                    client.canceling.insert(id);
                }
            }
            8..12 => client.client.request_progress(),
            12..16 => client.client.tick(),
            16..50 => {
                client.pull(&harness.store);
            }
            50..56 => while client.pull(&harness.store) {},
            _ => {}
        }
    }
    unpublished.drain(..).for_each(|entry| harness.hub.publish(entry));
    let current = harness.store.current_revision();
    for client in &mut clients {
        while client.pull(&harness.store) {}
        assert!(client.creating.is_empty());
        seen.progress += client.seen.progress;
        seen.fragments += client.seen.fragments;
        seen.canceled += client.seen.canceled;
        seen.compacted += client.seen.compacted;
        seen.several_revisions += client.seen.several_revisions;
        for (id, expected) in &client.live {
            let missing = expected.events(current, &harness.store);
            assert_eq!(summary(&missing), [], "watcher {id} misses events");
        }
    }
    let live = clients.iter().map(|client| client.live.len()).sum();
    assert_eq!(harness.hub.stats().watchers, live);
    assert_eq!(harness.hub.stats().slow_watchers, 0);
}

#[test]
fn watch_14_random_watchers_see_exactly_what_the_model_says() {
    let mut seen = Seen::default();
    for seed in 0..40 {
        println!("seed {seed}");
        run(seed, &mut seen);
    }
    let rarest = [seen.progress, seen.fragments, seen.canceled, seen.several_revisions];
    assert!(rarest.into_iter().min() > Some(50) && seen.compacted > 10, "{seen:?}");
    assert!(seen.slow > 5, "{seen:?}");
}
