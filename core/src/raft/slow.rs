//! Entries that take long to apply: counted, and told to the log in etcd's words.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::apply::Outcome;
use crate::trace::Change;

/// What entries are measured by (`--warning-apply-duration`).
pub struct SlowApplies {
    threshold: Duration,
    clock: Arc<dyn Fn() -> Duration + Send + Sync>,
    count: AtomicU64,
}

impl SlowApplies {
    /// `clock` tells the time since an arbitrary start.
    pub fn new(threshold: Duration, clock: Arc<dyn Fn() -> Duration + Send + Sync>) -> SlowApplies {
        SlowApplies { threshold, clock, count: AtomicU64::new(0) }
    }

    /// How many entries took longer than they should (`etcd_server_slow_apply_total`).
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(super) fn now(&self) -> Duration {
        (self.clock)()
    }

    /// Judges the apply of `command` that began at `begin`.
    pub(super) fn judge(&self, begin: Duration, command: &Bytes, outcome: &Outcome) {
        let took = self.now().saturating_sub(begin);
        if took <= self.threshold {
            return;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            took = format!("{took:?}"),
            expected_duration = format!("{:?}", self.threshold),
            prefix = "",
            request = words(&Change::of_command(command.clone())),
            response = if outcome.is_ok() { "ok" } else { "" },
            error = outcome.as_ref().err().map(ToString::to_string),
            "apply request took too long"
        );
    }
}

/// The request without its values, which may be secret.
fn words(change: &Change) -> String {
    let text = |key: &[u8]| format!("{:?}", String::from_utf8_lossy(key));
    match change {
        Change::Put { key, lease } => format!("put:<key:{} lease:{lease:x} >", text(key)),
        Change::DeleteRange { key, range_end } => {
            format!("delete_range:<key:{} range_end:{} >", text(key), text(range_end))
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_01_an_entry_is_slow_above_the_threshold() {
        let now = Arc::new(AtomicU64::new(0));
        let clock = now.clone();
        let slow = SlowApplies::new(
            Duration::from_millis(100),
            Arc::new(move || Duration::from_millis(clock.load(Ordering::Relaxed))),
        );
        for (took, count) in [(100, 0), (101, 1), (5000, 2)] {
            let begin = slow.now();
            now.fetch_add(took, Ordering::Relaxed);
            slow.judge(begin, &Bytes::new(), &Ok(crate::apply::Reply::Empty));
            assert_eq!(slow.count(), count);
        }
    }

    #[test]
    fn log_01_values_stay_out_of_the_log() {
        let put = Change::Put { key: b"a\"b".to_vec(), lease: 31 };
        assert_eq!(words(&put), r#"put:<key:"a\"b" lease:1f >"#);
    }
}
