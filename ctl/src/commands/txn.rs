//! `txn`: a transaction read from standard input.
//!
//! ```text
//! mod("key1") > "0"          compares, one a line, until an empty line
//!
//! put key1 "overwrote"       operations if all of them hold, until an empty line
//!
//! get key1 --prefix          operations if one does not, until an empty line
//!
//! ```
//!
//! A compare is `target("key") op "value"`, where the target is `create` (`c`), `mod` (`m`),
//! `version` (`ver`), `value` (`val`) or `lease`, and the operator one of `=`, `!=`, `<`, `>`. An
//! operation is written like the command of its name, flags and abbreviations included; words are
//! split as a shell would, with Go's escapes between double quotes (so `"\xff"` is a key).
//!
//! An operator that does not exist, and a compare of a lease, end etcdctl 3.5 in a crash. Here the
//! one is an error and the other works, as in newer releases.

use coracle_core::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use coracle_core::api::etcdserverpb::{Compare, RequestOp, TxnRequest, request_op};

use super::{Context, Exit, Failure, del, get, put};
use crate::args::{Command, Flag, Parsed};
use crate::environment::Environment;
use crate::format::Output;
use crate::go::{parse_i64, quote, scan_quoted};

pub(super) const COMMAND: Command = Command {
    name: "txn",
    usage: "[options]",
    short: "Txn processes all the requests in one transaction",
    long: "",
    flags: &FLAGS,
    subcommands: &[],
    run: Some(|context| Box::pin(txn(context))),
};

static FLAGS: [Flag; 1] =
    [Flag::switch("interactive", "Input transaction in interactive mode").short('i')];

async fn txn(context: &Context<'_>) -> Result<(), Failure> {
    context.no_arguments("txn command does not accept argument")?;
    context.format()?;
    let prompt = |text| {
        if context.parsed.is_on("interactive") {
            context.print(text);
        }
    };
    let environment = context.environment;
    prompt("compares:");
    let mut compare = Vec::new();
    while let Some(line) = line(environment).await? {
        compare.push(parse_compare(&line)?);
    }
    prompt("success requests (get, put, del):");
    let success = operations(environment).await?;
    prompt("failure requests (get, put, del):");
    let failure = operations(environment).await?;
    let client = context.client().await?;
    let request = TxnRequest { compare, success, failure };
    let response = context.within_timeout(client.txn(request)).await?;
    context.show(&Output::Txn(response))
}

async fn operations(environment: &dyn Environment) -> Result<Vec<RequestOp>, Failure> {
    let mut operations = Vec::new();
    while let Some(line) = line(environment).await? {
        let request = parse_operation(&line).await?;
        operations.push(RequestOp { request: Some(request) });
    }
    Ok(operations)
}

/// The next line without the space around it; `None` if nothing is left of it. Input that ends
/// before the empty line does is an error.
async fn line(environment: &dyn Environment) -> Result<Option<Vec<u8>>, Failure> {
    let line = environment.read_line().await.map_err(invalid)?;
    match line {
        Some(line) if line.ends_with(b"\n") => {
            let line = line.trim_ascii();
            Ok((!line.is_empty()).then(|| line.to_vec()))
        }
        _ => Err(invalid("EOF")),
    }
}

fn invalid(message: impl Into<String>) -> Failure {
    Failure::new(Exit::InvalidInput, message)
}

