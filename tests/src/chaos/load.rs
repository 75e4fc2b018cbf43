//! The load: clients and watchers on a runtime of their own, and the history that they leave.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::POLL;
use super::client::Client;
use super::finals::final_of;
use super::recorder::{Recorder, Statistics};
use super::watcher::{WatchPlan, Watcher};
use crate::check::{Answer, Guard, History, Outcome, Request, Write};
use crate::cluster::{Cluster, Kind};

/// Keys are `k0` … `k9`, `k10` …: few, so that clients meet on them.
const KEYS: u32 = 16;
/// How long the last write, and then the watchers, may take.
const FINISH_DEADLINE: Duration = Duration::from_secs(60);
/// A client's pause after a failed call.
const BACKOFF: Duration = Duration::from_millis(20);

/// How much load.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// All random choices of clients and watchers derive from it (not their timing).
    pub seed: u64,
    pub clients_per_member: usize,
    /// A client's pause between two calls, at most.
    pub max_pause: Duration,
    /// Whether watchers ask for progress, and so have that promise checked.
    pub request_progress: bool,
}

impl LoadOptions {
    /// A load that two processor cores carry with ease, members included.
    pub fn new(seed: u64, kind: Kind) -> LoadOptions {
        LoadOptions {
            seed,
            clients_per_member: 4,
            max_pause: Duration::from_millis(10),
            // etcd before 3.5.8 announces progress past events that it has not sent yet
            // (etcd issue 15220); this checker finds it within a second.
            request_progress: kind == Kind::Coracle,
        }
    }
}

/// A running load.
pub struct Load {
    runtime: Runtime,
    recorder: Arc<Recorder>,
    endpoints: Arc<Vec<String>>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
    watchers: Vec<JoinHandle<()>>,
    /// Tells the watchers the last revision.
    until: watch::Sender<i64>,
}

