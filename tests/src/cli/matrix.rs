//! Every command in every format, from a table.

use super::{Capture, Line, Reply};

/// What `-w` may say, and one that it may not.
const FORMATS: [&str; 6] = ["simple", "fields", "json", "protobuf", "table", "yaml"];

/// Command lines that are given in every format, in this order, with what `protobuf` prints.
const TABLE: [(&str, Option<Reply>); 45] = [
    ("put a 1", Some(Reply::Put)),
    // Before any lease, whose random id would be part of the stored values.
    ("endpoint hashkv", None),
    ("put a 2 --prev-kv", Some(Reply::Put)),
    ("put b 3 --lease=<lease1>", Some(Reply::Put)),
    ("put b --ignore-value --lease=<lease1> --prev-kv", Some(Reply::Put)),
    ("put b 4 --ignore-lease", Some(Reply::Put)),
    ("put nothing --ignore-value", Some(Reply::Put)),
    ("put c 5 --lease=77", Some(Reply::Put)),
    ("get a", Some(Reply::Range)),
    ("get a --hex", Some(Reply::Range)),
    ("get nothing", Some(Reply::Range)),
    ("get '' --prefix", Some(Reply::Range)),
    ("get a --from-key --limit=1", Some(Reply::Range)),
    ("get a c --order=DESCEND --sort-by=MODIFY", Some(Reply::Range)),
    ("get '' --prefix --keys-only", Some(Reply::Range)),
    ("get '' --prefix --count-only", Some(Reply::Range)),
    ("get a --print-value-only", Some(Reply::Range)),
    ("get a --rev=2", Some(Reply::Range)),
    ("get a --rev=100000", Some(Reply::Range)),
    ("get a --consistency=s --limit=1", Some(Reply::Range)),
    ("txn", Some(Reply::Txn)),
    ("del nothing", Some(Reply::DeleteRange)),
    ("del t --prefix --prev-kv", Some(Reply::DeleteRange)),
    ("compaction 3", None),
    ("compaction 100000", None),
    ("lease timetolive <lease1>", Some(Reply::Header)),
    ("lease timetolive <lease1> --keys", Some(Reply::Header)),
    ("lease timetolive 77 --keys", Some(Reply::Header)),
    ("lease keep-alive --once <lease1>", Some(Reply::Header)),
    ("lease keep-alive --once 77", Some(Reply::Header)),
    ("lease list", Some(Reply::Header)),
    ("lease revoke 77", None),
    ("lease grant 9000000001", Some(Reply::Header)),
    ("member list", Some(Reply::MemberList)),
    ("member list --hex", Some(Reply::MemberList)),
    ("member remove 77", Some(Reply::MemberRemove)),
    ("member update 77 --peer-urls=http://127.0.0.1:1", None),
    ("member promote <member>", None),
    ("alarm list", Some(Reply::Alarm)),
    ("alarm disarm", Some(Reply::Alarm)),
    ("endpoint health", None),
    ("endpoint status", None),
    ("endpoint status --cluster", None),
    ("defrag", None),
    ("lock name true", None),
];

/// The input of `txn`.
const TXN: &str = "mod(\"a\") > \"0\"\nversion(\"nothing\") = \"0\"\n\nput t1 \"with a space\"\n\
                   get a\ndel t2\n\nget b\n\n";

/// Lines whose format does not matter: mistakes, values of flags and variables, what is captured.
const ONCE: [&str; 43] = [
    "get",
    "get a b c",
    "get a --prefix --from-key",
    "get a b --prefix",
    "get a --sort-by=SIZE",
    "get a --order=UP",
    "get a --consistency=x",
    "get a --keys-only --count-only",
    "get a --rev=x",
    "get a --bogus",
    "get a -x",
    "get a --user=root:secret",
    "get a --user=root:",
    "role list -w fields",
    "user list -w fields",
    "put",
    "put a",
    "put a b c",
    "put a 1 --lease=xyz",
    "put a 1 --ignore-value",
    "del",
    "del a b --prefix",
    "compaction",
    "compaction x",
    "lease grant",
    "lease grant x",
    "lease revoke",
    "lease revoke xyz",
    "lease timetolive",
    "lease keep-alive",
    "member add",
    "member add new",
    "member remove",
    "member remove xyz",
    "member update <member>",
    "member promote",
    "move-leader",
    "move-leader xyz",
    "lock",
    "elect",
    "elect e",
    "elect e p -l",
    "lock name no-such-program",
];

/// The whole matrix, as lines for one server from its start.
pub fn lines() -> Vec<Line> {
    let grant = Line { captures: Some(Capture::Lease), ..Line::new("lease grant 1000") };
    let mut lines = vec![grant.clone()];
    for (words, reply) in TABLE {
        for format in FORMATS {
            let mut line = Line { reply, ..Line::new(words) };
            if words == "txn" {
                line.input = TXN.into();
            }
            // A program after its lock's name would take the flag for its own.
            let flag = Line::new(&format!("-w {format}")).words;
            line.words.splice(0..0, flag);
            lines.push(line);
        }
    }
    lines.extend(ONCE.map(Line::new));
    lines.extend(changing_lines());
    lines
}

/// What can be done once only, or changes what is captured.
fn changing_lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for format in FORMATS {
        let grant = Line { captures: Some(Capture::Lease), ..Line::new("lease grant 1000") };
        let index = lines.len() / 2 + 2;
        lines.push(grant);
        lines.push(Line::new(&format!("lease revoke <lease{index}> -w {format}")));
    }
    for (port, format) in FORMATS.iter().enumerate() {
        let url = format!("http://127.0.0.1:{}", port + 1);
        let words = format!("member add new --learner --peer-urls={url} -w {format}");
        let added = Line { reply: Some(Reply::MemberAdd), ..Line::new(&words) };
        if *format == "yaml" {
            // It is refused before anything is asked of the server.
            lines.push(added);
            continue;
        }
        lines.push(Line { captures: Some(Capture::AddedMember), ..added });
        lines.push(Line::new(&format!("member promote <added> -w {format}")));
        let words = format!("member remove <added> -w {format}");
        lines.push(Line { reply: Some(Reply::MemberRemove), ..Line::new(&words) });
    }
    for (name, value) in [
        ("ETCDCTL_WRITE_OUT", "json"),
        ("ETCDCTL_WRITE_OUT", "bogus"),
        ("ETCDCTL_HEX", "true"),
        ("ETCDCTL_COMMAND_TIMEOUT", "7s"),
        ("ETCDCTL_DIAL_TIMEOUT", "nonsense"),
    ] {
        lines.push(Line { variables: vec![(name, value)], ..Line::new("get a") });
    }
    lines
}
