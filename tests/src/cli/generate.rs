//! Random command lines, from the operations of [`crate::conformance::generate`].
//!
//! An operation that a command line cannot say (a key with a NUL byte, a nested transaction) is
//! left out. A lease whose id the server picked is named by the order in which they were granted.

use coracle_core::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use coracle_core::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use coracle_core::api::etcdserverpb::request_op::Request as OpRequest;
use coracle_core::api::etcdserverpb::*;

use super::{Capture, Line, Reply};
use crate::conformance::auth::Ask;
use crate::conformance::dice::Dice;
use crate::conformance::generate::Generator;
use crate::conformance::leases::FIRST_NAME;
use crate::conformance::model::Model;
use crate::conformance::operation::{Answer, Operation};
use crate::conformance::ranges::prefix_end;

const FORMATS: [&str; 4] = ["simple", "fields", "json", "protobuf"];
/// Those of replies that are compared as they are printed.
const READABLE_FORMATS: [&str; 3] = ["simple", "fields", "json"];

/// More leases than any sequence grants.
const MOST_LEASES: i64 = 1_000_000;

/// Longest word, in bytes: what a system takes, and then some.
const LONGEST_WORD: usize = 8 * 1024;

/// `count` lines of this seed.
pub fn lines(seed: u64, count: usize) -> Vec<Line> {
    let mut writer = Writer::new(!seed);
    let mut generator = Generator::new(seed);
    let mut model = Model::new();
    let mut lines = Vec::with_capacity(count);
    while lines.len() < count {
        if let Some((line, operation)) = writer.line(generator.next(&model)) {
            observe(&mut model, &operation);
            lines.push(line);
        }
    }
    lines
}

/// The model learns what probably happens; it only aims.
fn observe(model: &mut Model, operation: &Operation) {
    let writes =
        matches!(operation, Operation::Put(_) | Operation::DeleteRange(_) | Operation::Txn(_));
    let revision = model.revision + i64::from(writes);
    let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
    model.observe(operation, &mut Answer::Put(PutResponse { header, prev_kv: None }));
}

/// Turns operations into command lines.
pub(crate) struct Writer {
    dice: Dice,
}

impl Writer {
    /// A writer whose choices follow from the seed.
    pub(crate) fn new(seed: u64) -> Writer {
        Writer { dice: Dice::new(seed) }
    }

