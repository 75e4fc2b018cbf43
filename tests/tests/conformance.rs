//! The same random requests to real etcd and to Coracle: see [`coracle_tests::conformance`].
//!
//! | variable | effect |
//! |---|---|
//! | `CORACLE_LONG=1` | 1,000,000 operations; every option and error of keys at least 1,000 times |
//! | `CORACLE_SEED=n` | the sequence of this seed; of a long run, those from it on |
//! | `CORACLE_OPS=n` | operations of a sequence |
//! | `CORACLE_SEQUENCES=n` | sequences of a long run |
//! | `CORACLE_PARALLEL=n` | sequences that run at once |
//! | `CORACLE_KEEP_GOING=1` | goes on after a difference and lists them all |
//! | `CORACLE_SUBJECT=etcd` | a second etcd instead of Coracle: tests the test |

use std::env;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use coracle_tests::cluster::Kind;
use coracle_tests::conformance::coverage::Coverage;
use coracle_tests::conformance::operation::Operation;
use coracle_tests::conformance::{run_scenario, run_sequence, scenarios};

/// The seed that every run repeats.
const FIXED_SEED: u64 = 20_260_801;
/// Operations of one sequence, unless the environment says otherwise.
const OPERATIONS: usize = 5_000;
/// Operations of a fresh sequence in a short run, which is there to find what the next long run
/// would.
const FRESH_OPERATIONS: usize = 500;
/// Sequences of a long run: 1,000,000 operations.
const LONG_SEQUENCES: u64 = 200;
/// Sequences that run at once: some wait for watches and processes while others compute.
const PARALLEL: usize = 4;
/// How often a long run has to meet each operation, option and error of keys, leases, watches and
/// members.
const LONG_MINIMUM: u64 = 1_000;
/// How often it has to meet these. A defragmentation stops the world, a reset drops watchers, a
/// command is a process: few of them do. What people ask comes in few sessions, and some of it goes
/// wrong once in a session.
const LONG_MINIMUM_OF_RARE: u64 = 20;
const RARE: [&str; 12] = [
    "Defragment",
    "watch reset",
    "2 auth: authentication failed, password was given for no password user",
    "3 etcdserver: invalid auth management",
    "3 etcdserver: permission not given",
    "3 etcdserver: role name is empty",
    "9 etcdserver: permission is not granted to the role",
    "9 etcdserver: role is not granted to the user",
    "9 etcdserver: role name already exists",
    "9 etcdserver: root user does not exist",
    "9 etcdserver: root user does not have root role",
    "9 etcdserver: user name not found",
];
/// Two etcds 3.5.1 disagree about one hash in some hundred (H-1); more would be our doing.
const HASHES_PER_DIFFERENT_ONE: u64 = 10;
/// The share of operations that have to succeed, in percent.
const LEAST_SUCCESS: u64 = 60;

fn number(name: &str) -> Result<Option<u64>> {
    match env::var(name) {
        Ok(text) => Ok(Some(text.parse().with_context(|| format!("{name} must be a number"))?)),
        Err(_) => Ok(None),
    }
}

fn subject() -> Kind {
    match env::var("CORACLE_SUBJECT").as_deref() {
        Ok("etcd") => Kind::Etcd,
        _ => Kind::Coracle,
    }
}

/// The seeds of a short run: a fixed one, and one from the clock.
fn short_seeds() -> Vec<u64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    vec![FIXED_SEED, now.as_millis() as u64]
}

#[test]
fn same_answers_as_etcd() {
    if let Err(error) = compare() {
        panic!("{error:#}");
    }
}

/// Compares the operations of a scenario.
fn scenario(name: &str, operations: Vec<Operation>) {
    if let Err(error) = run_scenario(subject(), name, operations) {
        panic!("{error:#}");
    }
}

#[test]
fn watch_08_large_responses() {
    scenario("large watch responses", scenarios::large_watch_responses());
}

#[test]
fn lease_04_expiry() {
    scenario("lease expiry", scenarios::lease_expiry());
}

#[test]
fn watch_03_long_catch_up() {
    scenario("long catch-up", scenarios::long_catch_up());
}

fn compare() -> Result<()> {
    let long = number("CORACLE_LONG")?.is_some_and(|value| value > 0);
    let operations = number("CORACLE_OPS")?.map_or(OPERATIONS, |count| count as usize);
    let sequences = number("CORACLE_SEQUENCES")?.unwrap_or(LONG_SEQUENCES);
    let seeds = match (number("CORACLE_SEED")?, long) {
        (Some(seed), false) => vec![seed],
        (None, false) => short_seeds(),
        (seed, true) => (seed.unwrap_or(FIXED_SEED)..).take(sequences as usize).collect(),
    };
    let whole = long || seeds.len() == 1;
    let fresh = if whole { operations } else { operations.min(FRESH_OPERATIONS) };
    println!("seeds {seeds:?}, {operations} operations of the first, {fresh} of the others");
    let start = Instant::now();
    let coverage = run_all(&seeds, operations, fresh)?;
    println!("{coverage}in {:.1?}", start.elapsed());
    ensure!(
        coverage.success_percent() >= LEAST_SUCCESS,
        "only {} % of the operations succeeded",
        coverage.success_percent()
    );
    let (equal, different) = coverage.hashes;
    ensure!(
        different * HASHES_PER_DIFFERENT_ONE <= equal + different,
        "{different} hashes differ, {equal} are equal"
    );
    if long && sequences >= LONG_SEQUENCES {
        ensure_everything_met(&coverage)?;
    }
    Ok(())
}

fn run_all(seeds: &[u64], operations: usize, fresh: usize) -> Result<Coverage> {
    let subject = subject();
    let parallel = number("CORACLE_PARALLEL")?.map_or(PARALLEL, |count| count as usize);
    let length = |seed: u64| if seed == seeds[0] { operations } else { fresh };
    let mut total = Coverage::default();
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..parallel)
            .map(|worker| {
                scope.spawn(move || {
                    let mine = seeds.iter().skip(worker).step_by(parallel);
                    mine.map(|seed| {
                        let result = run_sequence(subject, *seed, length(*seed));
                        println!(
                            "seed {seed}: {}",
                            if result.is_ok() { "equal" } else { "DIFFERENT" }
                        );
                        result
                    })
                    .collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no panic")).collect::<Vec<_>>()
    });
    let mut differences = Vec::new();
    for result in results {
        match result {
            Ok(coverage) => total.add(&coverage),
            Err(error) => differences.push(format!("{error:#}")),
        }
    }
    ensure!(
        differences.is_empty(),
        "{total}{} sequences differ:\n{}",
        differences.len(),
        differences.join("\n\n")
    );
    Ok(total)
}

fn ensure_everything_met(coverage: &Coverage) -> Result<()> {
    let rare: Vec<String> = [&coverage.operations, &coverage.options, &coverage.errors]
        .into_iter()
        .flatten()
        .filter(|(name, count)| **count < least_of(name))
        .map(|(name, count)| format!("{name}: {count}"))
        .collect();
    ensure!(rare.is_empty(), "met less often than a long run has to: {rare:#?}");
    Ok(())
}

fn least_of(name: &str) -> u64 {
    let by_people_or_process = ["ctl", "auth"].iter().any(|kind| name.starts_with(kind));
    if by_people_or_process || RARE.contains(&name) { LONG_MINIMUM_OF_RARE } else { LONG_MINIMUM }
}
