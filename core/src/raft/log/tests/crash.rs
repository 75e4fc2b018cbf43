//! Power losses, kills and failed syncs, by seed.
//!
//! A model keeps every step that was asked for, in order: a vote, one entry, a truncation, a
//! purge. Since the log has one queue, exactly one thing can be true after a crash: the log holds
//! the result of some first part of the steps, which is not shorter than what was completed. That
//! covers it all: nothing acknowledged is lost, no hole, no vote that goes back.

use std::collections::BTreeMap;
use std::pin::Pin;

use super::*;
use crate::platform::SplitMix64;

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>>>>;

#[derive(Clone, Debug)]
enum Step {
    Vote(Vote),
    Entry(Entry),
    Truncate(Option<LogId>),
    Purge(LogId),
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

impl Model {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Vote(vote) => self.vote = Some(*vote),
            Step::Entry(entry) => drop(self.entries.insert(entry.log_id.index, entry.clone())),
            Step::Truncate(after) => {
                let from = after.map_or(0, |id| id.index + 1);
                self.entries.retain(|index, _| *index < from);
            }
            Step::Purge(upto) => {
                self.entries.retain(|index, _| *index > upto.index);
                self.purged = Some(*upto);
            }
        }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.values().next_back().map(|entry| entry.log_id).or(self.purged)
    }

    fn next(&self) -> u64 {
        self.last().map_or(0, |id| id.index + 1)
    }

    fn of(log: &mut Log) -> Model {
        let state = log.get_log_state().now_or_never().unwrap().unwrap();
        let entries = all(log).into_iter().map(|entry| (entry.log_id.index, entry)).collect();
        let vote = log.read_vote().now_or_never().unwrap().unwrap();
        let model = Model { vote, purged: state.last_purged_log_id, entries };
        assert_eq!(model.last(), state.last_log_id);
        model
    }
}

/// One life of a log, from an opening to a crash.
struct Life {
    random: SplitMix64,
    log: Log,
    term: u64,
    committed: Option<LogId>,
    /// As opened, and with all steps.
    opened: Model,
    asked: Model,
    steps: Vec<Step>,
    /// How many steps were completed.
    completed: usize,
    waiting: VecDeque<(usize, Waiting)>,
}

impl Life {
    fn new(seed: u64, mut log: Log) -> Life {
        let opened = Model::of(&mut log);
        let vote_term = opened.vote.map_or(0, |vote| vote.leader_id.term);
        let term = opened.last().map_or(0, |id| id.leader_id.term).max(vote_term) + 1;
        let committed = log.read_committed().now_or_never().unwrap().unwrap();
        Life {
            random: SplitMix64(seed),
            log,
            term,
            committed,
            asked: opened.clone(),
            opened,
            steps: Vec::new(),
            completed: 0,
            waiting: VecDeque::new(),
        }
    }

    fn ask(&mut self, step: Step) {
        self.asked.apply(&step);
        self.steps.push(step);
    }

    fn wait_for(&mut self, mut call: Waiting) {
        if call.as_mut().now_or_never().is_none() {
            self.waiting.push_back((self.steps.len(), call));
        }
    }

    fn act(&mut self) {
        let mut log = self.log.clone();
        match self.random.below(100) {
            0..60 => {
                let mut entries = Vec::new();
                for _ in 0..1 + self.random.below(4) {
                    let fill = self.random.next_u64() as u8;
                    let command = vec![fill; self.random.below(300) as usize];
                    entries.push(entry(self.term, self.asked.next(), command));
                    self.ask(Step::Entry(entries[entries.len() - 1].clone()));
                }
                let (done, durable) = TypeConfig::<TokioRuntime>::oneshot();
                let appended = log.append(entries, IOFlushed::signal(done)).now_or_never();
                if appended.expect("append never waits").is_ok() {
                    self.wait_for(Box::pin(durable.map(|done| done.expect("completed"))));
                }
            }
            60..75 => {
                self.term += 1;
                let vote = Vote::new(self.term, self.random.below(5));
                self.ask(Step::Vote(vote));
                self.wait_for(Box::pin(async move { log.save_vote(&vote).await }));
            }
            75..85 => {
                // What is committed is never truncated.
                let from = self.committed.map_or(0, |id| id.index + 1);
                let uncommitted = self.asked.entries.range(from..).count() as u64;
                let kept = self.asked.entries.len() as u64 - self.random.below(uncommitted + 1);
                let after = self.asked.entries.values().take(kept as usize).next_back();
                let after = after.map(|entry| entry.log_id).or(self.asked.purged);
                self.term += 1;
                self.ask(Step::Truncate(after));
                self.wait_for(Box::pin(async move { log.truncate_after(after).await }));
            }
            85..93 => {
                let ids: Vec<_> = self.asked.entries.values().map(|entry| entry.log_id).collect();
                let mut upto = ids.get(self.random.below(ids.len() as u64) as usize).copied();
                if self.random.chance(10) {
                    self.term += 1;
                    upto = Some(log_id(self.term, self.asked.next() + self.random.below(9)));
                }
                if let Some(upto) = upto {
                    self.ask(Step::Purge(upto));
                    log.purge(upto).now_or_never().expect("purge never waits").ok();
                }
            }
            _ => {
                self.committed = self.asked.last();
                log.save_committed(self.committed).now_or_never().unwrap().unwrap();
            }
        }
    }

