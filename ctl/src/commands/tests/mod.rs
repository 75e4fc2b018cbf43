//! From the command line to the requests and back to the exit code, with a scripted host.
//!
//! The texts and exit codes of mistakes were recorded from etcdctl 3.5.1.

mod host;
mod streams;

use std::cell::RefCell;
use std::fmt::Debug;
use std::time::Duration;

use coracle_core::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use coracle_core::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use coracle_core::api::etcdserverpb::*;

use self::host::{Script, run};
use crate::client::RpcError;

fn error(code: u32, message: &str) -> RpcError {
    RpcError { code, message: message.into() }
}

/// The requests that a command line makes.
fn requests(line: &str) -> Vec<String> {
    let ran = run(line, Script::default());
    assert_eq!(ran.code, 0, "{line}: {ran:?}");
    ran.log
}

fn sends(line: &str, request: impl Debug) {
    assert_eq!(requests(line), [format!("{request:?}")], "{line}");
}

/// The command ends with this exit code and this complaint, and prints nothing else.
fn fails(line: &str, code: i32, message: &str) {
    let ran = run(line, Script::default());
    let shown = (ran.code, ran.stderr.as_str(), ran.stdout.as_str());
    assert_eq!(shown, (code, format!("Error: {message}\n").as_str(), ""), "{line}");
}

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

#[test]
fn ctl_05_get_s_flags_become_a_range_request() {
    sends("get foo", range("foo", ""));
    sends("get a b", range("a", "b"));
    sends("get a b c", range("a", "b"));
    sends("g foo --prefix", range("foo", "fop"));
    sends("get '' --prefix", range("\0", "\0"));
    sends("get foo --from-key", range("foo", "\0"));
    sends("get '' --from-key", range("\0", "\0"));
    sends("get foo --consistency=s", RangeRequest { serializable: true, ..range("foo", "") });
    sends(
        "get foo --rev 3 --limit=0x10 --keys-only",
        RangeRequest { revision: 3, limit: 16, keys_only: true, ..range("foo", "") },
    );
    sends("get foo --rev=-1", range("foo", ""));
    sends("get foo -w fields --count-only", RangeRequest { count_only: true, ..range("foo", "") });
    sends(
        "get foo --order descend --sort-by modify",
        RangeRequest {
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Mod.into(),
            ..range("foo", "")
        },
    );
    sends("get foo --order ASCEND --sort-by KEY", range("foo", ""));
    sends(
        "get foo --min-mod-rev 1 --max-mod-rev 2 --min-create-rev 3 --max-create-rev 4",
        RangeRequest {
            min_mod_revision: 1,
            max_mod_revision: 2,
            min_create_revision: 3,
            max_create_revision: 4,
            ..range("foo", "")
        },
    );
}

#[test]
fn ctl_05_a_prefix_of_the_highest_bytes_has_no_end() {
    assert_eq!(super::prefix_range(b"a\xff"), (b"a\xff".to_vec(), b"b".to_vec()));
    assert_eq!(super::prefix_range(b"\xff\xff"), (b"\xff\xff".to_vec(), b"\0".to_vec()));
}

#[test]
fn ctl_05_put_and_del_become_their_requests() {
    let put = PutRequest { key: "foo".into(), value: "bar".into(), ..Default::default() };
    sends("put foo bar", &put);
    sends("put foo bar baz", &put);
    sends("put foo bar --lease 1f", PutRequest { lease: 31, ..put.clone() });
    sends("put foo --prev-kv bar", PutRequest { prev_kv: true, ..put.clone() });
    sends("put -- foo -v", PutRequest { value: "-v".into(), ..put.clone() });
    sends(
        "put foo --ignore-value --ignore-lease",
        PutRequest { value: "".into(), ignore_value: true, ignore_lease: true, ..put.clone() },
    );
    let stdin = RefCell::new(["from stdin\n", "two"].into());
    let ran = run("put foo", Script { stdin, ..Default::default() });
    let request = PutRequest { value: "from stdin\ntwo".into(), ..put };
    assert_eq!(ran.log, [format!("{request:?}")]);
    assert_eq!(ran.stdout, "OK\n");

    let del = |key: &'static str, range_end: &'static str, prev_kv| DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv,
    };
    sends("del foo", del("foo", "", false));
    sends("del a b --range --prev-kv", del("a", "b", true));
    sends("del foo --prefix", del("foo", "fop", false));
    sends("del '' --from-key", del("\0", "\0", false));
}