/// Parses one compare.
fn parse_compare(line: &[u8]) -> Result<Compare, Failure> {
    let shown = String::from_utf8_lossy(line);
    let malformed = |detail: String| invalid(format!("malformed comparison: {shown}{detail}"));
    let Some(open) = line.iter().position(|byte| *byte == b'(') else {
        return Err(malformed(String::new()));
    };
    let target = String::from_utf8_lossy(&line[..open]);
    let parts = scan_parts(&line[open + 1..]);
    let Parts { key, operator, value: Some(value) } = parts else {
        let Parts { key, operator, .. } = parts;
        return Err(malformed(format!("; got {target}({}) {operator} \"\"", quote(&key))));
    };
    let number = |radix| {
        let text = String::from_utf8_lossy(&value);
        parse_i64(&text, radix)
            .map_err(|_| invalid(format!("invalid txn compare request: {shown}")))
    };
    let (target, union) = match target.as_ref() {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (CompareTarget::Create, TargetUnion::CreateRevision(number(10)?)),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        _ => return Err(malformed(format!(" (unknown target {target})"))),
    };
    let result = match operator.as_str() {
        "=" => CompareResult::Equal,
        "!=" => CompareResult::NotEqual,
        ">" => CompareResult::Greater,
        "<" => CompareResult::Less,
        _ => return Err(malformed(format!(" (unknown operator {operator})"))),
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: Default::default(),
        target_union: Some(union),
    })
}

/// What could be read of `"key") op "value"`; without a value if it stopped earlier.
#[derive(Default)]
struct Parts {
    key: Vec<u8>,
    operator: String,
    value: Option<Vec<u8>>,
}

fn scan_parts(input: &[u8]) -> Parts {
    let mut parts = Parts::default();
    let Some((key, rest)) = scan_quoted(input) else { return parts };
    parts.key = key;
    let Some(rest) = rest.strip_prefix(b") ") else { return parts };
    let rest = rest.trim_ascii_start();
    let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
    parts.operator = String::from_utf8_lossy(&rest[..end]).into_owned();
    parts.value = scan_quoted(&rest[end..]).map(|(value, _)| value);
    parts
}

/// The commands that a transaction's operations are written in.
static OPERATIONS: Command = Command {
    name: "",
    usage: "",
    short: "",
    long: "",
    flags: &[],
    subcommands: &[del::COMMAND, get::COMMAND, put::COMMAND],
    run: None,
};

/// Parses one operation.
async fn parse_operation(line: &[u8]) -> Result<request_op::Request, Failure> {
    let shown = String::from_utf8_lossy(line);
    let words = split_words(line)?;
    let [name, words @ ..] = words.as_slice() else {
        return Err(invalid(format!("invalid txn compare request: {shown}")));
    };
    if words.is_empty() {
        return Err(invalid(format!("invalid txn compare request: {shown}")));
    }
    let unknown = || invalid(format!("invalid txn request: {shown}"));
    let command = OPERATIONS.subcommand(name).ok_or_else(unknown)?;
    let parsed = Parsed::parse(&[command.flags], words).map_err(|_| unknown())?;
    Ok(match command.name {
        "put" => request_op::Request::RequestPut(put::request(&parsed, None).await?),
        "get" => request_op::Request::RequestRange(get::request(&parsed)?),
        _ => request_op::Request::RequestDeleteRange(del::request(&parsed)?),
    })
}

/// Splits a line into words: `"..."` with Go's escapes, `'...'` as it stands, or a run of anything
/// but space. A quote that is not closed is passed over.
pub(super) fn split_words(line: &[u8]) -> Result<Vec<Vec<u8>>, Failure> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.first() {
        match first {
            b'"' => match closing_quote(rest) {
                Some(end) => {
                    let (value, _) =
                        scan_quoted(&rest[..=end]).ok_or_else(|| invalid("invalid syntax"))?;
                    words.push(value);
                    rest = &rest[end + 1..];
                }
                None => rest = &rest[1..],
            },
            b'\'' => match rest[1..].iter().position(|byte| *byte == b'\'') {
                Some(length) => {
                    words.push(rest[1..=length].to_vec());
                    rest = &rest[length + 2..];
                }
                None => rest = &rest[1..],
            },
            byte if byte.is_ascii_whitespace() => rest = &rest[1..],
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                words.push(rest[..end].to_vec());
                rest = &rest[end..];
            }
        }
    }
    Ok(words)
}

