//! What the sequences exercised: how often each operation, option and error occurred.

use std::collections::BTreeMap;
use std::fmt;

use coracle_core::api::etcdserverpb::*;

use super::operation::{Answer, Operation};

/// The least TTL under the sequences' election timeout, in seconds.
const LEAST_TTL: i64 = 3;
/// Transactions of more operations test the limit, and are not counted by option.
const MANY_OPERATIONS: usize = 50;

/// Counts over one or more sequences.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    /// Operations by name.
    pub operations: BTreeMap<String, u64>,
    /// Options by the name of request and field.
    pub options: BTreeMap<String, u64>,
    /// Error replies by text, numbers masked.
    pub errors: BTreeMap<String, u64>,
    /// Operations that succeeded.
    pub succeeded: u64,
    /// Events that watchers received.
    pub events: u64,
    /// HashKV replies: with the reference's hash, and with another.
    pub hashes: (u64, u64),
}

impl Coverage {
    /// All operations.
    pub fn total(&self) -> u64 {
        self.operations.values().sum()
    }

    /// The share of operations that succeeded, in percent.
    pub fn success_percent(&self) -> u64 {
        self.succeeded * 100 / self.total().max(1)
    }

    /// Adds the counts of another sequence.
    pub fn add(&mut self, other: &Coverage) {
        let maps = [
            (&mut self.operations, &other.operations),
            (&mut self.options, &other.options),
            (&mut self.errors, &other.errors),
        ];
        for (mine, others) in maps {
            for (name, count) in others {
                *mine.entry(name.clone()).or_default() += count;
            }
        }
        self.succeeded += other.succeeded;
        self.events += other.events;
        self.hashes.0 += other.hashes.0;
        self.hashes.1 += other.hashes.1;
    }

    /// Counts an operation and its answer.
    pub fn count(&mut self, operation: &Operation, answer: &Answer) {
        let name = operation_name(operation);
        *self.operations.entry(name).or_default() += 1;
        match answer {
            Answer::Error { code, message } => self.error(format!("{code} {}", masked(message))),
            Answer::Watch(reply) if reply.created && reply.canceled => {
                self.error(format!("watch {}", reply.cancel_reason));
            }
            Answer::Printed(lines) if !answer.is_ok() => {
                let exit = lines.last().map_or("", String::as_str);
                self.error(format!("ctl {exit}"));
            }
            Answer::Settled(received) => {
                self.succeeded += 1;
                for one in received {
                    self.events += one.events.len() as u64;
                    if one.canceled.is_some() {
                        self.error("watch canceled by compaction".to_string());
                    }
                }
            }
            _ => self.succeeded += 1,
        }
        self.count_options(operation);
    }

    /// Counts an operation that was asked in JSON.
    pub fn in_json(&mut self) {
        self.option("in JSON", true);
    }

    fn error(&mut self, text: String) {
        *self.errors.entry(text).or_default() += 1;
    }

    fn option(&mut self, name: &str, used: bool) {
        let count = self.options.entry(name.to_string()).or_default();
        *count += u64::from(used);
    }

    fn count_options(&mut self, operation: &Operation) {
        match operation {
            Operation::Range(request) => self.range(request),
            Operation::Put(request) => self.put(request),
            Operation::DeleteRange(request) => self.delete_range(request),
            Operation::Txn(request) => self.txn(request),
            Operation::Compact(request) => self.option("compact.physical", request.physical),
            Operation::LeaseGrant(request) => {
                self.option("grant.id chosen by the server", request.id == 0);
                self.option("grant.negative id", request.id < 0);
                self.option("grant.TTL below the minimum", request.ttl < LEAST_TTL);
            }
            Operation::LeaseTimeToLive(request) => self.option("timetolive.keys", request.keys),
            Operation::WatchCreate { request, .. } | Operation::WatchInJson(request) => {
                self.watch(request);
            }
            _ => {}
        }
    }

    fn bounds(&mut self, name: &str, key: &[u8], end: &[u8]) {
        let from_here = end == b"\0";
        self.option(&format!("{name}.single key"), end.is_empty());
        self.option(&format!("{name}.from key"), from_here);
        self.option(&format!("{name}.interval"), !end.is_empty() && !from_here && end > key);
        self.option(&format!("{name}.reversed"), !end.is_empty() && !from_here && end <= key);
    }

    fn range(&mut self, request: &RangeRequest) {
        self.bounds("range", &request.key, &request.range_end);
        self.option("range.limit", request.limit > 0);
        self.option("range.negative limit", request.limit < 0);
        self.option("range.revision", request.revision > 0);
        self.option("range.negative revision", request.revision < 0);
        for (order, name) in ["none", "ascend", "descend"].iter().enumerate() {
            self.option(&format!("range.order {name}"), request.sort_order == order as i32);
        }
        for (target, name) in ["key", "version", "create", "mod", "value"].iter().enumerate() {
            self.option(&format!("range.target {name}"), request.sort_target == target as i32);
        }
        self.option("range.unknown sort", request.sort_order > 2 || request.sort_target > 4);
        self.option("range.serializable", request.serializable);
        self.option("range.keys_only", request.keys_only);
        self.option("range.count_only", request.count_only);
        self.option("range.min_mod_revision", request.min_mod_revision > 0);
        self.option("range.max_mod_revision", request.max_mod_revision > 0);
        self.option("range.min_create_revision", request.min_create_revision > 0);
        self.option("range.max_create_revision", request.max_create_revision > 0);
    }