impl Load {
    /// Starts clients on every member of `cluster`, and watchers that move between them.
    ///
    /// # Errors
    /// If the runtime cannot be started.
    pub fn start(cluster: &Cluster, options: LoadOptions) -> Result<Load> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("the clients' runtime")?;
        let endpoints: Vec<_> = (0..cluster.size()).map(|index| cluster.endpoint(index)).collect();
        let mut load = Load {
            runtime,
            recorder: Arc::new(Recorder::new(cluster.size())),
            endpoints: Arc::new(endpoints),
            stop: Arc::default(),
            clients: Vec::new(),
            watchers: Vec::new(),
            until: watch::channel(0).0,
        };
        load.start_watchers(options);
        load.start_clients(options)?;
        Ok(load)
    }

    fn start_clients(&mut self, options: LoadOptions) -> Result<()> {
        let _inside = self.runtime.enter();
        for member in 0..self.endpoints.len() {
            for number in 0..options.clients_per_member {
                let name = format!("client {number} of member {member}");
                let client = self.client(&name, member)?;
                let seed = options.seed + (member * options.clients_per_member + number) as u64;
                let worker = Worker {
                    client,
                    name: format!("{member}.{number}"),
                    random: StdRng::seed_from_u64(seed),
                    max_pause: options.max_pause,
                    known: BTreeMap::new(),
                };
                self.clients.push(self.runtime.spawn(worker.run(self.stop.clone())));
            }
        }
        Ok(())
    }

    fn client(&self, name: &str, member: usize) -> Result<Client> {
        let _inside = self.runtime.enter();
        let endpoint = &self.endpoints[member];
        Ok(Client::new(self.recorder.clone(), name.to_owned(), member, endpoint)?)
    }

    fn start_watchers(&mut self, options: LoadOptions) {
        for member in 0..self.endpoints.len() {
            let plans: [(&str, &'static [u8], &'static [u8], bool); 3] = [
                ("all keys", b"\0", b"\0", true),
                ("one key", b"k1", b"", true),
                ("prefix", b"k1", b"k2", false),
            ];
            for (number, (name, key, range_end, prev_kv)) in plans.into_iter().enumerate() {
                let plan = WatchPlan {
                    name: format!("{name} {member}"),
                    key,
                    range_end,
                    prev_kv,
                    member,
                    request_progress: options.request_progress,
                    seed: options.seed ^ (1000 + 10 * member + number) as u64,
                };
                let watcher = Watcher::new(
                    self.recorder.clone(),
                    self.endpoints.clone(),
                    plan,
                    self.until.subscribe(),
                );
                self.watchers.push(self.runtime.spawn(watcher.run(FINISH_DEADLINE)));
            }
        }
    }

    /// Runs `future` among the clients and waits for it.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// To be called after member `index` was killed, before it is started again.
    pub fn process_ended(&self, index: usize) {
        self.recorder.process_ended(index);
    }

    /// Waits until a write that is started from now on is acknowledged; returns how long it took.
    ///
    /// # Errors
    /// If that takes longer than `deadline`.
    pub fn wait_for_write(&self, deadline: Duration) -> Result<Duration> {
        let position = self.recorder.operations_recorded();
        let began = self.recorder.now();
        let give_up = Instant::now() + deadline;
        while Instant::now() < give_up {
            if let Some(acknowledged) = self.recorder.first_write_after(began, position) {
                return Ok(acknowledged - began);
            }
            std::thread::sleep(POLL);
        }
        bail!("no write was acknowledged within {deadline:?}")
    }

    /// Lets the load run until `count` more operations are recorded.
    ///
    /// # Errors
    /// If that takes longer than a minute.
    pub fn wait_for_operations(&self, count: usize) -> Result<()> {
        let target = self.recorder.operations_recorded() + count;
        let give_up = Instant::now() + FINISH_DEADLINE;
        while self.recorder.operations_recorded() < target {
            if Instant::now() > give_up {
                bail!("fewer than {count} operations within {FINISH_DEADLINE:?}");
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Ends the load, lets the watchers catch up, and reads each member's whole history.
    /// All members must be running.
    ///
    /// # Errors
    /// If no last write succeeds, or a member does not tell its history.
    pub fn finish(mut self) -> Result<(History, Statistics)> {
        self.stop.store(true, Ordering::SeqCst);
        for client in std::mem::take(&mut self.clients) {
            self.block_on(client).context("a client failed")?;
        }
        let last_revision = self.last_write()?;
        self.until.send_replace(last_revision);
        for watcher in std::mem::take(&mut self.watchers) {
            self.block_on(watcher).context("a watcher failed")?;
        }
        let mut finals = Vec::new();
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            finals.push(self.block_on(final_of(format!("member {index}"), endpoint))?);
        }
        let statistics = self.recorder.statistics();
        let (operations, watches) = self.recorder.take();
        Ok((History { operations, watches, finals }, statistics))
    }

    /// A write that every watcher sees, so that each knows when it has got everything.
    fn last_write(&self) -> Result<i64> {
        let give_up = Instant::now() + FINISH_DEADLINE;
        for attempt in 0.. {
            let value = Bytes::from(format!("last {attempt}"));
            let put = Write::Put { key: Bytes::from_static(b"k1"), value };
            let request = Request::Write { guard: None, writes: vec![put] };
            let mut client = self.client("last", attempt % self.endpoints.len())?;
            if let Outcome::Answered { revision, .. } = self.block_on(client.call(request)) {
                return Ok(revision);
            }
            if Instant::now() > give_up {
                break;
            }
            std::thread::sleep(BACKOFF);
        }
        bail!("the last write was not acknowledged within {FINISH_DEADLINE:?}")
    }
}

/// A client's random work.
struct Worker {
    client: Client,
    /// Part of its values, which makes them unique.
    name: String,
    random: StdRng,
    max_pause: Duration,
    /// The mod_revision of each key as last seen, for guards.
    known: BTreeMap<Bytes, i64>,
}

impl Worker {
    async fn run(mut self, stop: Arc<AtomicBool>) {
        let mut number = 0_u64;
        while !stop.load(Ordering::SeqCst) {
            number += 1;
            let request = self.request(number);
            match self.client.call(request.clone()).await {
                Outcome::Answered { revision, answer } => self.learn(&request, revision, &answer),
                Outcome::Unknown | Outcome::Refused => tokio::time::sleep(BACKOFF).await,
            }
            tokio::time::sleep(self.random.random_range(Duration::ZERO..self.max_pause)).await;
        }
    }

    fn request(&mut self, number: u64) -> Request {
        let everything = Bytes::from_static(b"\0");
        let key = self.key();
        let value = format!("{} {number}", self.name);
        let put = Write::Put { key: key.clone(), value: Bytes::from(value.clone()) };
        match self.random.random_range(0..20) {
            0..=6 => Request::Write { guard: None, writes: vec![put] },
            7 => {
                let delete = Write::Delete { key, range_end: Bytes::new() };
                Request::Write { guard: None, writes: vec![delete] }
            }
            8..=10 => {
                let mod_revision = self.known.get(&key).copied().unwrap_or(0);
                Request::Write { guard: Some(Guard { key, mod_revision }), writes: vec![put] }
            }
            11..=12 => {
                // A pair in one revision, in key order or against it.
                let other = Bytes::from(format!("{} of a pair", self.random.random_range(0..KEYS)));
                let second = Write::Put { key: other, value: Bytes::from(value + " too") };
                Request::Write { guard: None, writes: vec![put, second] }
            }
            13..=14 => Request::Read { key, range_end: Bytes::new(), serializable: false },
            15..=16 => {
                let range_end = everything.clone();
                Request::Read { key: everything, range_end, serializable: false }
            }
            17 => Request::Read { key, range_end: Bytes::new(), serializable: true },
            _ => {
                let range_end = everything.clone();
                Request::Read { key: everything, range_end, serializable: true }
            }
        }
    }

    fn key(&mut self) -> Bytes {
        Bytes::from(format!("k{}", self.random.random_range(0..KEYS)))
    }

    fn learn(&mut self, request: &Request, revision: i64, answer: &Answer) {
        match (request, answer) {
            (Request::Write { writes, .. }, Answer::Written { .. }) => {
                for write in writes {
                    match write {
                        Write::Put { key, .. } => self.known.insert(key.clone(), revision),
                        Write::Delete { key, .. } => self.known.insert(key.clone(), 0),
                    };
                }
            }
            (Request::Write { guard: Some(guard), .. }, Answer::GuardFailed { current }) => {
                let mod_revision = current.as_ref().map_or(0, |kv| kv.mod_revision);
                self.known.insert(guard.key.clone(), mod_revision);
            }
            (Request::Read { .. }, Answer::Read { kvs, .. }) => {
                for kv in kvs {
                    self.known.insert(kv.key.clone(), kv.mod_revision);
                }
            }
            _ => {}
        }
    }
}
