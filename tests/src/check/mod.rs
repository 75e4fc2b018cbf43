//! The history checker: from what concurrent clients saw, decide whether the store kept etcd's
//! promises (ETCD.md REV-07): strict serializability of keys and values, durability of what was
//! acknowledged, and ordered, unique, atomic, reliable, resumable watches.
//!
//! # The idea
//!
//! Finding *some* legal order of concurrent operations is exponential in general. etcd tells the
//! order: every response carries the store's revision in its header, and every change has one.
//! So after the run each member's whole change history is read back (by a watch from revision 1
//! on) and becomes the [`Timeline`]; each recorded answer is looked up in it, and only two
//! questions are left, both answered by sorting:
//!
//! - *Is the answer right at its revision?* A read must return the model's state at its revision;
//!   a write must be exactly what the timeline holds at its revision, and be its only writer.
//! - *Does the order of revisions agree with real time?* What starts after an answer with
//!   revision r arrived must not answer with less (a stale read), and a write must answer with
//!   more. A serializable read may be stale, but only show a past that existed, and never go
//!   back within one life of one member.
//!
//! ```text
//!   time ──►    put x=1 ├──────┤ rev 5
//!                                   get x ├────┤ rev 4     stale: 4 < 5, although 5 was known
//! ```
//!
//! A write whose outcome the client never learned (timeout, broken connection) may have happened
//! once or not at all. Values are unique in our loads, so a revision without an acknowledged
//! writer is matched to an unknown one; a revision that nobody can have written is an error.
//!
//! # Invariants it relies on
//!
//! Every change of the store during the run is recorded, or its outcome is recorded as unknown;
//! nothing is compacted; each put carries a value that no other operation of the run puts.
//!
//! See PERFORMANCE.md section 6 ("own checker"); etcd's own method is described in its
//! `tests/robustness/README.md`, and the theory in Herlihy and Wing, "Linearizability" (1990).

mod history;
mod linearizability;
mod timeline;
mod watch;

pub use history::{
    Answer, Final, Guard, History, Operation, Outcome, Request, WatchLog, WatchResponse, Write,
};
pub use timeline::{Timeline, in_range};

use std::fmt;

/// Violations after which the checker stops looking: the first few tell the story.
const MAX_VIOLATIONS: usize = 20;

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The change history that a member tells is not one: a gap, a wrong version, a wrong prev_kv.
    BrokenTimeline,
    /// Two members tell different histories, or one's keys differ from its own history.
    MembersDiffer,
    /// An acknowledged write is not in the final history at its revision.
    LostWrite,
    /// Two acknowledged writes claim one revision.
    TwoWriters,
    /// A revision that no recorded operation can have written.
    PhantomWrite,
    /// A linearizable answer is older than what had been answered before it began.
    StaleRead,
    /// A write got a revision that had already been seen before the write began.
    RevisionWentBack,
    /// A serializable read of one living member is older than an earlier one.
    SerializableWentBack,
    /// A revision was seen before the operation that wrote it began.
    SeenBeforeWritten,
    /// The content of an answer differs from the model at its revision.
    WrongAnswer,
    /// An answer names a revision that the final history does not have.
    UnknownRevision,
    /// A watcher was handed the same event twice.
    DuplicateEvent,
    /// A watcher missed an event, or was told of progress past one that it had not got.
    MissingEvent,
    /// A watcher got events in another order than they happened.
    ReorderedEvent,
    /// The events of one revision came in several responses.
    SplitRevision,
    /// A watcher got an event that never happened, or with wrong contents.
    WrongEvent,
    /// An event carries another previous value than the key had.
    WrongPrevKv,
    /// A watch response is older than an event in it, or than an earlier response.
    WrongWatchHeader,
}

/// One broken promise, with what shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.detail)
    }
}

/// What a history without violations held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Revisions of the final history, the first (empty) one included.
    pub revisions: i64,
    /// Writes that were acknowledged and changed something.
    pub acknowledged_writes: usize,
    /// Writes of unknown outcome that turned out to have happened.
    pub unknown_writes_found: usize,
    /// Writes of unknown outcome that left no trace.
    pub unknown_writes_absent: usize,
    /// Reads, failed guards and deletes of nothing, all linearizable.
    pub linearizable_reads: usize,
    pub serializable_reads: usize,
    /// Events that all watchers got, together.
    pub watch_events: usize,
    /// Responses that announced progress without events.
    pub watch_progress: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} revisions: {} acknowledged writes, {} of unknown outcome found and {} absent; \
             {} linearizable and {} serializable reads; {} watch events, {} progress responses",
            self.revisions,
            self.acknowledged_writes,
            self.unknown_writes_found,
            self.unknown_writes_absent,
            self.linearizable_reads,
            self.serializable_reads,
            self.watch_events,
            self.watch_progress,
        )
    }
}

/// Collects violations up to a bound.
#[derive(Default)]
struct Violations(Vec<Violation>);

impl Violations {
    fn add(&mut self, kind: Kind, detail: impl Into<String>) {
        if !self.is_full() {
            self.0.push(Violation { kind, detail: detail.into() });
        }
    }

    fn is_full(&self) -> bool {
        self.0.len() >= MAX_VIOLATIONS
    }
}

/// Checks a complete history.
///
/// # Errors
/// The violations found, at most twenty.
pub fn check(history: &History) -> Result<Report, Vec<Violation>> {
    let mut violations = Violations::default();
    let mut report = Report::default();
    if let Some(timeline) = timeline::of_finals(&history.finals, &mut violations) {
        report.revisions = timeline.last_revision();
        linearizability::check(history, &timeline, &mut report, &mut violations);
        for log in &history.watches {
            watch::check(log, &timeline, &mut report, &mut violations);
        }
    }
    if violations.0.is_empty() { Ok(report) } else { Err(violations.0) }
}
