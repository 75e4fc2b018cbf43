//! The store against a naive model that keeps every change in a list, with seeded random
//! operations, flushes, compaction steps and restarts in between.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use super::*;
use crate::api::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::api::mvccpb::KeyValue;
use crate::backend::{Backend, BackendOptions, Bucket, Contents};
use crate::error::Error;
use crate::limits::COMPACTION_BATCH;
use crate::platform::{MemoryDisk, SplitMix64};

const KEYS: [&str; 7] = ["a", "a\0", "aa", "ab", "b", "c", "d"];

/// Random operations, repeatable.
struct Random(SplitMix64);

impl Random {
    fn below(&mut self, bound: i64) -> i64 {
        self.0.below(bound as u64) as i64
    }

    fn chance(&mut self, percent: i64) -> bool {
        self.0.chance(percent as u64)
    }

    fn key(&mut self) -> Bytes {
        Bytes::from_static(KEYS[self.below(KEYS.len() as i64) as usize].as_bytes())
    }

    fn range_end(&mut self) -> Bytes {
        match self.below(4) {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            _ => self.key(),
        }
    }
}

/// Every change there ever was: what a store without compaction and without an index would hold.
struct Model {
    changes: Vec<(Change, KeyValue)>,
    current: i64,
    compacted: i64,
}

impl Model {
    fn new() -> Model {
        Model { changes: Vec::new(), current: 1, compacted: -1 }
    }

    fn at(&self, revision: i64) -> BTreeMap<Bytes, KeyValue> {
        let mut alive = BTreeMap::new();
        for (change, kv) in self.changes.iter().filter(|(change, _)| change.main <= revision) {
            match change.is_tombstone() {
                true => alive.remove(&kv.key),
                false => alive.insert(kv.key.clone(), kv.clone()),
            };
        }
        alive
    }

