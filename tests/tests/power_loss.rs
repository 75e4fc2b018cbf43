//! Power loss at every sync: the WAL and the backend that ship, on a disk that keeps any part of
//! what was not synced.
//!
//! [`Member`] is a single member without Raft: it writes commands to the WAL, syncs, applies them
//! to the key space, and at random moments flushes or defragments the backend, carries out a
//! compaction, and purges the log. A script of such actions is first played on a disk without
//! faults to count its syncs, then once for each of them with the power going at that sync:
//!
//! ```text
//!   play ──► power goes at sync k ──► recover (maybe losing power again) ──► compare ──► play on
//! ```
//!
//! What must hold after each recovery (PERFORMANCE.md section 9, classes 1 to 6):
//!
//! - the log is a prefix of the script's commands that holds every acknowledged one;
//! - the backend's state is that of the applied index it names, so that with the rest of the log
//!   it is the model's: revision, compact revision, keys and hash;
//! - the member goes on from there and ends where an undisturbed one ends.
//!
//! `CORACLE_LONG=1` plays 1,000 scripts instead of 50; `POWER_LOSS_SEED` plays a printed one.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use bytes::{Buf, BufMut, Bytes};
use coracle_core::api::coraclepb::Command;
use coracle_core::api::coraclepb::command::Request;
use coracle_core::api::etcdserverpb::request_op::Request as Op;
use coracle_core::api::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use coracle_core::api::mvccpb::KeyValue;
use coracle_core::apply::{self, ApplyContext, LeaseKeeper};
use coracle_core::backend::{Backend, BackendOptions, Bucket};
use coracle_core::error::Fatal;
use coracle_core::limits::COMPACTION_BATCH;
use coracle_core::mvcc::Store;
use coracle_core::platform::{Disk, Fault, FaultyDisk, MemoryDisk, SplitMix64};
use coracle_core::wal::{Batch, Kind, Wal, WalOptions};
use prost::Message;

/// Small, so that a script of two dozen commands fills several segments.
const SEGMENT_BYTES: u64 = 1024;
/// Commands of one script.
const COMMANDS: usize = 24;
const KEYS: u64 = 6;
/// Where the backend keeps the index of the last applied entry.
const APPLIED: &[u8] = b"applied";
/// Power losses in one play, at most; then it may end undisturbed.
const MAX_LOSSES: usize = 4;

#[test]
fn power_loss_at_every_sync() -> Result<()> {
    for_each_script(|script| {
        let syncs = script.count_syncs()?;
        for sync in 0..syncs {
            let disk = FaultyDisk::default();
            disk.inject(Fault::PowerLoss, sync);
            play(script, disk, script.seed.wrapping_mul(1_000_003) + sync)
                .with_context(|| format!("power loss at sync {sync} of {syncs}"))?;
        }
        Ok(syncs)
    })
}

/// The member must stop at the first failed sync, and what the kernel then still shows of the
/// lost pages must not deceive the next start.
#[test]
fn failed_sync_then_restart_then_power_loss() -> Result<()> {
    for_each_script(|script| {
        let syncs = script.count_syncs()?;
        for sync in 0..syncs {
            let disk = FaultyDisk::default();
            disk.inject(Fault::SyncError, sync);
            play(script, disk, script.seed.wrapping_mul(1_000_003) + sync)
                .with_context(|| format!("failed sync {sync} of {syncs}"))?;
        }
        Ok(syncs)
    })
}

fn for_each_script(test: impl Fn(&Script) -> Result<u64>) -> Result<()> {
    let seeds = match env::var("POWER_LOSS_SEED") {
        Ok(seed) => {
            let seed = seed.parse().context("POWER_LOSS_SEED is a number")?;
            seed..seed + 1
        }
        Err(_) if env::var_os("CORACLE_LONG").is_some() => 0..1000,
        Err(_) => 0..50,
    };
    let mut faults = 0;
    for seed in seeds.clone() {
        let script = Script::new(seed)?;
        faults += test(&script).with_context(|| format!("POWER_LOSS_SEED={seed}"))?;
    }
    println!("{} scripts, {faults} syncs that failed", seeds.end - seeds.start);
    Ok(())
}