    /// Looks which calls are complete; they complete in the order in which they were made.
    fn poll(&mut self) {
        let mut failed = false;
        for (steps, mut call) in std::mem::take(&mut self.waiting) {
            match call.as_mut().now_or_never() {
                None => self.waiting.push_back((steps, call)),
                Some(Err(_)) => failed = true,
                Some(Ok(())) => {
                    assert!(!failed && self.waiting.is_empty(), "completed out of order");
                    self.completed = steps;
                }
            }
        }
    }

    /// Checks a log that was opened after this life, and returns what it holds.
    fn check(&self, log: &mut Log) -> Model {
        let found = Model::of(log);
        let mut model = self.opened.clone();
        let (completed, rest) = self.steps.split_at(self.completed);
        completed.iter().for_each(|step| model.apply(step));
        let mut rest = rest.iter();
        while model != found {
            let Some(step) = rest.next() else {
                panic!("not a result of the steps: {found:?}\nlast state: {model:?}");
            };
            model.apply(step);
        }
        let committed = log.read_committed().now_or_never().unwrap().unwrap();
        assert!(committed.map(|id| id.index) <= found.last().map(|id| id.index));
        found
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum End {
    PowerLoss { syncs: u64 },
    SyncError { syncs: u64 },
    Kill,
}

/// Opens the log on `disk`; the power may go while it does.
fn open(disk: FaultyDisk, random: &mut SplitMix64, options: &LogOptions) -> (Bench, Log) {
    let mut bench = Bench::new(disk);
    while random.chance(20) {
        bench.disk.inject(Fault::PowerLoss, random.below(2));
        let opened = bench.open(options.clone());
        assert!(!matches!(opened, Err(Fatal::Corrupt { .. })), "{:?}", opened.err());
        bench = Bench::new(bench.disk.crash(random.next_u64()));
    }
    let log = bench.open(options.clone()).unwrap();
    (bench, log)
}

fn live(bench: &Bench, life: &mut Life, actions: usize, end: End) {
    match end {
        End::PowerLoss { syncs } => bench.disk.inject(Fault::PowerLoss, syncs),
        End::SyncError { syncs } => bench.disk.inject(Fault::SyncError, syncs),
        End::Kill => {}
    }
    for _ in 0..actions {
        life.act();
        if life.random.chance(40) {
            bench.worker.run();
            life.poll();
            if !lock(&bench.fatal).is_empty() {
                return;
            }
            assert_eq!(Model::of(&mut life.log), life.asked);
        }
    }
}

fn random_options(random: &mut SplitMix64) -> LogOptions {
    LogOptions {
        wal: WalOptions {
            segment_bytes: 256 + random.below(4000),
            preallocate_bytes: 1 + random.below(2000),
        },
        cache_bytes: random.below(3000) as usize,
        batch_bytes: 1 + random.below(2000) as usize,
        read_bytes: 1 + random.below(1000) as usize,
    }
}

fn lives(seed: u64, ends: impl Fn(&mut SplitMix64) -> End) {
    let mut random = SplitMix64(seed);
    let options = random_options(&mut random);
    let (mut bench, log) = open(FaultyDisk::default(), &mut random, &options);
    let mut life = Life::new(random.next_u64(), log);
    for _ in 0..4 {
        let end = ends(&mut random);
        live(&bench, &mut life, 60, end);
        // Without a power loss the next process finds all that was written, durable or not.
        let disk = match end {
            End::PowerLoss { .. } => bench.disk.crash(random.next_u64()),
            End::SyncError { .. } | End::Kill => bench.disk.clone(),
        };
        let (opened, mut log) = open(disk, &mut random, &options);
        let found = life.check(&mut log);
        // What an opened log shows is durable, or a vote that it showed could be taken back.
        let (opened, mut log) = open(opened.disk.crash(random.next_u64()), &mut random, &options);
        assert_eq!(Model::of(&mut log), found);
        (bench, life) = (opened, Life::new(random.next_u64(), log));
    }
}

#[test]
fn nothing_acknowledged_is_lost_in_1000_seeds_of_power_losses() {
    for seed in 0..1000 {
        let run = || lives(seed, |random| End::PowerLoss { syncs: random.below(40) });
        report(seed, run);
    }
}

#[test]
fn a_power_loss_at_every_sync_boundary() {
    for seed in 0..20 {
        for syncs in 0..40 {
            report(seed, || lives(seed, |_| End::PowerLoss { syncs }));
        }
    }
}

#[test]
fn a_killed_process_or_a_failed_sync_leaves_nothing_that_can_be_taken_back() {
    for seed in 0..300 {
        let run = || {
            lives(seed, |random| match random.chance(50) {
                true => End::Kill,
                false => End::SyncError { syncs: random.below(30) },
            })
        };
        report(seed, run);
    }
}

fn report(seed: u64, run: impl FnOnce()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
        panic!("seed {seed}");
    }
}
