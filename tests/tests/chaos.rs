//! Three-member clusters under load whose members are killed and paused: no acknowledged write is
//! lost, no linearizable read is stale, watchers miss and repeat nothing, and writes resume soon.
//!
//! | variable | means |
//! |---|---|
//! | `CORACLE_LONG=1` | 20 rounds of harm instead of 3 |
//! | `CHAOS_TARGET=etcd` | the members are real etcd: checks the test, not Coracle |
//! | `CHAOS_SEED` | the seed that a run printed; timing is real, so no run repeats another |
//!
//! One file, one test at a time ([`turn`]): a machine that runs three clusters at once measures
//! its own overload.

use std::env;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use coracle_tests::chaos::{Load, LoadOptions, wait_for_leader};
use coracle_tests::check::check;
use coracle_tests::cluster::{Cluster, Kind};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Within this time of the leader's death, writes must be acknowledged again. The long run measures
/// it; a short one runs on machines of any speed, beside anything.
const RESUME_LIMIT: Duration = Duration::from_secs(3);
/// A leader that is paused breaks no connection: the others find out by its silence, and now and
/// then two of them stand for election at once, more than one time in a row.
const PAUSE_LIMIT: Duration = Duration::from_secs(5);
/// A scenario gives up waiting for writes after this time; the limit above is judged afterwards.
const RESUME_DEADLINE: Duration = Duration::from_secs(30);
/// Operations between two rounds.
const OPERATIONS_PER_ROUND: usize = 1000;
/// Longer than etcd's default election timeout of 1 s: the others elect a leader meanwhile.
const PAUSE: Duration = Duration::from_millis(2500);

#[test]
fn kill_leader_under_load() -> Result<()> {
    scenario("kill the leader", RESUME_LIMIT, |cluster, load, random| {
        let leader = wait_for_leader(load, cluster)?;
        cluster.kill(leader)?;
        let resumed = load.wait_for_write(RESUME_DEADLINE)?;
        load.process_ended(leader);
        std::thread::sleep(random.random_range(Duration::ZERO..Duration::from_millis(500)));
        cluster.restart(leader)?;
        cluster.wait_healthy()?;
        Ok(resumed)
    })
}

#[test]
fn kill_all_members_at_once() -> Result<()> {
    scenario("kill all members", RESUME_LIMIT, |cluster, load, _| {
        for index in 0..cluster.size() {
            cluster.kill(index)?;
            load.process_ended(index);
        }
        for index in 0..cluster.size() {
            cluster.restart(index)?;
        }
        let resumed = load.wait_for_write(RESUME_DEADLINE)?;
        cluster.wait_healthy()?;
        Ok(resumed)
    })
}

#[test]
fn pause_leader_under_load() -> Result<()> {
    // The old leader wakes up believing that it leads, with requests waiting in its sockets.
    scenario("pause the leader", PAUSE_LIMIT, |cluster, load, _| {
        let leader = wait_for_leader(load, cluster)?;
        cluster.pause(leader)?;
        let paused = Instant::now();
        let resumed = load.wait_for_write(RESUME_DEADLINE);
        std::thread::sleep(PAUSE.saturating_sub(paused.elapsed()));
        cluster.resume(leader)?;
        cluster.wait_healthy()?;
        resumed
    })
}

/// Runs rounds of `harm`, which returns how long writes were not acknowledged, and checks all.
fn scenario(
    name: &str,
    limit: Duration,
    harm: impl Fn(&mut Cluster, &Load, &mut StdRng) -> Result<Duration>,
) -> Result<()> {
    let _turn = turn();
    let seed = seed()?;
    let is_long = env::var_os("CORACLE_LONG").is_some();
    let rounds = if is_long { 20 } else { 3 };
    println!("{name}: {rounds} rounds, seed {seed}");
    let kind = target()?;
    let mut cluster = Cluster::start(kind, 3)?;
    let load = Load::start(&cluster, LoadOptions::new(seed, kind))?;
    let mut random = StdRng::seed_from_u64(seed);
    let mut gaps = Vec::new();
    for round in 1..=rounds {
        let gap = load
            .wait_for_operations(OPERATIONS_PER_ROUND)
            .and_then(|()| harm(&mut cluster, &load, &mut random))
            .with_context(|| format!("round {round} of seed {seed}\n{}", cluster.log_tails()))?;
        println!("round {round}: writes resumed after {gap:?}");
        gaps.push(gap);
    }
    load.wait_for_operations(OPERATIONS_PER_ROUND)?;
    let (history, statistics) = load.finish().with_context(|| cluster.log_tails())?;
    println!("{statistics}");
    match check(&history) {
        Ok(report) => println!("{report}"),
        Err(violations) => {
            let mut text = format!("{name}, seed {seed}: the history is not correct\n");
            for violation in violations {
                writeln!(text, "{violation}")?;
            }
            bail!("{text}{}", cluster.log_tails());
        }
    }
    let unexpected = statistics.unexpected();
    ensure!(unexpected.is_empty(), "calls failed in ways that no crash explains: {unexpected:?}");
    let longest = gaps.into_iter().max().unwrap_or_default();
    println!("{name}: writes resumed after at most {longest:?}");
    ensure!(longest < limit || !is_long, "writes resumed only after {longest:?}, seed {seed}");
    Ok(())
}

/// Held by the running scenario.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // Another scenario's failure is no reason not to run this one.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn target() -> Result<Kind> {
    match env::var("CHAOS_TARGET").as_deref() {
        Err(_) | Ok("coracle") => Ok(Kind::Coracle),
        Ok("etcd") => Ok(Kind::Etcd),
        Ok(other) => bail!("CHAOS_TARGET is `etcd` or `coracle`, not `{other}`"),
    }
}

fn seed() -> Result<u64> {
    match env::var("CHAOS_SEED") {
        Ok(text) => text.parse().context("CHAOS_SEED is a number"),
        Err(_) => Ok(rand::random()),
    }
}
