//! Where clients and watchers write down what happened, and what the scenario reads meanwhile.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tonic::{Code, Status};

use crate::check::{Answer, Operation, Outcome, WatchLog};

/// Shared by all tasks of one load.
pub(super) struct Recorder {
    began: Instant,
    /// Per member, which life it is in; a restart begins the next.
    lives: Vec<AtomicU64>,
    operations: Mutex<Vec<Operation>>,
    watches: Mutex<Vec<WatchLog>>,
    failures: Mutex<BTreeMap<String, usize>>,
}

impl Recorder {
    pub(super) fn new(members: usize) -> Recorder {
        Recorder {
            began: Instant::now(),
            lives: (0..members).map(|_| AtomicU64::new(0)).collect(),
            operations: Mutex::default(),
            watches: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// Time since the load began.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// A number for the process that member `index` is now. An answer belongs to it if the number
    /// is the same before and after the call.
    pub(super) fn process(&self, index: usize) -> u64 {
        let life = self.lives[index].load(Ordering::SeqCst);
        life * self.lives.len() as u64 + index as u64
    }

    /// Member `index` is dead and not yet started again.
    pub(super) fn process_ended(&self, index: usize) {
        self.lives[index].fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn operation(&self, operation: Operation) {
        lock(&self.operations).push(operation);
    }

    pub(super) fn watch(&self, log: WatchLog) {
        lock(&self.watches).push(log);
    }

    /// Counts a failed call, by code and text, for the statistics.
    pub(super) fn failure(&self, status: &Status) {
        *lock(&self.failures).entry(describe(status)).or_default() += 1;
    }

    /// How many operations are recorded: where a later [`Recorder::first_write_after`] begins.
    pub(super) fn operations_recorded(&self) -> usize {
        lock(&self.operations).len()
    }

    /// When the first write that was started after `instant` was acknowledged, looking at
    /// operations from `position` on.
    pub(super) fn first_write_after(&self, instant: Duration, position: usize) -> Option<Duration> {
        let operations = lock(&self.operations);
        operations[position..]
            .iter()
            .filter(|operation| operation.started > instant && is_acknowledged_write(operation))
            .map(|operation| operation.ended)
            .min()
    }

    pub(super) fn statistics(&self) -> Statistics {
        Statistics {
            operations: self.operations_recorded(),
            elapsed: self.now(),
            failures: lock(&self.failures).clone(),
        }
    }

    pub(super) fn take(&self) -> (Vec<Operation>, Vec<WatchLog>) {
        (std::mem::take(&mut lock(&self.operations)), std::mem::take(&mut lock(&self.watches)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_acknowledged_write(operation: &Operation) -> bool {
    matches!(operation.outcome, Outcome::Answered { answer: Answer::Written { .. }, .. })
}

/// Code and text of a status, without what differs between equal failures.
fn describe(status: &Status) -> String {
    let text = status.message().split(" (").next().unwrap_or_default();
    format!("{:?} {text}", status.code())
}

/// Whether the request never reached a server: the connection was refused, nothing was sent.
pub(super) fn was_never_sent(status: &Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        source = error.source();
    }
    false
}

/// What a load did, and how calls failed.
#[derive(Clone, Debug)]
pub struct Statistics {
    pub operations: usize,
    pub elapsed: Duration,
    /// Failed calls by gRPC code and text.
    pub failures: BTreeMap<String, usize>,
}

impl Statistics {
    /// Failures that no crash explains: the server refused a correct request for good.
    pub fn unexpected(&self) -> Vec<&str> {
        const WRONG: [Code; 7] = [
            Code::InvalidArgument,
            Code::NotFound,
            Code::PermissionDenied,
            Code::OutOfRange,
            Code::Unimplemented,
            Code::DataLoss,
            Code::Unauthenticated,
        ];
        self.failures
            .keys()
            .map(String::as_str)
            .filter(|text| WRONG.iter().any(|code| text.starts_with(&format!("{code:?} "))))
            .collect()
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} operations in {:.1} s", self.operations, self.elapsed.as_secs_f64())?;
        for (text, count) in &self.failures {
            write!(f, "\n  {count} × {text}")?;
        }
        Ok(())
    }
}
