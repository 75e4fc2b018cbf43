//! Random command lines, from the operations of [`crate::conformance::generate`].
//!
//! An operation that a command line cannot say (a key with a NUL byte, a nested transaction) is
//! left out. Leases are named by the order in which they were granted.

use std::collections::BTreeMap;

use coracle_core::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use coracle_core::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use coracle_core::api::etcdserverpb::request_op::Request as OpRequest;
use coracle_core::api::etcdserverpb::*;

use super::{Capture, Line, Reply};
use crate::conformance::dice::Dice;
use crate::conformance::generate::Generator;
use crate::conformance::model::Model;
use crate::conformance::operation::{Answer, Operation};
use crate::conformance::ranges::prefix_end;

const FORMATS: [&str; 4] = ["simple", "fields", "json", "protobuf"];

/// Longest word, in bytes: what a system takes, and then some.
const LONGEST_WORD: usize = 8 * 1024;

/// `count` lines of this seed.
pub fn lines(seed: u64, count: usize) -> Vec<Line> {
    let mut writer =
        Writer { dice: Dice::new(!seed), model: Model::new(), leases: BTreeMap::new(), granted: 0 };
    let mut generator = Generator::new(seed);
    let mut lines = Vec::with_capacity(count);
    while lines.len() < count {
        let operation = generator.next(&writer.model);
        lines.extend(writer.line(operation));
    }
    lines
}

struct Writer {
    dice: Dice,
    model: Model,
    /// The number of each lease that the model knows.
    leases: BTreeMap<i64, usize>,
    granted: usize,
}

impl Writer {
    fn line(&mut self, operation: Operation) -> Option<Line> {
        let format = *self.dice.pick(&FORMATS);
        let mut line = match &operation {
            Operation::Range(request) => self.range(request)?,
            Operation::Put(request) => self.put(request)?,
            Operation::DeleteRange(request) => delete(request)?,
            Operation::Txn(request) => self.txn(request)?,
            Operation::Compact(request) if request.revision >= 0 => {
                let physical = if request.physical { " --physical" } else { "" };
                Line::new(&format!("compaction {}{physical}", request.revision))
            }
            Operation::LeaseGrant(request) if request.ttl >= 600 => {
                return Some(self.grant(*request, operation));
            }
            Operation::LeaseRevoke(request) => {
                Line::new(&format!("lease revoke {}", self.lease(request.id)))
            }
            Operation::LeaseTimeToLive(request) => {
                let keys = if request.keys { " --keys" } else { "" };
                let id = self.lease(request.id);
                let line = Line::new(&format!("lease timetolive {id}{keys}"));
                Line { reply: Some(Reply::Header), ..line }
            }
            Operation::LeaseKeepAlive(request) => {
                let line = format!("lease keep-alive --once {}", self.lease(request.id));
                Line { reply: Some(Reply::Header), ..Line::new(&line) }
            }
            Operation::Status => Line::new("endpoint status"),
            Operation::MemberList(_) => {
                Line { reply: Some(Reply::MemberList), ..Line::new("member list") }
            }
            Operation::MemberRemove(request) => {
                Line::new(&format!("member remove {:x}", request.id))
            }
            _ => return None,
        };
        line.words.extend(Line::new(&format!("-w {format}")).words);
        self.observe(&operation);
        Some(line)
    }

    /// The model learns what probably happens; it only aims.
    fn observe(&mut self, operation: &Operation) {
        let writes =
            matches!(operation, Operation::Put(_) | Operation::DeleteRange(_) | Operation::Txn(_));
        let revision = self.model.revision + i64::from(writes);
        let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        let mut answer = Answer::Put(PutResponse { header, prev_kv: None });
        self.model.observe(operation, &mut answer);
    }

    /// The id is captured from the simple format's text.
    fn grant(&mut self, request: LeaseGrantRequest, operation: Operation) -> Line {
        let line = Line::new(&format!("lease grant {}", request.ttl));
        if request.ttl > 9_000_000_000 {
            return line;
        }
        self.granted += 1;
        let name = if request.id == 0 { self.model.next_lease_name } else { request.id };
        self.leases.insert(name, self.granted);
        self.observe(&operation);
        Line { captures: Some(Capture::Lease), ..line }
    }

    /// The lease's name, or its id if it was never granted.
    fn lease(&self, id: i64) -> String {
        match self.leases.get(&id) {
            Some(number) => format!("<lease{number}>"),
            None => format!("{:x}", id.unsigned_abs()),
        }
    }

    fn range(&mut self, request: &RangeRequest) -> Option<Line> {
        let mut line = ranged("get", &request.key, &request.range_end)?;
        let mut flag = |text: String| line.words.push(text.into_bytes());
        if request.revision > 0 {
            flag(format!("--rev={}", request.revision));
        }
        if request.limit > 0 {
            flag(format!("--limit={}", request.limit));
        }
        if request.serializable {
            flag("--consistency=s".to_owned());
        }
        if request.keys_only {
            flag("--keys-only".to_owned());
        }
        if request.count_only && !request.keys_only {
            flag("--count-only".to_owned());
        }
        let order = SortOrder::try_from(request.sort_order).ok()?;
        let target = SortTarget::try_from(request.sort_target).ok()?;
        // etcdctl 3.5 has no filters by revision. Without an order etcd cuts before it sorts, and
        // leaves ties as they come.
        if order != SortOrder::None && target == SortTarget::Key {
            flag(format!("--order={}", order.as_str_name()));
        }
        if self.dice.percent(20) {
            flag("--hex".to_owned());
        }
        Some(Line { reply: Some(Reply::Range), ..line })
    }