#[test]
fn ctl_07_a_transaction_is_read_from_standard_input() {
    let stdin = [
        "mod(\"key1\") > \"0\"\n",
        "\n",
        "put key1 \"over wrote\" --prev-kv\n",
        "g key1 --prefix\n",
        "\n",
        " del 'a b' c \n",
        "  \n",
    ];
    let script = Script { stdin: RefCell::new(stdin.into()), ..Default::default() };
    let ran = run("txn -i", script);
    let operation = |request| RequestOp { request: Some(request) };
    let request = TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Greater.into(),
            target: CompareTarget::Mod.into(),
            key: "key1".into(),
            range_end: "".into(),
            target_union: Some(TargetUnion::ModRevision(0)),
        }],
        success: vec![
            operation(request_op::Request::RequestPut(PutRequest {
                key: "key1".into(),
                value: "over wrote".into(),
                prev_kv: true,
                ..Default::default()
            })),
            operation(request_op::Request::RequestRange(range("key1", "key2"))),
        ],
        failure: vec![operation(request_op::Request::RequestDeleteRange(DeleteRangeRequest {
            key: "a b".into(),
            range_end: "c".into(),
            prev_kv: false,
        }))],
    };
    assert_eq!(ran.log, [format!("{request:?}")]);
    assert_eq!(
        ran.stdout,
        "compares:\nsuccess requests (get, put, del):\nfailure requests (get, put, del):\n\
         FAILURE\n"
    );
}

#[test]
fn ctl_02_mistakes_in_transactions_have_their_exit_codes() {
    for (input, code, message) in [
        ("", 3, "EOF"),
        ("foo\n", 3, "malformed comparison: foo"),
        ("\nget\n", 3, "invalid txn compare request: get"),
        ("\nfoo bar\n", 3, "invalid txn request: foo bar"),
        ("\nwatch foo\n", 3, "invalid txn request: watch foo"),
        ("\nget a --bogus\n", 3, "invalid txn request: get a --bogus"),
        ("\nget a -w json\n", 3, "invalid txn request: get a -w json"),
        ("\nput a\n\n\n", 128, "put command needs 1 argument and input from stdin or 2 arguments"),
        ("\nget a --order foo\n", 4, "bad sort order foo"),
        (
            "\nput a b --lease zz\n",
            128,
            "bad lease ID (strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex",
        ),
        (
            "\ndel a b c\n",
            128,
            "del command needs one argument as key and an optional argument as range_end",
        ),
        ("\n\nget a", 3, "EOF"),
    ] {
        let stdin = input.split_inclusive('\n').collect();
        let script = Script { stdin: RefCell::new(stdin), ..Default::default() };
        let ran = run("txn", script);
        let shown = (ran.code, ran.stderr.as_str());
        assert_eq!(shown, (code, format!("Error: {message}\n").as_str()), "{input:?}");
        assert!(ran.log.is_empty());
    }
}

#[test]
fn leases_and_members_become_their_requests() {
    sends("lease grant 60", LeaseGrantRequest { ttl: 60, id: 0 });
    sends("lease revoke 1f", LeaseRevokeRequest { id: 31 });
    sends("lease timetolive 1f --keys", LeaseTimeToLiveRequest { id: 31, keys: true });
    sends("lease list", LeaseLeasesRequest {});
    sends("compaction 7 --physical", CompactionRequest { revision: 7, physical: true });
    sends("member list", MemberListRequest { linearizable: true });
    sends("member list --consistency=s", MemberListRequest { linearizable: false });
    sends("member remove ff", MemberRemoveRequest { id: 255 });
    sends("member promote ff", MemberPromoteRequest { id: 255 });
    sends(
        "member update ff --peer-urls=http://a:1,https://b:2",
        MemberUpdateRequest {
            id: 255,
            peer_ur_ls: vec!["http://a:1".into(), "https://b:2".into()],
        },
    );
    sends("endpoint hashkv --rev 5", HashKvRequest { revision: 5 });
}

