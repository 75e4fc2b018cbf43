//! The commands over streams: `watch`, `lease keep-alive`, `snapshot save`.

use std::cell::RefCell;
use std::time::Duration;

use coracle_core::api::etcdserverpb::watch_request::RequestUnion;
use coracle_core::api::etcdserverpb::*;
use coracle_core::api::mvccpb::{Event, KeyValue, event::EventType};

use super::error;
use super::host::{Ran, Script, run};
use crate::client::RpcError;

type Stream<T> = Vec<Result<T, RpcError>>;

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

fn created(watch_id: i64, revision: i64) -> Result<WatchResponse, RpcError> {
    let header = header(revision);
    Ok(WatchResponse { header, watch_id, created: true, ..Default::default() })
}

fn put(watch_id: i64, key: &'static str, revision: i64) -> Result<WatchResponse, RpcError> {
    let kv = KeyValue {
        key: key.into(),
        value: "v".into(),
        mod_revision: revision,
        ..Default::default()
    };
    let event = Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None };
    let header = header(revision);
    Ok(WatchResponse { header, watch_id, events: vec![event], ..Default::default() })
}

fn progress(watch_id: i64, revision: i64) -> Result<WatchResponse, RpcError> {
    Ok(WatchResponse { header: header(revision), watch_id, ..Default::default() })
}

fn compacted(watch_id: i64) -> Result<WatchResponse, RpcError> {
    let cancel_reason = "mvcc: required revision has been compacted".into();
    Ok(WatchResponse {
        header: header(0),
        watch_id,
        canceled: true,
        compact_revision: 5,
        cancel_reason,
        ..Default::default()
    })
}

fn watching(line: &str, streams: Vec<Stream<WatchResponse>>, stdin: &[&'static str]) -> Ran {
    let script = Script {
        watches: RefCell::new(streams.into()),
        stdin: RefCell::new(stdin.iter().copied().collect()),
        interrupt_at: Some(Duration::from_secs(60)),
        ..Default::default()
    };
    run(line, script)
}

fn create(request: WatchCreateRequest) -> String {
    let request_union = Some(RequestUnion::CreateRequest(request));
    format!("{:?}", WatchRequest { request_union })
}

fn request(watch_id: i64, key: &'static str, range_end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        watch_id,
        ..Default::default()
    }
}

#[test]
fn ctl_06_watch_s_flags_become_a_create_request() {
    for (line, wanted) in [
        ("watch foo", request(1, "foo", "")),
        ("watch a b", request(1, "a", "b")),
        ("watch foo --prefix", request(1, "foo", "fop")),
        ("watch '' --prefix", request(1, "\0", "\0")),
        (
            "watch foo --rev 3 --prev-kv --progress-notify",
            WatchCreateRequest {
                start_revision: 3,
                prev_kv: true,
                progress_notify: true,
                ..request(1, "foo", "")
            },
        ),
    ] {
        let ran = watching(line, vec![], &[]);
        assert_eq!(ran.log, [create(wanted)], "{line}");
        assert_eq!(ran.code, 130, "interrupted");
    }
}

#[test]
fn ctl_06_the_range_may_come_from_the_environment() {
    let with = |line, variables: &[(&'static str, &'static str)]| {
        let interrupt_at = Some(Duration::from_secs(1));
        run(line, Script { variables: variables.to_vec(), interrupt_at, ..Default::default() })
    };
    let key = ("ETCDCTL_WATCH_KEY", "a");
    let end = ("ETCDCTL_WATCH_RANGE_END", "b");
    assert_eq!(with("watch", &[key, end]).log, [create(request(1, "a", "b"))]);
    assert_eq!(with("watch -- echo", &[key]).log, [create(request(1, "a", ""))]);
    for (line, variables, message) in [
        (
            "watch x",
            [key].as_slice(),
            "bad number of arguments (found conflicting environment key)",
        ),
        ("watch", &[end], "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=\"b\""),
    ] {
        let ran = with(line, variables);
        assert_eq!((ran.code, ran.stderr), (128, format!("Error: {message}\n")), "{line}");
    }
}

#[test]
fn ctl_06_a_canceled_watch_ends_the_command() {
    let ran = watching("watch foo --rev 3", vec![vec![created(1, 9), compacted(1)]], &[]);
    assert_eq!(ran.code, 5);
    assert_eq!(ran.stdout, "");
    assert_eq!(
        ran.stderr,
        "watch was canceled (etcdserver: mvcc: required revision has been compacted)\n\
         Error: watch is canceled by the server\n"
    );
}

