//! openraft's suite, group commit, the cache, failures. Crashes are in [`crash`].

mod crash;
mod suite;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::FutureExt;
use openraft::EntryPayload;
use openraft_rt_tokio::TokioRuntime;

use super::super::types::{CommittedLeaderId, ProposedCommand};
use super::record::{Change, decode_entry};
use super::*;
use crate::platform::{Fault, FaultyDisk};
use crate::wal::Kind;

pub(super) type Log = LogStore<TokioRuntime>;

pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderId::new(term), index }
}

/// An entry that can be told from any other of the same log id.
pub(super) fn entry(term: u64, index: u64, command: impl Into<Bytes>) -> Entry {
    let payload = EntryPayload::Normal(ProposedCommand(command.into()));
    Entry { log_id: log_id(term, index), payload }
}

/// A worker that runs its jobs when it is told to.
#[derive(Default)]
pub(super) struct StepWorker {
    jobs: Mutex<VecDeque<Box<dyn FnOnce() + Send>>>,
    submitted: AtomicUsize,
}

impl StepWorker {
    pub(super) fn run(&self) {
        while let Some(job) = { lock(&self.jobs).pop_front() } {
            job();
        }
    }
}

impl Worker for StepWorker {
    fn submit(&self, job: Box<dyn FnOnce() + Send>) {
        self.submitted.fetch_add(1, Ordering::Relaxed);
        lock(&self.jobs).push_back(job);
    }
}

/// A log on a faulty disk, driven by hand.
pub(super) struct Bench {
    pub(super) disk: FaultyDisk,
    pub(super) worker: Arc<StepWorker>,
    pub(super) fatal: Arc<Mutex<Vec<String>>>,
}

impl Bench {
    pub(super) fn new(disk: FaultyDisk) -> Bench {
        Bench { disk, worker: Arc::default(), fatal: Arc::default() }
    }

    pub(super) fn open(&self, options: LogOptions) -> Result<Log, Fatal> {
        let fatal = self.fatal.clone();
        let host = LogHost {
            disk: Arc::new(self.disk.clone()),
            worker: self.worker.clone(),
            clock: Arc::new(|| Duration::ZERO),
            on_fatal: Arc::new(move |error| lock(&fatal).push(error.to_string())),
            trace: Default::default(),
        };
        LogStore::open(host, options)
    }

    /// Drives a call that waits for the disk. The log must be idle before.
    pub(super) fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = Box::pin(call);
        if let Some(done) = call.as_mut().now_or_never() {
            return done;
        }
        self.worker.run();
        if let Some(done) = call.as_mut().now_or_never() {
            return done;
        }
        // A flush asks twice.
        self.worker.run();
        call.now_or_never().expect("the worker has run")
    }
}

pub(super) fn small() -> LogOptions {
    LogOptions {
        wal: WalOptions { segment_bytes: 2048, preallocate_bytes: 512 },
        cache_bytes: 0,
        batch_bytes: 1024,
        read_bytes: 256,
    }
}

/// Appends without waiting; the receiver tells when the entries are durable.
pub(super) fn append(
    log: &mut Log,
    entries: Vec<Entry>,
) -> impl Future<Output = io::Result<()>> + use<> {
    let (done, durable) = TypeConfig::<TokioRuntime>::oneshot();
    let appended = log.append(entries, IOFlushed::signal(done)).now_or_never();
    appended.expect("append never waits").unwrap();
    durable.map(|completed| completed.expect("completed"))
}

pub(super) fn all(log: &mut Log) -> Vec<Entry> {
    log.try_get_log_entries(0..).now_or_never().expect("reads never wait").unwrap()
}

fn row(term: u64, indexes: std::ops::Range<u64>) -> Vec<Entry> {
    indexes.map(|index| entry(term, index, format!("command {index}"))).collect()
}

#[test]
fn entries_are_readable_at_once_and_complete_together_with_one_sync() {
    let bench = Bench::new(FaultyDisk::default());
    let mut log = bench.open(LogOptions::default()).unwrap();
    let syncs = bench.disk.syncs();
    let mut durable: Vec<_> =
        (0..100).map(|index| Box::pin(append(&mut log, row(1, index..index + 1)))).collect();
    assert_eq!(all(&mut log), row(1, 0..100));
    assert!(durable.iter_mut().all(|one| one.as_mut().now_or_never().is_none()));
    assert_eq!(bench.worker.submitted.load(Ordering::Relaxed), 1, "one job for all");
    bench.worker.run();
    assert!(durable.iter_mut().all(|one| one.as_mut().now_or_never().unwrap().is_ok()));
    assert_eq!(bench.disk.syncs(), syncs + 1);
    let metrics = log.metrics();
    assert_eq!((metrics.fsyncs, metrics.requests, metrics.fsync_buckets[0]), (1, 100, 1));
}

