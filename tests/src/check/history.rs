//! What is recorded: each operation with its two instants, each watcher's responses, and what the
//! members say in the end. Time counts from the start of the run: real or virtual.

use std::time::Duration;

use bytes::Bytes;
use coracle_core::api::mvccpb::{Event, KeyValue};

/// Everything that was recorded in one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub operations: Vec<Operation>,
    pub watches: Vec<WatchLog>,
    /// What each member says after the load has ended.
    pub finals: Vec<Final>,
}

/// One call of one client.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who called; only for messages.
    pub client: String,
    /// The life of the member that answered: the same number only for answers of one process.
    /// `None` if the process may have changed during the call.
    pub process: Option<u64>,
    pub request: Request,
    /// Before the request was sent.
    pub started: Duration,
    /// After the answer came, or when the client gave up.
    pub ended: Duration,
    pub outcome: Outcome,
}

/// What a client asked for.
#[derive(Clone, Debug)]
pub enum Request {
    /// One put or delete, or several as one transaction, carried out if the guard holds.
    /// A failed guard reads its key (the transaction's else branch).
    Write { guard: Option<Guard>, writes: Vec<Write> },
    /// A range of keys at the newest revision.
    Read { key: Bytes, range_end: Bytes, serializable: bool },
}

/// The compare of a transaction: the key's mod_revision, 0 for a missing key.
#[derive(Clone, Debug)]
pub struct Guard {
    pub key: Bytes,
    pub mod_revision: i64,
}

/// One change.
#[derive(Clone, Debug)]
pub enum Write {
    /// The value must be unique within the run.
    Put {
        key: Bytes,
        value: Bytes,
    },
    Delete {
        key: Bytes,
        range_end: Bytes,
    },
}

/// How a call ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    Answered {
        revision: i64,
        answer: Answer,
    },
    /// It may have been carried out, once, or not: timeout, broken connection, leader change.
    Unknown,
    /// It was surely not carried out: refused before it was proposed.
    Refused,
}

/// The content of an answer.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The writes were carried out; for each, the former key-values that it replaced or deleted.
    Written {
        previous: Vec<Vec<KeyValue>>,
    },
    /// The guard did not hold; its key as it was instead.
    GuardFailed {
        current: Option<KeyValue>,
    },
    Read {
        kvs: Vec<KeyValue>,
        count: i64,
    },
}

/// Everything that one watcher was told, over all of its connections.
#[derive(Clone, Debug, Default)]
pub struct WatchLog {
    pub name: String,
    pub key: Bytes,
    pub range_end: Bytes,
    /// The first revision that it must report.
    pub start_revision: i64,
    /// Whether it asked for previous values.
    pub prev_kv: bool,
    pub responses: Vec<WatchResponse>,
    /// The revision up to which it must have got everything when it was stopped.
    pub complete_through: i64,
    /// How often it began anew on another connection, at its last event's revision plus one.
    pub reconnects: usize,
}

/// One response on a watch stream; without events it announces progress.
#[derive(Clone, Debug)]
pub struct WatchResponse {
    pub received: Duration,
    /// Counts the watcher's connections; header revisions grow only within one.
    pub connection: usize,
    pub header_revision: i64,
    pub events: Vec<Event>,
}

/// A member's final word: a watch of all keys from revision 1 with previous values, and a
/// linearizable range of all keys.
#[derive(Clone, Debug, Default)]
pub struct Final {
    pub member: String,
    pub revision: i64,
    pub events: Vec<Event>,
    pub kvs: Vec<KeyValue>,
}