#[test]
fn ctl_06_a_broken_stream_goes_on_after_the_last_revision_seen() {
    let broken = || Err(error(14, "transport is closing"));
    let ran = watching(
        "watch foo",
        vec![
            vec![created(1, 9), broken()],
            vec![created(1, 9), put(1, "foo", 12), broken()],
            vec![created(1, 12), progress(1, 20)],
            vec![created(1, 12), put(1, "foo", 21), compacted(1)],
        ],
        &[],
    );
    assert_eq!(ran.code, 5);
    assert_eq!(ran.stdout, "PUT\nfoo\nv\nprogress notify: 20\nPUT\nfoo\nv\n");
    let from =
        |start_revision| create(WatchCreateRequest { start_revision, ..request(1, "foo", "") });
    assert_eq!(ran.log, [from(0), from(10), from(13), from(21)]);
}

/// A service may be started before its cluster.
#[test]
#[cfg(feature = "native")]
fn ctl_06_a_watch_waits_for_a_member_to_come() {
    let script = || Script {
        watches: RefCell::new([vec![created(1, 9), compacted(1)]].into()),
        reachable_from: Duration::from_secs(60),
        ..Script::default()
    };
    let ran = run("watch foo", script());
    assert_eq!((ran.code, ran.took), (5, Duration::from_secs(60)));
    assert!(ran.stderr.starts_with("127.0.0.1:2379 refuses\nwatch was canceled"), "{}", ran.stderr);
    // Other commands have no use for it then.
    assert_eq!(run("get foo", script()).took, Duration::from_secs(5));
}

#[test]
fn ctl_06_an_error_of_the_stream_cancels_the_watch() {
    let denied = Err(error(7, "etcdserver: permission denied"));
    let ran = watching("watch foo -w json", vec![vec![denied]], &[]);
    assert_eq!(ran.code, 5);
    assert_eq!(
        ran.stdout,
        "{\"Header\":{},\"Events\":[],\"CompactRevision\":0,\"Canceled\":true,\"Created\":false}\n"
    );
    assert_eq!(
        ran.stderr,
        "watch was canceled (etcdserver: permission denied)\n\
         Error: watch is canceled by the server\n"
    );
}

#[test]
fn ctl_06_a_watch_ends_when_its_member_has_no_leader() {
    let lost = Err(error(14, "etcdserver: no leader"));
    let ran = watching("watch foo", vec![vec![created(1, 9), lost]], &[]);
    assert_eq!((ran.code, ran.log.len()), (5, 1));
    assert_eq!(
        ran.stderr,
        "watch was canceled (etcdserver: no leader)\nError: watch is canceled by the server\n"
    );
}

#[test]
#[cfg(feature = "native")]
fn ctl_06_a_command_that_fails_ends_the_watch() {
    let with = |program_ends| {
        let watches = RefCell::new([vec![put(1, "foo", 12)]].into());
        run("watch foo -- echo hi", Script { watches, program_ends, ..Default::default() })
    };
    for (code, text) in [(7, "exit status 7"), (-9, "signal: killed")] {
        let ran = with(code);
        let complaint = format!("command [\"echo\" \"hi\"] error ({text})\n");
        assert_eq!((ran.code, ran.stderr), (1, complaint));
    }
}

#[test]
fn ctl_06_events_run_a_command() {
    let ran = watching("watch foo -- echo hi", vec![vec![put(1, "f\"oo", 12), compacted(1)]], &[]);
    assert_eq!(
        ran.log[1],
        "execute [\"echo\", \"hi\"] [(\"ETCD_WATCH_REVISION\", \"12\"), \
         (\"ETCD_WATCH_EVENT_TYPE\", \"\\\"PUT\\\"\"), \
         (\"ETCD_WATCH_KEY\", \"\\\"f\\\\\\\"oo\\\"\"), (\"ETCD_WATCH_VALUE\", \"\\\"v\\\"\")]"
    );
}

#[test]
fn ctl_06_interactive_watches_share_a_stream() {
    let stream = vec![
        created(1, 9),
        put(1, "foo", 10),
        put(2, "bar", 11),
        progress(-1, 12),
        compacted(1),
        put(2, "bar", 13),
    ];
    let ran = watching(
        "watch -i",
        vec![stream],
        &[
            "foo\n",
            "\n",
            "watch\n",
            "watch a b --prefix\n",
            "watch foo\n",
            "watch \"bar\" --rev=3\n",
            "progress\n",
            "...",
        ],
    );
    assert_eq!(ran.code, 3);
    let bar = WatchCreateRequest { start_revision: 3, ..request(2, "bar", "") };
    assert_eq!(ran.log[..2], [create(request(1, "foo", "")), create(bar.clone())]);
    assert!(ran.log[2].contains("ProgressRequest"), "{:?}", ran.log);
    // The script's stream has ended: the watch that is left goes on behind its last event.
    assert_eq!(ran.log[3], create(WatchCreateRequest { start_revision: 14, ..bar }));
    assert_eq!(
        ran.stdout,
        "PUT\nfoo\nv\nPUT\nbar\nv\nprogress notify: 12\nprogress notify: 12\nPUT\nbar\nv\n"
    );
    assert_eq!(
        ran.stderr,
        "Invalid command foo (only support watch)\n\
         Invalid command:  (watch and progress supported)\n\
         Invalid command watch (command type or key is not provided)\n\
         Invalid command watch a b --prefix (`range_end` and `--prefix` are mutually exclusive)\n\
         watch was canceled (etcdserver: mvcc: required revision has been compacted)\n\
         Error: error reading watch request line: EOF\n"
    );
}

