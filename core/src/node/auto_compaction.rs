//! Automatic compaction: when, and to which revision. CMP-06.
//!
//! Both schedules are plain state that is told the time and the revision, so that a test needs no
//! waiting. They are etcd's:
//!
//! * *periodic*, retention `d`: the revision is noted every tenth of `d` (of an hour, if `d` is
//!   longer). The first compaction comes after `d`, the next ones every `d`, at most an hour, each
//!   to the revision noted `d` before.
//! * *revision*, retention `n`: every five minutes to the `n`th revision before the current one.
//!
//! Every member keeps the notes; only the leader compacts, so that a new leader can go on at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Node;
use crate::api::coraclepb::command::Request as CommandRequest;
use crate::api::etcdserverpb::CompactionRequest;
use crate::auth::Identity;
use crate::error::Error;
use crate::platform::Platform;
use crate::raft::types::AsyncRuntime;

const HOUR: Duration = Duration::from_secs(3600);
/// Notes taken within the shorter of the retention and an hour.
const NOTES_PER_INTERVAL: u32 = 10;
/// How often the revision mode looks (etcd: `revInterval`).
const REVISION_INTERVAL: Duration = Duration::from_secs(300);

/// What `--auto-compaction-mode` and `--auto-compaction-retention` ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    Periodic(Duration),
    Revision(i64),
}

/// The schedule of one mode.
#[derive(Debug)]
struct Schedule {
    mode: AutoCompaction,
    /// Of the periodic mode: the revisions noted, the oldest first, one retention long.
    notes: VecDeque<i64>,
    /// How long after `last_success` the next compaction is due.
    wait: Duration,
    last_success: Duration,
    last_revision: i64,
}

impl Schedule {
    fn new(mode: AutoCompaction, now: Duration) -> Schedule {
        let wait = match mode {
            AutoCompaction::Periodic(retention) => retention,
            AutoCompaction::Revision(_) => REVISION_INTERVAL,
        };
        Schedule { mode, notes: VecDeque::new(), wait, last_success: now, last_revision: 0 }
    }

    /// How long to wait between two looks.
    fn interval(&self) -> Duration {
        match self.mode {
            AutoCompaction::Periodic(retention) => retention.min(HOUR) / NOTES_PER_INTERVAL,
            AutoCompaction::Revision(_) => REVISION_INTERVAL,
        }
    }

    /// Notes the revision of this moment, before an interval's wait.
    fn note(&mut self, revision: i64) {
        let AutoCompaction::Periodic(retention) = self.mode else { return };
        let kept = retention.as_nanos() / self.interval().as_nanos().max(1) + 1;
        self.notes.push_back(revision);
        while self.notes.len() as u128 > kept {
            self.notes.pop_front();
        }
    }

    /// After an interval's wait: the revision to compact to, if it is time.
    fn due(&self, now: Duration, current: i64) -> Option<i64> {
        let (revision, waited) = match self.mode {
            AutoCompaction::Periodic(_) => {
                (*self.notes.front()?, now.saturating_sub(self.last_success) >= self.wait)
            }
            AutoCompaction::Revision(retention) => (current - retention, true),
        };
        (waited && revision > 0 && revision != self.last_revision).then_some(revision)
    }

    /// `revision` is compacted, by this call or by somebody's before.
    fn done(&mut self, now: Duration, revision: i64) {
        if let AutoCompaction::Periodic(retention) = self.mode {
            self.wait = retention.min(HOUR);
        }
        self.last_success = now;
        self.last_revision = revision;
    }
}

impl<P: Platform> Node<P> {
    pub(super) async fn compact_automatically(self: &Arc<Self>) {
        let Some(mode) = self.config.auto_compaction else { return };
        let mut schedule = Schedule::new(mode, self.platform.monotonic());
        loop {
            schedule.note(self.store.current_revision());
            P::Runtime::sleep(schedule.interval()).await;
            if !self.leadership.role().is_leader {
                continue;
            }
            let current = self.store.current_revision();
            let Some(revision) = schedule.due(self.platform.monotonic(), current) else {
                continue;
            };
            self.compact_now(&mut schedule, revision).await;
        }
    }

    async fn compact_now(&self, schedule: &mut Schedule, revision: i64) {
        let begin = self.platform.monotonic();
        let mode = match schedule.mode {
            AutoCompaction::Periodic(_) => "periodic",
            AutoCompaction::Revision(_) => "revision",
        };
        tracing::info!(revision, "starting auto {mode} compaction");
        let request = CompactionRequest { revision, physical: false };
        let compacted =
            self.propose(&Identity::Internal, CommandRequest::Compaction(request)).await;
        let now = self.platform.monotonic();
        let took = format!("{:?}", now.saturating_sub(begin));
        match compacted {
            Ok(_) | Err(Error::Compacted) => {
                schedule.done(now, revision);
                tracing::info!(revision, took, "completed auto {mode} compaction");
            }
            // The next look tries again.
            Err(error) => {
                tracing::warn!(revision, %error, "failed auto {mode} compaction");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a schedule for `hours`, with one new revision a minute; answers when, in minutes, it
    /// compacted to which revision.
    fn run(mode: AutoCompaction, hours: u64) -> Vec<(u64, i64)> {
        let minutes = |time: Duration| time.as_secs() / 60;
        let revision = |time| minutes(time) as i64 + 1;
        let mut schedule = Schedule::new(mode, Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut compacted = Vec::new();
        while now < HOUR * hours as u32 {
            schedule.note(revision(now));
            now += schedule.interval();
            if let Some(to) = schedule.due(now, revision(now)) {
                schedule.done(now, to);
                compacted.push((minutes(now), to));
            }
        }
        compacted
    }

    #[test]
    fn cmp_06_periodic_compaction_keeps_a_retention_and_comes_every_retention() {
        let half_hour = AutoCompaction::Periodic(Duration::from_secs(1800));
        assert_eq!(run(half_hour, 2), [(30, 1), (60, 28), (90, 58), (120, 88)]);
    }

    #[test]
    fn cmp_06_a_long_retention_is_compacted_every_hour() {
        let three_hours = AutoCompaction::Periodic(HOUR * 3);
        let compacted = run(three_hours, 6);
        assert_eq!(compacted.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [180, 240, 300, 360]);
        for (at, revision) in &compacted[1..] {
            let age = *at as i64 + 1 - revision;
            assert!((180..=186).contains(&age), "{age} minutes of history are kept");
        }
    }

    #[test]
    fn cmp_06_revision_compaction_comes_every_five_minutes() {
        let compacted = run(AutoCompaction::Revision(100), 2);
        assert_eq!(compacted.first(), Some(&(100, 1)));
        assert!(compacted.iter().all(|(at, revision)| at % 5 == 0 && *revision == *at as i64 - 99));
    }

    #[test]
    fn cmp_06_a_compaction_that_failed_is_tried_again_at_the_next_look() {
        let mut schedule = Schedule::new(AutoCompaction::Periodic(HOUR), Duration::ZERO);
        for _ in 0..20 {
            schedule.note(5);
        }
        assert_eq!(schedule.due(HOUR - Duration::from_secs(1), 9), None);
        assert_eq!(schedule.due(HOUR, 9), Some(5));
        assert_eq!(schedule.due(HOUR + schedule.interval(), 9), Some(5));
        schedule.done(HOUR + schedule.interval(), 5);
        assert_eq!(schedule.due(HOUR * 9, 9), None, "nothing was written since");
    }
}