    fn put(&mut self, change: Change, key: Bytes, value: Bytes, lease: i64) {
        let before = self.at(change.main).remove(&key);
        let created = before.as_ref().map_or(change.main, |kv| kv.create_revision);
        let kv = KeyValue {
            key,
            create_revision: created,
            mod_revision: change.main,
            version: before.map_or(0, |kv| kv.version) + 1,
            value,
            lease,
        };
        self.changes.push((change, kv));
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        let revision = if request.revision <= 0 { self.current } else { request.revision };
        if revision > self.current {
            return Err(Error::FutureRev);
        }
        if revision < self.compacted {
            return Err(Error::Compacted);
        }
        let range = KeyRange::new(&request.key, &request.range_end);
        let alive = self.at(revision).into_values().filter(|kv| range.contains(&kv.key));
        let mut kvs: Vec<KeyValue> = alive.collect();
        let count = kvs.len() as i64;
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        let unsorted = request.sort_order == 0 && filters == [0; 4];
        if unsorted && request.limit > 0 {
            kvs.truncate(request.limit as usize + 1);
        }
        kvs.retain(|kv| {
            (filters[0] == 0 || kv.mod_revision >= filters[0])
                && (filters[1] == 0 || kv.mod_revision <= filters[1])
                && (filters[2] == 0 || kv.create_revision >= filters[2])
                && (filters[3] == 0 || kv.create_revision <= filters[3])
        });
        let number = |kv: &KeyValue| match request.sort_target {
            1 => kv.version,
            2 => kv.create_revision,
            3 => kv.mod_revision,
            _ => 0,
        };
        let value = |kv: &KeyValue| match request.sort_target {
            0 => kv.key.clone(),
            4 => kv.value.clone(),
            _ => Bytes::new(),
        };
        let order = |kv: &KeyValue| (number(kv), value(kv));
        match request.sort_order {
            2 => kvs.sort_by_key(|kv| std::cmp::Reverse(order(kv))),
            _ => kvs.sort_by_key(order),
        }
        let more = !request.count_only && request.limit > 0 && kvs.len() as i64 > request.limit;
        if more {
            kvs.truncate(request.limit as usize);
        }
        if request.count_only {
            kvs.clear();
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        let header = ResponseHeader { revision: self.current, ..Default::default() };
        Ok(RangeResponse { header: Some(header), kvs, more, count })
    }

    fn compact(&mut self, revision: i64) -> Result<(), Error> {
        if revision <= self.compacted {
            return Err(Error::Compacted);
        }
        if revision > self.current {
            return Err(Error::FutureRev);
        }
        self.compacted = revision;
        Ok(())
    }

    /// The changes that a finished compaction leaves.
    fn kept(&self) -> Vec<(Change, KeyValue)> {
        let newest = |change: &Change, key: &Bytes| {
            let mut later =
                self.changes.iter().filter(|(other, kv)| kv.key == key && other > change);
            !later.any(|(other, _)| other.main <= self.compacted)
        };
        let kept = self.changes.iter().filter(|(change, kv)| {
            change.main > self.compacted
                || newest(change, &kv.key)
                    && (!change.is_tombstone() || change.main == self.compacted)
        });
        kept.cloned().collect()
    }

    fn events(&self, from: i64) -> Vec<(i64, Bytes, bool)> {
        let kept = self.changes.iter().filter(|(change, _)| change.main >= from);
        kept.map(|(change, kv)| (change.main, kv.key.clone(), change.is_tombstone())).collect()
    }

    /// MNT-06, literally: etcd's `keep` is what lives at `revision`.
    fn hash(&self, revision: i64) -> u32 {
        let keep = self.at(revision);
        let mut hash = crc32c::crc32c(b"key");
        for (change, kv) in self.kept() {
            let kept = keep.is_empty() || keep.get(&kv.key) == Some(&kv);
            let at_compacted = change.is_tombstone() && change.main == self.compacted;
            if change.main > revision || change.main <= self.compacted && !kept || at_compacted {
                continue;
            }
            let stored = if change.is_tombstone() {
                KeyValue { key: kv.key, ..Default::default() }
            } else {
                kv
            };
            hash = crc32c::crc32c_append(hash, change.stored_key().as_ref());
            hash = crc32c::crc32c_append(hash, &stored.encode_to_vec());
        }
        hash
    }
}

fn range_request(random: &mut Random, current: i64) -> RangeRequest {
    let bound = |random: &mut Random| if random.chance(15) { random.below(current + 1) } else { 0 };
    RangeRequest {
        key: random.key(),
        range_end: random.range_end(),
        limit: random.below(6) - 1,
        revision: if random.chance(50) { random.below(current + 3) - 1 } else { 0 },
        sort_order: random.below(3) as i32,
        sort_target: random.below(5) as i32,
        keys_only: random.chance(15),
        count_only: random.chance(15),
        min_mod_revision: bound(random),
        max_mod_revision: bound(random),
        min_create_revision: bound(random),
        max_create_revision: bound(random),
        ..Default::default()
    }
}

struct Lab {
    disk: MemoryDisk,
    backend: Arc<Backend>,
    store: Store,
    model: Model,
    random: Random,
}

impl Lab {
    fn new(seed: u64) -> Lab {
        let disk = MemoryDisk::default();
        let (backend, store) = open(&disk);
        Lab { disk, backend, store, model: Model::new(), random: Random(SplitMix64(seed)) }
    }