#[test]
fn member_add_tells_how_to_start_the_member() {
    let member = |id, name: &str, url: &str| Member {
        id,
        name: name.into(),
        peer_ur_ls: vec![url.into()],
        ..Default::default()
    };
    let script = Script {
        member_add: MemberAddResponse {
            header: Some(ResponseHeader { cluster_id: 0xab, ..Default::default() }),
            member: Some(member(7, "", "http://n:2380")),
            members: vec![member(1, "old", "http://o:2380"), member(7, "", "http://n:2380")],
        },
        ..Default::default()
    };
    let ran = run("member add new --learner --peer-urls=http://n:2380", script);
    let request = MemberAddRequest { peer_ur_ls: vec!["http://n:2380".into()], is_learner: true };
    assert_eq!(ran.log, [format!("{request:?}")]);
    assert_eq!(
        ran.stdout,
        "Member                7 added to cluster               ab\n\n\
         ETCD_NAME=\"new\"\n\
         ETCD_INITIAL_CLUSTER=\"old=http://o:2380,new=http://n:2380\"\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://n:2380\"\n\
         ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n"
    );
}

#[test]
fn ctl_02_mistakes_in_arguments_of_keys_and_connections() {
    for (line, code, message) in [
        ("put", 128, "put command needs 1 argument and input from stdin or 2 arguments"),
        ("put a", 128, "put command needs 1 argument and input from stdin or 2 arguments"),
        (
            "put a b --ignore-value",
            128,
            "put command needs only 1 argument when 'ignore-value' is set",
        ),
        ("put a b -w xx", 4, "unsupported output format"),
        ("put a b -w table", 4, "table not supported as output format"),
        ("get", 128, "get command needs one argument as key and an optional argument as range_end"),
        (
            "get f --prefix --from-key",
            128,
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ),
        (
            "get f g --prefix",
            128,
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ),
        (
            "get f --keys-only --count-only",
            128,
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ),
        ("get f --count-only", 128, "--count-only is only for `--write-out=fields`"),
        (
            "get f --print-value-only -w json",
            128,
            "print-value-only is only for `--write-out=simple`",
        ),
        ("get f --order foo", 4, "bad sort order foo"),
        ("get f --sort-by foo", 4, "bad sort target foo"),
        ("get f --consistency foo", 4, "unknown consistency flag \"foo\""),
        ("get f --endpoints=", 2, "etcdclient: no available endpoints"),
        ("get f --cert=", 128, "empty string is passed to --cert option"),
        ("get f --cert x", 128, "KeyFile and CertFile must both be present[key: , cert: x]"),
    ] {
        fails(line, code, message);
    }
}

#[test]
fn ctl_02_mistakes_in_arguments_of_the_other_commands() {
    const ID: &str = "(strconv.ParseUint: parsing \"zz\": invalid syntax), expecting ID in Hex";
    const LEASE: &str = "(strconv.ParseInt: parsing \"zz\": invalid syntax), expecting ID in Hex";
    let bad_member = format!("bad member ID arg {ID}");
    let bad_lease = format!("bad lease ID arg {LEASE}");
    for (line, code, message) in [
        ("compaction", 128, "compaction command needs 1 argument"),
        ("compaction abc", 1, "strconv.ParseInt: parsing \"abc\": invalid syntax"),
        ("lease grant", 128, "lease grant command needs TTL argument"),
        ("lease grant abc", 128, "bad TTL (strconv.ParseInt: parsing \"abc\": invalid syntax)"),
        ("lease revoke", 128, "lease revoke command needs 1 argument"),
        ("lease timetolive", 128, "lease timetolive command needs lease ID as argument"),
        ("lease timetolive zz", 128, &bad_lease),
        ("lease keep-alive", 128, "lease keep-alive command needs lease ID as argument"),
        ("member add", 128, "member name not provided"),
        ("member add x", 128, "member peer urls not provided"),
        (
            "member add x --peer-urls=127.0.0.1:2380",
            1,
            "parse \"127.0.0.1:2380\": first path segment in URL cannot contain colon",
        ),
        ("member add x --peer-urls=abc", 1, "URL scheme must be http, https, unix, or unixs: abc"),
        (
            "member add x --peer-urls=http://a",
            1,
            "URL address does not have the form \"host:port\": http://a",
        ),
        ("member add x --peer-urls=http://a:1/b", 1, "URL must not contain a path: http://a:1/b"),
        ("member remove", 128, "member ID is not provided"),
        ("member update zz", 128, &bad_member),
        ("member update ff", 128, "member peer urls not provided"),
        ("alarm list x", 128, "alarm list command accepts no arguments"),
        ("move-leader", 128, "move-leader command needs 1 argument"),
        ("move-leader zz", 128, "strconv.ParseUint: parsing \"zz\": invalid syntax"),
        ("snapshot save", 128, "snapshot save expects one argument"),
        (
            "snapshot save x --endpoints a:1,b:2",
            5,
            "snapshot must be requested to one selected node, not multiple [a:1 b:2]",
        ),
        ("txn x", 128, "txn command does not accept argument"),
        ("watch", 128, "bad number of arguments"),
        ("watch a b --prefix", 128, "`range_end` and `--prefix` are mutually exclusive"),
        ("watch a --", 128, "bad number of arguments (found separator --, but no commands)"),
    ] {
        fails(line, code, message);
    }
}

