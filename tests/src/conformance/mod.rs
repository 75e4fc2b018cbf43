//! Differential conformance: the same random requests to real etcd and to Coracle, in the same
//! order, every answer compared field by field.
//!
//! A *sequence* is all that a seed determines: two fresh single-member servers and a number of
//! operations, in gRPC, in JSON by the gateway, and as command lines of `etcdctl` and
//! `coracle ctl`; now and then a session in which authentication is on. [`everything`] puts them
//! together from what [`generate`] and [`auth`] choose, [`server`] carries them out, [`normalise`]
//! removes what may differ, and the first difference ends the sequence with a report that holds
//! the seed, the operation and both answers. Watch events are compared when the sequence
//! *settles*: a *tape*, one watcher on all keys, tells how many events each other watcher has to
//! receive.
//!
//! The reference is etcd 3.5.1. Where Coracle deliberately behaves like a newer release, the
//! difference stands in `tests/conformance_differences.md` and in [`normalise`] or [`documented`].

pub mod auth;
pub mod coverage;
pub mod dice;
pub mod documented;
pub mod everything;
pub mod generate;
pub mod json;
pub mod leases;
pub mod model;
pub mod normalise;
pub mod operation;
pub mod ranges;
pub mod scenarios;
pub mod server;
pub mod tape;
pub mod watch;

use std::collections::VecDeque;
use std::env;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::time::sleep;

use crate::cli::Program;
use crate::cluster::{Cluster, Kind};
use coverage::Coverage;
use dice::Dice;
use everything::Everything;
use generate::{STREAMS, hashes_comparable};
use model::Model;
use normalise::normalise;
use operation::{Answer, Operation};
use server::Server;
use tape::Tape;

/// Flags of the servers of a sequence. The long election timeout raises the least TTL of a lease
/// to 3 s, so that none expires between two operations.
const FLAGS: [&str; 6] = [
    "--unsafe-no-fsync",
    "--bcrypt-cost=4",
    "--heartbeat-interval=100",
    "--election-timeout=2000",
    "--log-level=error",
    "--max-txn-ops=128",
];
/// Set in the environment, it makes a sequence go on after a difference and print them all:
/// the first ones are to be trusted, later ones may follow from them.
const KEEP_GOING: &str = "CORACLE_KEEP_GOING";
/// How often etcd is asked for a hash that is another than the subject's, and the pause between.
const HASH_ATTEMPTS: u32 = 20;
const HASH_PAUSE: Duration = Duration::from_millis(100);
/// Operations before a difference that its report shows.
const CONTEXT: usize = 12;

/// Of 100 requests, those that are made in JSON.
const JSON_PERCENT: usize = 30;

/// How the servers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speech {
    Grpc,
    /// In JSON, but for what etcd's gateway has no path for.
    Json,
}

/// Runs the sequence of `seed` against fresh servers and counts what it exercised.
///
/// # Errors
/// On the first difference between etcd and `subject`, with everything needed to repeat it.
pub fn run_sequence(subject: Kind, seed: u64, operations: usize) -> Result<Coverage> {
    let mut generator = Everything::new(seed);
    let mut left = operations;
    let speeches = Some(Dice::new(seed.rotate_left(32)));
    compare(subject, speeches, &format!("seed {seed}"), hashes_comparable(seed), |model| {
        if left == 0 && generator.may_end() {
            return None;
        }
        left = left.saturating_sub(1);
        Some(generator.next(model))
    })
}

/// Runs operations that are written down: what random ones meet too rarely.
///
/// # Errors
/// As [`run_sequence`].
pub fn run_scenario(subject: Kind, name: &str, operations: Vec<Operation>) -> Result<Coverage> {
    let mut operations = operations.into_iter();
    compare(subject, None, name, false, |_| operations.next())
}