    fn put(&mut self, request: &PutRequest) {
        self.option("put.lease", request.lease != 0);
        self.option("put.prev_kv", request.prev_kv);
        self.option("put.ignore_value", request.ignore_value);
        self.option("put.ignore_lease", request.ignore_lease);
        self.option("put.empty value", request.value.is_empty());
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) {
        self.bounds("delete", &request.key, &request.range_end);
        self.option("delete.prev_kv", request.prev_kv);
    }

    fn txn(&mut self, request: &TxnRequest) {
        let sizes = [request.compare.len(), request.success.len(), request.failure.len()];
        if sizes.into_iter().any(|size| size > MANY_OPERATIONS) {
            return;
        }
        for compare in &request.compare {
            self.compare(compare);
        }
        for operation in request.success.iter().chain(&request.failure) {
            match &operation.request {
                Some(request_op::Request::RequestRange(range)) => self.range(range),
                Some(request_op::Request::RequestPut(put)) => self.put(put),
                Some(request_op::Request::RequestDeleteRange(delete)) => self.delete_range(delete),
                Some(request_op::Request::RequestTxn(txn)) => {
                    self.option("txn.nested", true);
                    self.txn(txn);
                }
                None => self.option("txn.operation without content", true),
            }
        }
        self.option("txn.no compares", request.compare.is_empty());
        self.option("txn.empty branch", request.success.is_empty() || request.failure.is_empty());
    }

    fn compare(&mut self, compare: &Compare) {
        for (target, name) in ["version", "create", "mod", "value", "lease"].iter().enumerate() {
            self.option(&format!("compare.target {name}"), compare.target == target as i32);
        }
        for (result, name) in ["equal", "greater", "less", "not equal"].iter().enumerate() {
            self.option(&format!("compare.result {name}"), compare.result == result as i32);
        }
        let unknown = compare.target > 4 || compare.result > 3;
        self.option("compare.unknown target or result", unknown);
        self.option("compare.range_end", !compare.range_end.is_empty());
        self.option("compare.union unset", compare.target_union.is_none());
    }

    fn watch(&mut self, request: &WatchCreateRequest) {
        self.bounds("watch", &request.key, &request.range_end);
        self.option("watch.start now", request.start_revision == 0);
        self.option("watch.start at a revision", request.start_revision > 0);
        self.option("watch.negative start", request.start_revision < 0);
        self.option("watch.progress_notify", request.progress_notify);
        self.option("watch.filter noput", request.filters.contains(&0));
        self.option("watch.filter nodelete", request.filters.contains(&1));
        self.option("watch.prev_kv", request.prev_kv);
        self.option("watch.fragment", request.fragment);
        self.option("watch.own id", request.watch_id != 0);
    }
}

fn operation_name(operation: &Operation) -> String {
    let name = match operation {
        Operation::Range(_) => "Range",
        Operation::Put(_) => "Put",
        Operation::DeleteRange(_) => "DeleteRange",
        Operation::Txn(_) => "Txn",
        Operation::Compact(_) => "Compact",
        Operation::LeaseGrant(_) => "LeaseGrant",
        Operation::LeaseRevoke(_) => "LeaseRevoke",
        Operation::LeaseKeepAlive(_) => "LeaseKeepAlive",
        Operation::LeaseTimeToLive(_) => "LeaseTimeToLive",
        Operation::LeaseLeases => "LeaseLeases",
        Operation::HashKv(_) => "HashKV",
        Operation::Status => "Status",
        Operation::Defragment => "Defragment",
        Operation::MemberList(_) => "MemberList",
        Operation::MemberAdd(_) => "MemberAdd",
        Operation::MemberRemove(_) => "MemberRemove",
        Operation::MemberUpdate(_) => "MemberUpdate",
        Operation::MemberPromote(_) => "MemberPromote",
        Operation::MoveLeader(_) => "MoveLeader",
        Operation::Alarm { .. } => "Alarm",
        Operation::WatchCreate { .. } => "watch create",
        Operation::WatchCancel { .. } => "watch cancel",
        Operation::WatchProgress { .. } => "watch progress",
        Operation::WatchReset { .. } => "watch reset",
        Operation::Settle => "watch settle",
        Operation::AwaitAbsence(_) => "wait for expiry",
        Operation::WatchInJson(_) => "watch in JSON",
        Operation::Line { line, .. } => return format!("ctl {}", line.command()),
        Operation::Ask { ask, .. } => return ask.name(),
    };
    name.to_owned()
}

/// A text with every number replaced, so that sizes in it do not make new errors.
fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_ascii_digit() {
            false => masked.push(character),
            true if masked.ends_with('#') => {}
            true => masked.push('#'),
        }
    }
    masked
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} operations, {} % successful, {} watch events, HashKV {} equal, {} different",
            self.total(),
            self.success_percent(),
            self.events,
            self.hashes.0,
            self.hashes.1
        )?;
        let tables = [
            ("operations", &self.operations),
            ("options", &self.options),
            ("errors", &self.errors),
        ];
        for (title, counts) in tables {
            writeln!(f, "  {title}")?;
            for (name, count) in counts {
                writeln!(f, "  {count:>8}  {name}")?;
            }
        }
        Ok(())
    }
}
