//! The backend against a map, across flushes, reopening, damage and crashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::platform::{Fault, FaultyDisk, MemoryDisk, SplitMix64};

/// Small bounds, so that a short test reaches them.
const OPTIONS: BackendOptions = BackendOptions { cache_bytes: 1 << 20, recent_bytes: 4 << 10 };

fn open(disk: &MemoryDisk) -> Backend {
    Backend::open(Arc::new(disk.clone()), OPTIONS).unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(backend: &Backend, key: &str, value: &str) {
    backend.put(Bucket::Meta, bytes(key), bytes(value));
}

fn get(backend: &Backend, key: &str) -> Option<String> {
    get_in(backend, Bucket::Meta, key)
}

fn get_in(backend: &Backend, bucket: Bucket, key: &str) -> Option<String> {
    let value = backend.get(bucket, key.as_bytes()).unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn what_is_written_is_read_before_and_after_the_flush() {
    let disk = MemoryDisk::default();
    let backend = open(&disk);
    put(&backend, "a", "1");
    assert_eq!(get(&backend, "a").as_deref(), Some("1"));
    backend.flush().unwrap();
    assert_eq!((get(&backend, "a").as_deref(), backend.pending_bytes()), (Some("1"), 0));
    backend.delete(Bucket::Meta, bytes("a"));
    assert_eq!(get(&backend, "a"), None);
    put(&backend, "b", "2");
    drop(backend);
    // Unflushed writes are gone, as after a crash.
    let backend = open(&disk);
    assert_eq!((get(&backend, "a").as_deref(), get(&backend, "b")), (Some("1"), None));
}

#[test]
fn any_order_of_writes_and_flushes_reads_as_a_map() {
    for seed in 1..=12 {
        // Keys and other entries take different ways through the caches.
        let bucket = [Bucket::Key, Bucket::Meta][seed as usize % 2];
        let mut random = SplitMix64(seed);
        let disk = MemoryDisk::default();
        let mut backend = open(&disk);
        let mut model = BTreeMap::new();
        for step in 0..400 {
            let key = format!("k{:02}", random.below(40));
            match random.below(20) {
                0 | 1 => backend.flush().unwrap(),
                2 => {
                    backend.flush().unwrap();
                    drop(backend);
                    backend = open(&disk);
                }
                3 => backend.defragment().unwrap(),
                4..=9 => {
                    backend.delete(bucket, bytes(&key));
                    model.remove(&key);
                }
                _ => {
                    let value = format!("{step}{}", "x".repeat(random.below(200) as usize));
                    backend.put(bucket, bytes(&key), bytes(&value));
                    model.insert(key.clone(), value);
                }
            }
            let (found, expected) = (get_in(&backend, bucket, &key), model.get(&key).cloned());
            assert_eq!(found, expected, "seed {seed} step {step}");
            let from = format!("k{:02}", random.below(40));
            let limit = random.below(12) as usize;
            let expected = model.range(from.clone()..);
            let expected = expected.map(|(key, value)| (bytes(key), bytes(value)));
            let expected: Vec<_> = expected.take(limit).collect();
            let page = backend.scan(bucket, from.as_bytes(), limit, usize::MAX).unwrap();
            assert_eq!(page, expected, "seed {seed} step {step}");
            // With a limit of bytes it may be less, but goes on where it was.
            let most = random.below(400) as usize;
            let mut pieces = Vec::new();
            let mut next = bytes(&from);
            while pieces.len() < limit {
                let piece = backend.scan(bucket, &next, limit - pieces.len(), most).unwrap();
                let Some((last, _)) = piece.last() else { break };
                next = [last, &[0][..]].concat().into();
                pieces.extend(piece);
            }
            assert_eq!(pieces, expected, "seed {seed} step {step}, {most} bytes");
        }
    }
}

#[test]
fn a_page_of_large_entries_has_few_of_them() {
    const VALUE: usize = 100 << 10;
    let backend = open(&MemoryDisk::default());
    for n in 0..40 {
        backend.put(Bucket::Key, bytes(&format!("k{n:02}")), Bytes::from(vec![0; VALUE]));
        // Some of them in each place: on disk, and written since.
        if n == 29 {
            backend.flush().unwrap();
        }
    }
    let mut pages = Pages::new(Bucket::Key, Bytes::new());
    let (mut keys, mut longest) = (0, 0);
    loop {
        let page = pages.next(&backend).unwrap();
        if page.is_empty() {
            break;
        }
        keys += page.len();
        // What is in memory already costs nothing more.
        let stored = page.iter().filter(|(key, _)| key < "k30").count();
        longest = longest.max(stored * VALUE);
    }
    assert_eq!(keys, 40);
    assert!((VALUE..PAGE_BYTES + VALUE).contains(&longest), "{longest}");
}

#[test]
fn a_flush_waits_for_the_batch_to_end() {
    let backend = Arc::new(open(&MemoryDisk::default()));
    let batch = backend.batch();
    put(&backend, "a", "1");
    let flusher = {
        let backend = backend.clone();
        #[allow(clippy::disallowed_methods)]
        std::thread::spawn(move || backend.flush())
    };
    put(&backend, "b", "2");
    assert!(backend.pending_bytes() > 0);
    batch.end();
    flusher.join().unwrap().unwrap();
    let view = backend.view().unwrap();
    assert!(view.get(Bucket::Meta, b"a").unwrap().is_some());
    assert!(view.get(Bucket::Meta, b"b").unwrap().is_some());
}

#[test]
fn a_batch_that_breaks_off_never_becomes_durable() {
    let disk = MemoryDisk::default();
    let backend = Arc::new(open(&disk));
    put(&backend, "a", "whole");
    backend.flush().unwrap();
    let batch = backend.batch();
    let flusher = {
        let backend = backend.clone();
        #[allow(clippy::disallowed_methods)]
        std::thread::spawn(move || backend.flush())
    };
    put(&backend, "a", "half");
    drop(batch);
    assert!(flusher.join().unwrap().is_err());
    assert!(backend.flush().is_err() && backend.view().is_err());
    drop(backend);
    assert_eq!(get(&open(&disk), "a").as_deref(), Some("whole"));
}

#[test]
fn a_view_stands_still() {
    let backend = open(&MemoryDisk::default());
    put(&backend, "a", "1");
    let view = backend.view().unwrap();
    put(&backend, "a", "2");
    backend.flush().unwrap();
    assert_eq!(view.get(Bucket::Meta, b"a").unwrap(), Some(bytes("1")));
    assert_eq!(get(&backend, "a").as_deref(), Some("2"));
}

fn filled(disk: &MemoryDisk) -> Backend {
    let backend = open(disk);
    for n in 0..3_000 {
        put(&backend, &format!("key{n:05}"), &"v".repeat(1_000));
    }
    backend.put(Bucket::Key, bytes("long"), Bytes::from(vec![7; 3 << 20]));
    backend
}

fn replace_with_restored(backend: &Backend) -> Result<(), Fatal> {
    backend.restored()?.adopt().remove()
}

fn everything(backend: &Backend) -> Vec<(Bytes, Bytes)> {
    try_everything(backend).unwrap()
}

fn try_everything(backend: &Backend) -> Result<Vec<(Bytes, Bytes)>, Fatal> {
    let all = Bucket::ALL.map(|bucket| backend.all(bucket));
    let all: Result<Vec<_>, _> = all.into_iter().collect();
    Ok(all?.concat())
}

#[test]
fn chunks_restore_the_same_state_cut_anywhere() {
    let source = filled(&MemoryDisk::default());
    let stream: Vec<Bytes> = source.view().unwrap().chunks().map(Result::unwrap).collect();
    assert!(stream.len() > 4);
    let stream = stream.concat();
    for cut in [1_000, 1 << 20, stream.len()] {
        let disk = MemoryDisk::default();
        let backend = open(&disk);
        put(&backend, "old", "gone");
        let mut restorer = backend.restorer().unwrap();
        for piece in stream.chunks(cut) {
            restorer.write_chunk(piece).unwrap();
        }
        restorer.finish().unwrap();
        replace_with_restored(&backend).unwrap();
        assert_eq!(everything(&backend), everything(&source));
        put(&backend, "new", "1");
        backend.flush().unwrap();
        drop(backend);
        assert_eq!(get(&open(&disk), "new").as_deref(), Some("1"));
        assert_eq!(disk.list().unwrap().len(), 2, "one database and its mark");
    }
}

#[test]
fn a_damaged_or_short_stream_is_refused_and_leaves_nothing() {
    let source = filled(&MemoryDisk::default());
    let stream: Vec<Bytes> = source.view().unwrap().chunks().map(Result::unwrap).collect();
    let stream = stream.concat();
    let disk = MemoryDisk::default();
    let backend = open(&disk);
    put(&backend, "a", "1");
    for at in [0, 5, 100, stream.len() / 2, stream.len() - 1] {
        let mut damaged = stream.clone();
        damaged[at] ^= 0x10;
        let mut restorer = backend.restorer().unwrap();
        let written = restorer.write_chunk(&damaged);
        assert!(written.is_err() || restorer.finish().is_err(), "byte {at}");
    }
    let mut restorer = backend.restorer().unwrap();
    restorer.write_chunk(&stream[..stream.len() - 16]).unwrap();
    assert!(restorer.finish().is_err());
    assert!(replace_with_restored(&backend).is_err());
    assert_eq!(get(&backend, "a").as_deref(), Some("1"));
    assert_eq!(disk.list().unwrap().len(), 2);
}

#[test]
fn a_snapshot_that_is_still_being_received_outlives_the_adoption_of_another() {
    let (earlier, later) = (filled(&MemoryDisk::default()), filled(&MemoryDisk::default()));
    put(&later, "later", "1");
    let stream = |source: &Backend| -> Vec<Bytes> {
        source.view().unwrap().chunks().map(Result::unwrap).collect()
    };
    let disk = MemoryDisk::default();
    let backend = open(&disk);
    // The leader gave the first transfer up, all of which is here, and began a second one.
    let mut first = backend.restorer().unwrap();
    stream(&earlier).iter().for_each(|chunk| first.write_chunk(chunk).unwrap());
    let mut second = backend.restorer().unwrap();
    let chunks = stream(&later);
    let (begin, rest) = chunks.split_at(1);
    begin.iter().for_each(|chunk| second.write_chunk(chunk).unwrap());
    first.finish().unwrap();
    replace_with_restored(&backend).unwrap();
    assert!(everything(&backend) == everything(&earlier));
    rest.iter().for_each(|chunk| second.write_chunk(chunk).unwrap());
    second.finish().unwrap();
    replace_with_restored(&backend).unwrap();
    assert!(everything(&backend) == everything(&later));
    assert_eq!(disk.list().unwrap().len(), 2, "one database and its mark");
    drop(backend);
    assert!(everything(&open(&disk)) == everything(&later));
}

#[test]
fn a_defragmentation_gives_way_to_a_snapshot_and_not_for_ever() {
    let disk = MemoryDisk::default();
    let backend = filled(&disk);
    let receiving = backend.restorer().unwrap();
    backend.defragment().unwrap();
    assert!(disk.list().unwrap().contains(&"db-0000000000000001".to_owned()), "it waits");
    drop(receiving);
    backend.defragment().unwrap();
    assert_eq!(disk.list().unwrap(), ["db-0000000000000002", "db-0000000000000002.complete"]);
}

#[test]
fn mnt_05_flushes_go_on_while_the_file_is_defragmented() {
    for seed in 0..3 {
        let disk = MemoryDisk::default();
        let backend = filled(&disk);
        let value = |n: u64| Bytes::from(vec![n as u8; 3_000]);
        (0..4_000_u64).for_each(|n| {
            backend.put(Bucket::Key, Bytes::copy_from_slice(&n.to_be_bytes()), value(n));
        });
        backend.flush().unwrap();
        let mut random = SplitMix64(seed);
        let (mut steps, mut newest) = (0, 4_000_u64);
        while backend.defragment_step().unwrap() {
            steps += 1;
            for _ in 0..20 {
                // As the store writes: new revisions at the end, removed ones anywhere.
                newest += 1;
                backend.put(Bucket::Key, Bytes::copy_from_slice(&newest.to_be_bytes()), value(9));
                let old = random.below(newest).to_be_bytes();
                backend.delete(Bucket::Key, Bytes::copy_from_slice(&old));
                let key = bytes(&format!("key{:05}", random.below(3_100)));
                match random.chance(50) {
                    true => backend.put(Bucket::Meta, key, bytes("changed")),
                    false => backend.delete(Bucket::Meta, key),
                }
            }
            if random.chance(70) {
                backend.flush().unwrap();
                assert_eq!(backend.pending_bytes(), 0, "it does not wait for the end");
            }
        }
        assert!(steps > 2, "{steps} steps");
        let state = everything(&backend);
        backend.flush().unwrap();
        assert!(everything(&backend) == state);
        drop(backend);
        assert!(everything(&open(&disk)) == state, "seed {seed}");
        assert_eq!(disk.list().unwrap(), ["db-0000000000000002", "db-0000000000000002.complete"]);
    }
}

#[test]
fn mnt_05_a_snapshot_ends_a_defragmentation() {
    let source = filled(&MemoryDisk::default());
    let disk = MemoryDisk::default();
    let backend = filled(&disk);
    assert!(backend.defragment_step().unwrap());
    let mut restorer = backend.restorer().unwrap();
    for chunk in source.view().unwrap().chunks() {
        restorer.write_chunk(&chunk.unwrap()).unwrap();
    }
    restorer.finish().unwrap();
    replace_with_restored(&backend).unwrap();
    assert_eq!(disk.list().unwrap(), ["db-0000000000000003", "db-0000000000000003.complete"]);
    backend.defragment().unwrap();
    assert!(everything(&backend) == everything(&source));
    assert_eq!(disk.list().unwrap(), ["db-0000000000000004", "db-0000000000000004.complete"]);
}

#[test]
fn a_mark_without_its_file_does_not_hide_the_file_that_is_there() {
    let disk = MemoryDisk::default();
    let backend = open(&disk);
    put(&backend, "a", "1");
    backend.flush().unwrap();
    drop(backend);
    disk.open("db-0000000000000003.complete", true).unwrap();
    assert_eq!(get(&open(&disk), "a").as_deref(), Some("1"));
    assert_eq!(disk.list().unwrap(), ["db-0000000000000001", "db-0000000000000001.complete"]);
}

#[test]
fn an_incomplete_file_is_removed_at_start_and_the_old_one_kept() {
    let disk = MemoryDisk::default();
    let backend = open(&disk);
    put(&backend, "a", "1");
    backend.flush().unwrap();
    drop(backend);
    // As a crash in the middle of a restore leaves it.
    disk.open("db-0000000000000002", true).unwrap().write_at(0, b"half a database").unwrap();
    let backend = open(&disk);
    assert_eq!(get(&backend, "a").as_deref(), Some("1"));
    assert_eq!(disk.list().unwrap(), ["db-0000000000000001", "db-0000000000000001.complete"]);
    // And as a crash while the first file of all was made.
    let disk = MemoryDisk::default();
    disk.open("db-0000000000000001", true).unwrap().write_at(0, b"half a database").unwrap();
    assert_eq!(get(&open(&disk), "a"), None);
}

#[test]
fn a_complete_file_that_is_lost_or_empty_stops_the_member() {
    let disk = MemoryDisk::default();
    drop(open(&disk));
    disk.open("db-0000000000000001", false).unwrap().set_len(0).unwrap();
    assert!(Backend::open(Arc::new(disk.clone()), OPTIONS).is_err());
    disk.remove("db-0000000000000001").unwrap();
    assert!(Backend::open(Arc::new(disk), OPTIONS).is_err());
}

#[test]
fn mnt_02_an_empty_backend_is_no_larger_than_a_quota_takes_it_for() {
    let backend = open(&MemoryDisk::default());
    put(&backend, "a", "1");
    backend.flush().unwrap();
    assert!(backend.size() <= crate::limits::EMPTY_BACKEND_BYTES, "{}", backend.size());
}

#[test]
fn defragmentation_gives_space_back() {
    let disk = MemoryDisk::default();
    let backend = filled(&disk);
    backend.flush().unwrap();
    for n in 100..3_000 {
        backend.delete(Bucket::Meta, bytes(&format!("key{n:05}")));
    }
    backend.delete(Bucket::Key, bytes("long"));
    backend.flush().unwrap();
    let (before, state) = (backend.size(), everything(&backend));
    assert!(backend.size_in_use() < before / 4);
    backend.defragment().unwrap();
    assert!(backend.size() < before / 2, "{} of {before}", backend.size());
    assert_eq!(everything(&backend), state);
    drop(backend);
    assert_eq!(everything(&open(&disk)), state);
}

#[test]
fn a_flipped_bit_is_an_error_and_never_a_wrong_answer() {
    let disk = MemoryDisk::default();
    let backend = filled(&disk);
    backend.flush().unwrap();
    let expected = everything(&backend);
    drop(backend);
    let file = disk.open("db-0000000000000001", false).unwrap();
    let length = file.len().unwrap();
    let mut random = SplitMix64(7);
    let mut noticed = 0;
    for _ in 0..60 {
        let at = random.below(length);
        let mut byte = [0];
        file.read_exact_at(at, &mut byte).unwrap();
        file.write_at(at, &[byte[0] ^ (1 << random.below(8))]).unwrap();
        let read = Backend::open(Arc::new(disk.clone()), OPTIONS);
        let read = read.and_then(|backend| try_everything(&backend));
        match read {
            // Not `assert_eq`: it would print the whole state.
            Ok(read) => assert!(read == expected, "byte {at}"),
            Err(_) => noticed += 1,
        }
        file.write_at(at, &byte).unwrap();
    }
    assert!(noticed > 10, "values fill most of the file, yet {noticed} of 60 were noticed");
}

/// Writes and flushes until something fails; returns the state of the last good flush and the
/// one that the failing step was to make durable.
fn run_until_failure(disk: &FaultyDisk, random: &mut SplitMix64) -> [Vec<(Bytes, Bytes)>; 2] {
    let mut durable = Vec::new();
    let Ok(backend) = Backend::open(Arc::new(disk.clone()), OPTIONS) else {
        return [durable.clone(), durable];
    };
    for step in 0.. {
        for _ in 0..1 + random.below(30) {
            let key = bytes(&format!("k{:03}", random.below(300)));
            match random.chance(25) {
                true => backend.delete(Bucket::Meta, key),
                false => {
                    let value = format!("{step} {}", "x".repeat(random.below(2_000) as usize));
                    backend.put(Bucket::Meta, key, bytes(&value));
                }
            }
        }
        // The power may have gone while an old file was closed, which nobody waits for.
        let Ok(state) = try_everything(&backend) else { return [durable.clone(), durable] };
        let done = match random.below(6) {
            0 => backend.defragment(),
            1 => {
                let view = backend.view();
                view.and_then(|view| restore_into(&backend, &view))
            }
            _ => backend.flush(),
        };
        if done.is_err() {
            return [durable, state];
        }
        durable = state;
    }
    unreachable!("the fault strikes");
}

fn restore_into(backend: &Backend, view: &BackendView) -> Result<(), Fatal> {
    let mut restorer = backend.restorer()?;
    for chunk in view.chunks() {
        restorer.write_chunk(&chunk?)?;
    }
    restorer.finish()?;
    replace_with_restored(backend)
}

#[test]
fn a_power_loss_at_any_sync_leaves_the_last_flush_or_the_next() {
    for seed in 0..60 {
        let disk = FaultyDisk::default();
        disk.inject(Fault::PowerLoss, seed);
        let mut random = SplitMix64(seed);
        let states = run_until_failure(&disk, &mut random);
        let disk = disk.crash(seed);
        let backend = Backend::open(Arc::new(disk.clone()), OPTIONS)
            .unwrap_or_else(|fatal| panic!("seed {seed}: {fatal}"));
        let found = everything(&backend);
        assert!(states.contains(&found), "seed {seed}: {} entries", found.len());
        // And again, right after the recovery.
        drop(backend);
        let backend = Backend::open(Arc::new(disk.crash(seed + 1)), OPTIONS).unwrap();
        assert!(everything(&backend) == found, "seed {seed}");
    }
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_flushed_again() {
    for (fault, seed) in [Fault::WriteError, Fault::DiskFull, Fault::SyncError]
        .into_iter()
        .flat_map(|fault| (0..8).map(move |seed| (fault, seed)))
    {
        let disk = FaultyDisk::default();
        let backend = Backend::open(Arc::new(disk.clone()), OPTIONS).unwrap();
        put(&backend, "a", "1");
        backend.flush().unwrap();
        disk.inject(fault, seed % 3);
        put(&backend, "a", "2");
        let mut failed = false;
        for step in 0..10 {
            put(&backend, "b", &format!("{step}"));
            let flushed = backend.flush();
            assert!(!failed || flushed.is_err(), "{fault:?} {seed}");
            failed |= flushed.is_err();
        }
        assert!(failed, "{fault:?} {seed}");
        assert_eq!(get(&backend, "b").as_deref(), Some("9"), "reads go on");
        drop(backend);
        let backend = Backend::open(Arc::new(disk.crash(seed)), OPTIONS).unwrap();
        assert!(get(&backend, "a").is_some(), "{fault:?} {seed}");
    }
}

#[test]
fn a_closed_backend_leaves_its_files_as_they_are() {
    let disk = MemoryDisk::default();
    let backend = filled(&disk);
    backend.defragment_step().unwrap();
    put(&backend, "a", "1");
    let (read, restorer) = (backend.view().unwrap(), backend.restorer().unwrap());
    put(&backend, "b", "2");
    backend.close().unwrap();

    let next = open(&disk);
    put(&next, "b", "3");
    next.flush().unwrap();
    let files = || disk.list().unwrap().into_iter().map(|name| (contents(&disk, &name), name));
    let before: Vec<_> = files().collect();
    put(&backend, "b", "late");
    assert!(backend.flush().is_err());
    assert!(restorer.complete().is_err());
    assert_eq!(read.get(Bucket::Meta, b"a").unwrap(), Some(bytes("1")));
    // redb writes when it is closed.
    drop((backend, read));
    assert!(files().eq(before));
    drop(next);
    assert_eq!(get(&open(&disk), "b").as_deref(), Some("3"));
}

fn contents(disk: &MemoryDisk, name: &str) -> Vec<u8> {
    let file = disk.open(name, false).unwrap();
    let mut contents = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(0, &mut contents).unwrap();
    contents
}