    /// The line that says `operation`, if one can, and the operation as it says it.
    pub(crate) fn line(&mut self, operation: Operation) -> Option<(Line, Operation)> {
        let format = *self.dice.pick(&FORMATS);
        let mut line = match &operation {
            Operation::Range(request) => self.range(request)?,
            Operation::Put(request) => put(request)?,
            Operation::DeleteRange(request) => delete(request)?,
            Operation::Txn(request) => txn(request)?,
            Operation::Compact(request) if request.revision >= 0 => {
                let physical = if request.physical { " --physical" } else { "" };
                Line::new(&format!("compaction {}{physical}", request.revision))
            }
            Operation::LeaseGrant(request) if request.ttl >= 600 => return Some(grant(*request)),
            Operation::LeaseRevoke(request) => {
                Line::new(&format!("lease revoke {}", lease(request.id)))
            }
            Operation::LeaseTimeToLive(request) => {
                let keys = if request.keys { " --keys" } else { "" };
                let id = lease(request.id);
                let line = Line::new(&format!("lease timetolive {id}{keys}"));
                Line { reply: Some(Reply::Header), ..line }
            }
            Operation::LeaseKeepAlive(request) => {
                let line = format!("lease keep-alive --once {}", lease(request.id));
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
        Some((line, operation))
    }

    /// The line that asks `ask` as `asker`, with one of the passwords, if one can.
    pub(crate) fn line_of(&mut self, asker: &str, ask: &Ask) -> Option<Line> {
        let mut line = match ask {
            Ask::Range(request) => self.range(request)?,
            Ask::Put(request) if request.lease == 0 => put(request)?,
            Ask::DeleteRange(request) => delete(request)?,
            ask => managing(ask)?,
        };
        let formats = if line.reply.is_some() { &FORMATS[..] } else { &READABLE_FORMATS };
        line.words.extend(Line::new(&format!("-w {}", self.dice.pick(formats))).words);
        match asker {
            "" => {}
            // A line brings a password, never a token.
            "nonsense" => return None,
            user => {
                let password = ["one", "two", ""][self.dice.weighted(&[80, 15, 5])];
                line.words.push(format!("--user={user}:{password}").into_bytes());
            }
        }
        Some(line)
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
}

/// The id is captured from the simple format's text; it is the server that picks it.
fn grant(request: LeaseGrantRequest) -> (Line, Operation) {
    let line = Line::new(&format!("lease grant {}", request.ttl));
    let operation = Operation::LeaseGrant(LeaseGrantRequest { id: 0, ..request });
    (Line { captures: Some(Capture::Lease), ..line }, operation)
}

/// The lease's name if the server picked its id, or its id.
fn lease(id: i64) -> String {
    match id.checked_sub(FIRST_NAME) {
        Some(index @ 0..MOST_LEASES) => format!("<lease{}>", index + 1),
        _ => format!("{:x}", id.unsigned_abs()),
    }
}

/// The commands of users and roles. Empty names are left out: they would be asked for.
fn managing(ask: &Ask) -> Option<Line> {
    let (command, names) = match ask {
        Ask::UserGet(request) => ("user get", vec![&request.name]),
        Ask::UserList => ("user list", vec![]),
        Ask::UserDelete(request) => ("user delete", vec![&request.name]),
        Ask::GrantRole(request) => ("user grant-role", vec![&request.user, &request.role]),
        Ask::RevokeRole(request) => ("user revoke-role", vec![&request.name, &request.role]),
        Ask::RoleAdd(request) => ("role add", vec![&request.name]),
        Ask::RoleGet(request) => ("role get", vec![&request.role]),
        Ask::RoleList => ("role list", vec![]),
        Ask::RoleDelete(request) => ("role delete", vec![&request.role]),
        Ask::UserAdd(request) if !request.password.is_empty() => {
            let name = format!("user add {}:{}", request.name, request.password);
            return (!request.name.is_empty()).then(|| Line::new(&name));
        }
        Ask::GrantPermission(request) => {
            let permission = request.perm.as_ref()?;
            let kind = ["read", "write", "readwrite"][permission.perm_type as usize];
            return on_keys(
                &format!("role grant-permission {} {kind}", request.name),
                &permission.key,
                &permission.range_end,
            );
        }
        Ask::RevokePermission(request) => {
            let command = format!("role revoke-permission {}", request.role);
            return on_keys(&command, &request.key, &request.range_end);
        }
        _ => return None,
    };
    let mut line = Line::new(command);
    line.words.extend(names.iter().map(|name| name.as_bytes().to_vec()));
    names.iter().all(|name| !name.is_empty()).then_some(line)
}

fn on_keys(command: &str, key: &[u8], range_end: &[u8]) -> Option<Line> {
    let mut line = Line::new(command);
    line.words.push(word(key)?);
    match range_end {
        [] => {}
        [0] => line.words.push(b"--from-key".to_vec()),
        end => line.words.push(word(end)?),
    }
    Some(line)
}

fn put(request: &PutRequest) -> Option<Line> {
    let mut line = Line::new("put");
    line.words.push(word(&request.key)?);
    if !request.ignore_value || !request.value.is_empty() {
        line.words.push(word(&request.value)?);
    }
    let mut flag = |text: String| line.words.push(text.into_bytes());
    if request.lease != 0 {
        flag(format!("--lease={}", lease(request.lease)));
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

fn txn(request: &TxnRequest) -> Option<Line> {
    let mut input = String::new();
    for compare in &request.compare {
        input += &compare_line(compare)?;
        input.push('\n');
    }
    for operations in [&request.success, &request.failure] {
        input.push('\n');
        for operation in operations {
            input += &operation_line(operation)?;
            input.push('\n');
        }
    }
    input.push('\n');
    Some(Line { input: input.into_bytes(), reply: Some(Reply::Txn), ..Line::new("txn") })
}

fn compare_line(compare: &Compare) -> Option<String> {
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
    let (name, value) = match (CompareTarget::try_from(compare.target).ok()?, &compare.target_union)
    {
        (CompareTarget::Version, Some(TargetUnion::Version(n))) => ("version", n.to_string()),
        (CompareTarget::Create, Some(TargetUnion::CreateRevision(n))) => ("create", n.to_string()),
        (CompareTarget::Mod, Some(TargetUnion::ModRevision(n))) => ("mod", n.to_string()),
        (CompareTarget::Value, Some(TargetUnion::Value(value))) => {
            ("value", plain(value)?.to_owned())
        }
        // A lease's name stands in arguments only.
        _ => return None,
    };
    Some(format!("{name}(\"{key}\") {sign} \"{value}\""))
}

fn operation_line(operation: &RequestOp) -> Option<String> {
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
