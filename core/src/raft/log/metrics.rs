//! What the log tells about itself, for `/metrics`.

use std::sync::Mutex;
use std::time::Duration;

/// Counters since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogMetrics {
    /// Syncs that took at most 1 ms, 2 ms, 4 ms and so on up to 8.192 s, each counted in its own
    /// bucket alone; slower ones only in `fsyncs` (etcd_disk_wal_fsync_duration_seconds).
    pub fsync_buckets: [u64; LogMetrics::BUCKETS],
    /// All syncs.
    pub fsyncs: u64,
    /// How long all syncs took together.
    pub fsync_time: Duration,
    /// The same for writes, which do not wait for the disk.
    pub write_buckets: [u64; LogMetrics::BUCKETS],
    pub writes: u64,
    pub write_time: Duration,
    /// Bytes of records handed to the disk (etcd_disk_wal_write_bytes_total).
    pub written_bytes: u64,
    /// Requests of any kind that were made durable; over `fsyncs`, the size of a group commit.
    pub requests: u64,
}

impl LogMetrics {
    /// Buckets of each histogram.
    pub const BUCKETS: usize = 14;
}

/// [`LogMetrics`] that the writer counts and anyone reads.
#[derive(Default)]
pub(super) struct Counters(Mutex<LogMetrics>);

impl Counters {
    pub(super) fn get(&self) -> LogMetrics {
        *super::lock(&self.0)
    }

    pub(super) fn count_written(&self, bytes: usize, took: Duration) {
        let mut metrics = super::lock(&self.0);
        metrics.written_bytes += bytes as u64;
        metrics.writes += 1;
        metrics.write_time += took;
        if let Some(bucket) = metrics.write_buckets.get_mut(bucket_of(took)) {
            *bucket += 1;
        }
    }

    pub(super) fn count_sync(&self, took: Duration, requests: usize) {
        let mut metrics = super::lock(&self.0);
        metrics.fsyncs += 1;
        metrics.fsync_time += took;
        metrics.requests += requests as u64;
        if let Some(bucket) = metrics.fsync_buckets.get_mut(bucket_of(took)) {
            *bucket += 1;
        }
    }
}

fn bucket_of(took: Duration) -> usize {
    let limit = |bucket: &usize| Duration::from_millis(1 << bucket);
    (0..LogMetrics::BUCKETS).find(|bucket| took <= limit(bucket)).unwrap_or(LogMetrics::BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_etcd() {
        assert_eq!(bucket_of(Duration::ZERO), 0);
        assert_eq!(bucket_of(Duration::from_millis(1)), 0);
        assert_eq!(bucket_of(Duration::from_micros(1001)), 1);
        assert_eq!(bucket_of(Duration::from_millis(8192)), 13);
        assert_eq!(bucket_of(Duration::from_millis(8193)), 14, "only in the sum");
    }
}