    /// A transaction of a few puts and deletes.
    fn write(&mut self) {
        let Lab { store, model, random, .. } = self;
        let mut txn = store.write();
        let main = model.current + 1;
        let mut sub = 0;
        for _ in 0..1 + random.below(3) {
            if random.chance(65) {
                let (key, lease) = (random.key(), random.below(3));
                let value = Bytes::from(format!("v{}", random.below(50)));
                let before = model.at(main).get(&key).map_or(0, |kv| kv.lease);
                assert_eq!(txn.put(key.clone(), value.clone(), lease), before);
                model.put(Change::put(main, sub), key, value, lease);
                sub += 1;
            } else {
                let (key, end) = (random.key(), random.range_end());
                let range = KeyRange::new(&key, &end);
                let alive = model.at(main).into_values();
                let victims: Vec<_> = alive.filter(|kv| range.contains(&kv.key)).collect();
                let expected: Vec<_> = victims
                    .iter()
                    .map(|kv| Deleted { key: kv.key.clone(), lease: kv.lease })
                    .collect();
                assert_eq!(txn.delete_range(&range), expected);
                for kv in victims {
                    let kv = KeyValue { key: kv.key, mod_revision: main, ..Default::default() };
                    model.changes.push((Change::tombstone(main, sub), kv));
                    sub += 1;
                }
            }
            let expected = if sub > 0 { main } else { model.current };
            assert_eq!(txn.revision(), expected, "REV-01, TXN-06");
        }
        let committed = txn.commit();
        if sub > 0 {
            model.current = main;
        }
        assert_eq!(committed.revision, model.current, "REV-03");
        let events: Vec<_> = committed.events.into_iter().map(|event| event.kv.unwrap()).collect();
        let changes = model.changes.iter().filter(|(change, _)| change.main == main);
        assert_eq!(events, changes.map(|(_, kv)| kv.clone()).collect::<Vec<_>>());
    }

    fn compact(&mut self) {
        let revision = self.random.below(self.model.current + 3) - 1;
        assert_eq!(self.store.compact(revision), self.model.compact(revision), "CMP-01");
    }

    fn restart(&mut self) {
        self.backend.flush().unwrap();
        let (backend, store) = open(&self.disk);
        self.backend = backend;
        self.store = store;
    }