/// Plays `script` on a disk whose power goes, recovers and compares, until the script ends.
fn play(script: &Script, disk: FaultyDisk, seed: u64) -> Result<()> {
    let mut random = SplitMix64(seed);
    let mut disk = disk;
    let mut progress = Progress::default();
    for loss in 0..=MAX_LOSSES {
        let end = Member::open(&disk).map_err(anyhow::Error::from).and_then(|mut member| {
            member.compare(script, &progress)?;
            progress.written = member.applied;
            member.play(script, &mut progress, &mut random)?;
            member.compare(script, &progress)
        });
        match end {
            Ok(()) => {
                ensure!(progress.acknowledged == script.commands.len(), "the script did not end");
                return Ok(());
            }
            Err(error) if error.downcast_ref::<Fatal>().is_none() => return Err(error),
            // The injected fault; a later one has to be an injected one too.
            Err(error) => ensure!(
                loss < MAX_LOSSES && is_injected(&error),
                "the member stopped without a fault: {error:#}"
            ),
        }
        // Once in a while only the process ends, and the kernel keeps what was written.
        if !random.chance(20) || disk.list().is_err() {
            disk = disk.crash(random.next_u64());
        }
        if loss + 1 < MAX_LOSSES && random.chance(50) {
            disk.inject(Fault::PowerLoss, random.below(12));
        }
    }
    Err(anyhow!("faults beyond the last one"))
}

/// Whether the disk's own words are in the error.
fn is_injected(error: &anyhow::Error) -> bool {
    let text = format!("{error:#}");
    ["lost its power", "has no power", "injected sync error"].iter().any(|word| text.contains(word))
}

/// Counts of commands, from the start of the script.
#[derive(Debug, Default)]
struct Progress {
    /// Handed to the WAL: they may survive.
    written: usize,
    /// Synced and answered: they must survive.
    acknowledged: usize,
}

/// What a member does.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// Writes so many commands as one batch, syncs, applies them.
    Commands(usize),
    Flush,
    Defragment,
    /// Removes superseded revisions, at most one slice of them.
    CompactStep,
    /// Forgets the entries that the backend holds durably.
    Purge,
}

/// The state after so many commands, as an undisturbed store has it.
#[derive(PartialEq)]
struct Expected {
    revision: i64,
    compact_revision: i64,
    hash: u32,
    kvs: Vec<KeyValue>,
}

struct Script {
    seed: u64,
    commands: Vec<Command>,
    actions: Vec<Action>,
    /// One more than commands: the first is the empty store.
    expected: Vec<Expected>,
}

impl Script {
    /// Makes commands by playing them on an undisturbed store, which is the model.
    fn new(seed: u64) -> Result<Script> {
        let mut random = SplitMix64(seed);
        let backend = Arc::new(Backend::open(Arc::new(MemoryDisk::default()), options())?);
        let (store, _) = Store::open(backend)?;
        let mut script = Script {
            seed,
            commands: Vec::new(),
            actions: Vec::new(),
            expected: vec![Expected::of(&store)?],
        };
        while script.commands.len() < COMMANDS {
            let count = 1 + random.below(4) as usize;
            for _ in 0..count {
                let command = random_command(&mut random, script.commands.len() as u64, &store);
                apply_command(&store, &command)?;
                script.commands.push(command);
                script.expected.push(Expected::of(&store)?);
            }
            script.actions.push(Action::Commands(count));
            script.actions.push(match random.below(10) {
                0..=2 => Action::Flush,
                3 => Action::Defragment,
                4..=5 => Action::CompactStep,
                6..=7 => Action::Purge,
                _ => continue,
            });
        }
        Ok(script)
    }

    /// How many syncs the script takes when nothing goes wrong.
    fn count_syncs(&self) -> Result<u64> {
        let disk = FaultyDisk::default();
        let mut progress = Progress::default();
        let mut member = Member::open(&disk)?;
        member.play(self, &mut progress, &mut SplitMix64(self.seed))?;
        member.compare(self, &progress)?;
        drop(member);
        Ok(disk.syncs())
    }
}

impl Expected {
    fn of(store: &Store) -> Result<Expected> {
        let all = RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            ..Default::default()
        };
        Ok(Expected {
            revision: store.current_revision(),
            compact_revision: store.compact_revision(),
            hash: store.hash_kv(0)??.hash,
            kvs: store.range(&all)??.kvs,
        })
    }

    /// All of it, but only the lengths of values.
    fn summary(&self) -> String {
        let Expected { revision, compact_revision, hash, kvs } = self;
        let kvs = kvs.iter();
        let kvs = kvs.map(|kv| format!("{:?}@{}/{}", kv.key, kv.mod_revision, kv.value.len()));
        let kvs = kvs.collect::<Vec<_>>().join(" ");
        format!("revision {revision}, compacted {compact_revision}, hash {hash:08x}: {kvs}")
    }
}

