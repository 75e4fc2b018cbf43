//! The texts in `fixtures` were recorded from etcdctl 3.5.1, each format of it run against a server
//! that gave the reply on the second line (name of the message, its bytes). `protobuf` is in
//! hexadecimal. The first line is the command that was run. `member promote` has but one format:
//! in the others that release crashes.

use std::path::{Path, PathBuf};

use prost::Message;

use super::*;

/// The endpoint that the recordings were made with.
const ENDPOINT: &str = "127.0.0.1:23790";

struct Fixture {
    command: String,
    output: Output,
    /// The format's name and the recorded output.
    texts: Vec<(String, Vec<u8>)>,
}

fn fixtures() -> Vec<(PathBuf, Fixture)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/format/fixtures");
    let mut paths: Vec<PathBuf> =
        folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), parse(&std::fs::read(&path).unwrap()))).collect()
}

fn parse(file: &[u8]) -> Fixture {
    let mut lines = file.split_inclusive(|byte| *byte == b'\n');
    let mut text = || String::from_utf8(lines.next().unwrap().trim_ascii_end().to_vec()).unwrap();
    let (command, reply) = (text(), text());
    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    for line in lines {
        match line.strip_prefix(b"--- ") {
            Some(name) => {
                let name = String::from_utf8(name.trim_ascii_end().to_vec()).unwrap();
                texts.push((name, Vec::new()));
            }
            None => texts.last_mut().unwrap().1.extend_from_slice(line),
        }
    }
    let output = reply_to(&command, &reply);
    Fixture { command, output, texts }
}

fn reply_to(command: &str, reply: &str) -> Output {
    fn decode<M: Message + Default>(bytes: &[u8]) -> M {
        M::decode(bytes).unwrap()
    }
    let (kind, hex) = reply.split_once(' ').unwrap();
    let digits = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    let bytes: Vec<u8> = (0..hex.len()).step_by(2).map(digits).collect();
    let endpoint = || ENDPOINT.to_string();
    let bytes = bytes.as_slice();
    match kind {
        "PutResponse" => Output::Put(decode(bytes)),
        "RangeResponse" => Output::Get(decode(bytes)),
        "DeleteRangeResponse" => Output::Delete(decode(bytes)),
        "TxnResponse" => Output::Txn(decode(bytes)),
        "WatchResponse" => Output::Watch(decode(bytes)),
        "LeaseGrantResponse" => Output::LeaseGrant(decode(bytes)),
        "LeaseRevokeResponse" => Output::LeaseRevoke(0x1f, decode(bytes)),
        "LeaseKeepAliveResponse" => Output::LeaseKeepAlive(decode(bytes)),
        "LeaseTimeToLiveResponse" => {
            Output::LeaseTimeToLive(decode(bytes), command.contains("--keys"))
        }
        "LeaseLeasesResponse" => Output::LeaseList(decode(bytes)),
        "MemberListResponse" => Output::MemberList(decode(bytes)),
        "MemberAddResponse" => Output::MemberAdd(decode(bytes)),
        "MemberRemoveResponse" => Output::MemberRemove(0x1f, decode(bytes)),
        "MemberUpdateResponse" => Output::MemberUpdate(0x1f, decode(bytes)),
        "MemberPromoteResponse" => Output::MemberPromote(0x1f, decode(bytes)),
        "StatusResponse" => Output::EndpointStatus(vec![(endpoint(), decode(bytes))]),
        "HashKvResponse" => Output::EndpointHashKv(vec![(endpoint(), decode(bytes))]),
        "AlarmResponse" => Output::Alarm(decode(bytes)),
        "MoveLeaderResponse" => {
            let response = decode(bytes);
            Output::MoveLeader { from: 10276657743932975437, to: 0x1f, response }
        }
        _ => panic!("no such reply: {kind}"),
    }
}

