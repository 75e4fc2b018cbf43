//! Puts from many clients, at a rate or as fast as they go, and what became of them.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use coracle_core::api::etcdserverpb::PutRequest;
use futures_util::future::join_all;

use crate::client::Client;
use crate::commands::Context;
use crate::environment::Environment;

/// Random bytes of a key, after its prefix.
const KEY_BYTES: usize = 256;

/// What to put.
pub(super) struct Load {
    /// When each put is due, after the one before; zero is at once.
    interval: Duration,
    /// Nothing is put after this time, or after so many.
    duration: Duration,
    puts: u64,
    value_bytes: usize,
}

/// What became of the puts.
#[derive(Default)]
pub(super) struct Report {
    /// How long each took, in seconds.
    latencies: Vec<f64>,
    took: Duration,
    /// How often each error came.
    pub(super) errors: BTreeMap<String, u64>,
}

impl Load {
    /// So many puts a second, for this long.
    pub(super) fn at_rate(rate: u64, duration: Duration, value_bytes: usize) -> Load {
        let interval = Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
        Load { interval, duration, puts: u64::MAX, value_bytes }
    }

    /// So many puts, as fast as they go.
    pub(super) fn of(puts: u64, value_bytes: usize) -> Load {
        Load { interval: Duration::ZERO, duration: Duration::MAX, puts, value_bytes }
    }

    /// Puts; each client waits for its answer before it takes the next put that is due.
    pub(super) async fn run(
        &self,
        context: &Context<'_>,
        clients: &[Box<dyn Client>],
        prefix: &str,
    ) -> Report {
        let environment = context.environment;
        let start = environment.now();
        let turns = Turns { load: self, environment, start, taken: Cell::new(0) };
        let words = RefCell::new(Words(start.as_nanos() as u64));
        let report = RefCell::new(Report::default());
        let value = Bytes::from(vec![0; self.value_bytes]);
        let work = clients.iter().map(async |client| {
            while turns.next().await {
                let key = words.borrow_mut().key(prefix);
                let value = value.clone();
                let sent = environment.now();
                let request = PutRequest { key, value, ..PutRequest::default() };
                let outcome = context.within_timeout(client.put(request)).await;
                let took = environment.now() - sent;
                let mut report = report.borrow_mut();
                match outcome {
                    Ok(_) => report.latencies.push(took.as_secs_f64()),
                    Err(error) => *report.errors.entry(error.message).or_default() += 1,
                }
            }
        });
        join_all(work).await;
        let mut report = report.into_inner();
        report.took = environment.now() - start;
        report
    }
}

/// The puts that are still to be done, shared by all clients.
struct Turns<'a> {
    load: &'a Load,
    environment: &'a dyn Environment,
    start: Duration,
    taken: Cell<u64>,
}

impl Turns<'_> {
    /// Waits until the next put is due; false if there is none.
    async fn next(&self) -> bool {
        let turn = self.taken.get();
        let due = self.load.interval.as_secs_f64() * turn as f64;
        let due = self.start.saturating_add(Duration::from_secs_f64(due));
        if turn >= self.load.puts || due >= self.start.saturating_add(self.load.duration) {
            return false;
        }
        self.taken.set(turn + 1);
        let wait = due.saturating_sub(self.environment.now());
        if !wait.is_zero() {
            self.environment.sleep(wait).await;
        }
        true
    }
}

impl Report {
    /// Puts a second.
    pub(super) fn throughput(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// Seconds.
    pub(super) fn slowest(&self) -> f64 {
        self.latencies.iter().copied().fold(0.0, f64::max)
    }

    /// The standard deviation, in seconds.
    pub(super) fn deviation(&self) -> f64 {
        let count = self.latencies.len().max(1) as f64;
        let mean = self.latencies.iter().sum::<f64>() / count;
        let squares = self.latencies.iter().map(|latency| (latency - mean).powi(2));
        (squares.sum::<f64>() / count).sqrt()
    }
}

/// Numbers without a pattern (SplitMix64), so that keys land all over the range.
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn key(&mut self, prefix: &str) -> Bytes {
        let mut key = prefix.as_bytes().to_vec();
        for _ in 0..KEY_BYTES / 8 {
            key.extend_from_slice(&self.next().to_be_bytes());
        }
        key.into()
    }
}