/// No lease exists, none is asked for.
struct NoLeases;

impl LeaseKeeper for NoLeases {
    fn exists(&self, _: i64) -> bool {
        false
    }
    fn attach(&self, _: i64, _: Bytes) {}
    fn detach(&self, _: i64, _: &[u8]) {}
    fn every_key(&self, _: i64, _: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        true
    }
}

fn random_command(random: &mut SplitMix64, id: u64, store: &Store) -> Command {
    let put = |random: &mut SplitMix64| PutRequest {
        key: key(random.below(KEYS)),
        value: format!("{id:0width$}", width = random.below(200) as usize).into(),
        ..Default::default()
    };
    let request = match random.below(10) {
        0..=4 => Request::Put(put(random)),
        5..=6 => Request::DeleteRange(DeleteRangeRequest {
            key: key(random.below(KEYS)),
            range_end: key(random.below(KEYS + 1)),
            ..Default::default()
        }),
        7..=8 => {
            let first = PutRequest { key: Bytes::from_static(b"first"), ..put(random) };
            let success = [Op::RequestPut(first), Op::RequestPut(put(random))]
                .map(|request| RequestOp { request: Some(request) });
            Request::Txn(TxnRequest { success: success.into(), ..Default::default() })
        }
        _ => {
            // Also revisions that are compacted already: refused, and an entry all the same.
            let revision = 1 + random.below(store.current_revision() as u64) as i64;
            Request::Compaction(CompactionRequest { revision, physical: false })
        }
    };
    Command { id, request: Some(request), asker: None }
}

fn key(number: u64) -> Bytes {
    format!("key{number}").into()
}

/// Applies a command; a refusal is an outcome like any other.
fn apply_command(store: &Store, command: &Command) -> Result<(), Fatal> {
    let context = ApplyContext { store, leases: &NoLeases };
    match &command.request {
        Some(Request::Put(request)) => apply::put(&context, request)?.map(drop).ok(),
        Some(Request::DeleteRange(request)) => {
            apply::delete_range(&context, request)?.map(drop).ok()
        }
        Some(Request::Txn(request)) => apply::txn(&context, request)?.map(drop).ok(),
        Some(Request::Compaction(request)) => apply::compact(&context, request).map(drop).ok(),
        other => return Err(Fatal::Invariant(format!("the script has no {other:?}"))),
    };
    Ok(())
}

fn options() -> BackendOptions {
    BackendOptions { cache_bytes: 1 << 20, recent_bytes: 4 << 10 }
}

/// A member without Raft: WAL, backend and key space on one disk.
struct Member {
    wal: Wal,
    backend: Arc<Backend>,
    store: Store,
    /// Entries applied; entry n is the script's command n - 1.
    applied: usize,
    /// The segment of each entry in the log.
    segments: BTreeMap<usize, u64>,
    /// Entries up to here are gone from the log.
    purged: usize,
}

impl Member {
    /// Starts on what the disk holds: opens the backend, then applies the log's newer entries.
    fn open(disk: &FaultyDisk) -> Result<Member, Fatal> {
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let backend = Arc::new(Backend::open(disk.clone(), options())?);
        let (store, _) = Store::open(backend.clone())?;
        let applied = match backend.get(Bucket::Meta, APPLIED)? {
            Some(bytes) => decode_index(&bytes)?,
            None => 0,
        };
        let mut entries = BTreeMap::new();
        let mut segments = BTreeMap::new();
        let mut purged = 0;
        let wal_options = WalOptions { segment_bytes: SEGMENT_BYTES, preallocate_bytes: 512 };
        let wal = Wal::open(disk, wal_options, &encode_index(0), &mut |record| {
            let mut payload = record.payload;
            let index = decode_index(payload).map_err(|fatal| fatal.to_string())?;
            payload.advance(8);
            match record.kind {
                Kind::Entry => {
                    let command = Command::decode(payload).map_err(|error| error.to_string())?;
                    entries.insert(index, command);
                    segments.insert(index, record.position.segment);
                }
                Kind::Start | Kind::Purge => purged = purged.max(index),
                other => return Err(format!("nobody wrote a {other:?}")),
            }
            Ok(())
        })?;
        let mut member = Member { wal, backend, store, applied, segments, purged };
        if purged > applied {
            let detail = format!("purged to {purged}, but the backend is at {applied}");
            return Err(Fatal::Invariant(detail));
        }
        let applying = member.backend.batch();
        for (index, command) in entries.range(applied + 1..) {
            if *index != member.applied + 1 {
                return Err(Fatal::Invariant(format!("no entry {}", member.applied + 1)));
            }
            apply_command(&member.store, command)?;
            member.applied = *index;
        }
        let applied = encode_index(member.applied);
        member.backend.put(Bucket::Meta, Bytes::from_static(APPLIED), applied.into());
        applying.end();
        Ok(member)
    }

