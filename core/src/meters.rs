//! What a node measures of itself, for its host to publish. Nothing here is replicated, and nothing
//! is decided by it.
//!
//! Names and bounds of buckets are those of etcd's metrics, so that dashboards made for it fit.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Where durations are read from: time since an arbitrary start.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// The cumulative histogram of one measure, with Prometheus' meaning of buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// (upper bound, number of observations at or below it), ascending.
    pub buckets: Vec<(f64, u64)>,
    pub count: u64,
    pub sum: f64,
}

/// A number that only grows, or, as a gauge, one that is added to and taken from.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Observations counted in buckets whose bounds double.
#[derive(Debug)]
pub struct Distribution {
    first_bound: f64,
    /// Each with those above the bound before it and not above its own; the last without bound.
    buckets: Box<[AtomicU64]>,
    /// The bits of a float.
    sum: AtomicU64,
}

impl Distribution {
    /// `bounds` bounds, of which the first is `first_bound`.
    pub fn new(first_bound: f64, bounds: usize) -> Distribution {
        let buckets = (0..=bounds).map(|_| AtomicU64::new(0)).collect();
        Distribution { first_bound, buckets, sum: AtomicU64::new(0) }
    }

    pub fn observe(&self, value: f64) {
        let mut bound = self.first_bound;
        let last = self.buckets.len() - 1;
        let mut bucket = 0;
        while bucket < last && value > bound {
            bucket += 1;
            bound *= 2.0;
        }
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        // Fails only where the closure gives nothing.
        _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Observes a duration, in seconds.
    pub fn took(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }

    pub fn histogram(&self) -> Histogram {
        let mut seen = 0;
        let mut bound = self.first_bound;
        let mut buckets = Vec::with_capacity(self.buckets.len() - 1);
        let (last, bounded) = match self.buckets.split_last() {
            Some((last, bounded)) => (last.load(Ordering::Relaxed), bounded),
            None => (0, &[][..]),
        };
        for bucket in bounded {
            seen += bucket.load(Ordering::Relaxed);
            buckets.push((bound, seen));
            bound *= 2.0;
        }
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        Histogram { buckets, count: seen + last, sum }
    }
}

/// Everything that is measured of one node.
pub struct Meters {
    clock: Clock,
    /// How long entries took to apply, by operation and success.
    apply: Mutex<BTreeMap<(&'static str, bool), Distribution>>,
    /// How long ranges took to read, by success.
    range: [Distribution; 2],
    pub read_indexes_slow: Counter,
    pub read_indexes_failed: Counter,
    pub heartbeat_send_failures: Counter,
    pub learner_promotions: Counter,
    pub learner_promotions_failed: Counter,
    /// 1 while a received snapshot replaces this member's state.
    pub snapshot_apply_in_progress: Counter,
    pub backend_commit: Distribution,
    pub backend_snapshot: Distribution,
    pub backend_defrag: Distribution,
    pub defrag_inflight: Counter,
    pub snapshot_db_save: Distribution,
    pub hash: Distribution,
    pub hash_kv: Distribution,
    pub compaction_keys: Counter,
    /// In milliseconds.
    pub compaction_total: Distribution,
    /// In milliseconds.
    pub compaction_pause: Distribution,
    /// Seconds since the Unix epoch.
    pub compaction_last: Counter,
    pub put_bytes: Counter,
    pub leases_granted: Counter,
    pub leases_revoked: Counter,
    pub leases_renewed: Counter,
    pub leases_expired: Counter,
    /// In seconds.
    pub lease_ttl: Distribution,
    peers: Mutex<BTreeMap<u64, Arc<PeerMeters>>>,
}

/// What is measured of the way to one other member.
pub struct PeerMeters {
    pub round_trip: Distribution,
    pub send_failures: Counter,
    pub snapshots_sending: Counter,
    pub snapshots_sent: Counter,
    pub snapshots_failed: Counter,
    pub snapshot_send: Distribution,
    pub snapshots_received: Counter,
    pub snapshots_receiving: Counter,
    pub snapshots_receive_failed: Counter,
    pub snapshot_receive: Distribution,
}

impl Default for PeerMeters {
    fn default() -> Self {
        PeerMeters {
            round_trip: Distribution::new(0.0001, 16),
            send_failures: Counter::default(),
            snapshots_sending: Counter::default(),
            snapshots_sent: Counter::default(),
            snapshots_failed: Counter::default(),
            snapshot_send: Distribution::new(0.1, 10),
            snapshots_received: Counter::default(),
            snapshots_receiving: Counter::default(),
            snapshots_receive_failed: Counter::default(),
            snapshot_receive: Distribution::new(0.1, 10),
        }
    }
}

impl Meters {
    pub fn new(clock: Clock) -> Meters {
        let fine = || Distribution::new(0.0001, 20);
        let disk = || Distribution::new(0.001, 14);
        Meters {
            clock,
            apply: Mutex::default(),
            range: [fine(), fine()],
            read_indexes_slow: Counter::default(),
            read_indexes_failed: Counter::default(),
            heartbeat_send_failures: Counter::default(),
            learner_promotions: Counter::default(),
            learner_promotions_failed: Counter::default(),
            snapshot_apply_in_progress: Counter::default(),
            backend_commit: disk(),
            backend_snapshot: Distribution::new(0.01, 17),
            backend_defrag: Distribution::new(0.1, 13),
            defrag_inflight: Counter::default(),
            snapshot_db_save: Distribution::new(0.1, 10),
            hash: Distribution::new(0.01, 15),
            hash_kv: Distribution::new(0.01, 15),
            compaction_keys: Counter::default(),
            compaction_total: Distribution::new(100.0, 14),
            compaction_pause: Distribution::new(0.5, 14),
            compaction_last: Counter::default(),
            put_bytes: Counter::default(),
            leases_granted: Counter::default(),
            leases_revoked: Counter::default(),
            leases_renewed: Counter::default(),
            leases_expired: Counter::default(),
            lease_ttl: Distribution::new(1.0, 24),
            peers: Mutex::default(),
        }
    }