#[test]
fn ctl_02_errors_of_the_server_are_told_as_they_are() {
    let not_found = || error(5, "etcdserver: requested lease not found");
    for (line, code, message) in [
        ("put a b", 1, "etcdserver: requested lease not found"),
        ("lease revoke 1f", 1, "failed to revoke lease (etcdserver: requested lease not found)"),
        ("lease grant 9", 1, "failed to grant lease (etcdserver: requested lease not found)"),
        ("lease timetolive 1f", 2, "etcdserver: requested lease not found"),
    ] {
        let errors = ["PutRequest", "LeaseRevokeRequest", "LeaseGrantRequest"]
            .map(|request| (request, not_found()));
        let mut errors = errors.to_vec();
        errors.push(("LeaseTimeToLiveRequest", not_found()));
        let ran = run(line, Script { errors, ..Default::default() });
        assert_eq!((ran.code, ran.stderr), (code, format!("Error: {message}\n")), "{line}");
    }
}

#[test]
fn ctl_02_errors_without_a_code_are_told_as_those_of_gos_client() {
    for (line, request, message) in [
        ("defrag", "DefragmentRequest", "Failed to defragment etcd member[127.0.0.1:2379]"),
        ("endpoint hashkv", "HashKvRequest", "Failed to get the hash of endpoint 127.0.0.1:2379"),
    ] {
        let errors = vec![(request, error(2, "disk is on fire"))];
        let ran = run(line, Script { errors, ..Default::default() });
        let text = "rpc error: code = Unknown desc = disk is on fire";
        assert!(ran.stderr.starts_with(&format!("{message} ({text})\n")), "{}", ran.stderr);
        assert_eq!(ran.code, 1);
    }
}

#[cfg(feature = "native")]
#[test]
fn cc_01_a_lease_without_a_time_to_live_gets_go_s_default() {
    for (ttl, granted) in [("0", 60), ("-3", 60), ("5", 5)] {
        let log = run(&format!("lock --ttl={ttl} foo"), Script::default()).log;
        assert_eq!(log[0], format!("{:?}", LeaseGrantRequest { ttl: granted, id: 0 }));
    }
}

#[test]
fn ctl_01_a_command_that_does_not_exist_is_told_with_what_is_like_it() {
    let ran = run("gett foo", Script::default());
    assert_eq!(ran.code, 1);
    assert_eq!(
        ran.stderr,
        "Error: unknown command \"gett\" for \"etcdctl\"\n\nDid you mean this?\n\tget\n\n\
         Run 'etcdctl --help' for usage.\n\
         Error: unknown command \"gett\" for \"etcdctl\"\n\nDid you mean this?\n\tget\n\n"
    );
    let ran = run("foo", Script::default());
    assert_eq!(
        ran.stderr,
        "Error: unknown command \"foo\" for \"etcdctl\"\nRun 'etcdctl --help' for usage.\n\
         Error: unknown command \"foo\" for \"etcdctl\"\n"
    );
}

