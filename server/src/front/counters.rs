//! What is counted of calls, for the `grpc_server_*` families of `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coracle_core::error::Code;

use super::call::Status;
use crate::traces::CallTrace;

/// The upper bounds of [`Handling`]'s buckets, in seconds: those of Prometheus' libraries.
pub(crate) const HANDLING_BOUNDS: [f64; 11] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// What was counted for one method.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) started: AtomicU64,
    /// By gRPC code; 0 is OK.
    pub(crate) handled: [AtomicU64; 17],
    pub(crate) received: AtomicU64,
    pub(crate) sent: AtomicU64,
    /// Bytes of the messages that came in and went out.
    pub(crate) received_bytes: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    /// How long calls took that failed, and that did not.
    pub(crate) handling: [Handling; 2],
    /// Messages of streams that could not be read, and streams that ended without a status.
    pub(crate) receive_failures: AtomicU64,
    pub(crate) send_failures: AtomicU64,
}

/// A histogram of durations.
#[derive(Default)]
pub(crate) struct Handling {
    /// Each with those above the bound before it and not above its own.
    pub(crate) buckets: [AtomicU64; HANDLING_BOUNDS.len()],
    pub(crate) count: AtomicU64,
    pub(crate) sum_nanos: AtomicU64,
}

impl Handling {
    fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = HANDLING_BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = bucket {
            self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

/// One call, counted from its start to its end, and traced if it is to be.
#[derive(Clone, Default)]
pub(super) struct Started {
    counters: Arc<Counters>,
    since: Option<Instant>,
    pub(super) trace: Option<Arc<CallTrace>>,
}

impl Started {
    pub(super) fn now(counters: Arc<Counters>, trace: Option<CallTrace>) -> Started {
        counters.started.fetch_add(1, Ordering::Relaxed);
        Started { counters, since: Some(Instant::now()), trace: trace.map(Arc::new) }
    }

    pub(super) fn received(&self, bytes: usize) {
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        self.counters.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.counters.sent.fetch_add(1, Ordering::Relaxed);
        self.counters.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The call has ended well, or as `failed` says.
    pub(super) fn ended(&self, failed: Option<&Status>) {
        let code = failed.map_or(0, |status| status.code as usize);
        if let Some(counter) = self.counters.handled.get(code) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(trace) = &self.trace {
            trace.ended(failed);
        }
        if let Some(since) = self.since {
            self.counters.handling[usize::from(code == 0)].observe(since.elapsed());
        }
    }

    /// The client has gone before the end.
    pub(super) fn canceled(&self) {
        self.ended(Some(&Status::new(Code::Canceled, "context canceled")));
    }

    pub(super) fn receive_failed(&self) {
        self.counters.receive_failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn send_failed(&self) {
        self.counters.send_failures.fetch_add(1, Ordering::Relaxed);
    }
}