    fn check(&mut self) {
        let Lab { store, model, random, .. } = self;
        assert_eq!(store.current_revision(), model.current, "REV-06");
        assert_eq!(store.compact_revision(), model.compacted);
        assert_eq!(store.key_count(), model.at(i64::MAX).len() as u64, "MET-01");
        let request = range_request(random, model.current);
        assert_eq!(store.range(&request).unwrap(), model.range(&request), "{request:?}");
        let revision = random.below(model.current + 2);
        let key = random.key();
        if revision >= model.compacted {
            let expected = model.at(revision).remove(&key);
            assert_eq!(store.value_at(&key, revision).unwrap(), expected);
        }
        let from = random.below(model.current + 2);
        let events = store.events(from, 3).unwrap();
        if from < model.compacted {
            assert_eq!(events, Err(Error::Compacted));
        } else {
            let events = events.unwrap();
            assert!(events.len() <= 3);
            let last = events.last().map_or(from, |last| last.revision);
            let mut expected = model.events(from);
            expected.retain(|(main, ..)| *main <= last);
            let flat = events.iter().flat_map(|revision| &revision.events).map(|event| {
                let kv = event.kv.as_ref().unwrap();
                (kv.mod_revision, kv.key.clone(), event.r#type == 1)
            });
            // Of several changes of a key at the compact revision itself only the last must stay.
            let certain = |events: Vec<(i64, Bytes, bool)>| {
                let superseded = |n: usize| {
                    let (main, key, _) = &events[n];
                    let mut later = events[n + 1..].iter();
                    *main == model.compacted && later.any(|(m, k, _)| m == main && k == key)
                };
                let certain = (0..events.len()).filter(|n| !superseded(*n));
                certain.map(|n| events[n].clone()).collect::<Vec<_>>()
            };
            assert_eq!(certain(flat.collect()), certain(expected));
        }
        if random.chance(10) {
            let revision = random.below(model.current + 2);
            let hash = store.hash_kv(revision).unwrap();
            let hashed = if revision == 0 { model.current } else { revision };
            if revision > model.current {
                assert_eq!(hash, Err(Error::FutureRev));
            } else if revision > 0 && revision < model.compacted {
                assert_eq!(hash, Err(Error::Compacted));
            } else {
                let expected = HashKv {
                    hash: model.hash(hashed),
                    compact_revision: model.compacted,
                    hash_revision: hashed,
                };
                assert_eq!(hash, Ok(expected), "MNT-06");
            }
        }
    }
}

fn open(disk: &MemoryDisk) -> (Arc<Backend>, Store) {
    let options = BackendOptions { cache_bytes: 1 << 20, recent_bytes: 2 << 10 };
    let backend = Arc::new(Backend::open(Arc::new(disk.clone()), options).unwrap());
    let (store, _) = Store::open(backend.clone()).unwrap();
    (backend, store)
}

#[test]
fn any_history_reads_as_the_model() {
    for seed in 1..=40 {
        let mut lab = Lab::new(seed);
        for _ in 0..150 {
            match lab.random.below(100) {
                0..=59 => lab.write(),
                60..=63 => lab.compact(),
                64..=75 => {
                    lab.store.compact_step(COMPACTION_BATCH).unwrap();
                }
                76..=79 => lab.backend.flush().unwrap(),
                80 => lab.restart(),
                _ => {}
            }
            lab.check();
        }
        while lab.store.compact_step(COMPACTION_BATCH).unwrap() {}
        let stored = lab.backend.all(Bucket::Key).unwrap();
        let stored: Vec<_> = stored.iter().map(|(key, _)| key.clone()).collect();
        let kept = lab.model.kept();
        let kept: Vec<Bytes> = kept.iter().map(|(change, _)| change.stored_key().into()).collect();
        assert_eq!(stored, kept, "CMP-03, seed {seed}");
    }
}

fn write(store: &Store, puts: &[(&'static str, &'static str)]) -> i64 {
    let mut txn = store.write();
    for (key, value) in puts {
        txn.put(Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()), 0);
    }
    txn.commit().revision
}

fn delete(store: &Store, key: &str) -> i64 {
    let mut txn = store.write();
    txn.delete_range(&KeyRange::Key(key.as_bytes()));
    txn.commit().revision
}

#[test]
fn rev_01_a_fresh_store_is_at_revision_one() {
    let (_, store) = open(&MemoryDisk::default());
    assert_eq!((store.current_revision(), store.compact_revision()), (1, -1));
    assert_eq!(write(&store, &[("a", "1"), ("b", "1")]), 2);
    assert_eq!(write(&store, &[("a", "1")]), 3, "REV-04");
    assert_eq!(delete(&store, "c"), 3, "REV-03");
}

#[test]
fn rev_06_the_revision_survives_the_compaction_of_the_newest_tombstones() {
    let disk = MemoryDisk::default();
    let (backend, store) = open(&disk);
    write(&store, &[("a", "1")]);
    assert_eq!(delete(&store, "a"), 3);
    write(&store, &[("b", "1")]);
    assert_eq!(delete(&store, "b"), 5);
    store.compact(5).unwrap();
    assert!(store.compaction_pending());
    while store.compact_step(COMPACTION_BATCH).unwrap() {}
    backend.flush().unwrap();
    drop((backend, store));
    let (backend, store) = open(&disk);
    assert_eq!((store.current_revision(), store.compact_revision()), (5, 5));
    assert!(!store.compaction_pending());
    let left = backend.all(Bucket::Key).unwrap();
    assert_eq!(left.len(), 1, "the tombstone at the compact revision stays");
    assert_eq!(write(&store, &[("c", "1")]), 6);
}

#[test]
fn cmp_02_a_compaction_is_resumed_after_a_restart() {
    let disk = MemoryDisk::default();
    let (backend, store) = open(&disk);
    for _ in 0..5 {
        write(&store, &[("a", "1"), ("b", "1")]);
    }
    store.compact(6).unwrap();
    backend.flush().unwrap();
    drop((backend, store));
    let (backend, store) = open(&disk);
    assert!(store.compaction_pending());
    let hash = store.hash_kv(0).unwrap().unwrap();
    let old = RangeRequest { key: "a".into(), revision: 5, ..Default::default() };
    assert_eq!(store.range(&old).unwrap(), Err(Error::Compacted));
    while store.compact_step(COMPACTION_BATCH).unwrap() {}
    assert_eq!(backend.all(Bucket::Key).unwrap().len(), 2);
    assert_eq!(store.hash_kv(0).unwrap().unwrap(), hash, "the same however far removal has come");
}

#[test]
fn cmp_03_a_watcher_from_the_compact_revision_still_sees_the_delete() {
    let (_, store) = open(&MemoryDisk::default());
    write(&store, &[("a", "1")]);
    delete(&store, "a");
    store.compact(3).unwrap();
    while store.compact_step(COMPACTION_BATCH).unwrap() {}
    let events = store.events(3, 10).unwrap().unwrap();
    assert_eq!((events.len(), events[0].revision, events[0].events[0].r#type), (1, 3, 1));
    assert_eq!(store.events(2, 10).unwrap(), Err(Error::Compacted));
}

#[test]
fn leases_of_live_keys_are_found_again_at_start() {
    let disk = MemoryDisk::default();
    let (backend, store) = open(&disk);
    let mut txn = store.write();
    for (key, lease) in [("a", 7), ("b", 0), ("c", 8), ("d", 7), ("a", 9)] {
        txn.put(Bytes::from_static(key.as_bytes()), Bytes::new(), lease);
    }
    txn.delete_range(&KeyRange::Key(b"d"));
    txn.commit();
    backend.flush().unwrap();
    drop((backend, store));
    let backend = Backend::open(Arc::new(disk), BackendOptions::default()).unwrap();
    let (_, attachments) = Store::open(Arc::new(backend)).unwrap();
    assert_eq!(attachments, [(9, Bytes::from("a")), (8, Bytes::from("c"))]);
}

#[test]
fn nobody_sees_a_transaction_before_it_commits() {
    let (_, store) = open(&MemoryDisk::default());
    write(&store, &[("a", "1")]);
    let all = RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
    let mut txn = store.write();
    txn.put("a".into(), "2".into(), 0);
    txn.put("b".into(), "2".into(), 0);
    let seen = store.range(&all).unwrap().unwrap();
    assert_eq!((seen.count, seen.kvs[0].value.as_ref()), (1, &b"1"[..]));
    assert_eq!(store.events(2, 10).unwrap().unwrap().len(), 1);
    let inside = txn.view().range(&all).unwrap().unwrap();
    assert_eq!((inside.count, inside.header.unwrap().revision), (2, 3));
    txn.commit();
    assert_eq!(store.range(&all).unwrap().unwrap(), inside);
}

#[test]
fn an_abandoned_transaction_is_never_stored() {
    let (backend, store) = open(&MemoryDisk::default());
    let mut txn = store.write();
    txn.put("a".into(), "1".into(), 0);
    drop(txn);
    assert!(backend.flush().is_err());
}

#[test]
fn a_damaged_value_is_fatal() {
    let (backend, store) = open(&MemoryDisk::default());
    write(&store, &[("a", "1")]);
    let key = Change::put(2, 0).stored_key();
    backend.put(Bucket::Key, key.into(), Bytes::from_static(b"\x0a\x7f"));
    let request = RangeRequest { key: "a".into(), ..Default::default() };
    assert!(store.range(&request).is_err());
    backend.delete(Bucket::Key, key.into());
    assert!(store.range(&request).is_err(), "and so is a missing one");
}

#[test]
fn kv_09_long_ranges_and_deletes_cross_slices() {
    let (_, store) = open(&MemoryDisk::default());
    let mut txn = store.write();
    for n in 0..2_500 {
        txn.put(Bytes::from(format!("k{n:05}")), Bytes::from(format!("{n}")), 0);
    }
    txn.commit();
    let mut request = RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let all = store.range(&request).unwrap().unwrap();
    assert_eq!((all.count, all.kvs.len(), all.more), (2_500, 2_500, false));
    request.limit = 1_700;
    let some = store.range(&request).unwrap().unwrap();
    assert_eq!((some.count, some.kvs.len(), some.more), (2_500, 1_700, true));
    assert_eq!(some.kvs[..], all.kvs[..1_700]);
    let mut txn = store.write();
    assert_eq!(txn.delete_range(&KeyRange::From(b"k00100")).len(), 2_400);
    let events = txn.commit().events;
    assert_eq!(events.len(), 2_400);
    assert_eq!(store.events(3, 10).unwrap().unwrap(), [RevisionEvents { revision: 3, events }]);
    assert_eq!(store.range(&request).unwrap().unwrap().count, 100);
}

#[test]
fn a_store_reloads_what_a_snapshot_brought() {
    let (source, store) = open(&MemoryDisk::default());
    write(&store, &[("a", "1")]);
    write(&store, &[("b", "2")]);
    store.compact(2).unwrap();
    let disk = MemoryDisk::default();
    let (backend, other) = open(&disk);
    write(&other, &[("old", "1")]);
    let mut restorer = backend.restorer().unwrap();
    for chunk in source.view().unwrap().chunks() {
        restorer.write_chunk(&chunk.unwrap()).unwrap();
    }
    restorer.finish().unwrap();
    let restored = backend.restored().unwrap();
    let loaded = Loaded::of(&restored.view()).unwrap();
    other.replace(loaded, || restored.adopt()).remove().unwrap();
    assert_eq!((other.current_revision(), other.compact_revision()), (3, 2));
    assert_eq!(other.hash_kv(0).unwrap(), store.hash_kv(0).unwrap());
    assert_eq!(other.hash().unwrap(), store.hash().unwrap());
}

#[test]
fn watch_14_no_reader_finds_two_states_mixed_when_a_snapshot_replaces_one() {
    let (backend, store) = open(&MemoryDisk::default());
    write(&store, &[("a", "1")]);
    // The leader has the same history, has gone on, and has forgotten the beginning.
    let (source, leader) = open(&MemoryDisk::default());
    write(&leader, &[("a", "1")]);
    write(&leader, &[("a", "2")]);
    leader.compact(3).unwrap();
    while leader.compact_step(COMPACTION_BATCH).unwrap() {}
    let mut restorer = backend.restorer().unwrap();
    for chunk in source.view().unwrap().chunks() {
        restorer.write_chunk(&chunk.unwrap()).unwrap();
    }
    restorer.finish().unwrap();
    // A reader that has looked into the index, and gets to the values later.
    let found = store.view().slice(&KeyRange::Key(b"a"), None, 1, 1).unwrap().found;
    let restored = backend.restored().unwrap();
    let loaded = Loaded::of(&restored.view()).unwrap();
    // Until the swap everything is as it was.
    assert_eq!(store.values(&found, 2).unwrap().unwrap()[0].value, "1");
    assert_eq!(store.events(2, 10).unwrap().unwrap().len(), 1);
    let replaced = store.replace(loaded, || {
        let replaced = restored.adopt();
        assert_eq!(store.values(&found, 2).unwrap(), Err(Error::Compacted));
        assert_eq!(store.events(2, 10).unwrap(), Err(Error::Compacted));
        replaced
    });
    replaced.remove().unwrap();
    assert_eq!(store.values(&found, 2).unwrap(), Err(Error::Compacted));
    let request = RangeRequest { key: "a".into(), ..Default::default() };
    assert_eq!(store.range(&request).unwrap().unwrap().kvs[0].value, "2");
}

#[test]
fn mnt_06_a_hash_made_in_steps_is_that_of_one_moment() {
    let (_, store) = open(&MemoryDisk::default());
    for n in 0..6_000 {
        let mut txn = store.write();
        txn.put(format!("k{:04}", n % 4_000).into(), Bytes::from_static(b"v"), 0);
        txn.commit();
    }
    let finish = |mut steps: HashKvSteps| loop {
        if let Some(hash) = steps.step(&store).unwrap() {
            break hash;
        }
    };
    let begun = || {
        let mut steps = HashKvSteps::new(0);
        assert_eq!(steps.step(&store).unwrap(), None, "it takes more than one");
        steps
    };
    let (expected, steps) = (store.hash_kv(0).unwrap(), begun());
    write(&store, &[("k0001", "later")]);
    assert_eq!(finish(steps), expected, "what is written meanwhile is not in it");
    // A compaction meanwhile makes it begin anew, and its removals in between do no harm.
    let steps = begun();
    store.compact(5_000).unwrap();
    let mut steps = [steps, HashKvSteps::new(0)];
    for steps in &mut steps {
        assert_eq!(steps.step(&store).unwrap(), None);
        store.compact_step(COMPACTION_BATCH).unwrap();
    }
    let expected = store.hash_kv(0).unwrap();
    assert_eq!(steps.map(finish), [expected.clone(), expected]);
}

#[test]
fn mnt_06_the_hash_from_before_a_compaction_is_kept() {
    let disk = MemoryDisk::default();
    let (backend, store) = open(&disk);
    store.compact(0).unwrap();
    while store.compact_step(COMPACTION_BATCH).unwrap() {}
    assert_eq!(store.hash_before_compaction(0), None, "0 is now");
    let (mut compactions, mut hashes) = (Vec::new(), Vec::new());
    for round in 0..12 {
        for _ in 0..5 {
            write(&store, &[("a", "1"), ("b", "1")]);
        }
        let revision = if round % 2 == 0 { delete(&store, "a") } else { store.current_revision() };
        compactions.push(revision);
        hashes.push(Some(store.hash_kv(revision).unwrap().unwrap()));
        store.compact(revision).unwrap();
        while store.compact_step(COMPACTION_BATCH).unwrap() {}
        assert_eq!(store.hash_before_compaction(revision), hashes[round]);
        assert_ne!(store.hash_kv(revision).unwrap().ok(), hashes[round], "what there is now");
    }
    let kept = compactions.iter().map(|revision| store.hash_before_compaction(*revision));
    hashes[..2].fill(None);
    assert_eq!(kept.collect::<Vec<_>>(), hashes, "the last ten are kept");
    assert_eq!(store.hash_before_compaction(compactions[5] + 1), None);
    // Half done before a restart: part of what belongs into it is gone.
    let revision = write(&store, &[("a", "1")]);
    store.compact(revision).unwrap();
    backend.flush().unwrap();
    drop((backend, store));
    let (_, store) = open(&disk);
    while store.compact_step(COMPACTION_BATCH).unwrap() {}
    assert_eq!(store.hash_before_compaction(revision), None);
}

#[test]
fn readers_and_compaction_run_beside_the_writer() {
    let (backend, store) = open(&MemoryDisk::default());
    let (store, rounds) = (Arc::new(store), 300);
    #[allow(clippy::disallowed_methods)]
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || {
                let all =
                    RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
                while store.current_revision() <= rounds {
                    let response = store.range(&all).unwrap().unwrap();
                    // Each revision puts both keys: whoever sees one without the other sees half.
                    let revisions: Vec<_> = response.kvs.iter().map(|kv| kv.mod_revision).collect();
                    let revision = response.header.unwrap().revision;
                    assert!(revision == 1 || revisions == [revision; 2], "{revisions:?}");
                    store.hash_kv(0).unwrap().unwrap();
                }
            })
        })
        .collect();
    for round in 0..rounds {
        write(&store, &[("a", "1"), ("b", "2")]);
        if round % 10 == 0 {
            store.compact(store.current_revision()).unwrap();
        }
        store.compact_step(COMPACTION_BATCH).unwrap();
        if round % 25 == 0 {
            backend.flush().unwrap();
        }
    }
    for reader in readers {
        reader.join().unwrap();
    }
}