fn keeping_alive(line: &str, streams: Vec<Stream<LeaseKeepAliveResponse>>) -> Ran {
    run(line, Script { keep_alives: RefCell::new(streams.into()), ..Default::default() })
}

fn alive(ttl: i64) -> Result<LeaseKeepAliveResponse, RpcError> {
    Ok(LeaseKeepAliveResponse { header: None, id: 31, ttl })
}

#[test]
fn a_lease_is_kept_alive_at_thirds_of_its_ttl_until_it_is_gone() {
    let broken = Err(error(14, "transport is closing"));
    let ran = keeping_alive(
        "lease keep-alive 1f",
        vec![vec![alive(60), alive(60), broken], vec![alive(60), alive(0)]],
    );
    assert_eq!(ran.code, 0);
    assert_eq!(
        ran.stdout,
        format!(
            "{}lease 000000000000001f expired or revoked.\n",
            "lease 000000000000001f keepalived with TTL(60)\n".repeat(3)
        )
    );
    assert_eq!(ran.took, Duration::from_millis(60_500));
    assert_eq!(ran.log.len(), 5);
}

#[test]
fn only_the_simple_format_tells_that_a_lease_is_gone() {
    let ran = keeping_alive("lease keep-alive 1f -w json", vec![vec![alive(0)]]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
}

#[test]
fn a_lease_is_kept_alive_through_errors_for_as_long_as_it_lives() {
    let failed = |code, text: &str| vec![Err(error(code, text))];
    let streams = vec![
        vec![alive(60)],
        failed(14, "etcdserver: no leader"),
        failed(16, "etcdserver: invalid auth token"),
        vec![alive(60)],
        failed(5, "etcdserver: requested lease not found"),
    ];
    let ran = keeping_alive("lease keep-alive 1f", streams);
    assert_eq!(ran.stdout.matches("keepalived").count(), 2);
    assert_eq!(ran.took, Duration::from_millis(20_000 + 3 * 500 + 20_000 + 500));
    let refused = (0..1000).map(|_| failed(7, "etcdserver: permission denied"));
    let ran = keeping_alive("lease keep-alive 1f", refused.collect());
    assert_eq!(ran.took, Duration::from_secs(3), "the dial timeout and a second");
}

#[test]
fn a_lease_that_cannot_be_renewed_in_time_is_given_up() {
    let ran = keeping_alive("lease keep-alive 1f", vec![vec![alive(60)]]);
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.ends_with("expired or revoked.\n"));
    assert_eq!(ran.took, Duration::from_secs(60));
    let ran = keeping_alive("lease keep-alive 1f", vec![]);
    assert_eq!(ran.took, Duration::from_secs(3), "the dial timeout and a second");
}

#[test]
fn a_lease_is_renewed_once() {
    let ran = keeping_alive("lease keep-alive --once 1f", vec![vec![alive(60)]]);
    assert_eq!((ran.code, ran.log.len()), (0, 1));
    assert_eq!(ran.stdout, "lease 000000000000001f keepalived with TTL(60)\n");
    let ran = keeping_alive("lease keep-alive --once 1f", vec![vec![alive(0)]]);
    assert_eq!(ran.code, 2);
    assert_eq!(ran.stderr, "Error: etcdserver: requested lease not found\n");
}

#[test]
fn a_snapshot_is_saved_whole_or_not_at_all() {
    let blob = |bytes: usize, version: &str| SnapshotResponse {
        blob: vec![0; bytes].into(),
        version: version.into(),
        ..Default::default()
    };
    let save = |blobs: Vec<SnapshotResponse>| {
        run("snapshot save s.db", Script { snapshot: RefCell::new(blobs), ..Default::default() })
    };
    let ran = save(vec![blob(4096, "3.7.0"), blob(512, "3.7.0"), blob(32, "")]);
    assert_eq!(ran.code, 0);
    assert_eq!(ran.log, ["create s.db", "SnapshotRequest", "finish 4640 bytes"]);
    assert_eq!(ran.stdout, "Snapshot saved at s.db\nServer version 3.7.0\n");
    let ran = save(vec![blob(4096, ""), blob(32, "")]);
    assert_eq!(ran.stdout, "Snapshot saved at s.db\n");

    let ran = save(vec![blob(4096, "")]);
    assert_eq!((ran.code, ran.log.len()), (5, 2));
    assert_eq!(ran.stderr, "Error: sha256 checksum not found [bytes: 4096]\n");
}