#[test]
fn ctl_01_groups_print_their_help_and_bad_flags_theirs() {
    let ran = run("lease", Script::default());
    assert_eq!(ran.code, 0);
    let expected = "NAME:\n\tlease - Lease related commands\n\n\
                    USAGE:\n\tetcdctl lease <subcommand> [flags]\n\n\
                    API VERSION:\n\t3.7\n\n\n\
                    COMMANDS:\n\
                    \tgrant\t\tCreates leases\n\
                    \tkeep-alive\tKeeps leases alive (renew)\n\
                    \tlist\t\tList all active leases\n\
                    \trevoke\t\tRevokes leases\n\
                    \ttimetolive\tGet lease information\n\n\
                    OPTIONS:\n  -h, --help[=false]\thelp for lease\n\n\
                    GLOBAL OPTIONS:\n";
    assert_eq!(ran.stdout.get(..expected.len()), Some(expected));
    assert_eq!(run("help lease", Script::default()).stdout, ran.stdout);
    assert_eq!(run("lease list -h", Script::default()).code, 0);

    let ran = run("get f --bogus", Script::default());
    assert_eq!(ran.code, 1);
    assert!(ran.stdout.starts_with("NAME:\n\tget - "), "{}", ran.stdout);
    assert_eq!(ran.stderr, "Error: unknown flag: --bogus\n\nError: unknown flag: --bogus\n");
    let option = "      --consistency=\"l\"\t\t\tLinearizable(l) or Serializable(s)\n";
    assert!(ran.stdout.contains(option), "{}", ran.stdout);
}

#[test]
fn ctl_01_endpoints_and_credentials_reach_the_host() {
    let ran = run("get a --endpoints=x:1,y:2 --user root:pw", Script::default());
    assert_eq!(ran.log[..2], ["connect x:1 y:2", "as (\"root\", \"pw\")"]);
    let ran = run("get a --user root --password p:w", Script::default());
    assert_eq!(ran.log[0], "as (\"root\", \"p:w\")");
    let ran = run("get a --user root", Script::default());
    assert_eq!(ran.log[0], "as (\"root\", \"secret\")");
    let variables = vec![("ETCDCTL_ENDPOINTS", "z:3")];
    let ran = run("get a", Script { variables, ..Default::default() });
    assert_eq!(ran.log[0], "connect z:3");
    let ran = run("get a --auth-jwt-token t.o.k", Script::default());
    assert_eq!(ran.log[0], "with t.o.k");
    let ran = run("get a --auth-jwt-token t.o.k --user root:pw", Script::default());
    let refused = "Error: --auth-jwt-token and --user cannot be used together\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (128, refused));
}

#[test]
fn ctl_01_endpoints_are_found_by_dns() {
    let ran = run("get a -d x.org --discovery-srv-name blue", Script::default());
    let all = ["discover x.org blue", "connect https://m1.x.org:1 http://m2.x.org:2"];
    assert_eq!(ran.log[..2], all);
    let ran = run("get a --discovery-srv x.org --insecure-discovery=false", Script::default());
    assert_eq!(ran.log[..2], ["discover x.org ", "connect https://m1.x.org:1"]);
    assert_eq!(ran.stderr, "ignoring discovered insecure endpoint \"http://m2.x.org:2\"\n");
    let ran = run("get a --discovery-srv nowhere", Script::default());
    let refused = "Error: dns lookup errors: no such host\n";
    assert_eq!((ran.code, ran.stderr.as_str()), (1, refused));
}

#[test]
fn a_cluster_that_cannot_be_reached_is_tried_until_the_timeout() {
    let script = || Script { unreachable: vec!["a:1"], ..Default::default() };
    let ran = run("get x --endpoints a:1 --command-timeout 3s", script());
    assert_eq!((ran.code, ran.took), (1, Duration::from_secs(3)));
    assert_eq!(ran.stderr, "a:1 refuses\nError: context deadline exceeded\n");
}