#[test]
fn entries_beyond_the_cache_are_read_from_their_segments() {
    let bench = Bench::new(FaultyDisk::default());
    let mut log = bench.open(small()).unwrap();
    for index in 0..200 {
        bench.wait(append(&mut log, row(1, index..index + 1))).unwrap();
    }
    assert_eq!(lock(&log.shared.state).cache.first(), None, "nothing is cached");
    assert!(log.size().unwrap().0 > 3);
    assert_eq!(all(&mut log), row(1, 0..200));
    let some = log.limited_get_log_entries(7, 100).now_or_never().unwrap().unwrap();
    assert!(some.len() > 1 && some.len() < 20, "{}", some.len());
    assert_eq!(some, row(1, 7..7 + some.len() as u64));
}

#[test]
fn streams_read_in_pieces_and_stop_when_the_leader_changes() {
    use futures_util::StreamExt;
    let bench = Bench::new(FaultyDisk::default());
    let mut log = bench.open(small()).unwrap();
    bench.wait(append(&mut log, row(1, 0..100))).unwrap();
    bench.wait(log.save_vote(&Vote::new_committed(1, 7))).unwrap();
    let leader = Vote::new_committed(1, 7).leader_id;
    let read = log.entries_stream(3..90).now_or_never().unwrap();
    let read: Vec<_> = read.map(Result::unwrap).collect().now_or_never().unwrap();
    assert_eq!(read, row(1, 3..90));
    let mut reader = log.clone();
    let stream = reader.leader_bounded_stream(leader, 0..100).now_or_never().unwrap();
    let mut stream = Box::pin(stream);
    assert!(stream.next().now_or_never().unwrap().unwrap().is_ok());
    bench.wait(log.save_vote(&Vote::new(2, 8))).unwrap();
    let rest: Vec<_> = stream.collect().now_or_never().unwrap();
    assert!(rest.len() < 50, "the rest of the first piece and an error");
    assert!(matches!(rest.last(), Some(Err(_))));
}

#[test]
fn purge_removes_segments_and_a_reopened_log_knows_where_it_begins() {
    let bench = Bench::new(FaultyDisk::default());
    let mut log = bench.open(small()).unwrap();
    for index in 0..200 {
        bench.wait(append(&mut log, row(1, index..index + 1))).unwrap();
    }
    let (before, _) = log.size().unwrap();
    bench.wait(log.purge(log_id(1, 150))).unwrap();
    bench.worker.run();
    assert!(log.size().unwrap().0 < before / 2);
    assert_eq!(all(&mut log), row(1, 151..200));
    bench.wait(log.purge(log_id(3, 500))).unwrap();
    bench.worker.run();
    assert_eq!(log.size().unwrap().0, 1);
    let mut log = bench.open(small()).unwrap();
    let state = log.get_log_state().now_or_never().unwrap().unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(3, 500)));
    assert_eq!(state.last_log_id, Some(log_id(3, 500)));
    bench.wait(append(&mut log, row(3, 501..502))).unwrap();
    assert_eq!(all(&mut bench.open(small()).unwrap()), row(3, 501..502));
}

#[test]
fn the_newest_committed_log_id_goes_with_the_next_batch() {
    let bench = Bench::new(FaultyDisk::default());
    let mut log = bench.open(small()).unwrap();
    bench.wait(append(&mut log, row(1, 0..3))).unwrap();
    let syncs = bench.disk.syncs();
    for index in 0..3 {
        log.save_committed(Some(log_id(1, index))).now_or_never().unwrap().unwrap();
    }
    bench.worker.run();
    assert_eq!(bench.disk.syncs(), syncs, "a commit is not worth a sync");
    bench.wait(log.flush()).unwrap();
    let mut log = bench.open(small()).unwrap();
    let committed = log.read_committed().now_or_never().unwrap().unwrap();
    assert_eq!(committed, Some(log_id(1, 2)));
}

/// Whoever waited for it may open the log anew at once, as a member that is restarted within its
/// process is.
#[test]
fn after_a_flush_nothing_is_written() {
    let bench = Bench::new(FaultyDisk::default());
    let mut log = bench.open(small()).unwrap();
    bench.wait(append(&mut log, row(1, 0..3))).unwrap();
    // One write makes all durable, one says so.
    bench.disk.inject(Fault::WriteError, 2);
    bench.wait(log.flush()).unwrap();
    assert!(lock(&bench.fatal).is_empty(), "a third write: {:?}", bench.fatal);
}