    pub fn now(&self) -> Duration {
        (self.clock)()
    }

    /// How long it is since `start`, which [`Meters::now`] told.
    pub fn since(&self, start: Duration) -> Duration {
        self.now().saturating_sub(start)
    }

    /// An entry was applied, which was begun at `start`.
    pub fn applied(&self, operation: &'static str, success: bool, start: Duration) {
        let took = self.since(start);
        let mut apply = lock(&self.apply);
        let distribution =
            apply.entry((operation, success)).or_insert_with(|| Distribution::new(0.0001, 20));
        distribution.took(took);
    }

    /// (operation, success, how long it took).
    pub fn applies(&self) -> Vec<(&'static str, bool, Histogram)> {
        let apply = lock(&self.apply);
        let all = apply.iter();
        all.map(|((operation, success), took)| (*operation, *success, took.histogram())).collect()
    }

    /// A range was read, which was begun at `start`.
    pub fn ranged(&self, success: bool, start: Duration) {
        self.range[usize::from(success)].took(self.since(start));
    }

    /// How long ranges took that failed or did not.
    pub fn ranges(&self, success: bool) -> Histogram {
        self.range[usize::from(success)].histogram()
    }

    /// What is measured of the way to member `id`.
    pub fn peer(&self, id: u64) -> Arc<PeerMeters> {
        lock(&self.peers).entry(id).or_default().clone()
    }

    /// All members that there was something to measure of.
    pub fn peers(&self) -> Vec<(u64, Arc<PeerMeters>)> {
        lock(&self.peers).iter().map(|(id, meters)| (*id, meters.clone())).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double_and_add_up() {
        let distribution = Distribution::new(0.001, 3);
        for value in [0.0, 0.001, 0.0011, 0.004, 5.0] {
            distribution.observe(value);
        }
        let histogram = distribution.histogram();
        assert_eq!(histogram.buckets, [(0.001, 2), (0.002, 3), (0.004, 4)]);
        assert_eq!(histogram.count, 5);
        assert!((histogram.sum - 5.0061).abs() < 1e-9);
    }
}