/// Carries out the operations that `next` chooses, on fresh servers; in JSON too if there are dice
/// for it.
fn compare(
    subject: Kind,
    speeches: Option<Dice>,
    name: &str,
    hashes_comparable: bool,
    mut next: impl FnMut(&Model) -> Option<Operation>,
) -> Result<Coverage> {
    let (reference, subject_cluster) = thread::scope(|scope| {
        let reference = scope.spawn(|| Cluster::start_with(Kind::Etcd, 1, &FLAGS));
        let subject = Cluster::start_with(subject, 1, &FLAGS);
        (reference.join().expect("starting a cluster does not panic"), subject)
    });
    let (reference, subject_cluster) = (reference?, subject_cluster?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(async {
        let mut comparison = Comparison {
            reference: Server::connect("etcd", &reference, STREAMS + 1).await?,
            subject: Server::connect("the subject", &subject_cluster, STREAMS + 1).await?,
            subject_kind: subject,
            model: Model::new(),
            tape: Tape::new(),
            coverage: Coverage::default(),
            recent: VecDeque::new(),
            speeches,
            hashes_comparable,
            differences: 0,
        };
        comparison.run(name, &mut next).await
    });
    result.with_context(|| {
        format!("logs:\n{}\n{}", reference.log_tails(), subject_cluster.log_tails())
    })
}

/// Two servers in step.
struct Comparison {
    reference: Server,
    subject: Server,
    subject_kind: Kind,
    model: Model,
    tape: Tape,
    coverage: Coverage,
    /// The last operations with the reference's answers.
    recent: VecDeque<(usize, Operation, Answer)>,
    /// Choose between gRPC and JSON.
    speeches: Option<Dice>,
    hashes_comparable: bool,
    /// Differences printed and passed over ([`KEEP_GOING`]).
    differences: usize,
}

impl Comparison {
    async fn run(
        &mut self,
        name: &str,
        next: &mut impl FnMut(&Model) -> Option<Operation>,
    ) -> Result<Coverage> {
        self.tape.start(&mut self.reference, &mut self.subject).await?;
        let mut index = 0;
        while let Some(operation) = next(&self.model) {
            self.step(index, operation).await.with_context(|| self.report(name, index))?;
            index += 1;
        }
        // A sequence ends settled, so that no event goes unseen.
        self.step(index, Operation::Settle).await.with_context(|| self.report(name, index))?;
        ensure!(self.differences == 0, "{} differences (printed above)", self.differences);
        Ok(std::mem::take(&mut self.coverage))
    }

    async fn step(&mut self, index: usize, operation: Operation) -> Result<()> {
        let in_json = self.speeches.as_mut().is_some_and(|dice| dice.percent(JSON_PERCENT));
        let speech = if in_json { Speech::Json } else { Speech::Grpc };
        let known = documented::answer(&operation, self.model.revision);
        if known.is_some() && self.subject_kind == Kind::Etcd {
            return Ok(());
        }
        let (mut expected, mut actual) = match known {
            Some(known) => (known, self.subject.execute(&operation, speech).await?),
            None => self.both(&operation, speech).await?,
        };
        if speech == Speech::Json {
            self.coverage.in_json();
        }
        self.name_lease(&mut expected, &mut actual, &operation);
        if self.hashes_comparable && matches!(operation, Operation::HashKv(_)) {
            self.compare_hashes(index, &operation, &mut expected, &actual).await?;
        }
        normalise(&operation, &mut expected);
        normalise(&operation, &mut actual);
        if expected != actual {
            let [expected, actual] = [&expected, &actual].map(|it| shortened(&format!("{it:?}")));
            let request = shortened(&format!("{operation:?}"));
            let difference =
                format!("  etcd answers    {expected}\n  subject answers {actual}\n  to {request}");
            if env::var_os(KEEP_GOING).is_none() {
                bail!("{difference}");
            }
            eprintln!("operation {index}: {difference}");
            self.differences += 1;
        }
        self.coverage.count(&operation, &expected);
        self.tape.follow(&operation, &expected, &self.model);
        self.observe(&operation, &mut expected);
        self.recent.push_back((index, operation, expected));
        if self.recent.len() > CONTEXT {
            self.recent.pop_front();
        }
        Ok(())
    }

    /// Counts whether the hashes are equal. etcd removes in the background what a compaction
    /// leaves, and where no key is kept counts what is still there, so it is asked again.
    async fn compare_hashes(
        &mut self,
        index: usize,
        operation: &Operation,
        expected: &mut Answer,
        actual: &Answer,
    ) -> Result<()> {
        for attempt in 1..=HASH_ATTEMPTS {
            let (Answer::HashKv(one), Answer::HashKv(other)) = (&*expected, actual) else { break };
            if one.hash == other.hash {
                self.coverage.hashes.0 += 1;
                break;
            }
            if attempt == HASH_ATTEMPTS {
                eprintln!("operation {index}: hashes differ at {operation:?}: {one:?}, {other:?}");
                self.coverage.hashes.1 += 1;
                break;
            }
            sleep(HASH_PAUSE).await;
            *expected = self.reference.execute(operation, Speech::Grpc).await?;
        }
        Ok(())
    }

    /// The answers of both servers.
    async fn both(&mut self, operation: &Operation, speech: Speech) -> Result<(Answer, Answer)> {
        let (reference, subject) = (&mut self.reference, &mut self.subject);
        match operation {
            Operation::Settle => self.tape.settle(reference, subject, &self.model).await,
            Operation::WatchInJson(request) => {
                let due = self.tape.due(request, &self.model);
                let (one, other) = tokio::join!(
                    reference.watch_in_json(request.clone(), due),
                    subject.watch_in_json(request.clone(), due)
                );
                let told = |server: &Server, (created, received)| {
                    let mut events = Answer::Settled(vec![received]);
                    server.leases.from_server(&mut events);
                    normalise(operation, &mut events);
                    let mut created = Answer::Watch(created);
                    normalise(operation, &mut created);
                    Answer::Told(format!("{created:?} {events:?}"))
                };
                Ok((told(reference, one?), told(subject, other?)))
            }
            Operation::Line { line, programs, says } => {
                let answers = thread::scope(|scope| {
                    let expected = scope.spawn(|| reference.run(programs[0], line, says));
                    let actual = subject.run(programs[1], line, says);
                    (expected.join().expect("a line does not panic"), actual)
                });
                let answers = [answers.0?, answers.1?];
                // Where etcdctl crashes there is nothing to be equal to.
                let crashed = |(program, answer): (&Program, &Answer)| {
                    *program == Program::Etcdctl && has_crashed(answer)
                };
                match programs.iter().zip(&answers).any(crashed) {
                    true => Ok((Answer::Done, Answer::Done)),
                    false => Ok(answers.into()),
                }
            }
            operation => {
                let (expected, actual) = tokio::join!(
                    reference.execute(operation, speech),
                    subject.execute(operation, speech)
                );
                Ok((
                    expected.with_context(|| format!("etcd failed at {operation:?}"))?,
                    actual.with_context(|| format!("the subject failed at {operation:?}"))?,
                ))
            }
        }
    }

    /// The model learns. Of what commands print it learns whether they succeeded.
    fn observe(&mut self, operation: &Operation, answer: &mut Answer) {
        match operation {
            Operation::Line { says, .. } if answer.is_ok() => {
                self.model.observe(says, &mut Answer::Done);
            }
            Operation::Line { .. } => {}
            operation => self.model.observe(operation, answer),
        }
    }

    /// Names a lease whose id both servers have just picked.
    fn name_lease(&mut self, expected: &mut Answer, actual: &mut Answer, operation: &Operation) {
        let name = self.model.next_lease_name;
        match (operation, expected, actual) {
            (
                Operation::LeaseGrant(request),
                Answer::LeaseGrant(one),
                Answer::LeaseGrant(other),
            ) if request.id == 0 => {
                for (server, id) in [(&mut self.reference, one), (&mut self.subject, other)] {
                    server.leases.learn(name, id.id);
                    server.shell.learn_lease(id.id);
                    id.id = name;
                }
            }
            (Operation::Line { line, .. }, expected, actual)
                if line.captures.is_some() && expected.is_ok() && actual.is_ok() =>
            {
                for server in [&mut self.reference, &mut self.subject] {
                    server.leases.learn(name, server.shell.last_lease().unwrap_or_default());
                }
            }
            _ => {}
        }
    }

    fn report(&self, name: &str, index: usize) -> String {
        let mut report = format!(
            "operation {index} of {name} differs (store at revision {}, compacted at {})\n\
             before it:\n",
            self.model.revision, self.model.compacted
        );
        for (index, operation, answer) in &self.recent {
            let _ = writeln!(report, "  {index}: {}", shortened(&format!("{operation:?}")));
            let _ = writeln!(report, "      → {}", shortened(&format!("{answer:?}")));
        }
        report
    }
}

/// Whether a Go program printed why it ended.
fn has_crashed(answer: &Answer) -> bool {
    matches!(answer, Answer::Printed(lines) if lines.iter().any(|line| line.starts_with("panic: ")))
}

/// A text cut to what a reader can take in: some values are megabytes long.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 4_000;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_string(),
    }
}