/// Entries that came with the flush itself are known to be durable, too.
#[test]
fn damage_to_what_a_shutdown_made_durable_is_no_torn_tail() {
    let bench = Bench::new(FaultyDisk::default());
    let mut log = bench.open(small()).unwrap();
    let appended = append(&mut log, row(1, 0..3));
    bench.wait(log.flush()).unwrap();
    appended.now_or_never().expect("durable with the flush").unwrap();
    let position = lock(&log.shared.state).index.get(2).unwrap().position.unwrap();
    bench.disk.flip_bit("wal-0000000000000001", u64::from(position.offset) + 24, 3).unwrap();
    let opened = bench.open(small());
    assert!(matches!(opened, Err(Fatal::Corrupt { .. })), "an acknowledged entry is dropped");
}

#[test]
fn a_hole_is_refused() {
    let bench = Bench::new(FaultyDisk::default());
    let mut log = bench.open(small()).unwrap();
    bench.wait(append(&mut log, row(1, 0..3))).unwrap();
    let hole = log.append(row(1, 4..5), IOFlushed::noop()).now_or_never().unwrap();
    assert_eq!(hole.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(all(&mut log), row(1, 0..3));
}

#[test]
fn a_failed_sync_poisons_the_log() {
    for fault in [Fault::SyncError, Fault::WriteError, Fault::DiskFull] {
        let bench = Bench::new(FaultyDisk::default());
        let mut log = bench.open(small()).unwrap();
        bench.wait(append(&mut log, row(1, 0..3))).unwrap();
        bench.disk.inject(fault, 0);
        let first = append(&mut log, row(1, 3..4));
        let second = append(&mut log, row(1, 4..5));
        bench.worker.run();
        assert!(first.now_or_never().unwrap().is_err());
        assert!(second.now_or_never().unwrap().is_err());
        let writes = bench.disk.syncs();
        assert!(bench.wait(log.save_vote(&Vote::new(1, 1))).is_err());
        assert!(log.append(row(1, 5..6), IOFlushed::noop()).now_or_never().unwrap().is_err());
        bench.worker.run();
        assert_eq!(bench.disk.syncs(), writes, "nothing is tried again");
        assert_eq!(lock(&bench.fatal).len(), 1, "told once: {:?}", bench.fatal);
    }
}

#[test]
fn a_damaged_entry_is_never_handed_out() {
    let bench = Bench::new(FaultyDisk::default());
    let mut log = bench.open(small()).unwrap();
    bench.wait(append(&mut log, row(1, 0..3))).unwrap();
    let position = lock(&log.shared.state).index.get(1).unwrap().position.unwrap();
    bench.disk.flip_bit("wal-0000000000000001", u64::from(position.offset) + 40, 3).unwrap();
    let read = log.try_get_log_entries(0..3).now_or_never().unwrap();
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::InvalidData);
    let told = lock(&bench.fatal).join("");
    assert!(told.contains(&format!("offset {}", position.offset)), "{told}");
}

#[test]
fn a_log_without_its_oldest_segment_is_refused() {
    let bench = Bench::new(FaultyDisk::default());
    let mut log = bench.open(small()).unwrap();
    for index in 0..100 {
        bench.wait(append(&mut log, row(1, index..index + 1))).unwrap();
    }
    bench.disk.remove("wal-0000000000000001").unwrap();
    match bench.open(small()) {
        Err(Fatal::Corrupt { file, detail, .. }) => {
            assert_eq!(file, "wal-0000000000000002");
            assert_eq!(detail, "entry 0 is in an earlier segment, which is missing");
        }
        other => panic!("{:?}", other.err()),
    }
}

#[test]
fn payloads_of_other_programs_are_errors() {
    let mut random = crate::platform::SplitMix64(1);
    for length in 0..200 {
        let bytes: Vec<u8> = (0..length).map(|_| random.next_u64() as u8 % 4).collect();
        for kind in [Kind::Vote, Kind::Truncate, Kind::Purge, Kind::Committed, Kind::Entry] {
            let decoded = Change::decode(kind, &bytes);
            let fits = matches!((kind, length), (Kind::Truncate, 0) | (Kind::Vote, _) | (_, 16))
                || (kind == Kind::Entry && length > 16);
            assert!(fits || decoded.is_err(), "{kind:?} of {length} bytes");
        }
        // Whatever it says, it does not panic.
        drop(decode_entry(Bytes::from(bytes)));
    }
    let blank = [[0; 16].as_slice(), &[0]].concat();
    assert!(decode_entry(Bytes::from(blank)).is_ok());
}