#[test]
fn ctl_03_every_format_is_etcdctl_s_to_the_byte() {
    let fixtures = fixtures();
    assert!(fixtures.len() > 30);
    for (path, Fixture { command, output, texts }) in fixtures {
        assert!(!texts.is_empty(), "{}", path.display());
        let style = Style { hex: command.contains("--hex"), value_only: false };
        for (name, recorded) in texts {
            let format = Format::parse(&name).unwrap();
            let shown = match render(&output, format, style) {
                Ok(rendered) if format == Format::Protobuf => {
                    let digits = rendered.stdout.iter().map(|byte| format!("{byte:02x}"));
                    format!("{}\n", digits.collect::<String>()).into_bytes()
                }
                Ok(rendered) => rendered.stdout,
                Err(Unsupported) => b"unsupported\n".to_vec(),
            };
            let (shown, recorded) = (shown.escape_ascii(), recorded.escape_ascii());
            assert_eq!(
                shown.to_string().replace("\\n", "\n"),
                recorded.to_string().replace("\\n", "\n"),
                "{} {name}",
                path.display()
            );
        }
    }
}

fn health(took: &str) -> Output {
    Output::EndpointHealth(vec![
        EndpointHealth {
            endpoint: "127.0.0.1:12379".into(),
            is_healthy: true,
            took: took.into(),
            error: String::new(),
        },
        EndpointHealth {
            endpoint: "127.0.0.1:1".into(),
            is_healthy: false,
            took: "5.001850708s".into(),
            error: "context deadline exceeded".into(),
        },
    ])
}

#[test]
fn ctl_03_the_health_of_endpoints_in_every_format() {
    let show = |format| render(&health("1.829399ms"), format, Style::default()).unwrap();
    let simple = show(Format::Simple);
    assert_eq!(
        String::from_utf8(simple.stdout).unwrap(),
        "127.0.0.1:12379 is healthy: successfully committed proposal: took = 1.829399ms\n"
    );
    assert_eq!(
        String::from_utf8(simple.stderr).unwrap(),
        "127.0.0.1:1 is unhealthy: failed to commit proposal: context deadline exceeded\n"
    );
    assert_eq!(
        String::from_utf8(show(Format::Table).stdout).unwrap(),
        "\
+-----------------+--------+--------------+---------------------------+
|    ENDPOINT     | HEALTH |     TOOK     |           ERROR           |
+-----------------+--------+--------------+---------------------------+
| 127.0.0.1:12379 |   true |   1.829399ms |                           |
|     127.0.0.1:1 |  false | 5.001850708s | context deadline exceeded |
+-----------------+--------+--------------+---------------------------+
"
    );
    assert_eq!(
        String::from_utf8(show(Format::Json).stdout).unwrap(),
        "[{\"endpoint\":\"127.0.0.1:12379\",\"health\":true,\"took\":\"1.829399ms\"},\
         {\"endpoint\":\"127.0.0.1:1\",\"health\":false,\"took\":\"5.001850708s\",\
         \"error\":\"context deadline exceeded\"}]\n"
    );
    assert_eq!(
        String::from_utf8(show(Format::Fields).stdout).unwrap(),
        "\"Endpoint\" : \"127.0.0.1:12379\"\n\"Health\" : true\n\"Took\" : 1.829399ms\n\
         \"Error\" : \n\n\
         \"Endpoint\" : \"127.0.0.1:1\"\n\"Health\" : false\n\"Took\" : 5.001850708s\n\
         \"Error\" : context deadline exceeded\n\n"
    );
    assert_eq!(render(&health("1ms"), Format::Protobuf, Style::default()), Err(Unsupported));
}

#[test]
fn ctl_03_hex_and_value_only_are_simple_s_own() {
    let kv = coracle_core::api::mvccpb::KeyValue {
        key: "foo".into(),
        value: vec![0, 0xff].into(),
        ..Default::default()
    };
    let output = Output::Get(RangeResponse { kvs: vec![kv], ..Default::default() });
    let show = |hex, value_only| {
        render(&output, Format::Simple, Style { hex, value_only }).unwrap().stdout
    };
    assert_eq!(show(false, false), b"foo\n\x00\xff\n");
    assert_eq!(show(true, false), b"\\x66\\x6f\\x6f\n\\x00\\xff\n");
    assert_eq!(show(true, true), b"\\x00\\xff\n");
}