/// Where the double quote that opens `text` is closed.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut index = 1;
    loop {
        match text.get(index)? {
            b'"' => return Some(index),
            b'\\' => index += 2,
            _ => index += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctl_07_compares_are_parsed() {
        let compare = |line: &str| parse_compare(line.as_bytes()).expect(line);
        let parsed = compare(r#"mod("key1") > "0""#);
        assert_eq!(parsed.key, "key1");
        assert_eq!(parsed.result, i32::from(CompareResult::Greater));
        assert_eq!(parsed.target, i32::from(CompareTarget::Mod));
        assert_eq!(parsed.target_union, Some(TargetUnion::ModRevision(0)));
        for (line, union) in [
            (r#"c("k") = "7""#, TargetUnion::CreateRevision(7)),
            (r#"create("k") != "7""#, TargetUnion::CreateRevision(7)),
            (r#"m( "k")   <   "7" and more"#, TargetUnion::ModRevision(7)),
            (r#"ver("k") = "-1""#, TargetUnion::Version(-1)),
            (r#"version("k") = "1""#, TargetUnion::Version(1)),
            (r#"lease("k") = "1f""#, TargetUnion::Lease(31)),
            (r#"val("k\"q") = "a\tb""#, TargetUnion::Value("a\tb".into())),
            ("value(`k`) = `x`", TargetUnion::Value("x".into())),
        ] {
            assert_eq!(compare(line).target_union, Some(union), "{line}");
        }
    }

    #[test]
    fn ctl_07_mistakes_in_compares_are_told() {
        for (line, message) in [
            ("foo", "malformed comparison: foo"),
            (r#"mod("key1")"#, r#"malformed comparison: mod("key1"); got mod("key1")  """#),
            (
                r#"mod("key1" > "0""#,
                r#"malformed comparison: mod("key1" > "0"; got mod("key1")  """#,
            ),
            (r#"mod(key1) > "0""#, r#"malformed comparison: mod(key1) > "0"; got mod("")  """#),
            (
                r#"mod("key1") >"0""#,
                r#"malformed comparison: mod("key1") >"0"; got mod("key1") >"0" """#,
            ),
            (
                r#"mod("key1") > 0"#,
                r#"malformed comparison: mod("key1") > 0; got mod("key1") > """#,
            ),
            (
                r#"mod("key1")> "0""#,
                r#"malformed comparison: mod("key1")> "0"; got mod("key1")  """#,
            ),
            (
                r#"mod ("key1") > "0""#,
                r#"malformed comparison: mod ("key1") > "0" (unknown target mod )"#,
            ),
            (r#"mod("key1") > "abc""#, r#"invalid txn compare request: mod("key1") > "abc""#),
            (
                r#"mod("key1") >= "0""#,
                r#"malformed comparison: mod("key1") >= "0" (unknown operator >=)"#,
            ),
        ] {
            assert_eq!(parse_compare(line.as_bytes()), Err(invalid(message)), "{line}");
        }
    }

    #[test]
    fn ctl_07_words_are_split_as_by_a_shell() {
        for (line, words) in [
            ("get a b", vec![&b"get"[..], b"a", b"b"]),
            (r#"put "a b"  c"#, vec![b"put", b"a b", b"c"]),
            (r#"put 'x y' "z\tq\xff""#, vec![b"put", b"x y", b"z\tq\xff"]),
            (r#"put k "unterminated"#, vec![b"put", b"k", b"unterminated"]),
            (r#"put a b"c d"e"#, vec![b"put", b"a", b"b\"c", b"d\"e"]),
            (r#"put k """#, vec![b"put", b"k", b""]),
            ("put k ''", vec![b"put", b"k", b""]),
        ] {
            assert_eq!(split_words(line.as_bytes()).expect(line), words, "{line}");
        }
        assert!(split_words(br#"put "\q" v"#).is_err());
    }
}
