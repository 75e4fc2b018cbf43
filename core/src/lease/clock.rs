//! The leader's view of when each lease ends: deadlines ordered by time.
//!
//! Times are durations since an arbitrary start of the host's monotonic clock, so a member that is
//! promoted again starts with an empty clock and fills it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::limits::{LEASE_CHECKPOINT_INTERVAL, LEASE_EXPIRY_RETRY, MAX_LEASE_EXPIRIES_PER_SECOND};

/// The times of one lease.
struct Times {
    /// When the lease expires.
    deadline: Duration,
    /// When to report it as expired: the deadline, later again if the revoke did not come through.
    report: Duration,
    /// When to write down what is left of it; `None` if it ends before that.
    checkpoint: Option<Duration>,
}

/// Deadlines of all leases, on the leader only. All operations cost O(log n).
#[derive(Default)]
pub(super) struct Clock {
    times: BTreeMap<i64, Times>,
    reports: BTreeSet<(Duration, i64)>,
    checkpoints: BTreeSet<(Duration, i64)>,
}

impl Clock {
    /// Starts the time of all `leases` (id, seconds left) at once, spreading their ends so that no
    /// second sees more than [`MAX_LEASE_EXPIRIES_PER_SECOND`] of them: revokes that pile up would
    /// crowd out everything else that wants into the log.
    pub(super) fn promoted(now: Duration, leases: impl Iterator<Item = (i64, Duration)>) -> Clock {
        let mut deadlines: Vec<_> =
            leases.map(|(id, left)| (now.saturating_add(left), id)).collect();
        deadlines.sort_unstable();
        for later in MAX_LEASE_EXPIRIES_PER_SECOND..deadlines.len() {
            let (earlier, _) = deadlines[later - MAX_LEASE_EXPIRIES_PER_SECOND];
            let (deadline, _) = &mut deadlines[later];
            *deadline = (*deadline).max(earlier.saturating_add(Duration::from_secs(1)));
        }
        let mut clock = Clock::default();
        for (deadline, id) in deadlines {
            clock.set(id, now, deadline);
        }
        clock
    }

    /// Lets `id` end at `deadline`, whatever was planned before.
    pub(super) fn set(&mut self, id: i64, now: Duration, deadline: Duration) {
        self.remove(id);
        let checkpoint = checkpoint_after(now, deadline);
        self.times.insert(id, Times { deadline, report: deadline, checkpoint });
        self.reports.insert((deadline, id));
        if let Some(at) = checkpoint {
            self.checkpoints.insert((at, id));
        }
    }

    pub(super) fn remove(&mut self, id: i64) {
        if let Some(times) = self.times.remove(&id) {
            self.reports.remove(&(times.report, id));
            if let Some(at) = times.checkpoint {
                self.checkpoints.remove(&(at, id));
            }
        }
    }

    pub(super) fn deadline(&self, id: i64) -> Option<Duration> {
        self.times.get(&id).map(|times| times.deadline)
    }

    /// Up to `limit` leases whose deadline has passed, the earliest first. Each is reported again
    /// after [`LEASE_EXPIRY_RETRY`] if it still exists then.
    pub(super) fn take_expired(&mut self, now: Duration, limit: usize) -> Vec<i64> {
        let due = |&&(at, _): &&(Duration, i64)| at <= now;
        let expired: Vec<_> = self.reports.iter().take_while(due).take(limit).copied().collect();
        for &(at, id) in &expired {
            self.reports.remove(&(at, id));
            let again = now.saturating_add(LEASE_EXPIRY_RETRY);
            self.reports.insert((again, id));
            if let Some(times) = self.times.get_mut(&id) {
                times.report = again;
            }
        }
        expired.into_iter().map(|(_, id)| id).collect()
    }

    /// Up to `limit` leases whose remaining time is to be written down, with that time in whole
    /// seconds, rounded up. Each comes again after another interval, if it lives that long.
    pub(super) fn take_checkpoints(&mut self, now: Duration, limit: usize) -> Vec<(i64, i64)> {
        let due = |&&(at, _): &&(Duration, i64)| at <= now;
        let checked: Vec<_> =
            self.checkpoints.iter().take_while(due).take(limit).copied().collect();
        let mut left = Vec::with_capacity(checked.len());
        for (at, id) in checked {
            self.checkpoints.remove(&(at, id));
            let Some(times) = self.times.get_mut(&id) else { continue };
            times.checkpoint = checkpoint_after(now, times.deadline);
            if let Some(next) = times.checkpoint {
                self.checkpoints.insert((next, id));
            }
            if times.deadline > now {
                left.push((id, whole_seconds_up(times.deadline - now)));
            }
        }
        left
    }
}

/// The next checkpoint of a lease, if it has more than the interval left.
fn checkpoint_after(now: Duration, deadline: Duration) -> Option<Duration> {
    let at = now.saturating_add(LEASE_CHECKPOINT_INTERVAL);
    (deadline > at).then_some(at)
}

fn whole_seconds_up(time: Duration) -> i64 {
    let up = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i64::try_from(up).unwrap_or(i64::MAX)
}