    fn put(&mut self, request: &PutRequest) -> Option<Line> {
        let mut line = Line::new("put");
        line.words.push(word(&request.key)?);
        if !request.ignore_value || !request.value.is_empty() {
            line.words.push(word(&request.value)?);
        }
        let mut flag = |text: String| line.words.push(text.into_bytes());
        if request.lease != 0 {
            flag(format!("--lease={}", self.lease(request.lease)));
        }
        for (name, on) in [
            ("--prev-kv", request.prev_kv),
            ("--ignore-value", request.ignore_value),
            ("--ignore-lease", request.ignore_lease),
        ] {
            if on {
                flag(name.to_owned());
            }
        }
        Some(Line { reply: Some(Reply::Put), ..line })
    }

    fn txn(&mut self, request: &TxnRequest) -> Option<Line> {
        let mut input = String::new();
        for compare in &request.compare {
            input += &self.compare(compare)?;
            input.push('\n');
        }
        for operations in [&request.success, &request.failure] {
            input.push('\n');
            for operation in operations {
                input += &self.operation(operation)?;
                input.push('\n');
            }
        }
        input.push('\n');
        Some(Line { input: input.into_bytes(), reply: Some(Reply::Txn), ..Line::new("txn") })
    }

    fn compare(&self, compare: &Compare) -> Option<String> {
        if !compare.range_end.is_empty() {
            return None;
        }
        let key = plain(&compare.key)?;
        let sign = match CompareResult::try_from(compare.result).ok()? {
            CompareResult::Equal => "=",
            CompareResult::Greater => ">",
            CompareResult::Less => "<",
            CompareResult::NotEqual => "!=",
        };
        let (name, value) =
            match (CompareTarget::try_from(compare.target).ok()?, &compare.target_union) {
                (CompareTarget::Version, Some(TargetUnion::Version(n))) => {
                    ("version", n.to_string())
                }
                (CompareTarget::Create, Some(TargetUnion::CreateRevision(n))) => {
                    ("create", n.to_string())
                }
                (CompareTarget::Mod, Some(TargetUnion::ModRevision(n))) => ("mod", n.to_string()),
                (CompareTarget::Value, Some(TargetUnion::Value(value))) => {
                    ("value", plain(value)?.to_owned())
                }
                // A lease's name stands in arguments only.
                _ => return None,
            };
        Some(format!("{name}(\"{key}\") {sign} \"{value}\""))
    }

    fn operation(&self, operation: &RequestOp) -> Option<String> {
        Some(match operation.request.as_ref()? {
            OpRequest::RequestPut(put) if put.lease == 0 => {
                let value = if put.value.is_empty() { "\"\"" } else { plain(&put.value)? };
                let prev_kv = if put.prev_kv { " --prev-kv" } else { "" };
                if put.ignore_value || put.ignore_lease {
                    return None;
                }
                format!("put {} {value}{prev_kv}", plain(&put.key)?)
            }
            OpRequest::RequestRange(range) if range.range_end.is_empty() => {
                format!("get {}", plain(&range.key)?)
            }
            OpRequest::RequestDeleteRange(delete) if delete.range_end.is_empty() => {
                format!("del {}", plain(&delete.key)?)
            }
            _ => return None,
        })
    }
}

fn delete(request: &DeleteRangeRequest) -> Option<Line> {
    let mut line = ranged("del", &request.key, &request.range_end)?;
    if request.prev_kv {
        line.words.push(b"--prev-kv".to_vec());
    }
    Some(Line { reply: Some(Reply::DeleteRange), ..line })
}

/// A command with a key and what says its range.
fn ranged(command: &str, key: &[u8], range_end: &[u8]) -> Option<Line> {
    let mut line = Line::new(command);
    match (key, range_end) {
        ([0], [0]) => line.words.extend([Vec::new(), b"--prefix".to_vec()]),
        (key, [0]) => line.words.extend([word(key)?, b"--from-key".to_vec()]),
        (key, []) => line.words.push(word(key)?),
        (key, end) if prefix_end(key) == end => {
            line.words.extend([word(key)?, b"--prefix".to_vec()]);
        }
        (key, end) => line.words.extend([word(key)?, word(end)?]),
    }
    Some(line)
}

/// Bytes that can be an argument.
fn word(bytes: &[u8]) -> Option<Vec<u8>> {
    let fits = !bytes.contains(&0) && !bytes.starts_with(b"-") && bytes.len() <= LONGEST_WORD;
    fits.then(|| bytes.to_vec())
}

/// Text that needs no quotes in the input of `txn`.
fn plain(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '/';
    (!text.is_empty() && text.chars().all(plain)).then_some(text)
}