#[test]
fn endpoints_answer_one_by_one_and_failures_count_at_the_end() {
    let header = Some(ResponseHeader { member_id: 7, ..Default::default() });
    let status = StatusResponse { header, version: "3.7.0".into(), ..Default::default() };
    let script = || Script {
        unreachable: vec!["b:2"],
        status: vec![status.clone()].into(),
        ..Default::default()
    };
    let ran = run("endpoint status --endpoints a:1,b:2", script());
    assert_eq!(ran.code, 1);
    assert_eq!(ran.stdout, "a:1, 7, 3.7.0, 0 B, false, false, 0, 0, 0, \n");
    assert_eq!(
        ran.stderr,
        "b:2 refuses\n\
         Failed to get the status of endpoint b:2 (context deadline exceeded)\n"
    );
    let ran = run("endpoint health --endpoints a:1,b:2", script());
    assert_eq!(ran.code, 1);
    assert_eq!(ran.stdout, "a:1 is healthy: successfully committed proposal: took = 0s\n");
    assert_eq!(
        ran.stderr,
        "b:2 refuses\n\
         b:2 is unhealthy: failed to commit proposal: context deadline exceeded\n\
         Error: unhealthy cluster\n"
    );
    let ran = run("defrag --endpoints b:2,a:1", script());
    assert_eq!((ran.code, ran.stdout.as_str()), (1, "Finished defragmenting etcd member[a:1]\n"));
    assert_eq!(
        ran.stderr,
        "b:2 refuses\nFailed to defragment etcd member[b:2] (context deadline exceeded)\n"
    );
}

#[test]
fn an_alarm_or_a_failed_read_is_bad_health_but_a_refused_permission_is_not() {
    let health = |script| {
        let ran = run("endpoint health -w json", script);
        (ran.code, ran.stdout)
    };
    let (code, text) = health(Script {
        alarms: vec![AlarmMember { member_id: 1, alarm: AlarmType::Nospace.into() }],
        ..Default::default()
    });
    assert_eq!(code, 1);
    assert!(text.contains("\"error\":\"Active Alarm(s): NOSPACE \""), "{text}");
    let (code, _) = health(Script {
        errors: vec![("RangeRequest", error(7, "etcdserver: permission denied"))],
        ..Default::default()
    });
    assert_eq!(code, 0);
    let (code, text) = health(Script {
        errors: vec![("RangeRequest", error(14, "etcdserver: no leader"))],
        ..Default::default()
    });
    assert_eq!(code, 1);
    assert!(text.contains("\"error\":\"etcdserver: no leader\""), "{text}");
}

#[test]
fn alarms_are_disarmed_one_by_one() {
    let alarm = |member_id, alarm: AlarmType| AlarmMember { member_id, alarm: alarm.into() };
    let script = Script {
        alarms: vec![alarm(1, AlarmType::Nospace), alarm(2, AlarmType::Corrupt)],
        ..Default::default()
    };
    let ran = run("alarm disarm", script);
    assert_eq!(ran.log.len(), 3);
    assert!(ran.log[2].contains("Deactivate, member_id: 2, alarm: Corrupt"), "{:?}", ran.log);
    assert_eq!(ran.stdout, "memberID:1 alarm:NOSPACE \nmemberID:2 alarm:CORRUPT \n");
}

#[test]
fn the_leader_is_searched_among_the_endpoints() {
    let status = |member_id| StatusResponse {
        header: Some(ResponseHeader { member_id, ..Default::default() }),
        leader: 0xb,
        ..Default::default()
    };
    let script = || Script {
        status: vec![status(0xa), status(0xb), status(0xc)].into(),
        ..Default::default()
    };
    let ran = run("move-leader c --endpoints a:1,b:2,c:3", script());
    assert_eq!(ran.stdout, "Leadership transferred from b to c\n");
    assert_eq!(ran.log[2], "connect b:2");
    assert_eq!(ran.log[4..], ["MoveLeaderRequest { target_id: 12 }"]);
    let ran = run("move-leader c --endpoints a:1", script());
    assert_eq!(ran.code, 128);
    assert_eq!(ran.stderr, "Error: no leader endpoint given at [a:1]\n");
}

#[cfg(feature = "native")]
#[test]
fn ctl_08_deleting_what_was_written_has_a_limit_of_its_own() {
    for (seconds, code) in [(29, 0), (31, 1)] {
        let slow = vec![("DeleteRangeRequest", Duration::from_secs(seconds))];
        let ran = run("check perf --command-timeout=1s", Script { slow, ..Script::default() });
        assert_eq!((ran.code, ran.stdout.ends_with("PASS\n")), (code, code == 0), "{seconds}");
        // A minute of writing comes before.
        assert!(ran.took > Duration::from_secs(59 + seconds.min(30)), "{:?}", ran.took);
    }
}