    /// Compares all state with the model's after as many commands.
    fn compare(&self, script: &Script, progress: &Progress) -> Result<()> {
        let applied = self.applied;
        ensure!(applied >= progress.acknowledged, "{progress:?}, but {applied} survived");
        ensure!(applied <= progress.written, "{progress:?}, but {applied} came back");
        let found = Expected::of(&self.store)?;
        let expected = &script.expected[applied];
        ensure!(
            found == *expected,
            "after {applied} commands\n{}\nis not\n{}",
            found.summary(),
            expected.summary()
        );
        Ok(())
    }

    /// Plays what is left of the script.
    fn play(
        &mut self,
        script: &Script,
        progress: &mut Progress,
        random: &mut SplitMix64,
    ) -> Result<(), Fatal> {
        // What the log brought back is acknowledged: it is durable, and readers see it.
        progress.acknowledged = self.applied;
        let mut actions = script.actions.clone();
        let done = actions.iter().scan(0, |sum, action| {
            if let Action::Commands(count) = action {
                *sum += count;
            }
            Some(*sum)
        });
        let skipped = done.take_while(|sum| *sum <= self.applied).count();
        actions.drain(..skipped);
        for action in actions {
            match action {
                Action::Commands(count) => {
                    let end = (self.applied + count).min(script.commands.len());
                    self.commands(script, end, progress)?;
                }
                Action::Flush => self.backend.flush()?,
                Action::Defragment => self.backend.defragment()?,
                Action::CompactStep => drop(self.store.compact_step(COMPACTION_BATCH)),
                Action::Purge => self.purge(random)?,
            }
        }
        self.commands(script, script.commands.len(), progress)
    }

    fn commands(
        &mut self,
        script: &Script,
        end: usize,
        progress: &mut Progress,
    ) -> Result<(), Fatal> {
        if end == self.applied {
            return Ok(());
        }
        let mut batch = Batch::default();
        for (index, command) in (self.applied + 1..).zip(&script.commands[self.applied..end]) {
            batch.push(Kind::Entry, |buffer| {
                buffer.put_u64_le(index as u64);
                buffer.extend(command.encode_to_vec());
            });
        }
        progress.written = end;
        let purged = self.purged;
        self.wal.write(&mut batch, || encode_index(purged))?;
        let indices = self.applied + 1..;
        let positions = indices.zip(batch.positions());
        self.segments.extend(positions.map(|(index, (_, position))| (index, position.segment)));
        self.wal.sync()?;
        let applying = self.backend.batch();
        for command in &script.commands[self.applied..end] {
            apply_command(&self.store, command)?;
        }
        self.applied = end;
        progress.acknowledged = end;
        self.backend.put(Bucket::Meta, Bytes::from_static(APPLIED), encode_index(end).into());
        applying.end();
        Ok(())
    }

    /// Forgets entries, after a flush, up to the applied one or a little less.
    fn purge(&mut self, random: &mut SplitMix64) -> Result<(), Fatal> {
        self.backend.flush()?;
        let purged = self.applied.saturating_sub(random.below(4) as usize).max(self.purged);
        let mut batch = Batch::default();
        batch.push(Kind::Purge, |buffer| buffer.put_u64_le(purged as u64));
        let before = self.purged;
        self.wal.write(&mut batch, || encode_index(before))?;
        self.wal.sync()?;
        self.purged = purged;
        let here = batch.positions().map(|(_, position)| position.segment).next();
        let oldest_needed = self.segments.range(purged + 1..).map(|(_, segment)| *segment).next();
        if let Some(segment) = oldest_needed.or(here) {
            self.wal.remove_before(segment)?;
        }
        Ok(())
    }
}

fn encode_index(index: usize) -> Vec<u8> {
    (index as u64).to_le_bytes().to_vec()
}

fn decode_index(bytes: &[u8]) -> Result<usize, Fatal> {
    match bytes.first_chunk() {
        Some(bytes) => Ok(u64::from_le_bytes(*bytes) as usize),
        None => Err(Fatal::Invariant(format!("an index of {} bytes", bytes.len()))),
    }
}
