//! Sequences written down: what chance meets too rarely, or what needs time to pass.

use bytes::Bytes;
use coracle_core::api::etcdserverpb::*;

use super::operation::Operation;

/// All keys.
const EVERYTHING: &[u8] = b"\0";
/// Bytes of a value of which two make a watch response larger than the transport's limit.
const LARGE: usize = 1_100_000;

fn put(key: &'static str, value: impl Into<Bytes>, lease: i64) -> Operation {
    let (key, value) = (Bytes::from_static(key.as_bytes()), value.into());
    Operation::Put(PutRequest { key, value, lease, prev_kv: true, ..Default::default() })
}

fn watch(stream: usize, request: WatchCreateRequest) -> Operation {
    let request = WatchCreateRequest {
        key: Bytes::from_static(EVERYTHING),
        range_end: Bytes::from_static(EVERYTHING),
        ..request
    };
    Operation::WatchCreate { stream, request }
}

/// WATCH-08: a response too large for one message is split if the watcher allows fragments, and
/// whole otherwise; either way the events are the same.
pub fn large_watch_responses() -> Vec<Operation> {
    let mut operations = Vec::new();
    for round in 0..4u8 {
        operations.push(put("large", vec![b'a' + round; LARGE], 0));
        operations.push(put("small", "x", 0));
    }
    for (stream, fragment, prev_kv) in [(0, true, false), (0, true, true), (1, false, false)] {
        let request =
            WatchCreateRequest { start_revision: 2, fragment, prev_kv, ..Default::default() };
        operations.push(watch(stream, request));
    }
    operations.push(Operation::Settle);
    operations.push(put("large", vec![b'z'; LARGE], 0));
    operations
}

/// LEASE-04: an expired lease takes its keys along in one revision, in key order; what is renewed
/// or taken off the lease stays.
pub fn lease_expiry() -> Vec<Operation> {
    let grant = |id, ttl| Operation::LeaseGrant(LeaseGrantRequest { id, ttl });
    vec![
        grant(7, 1),
        grant(8, 600),
        put("c", "3", 7),
        put("a", "1", 7),
        put("b", "2", 7),
        put("kept", "k", 7),
        put("kept", "k", 8),
        watch(0, WatchCreateRequest { prev_kv: true, ..Default::default() }),
        Operation::AwaitAbsence(Bytes::from_static(b"b")),
        Operation::LeaseTimeToLive(LeaseTimeToLiveRequest { id: 7, keys: true }),
        Operation::LeaseTimeToLive(LeaseTimeToLiveRequest { id: 8, keys: true }),
        Operation::LeaseKeepAlive(LeaseKeepAliveRequest { id: 7 }),
        Operation::LeaseLeases,
        put("a", "again", 0),
    ]
}

/// WATCH-03: thousands of past revisions reach a new watcher completely, over many batches.
pub fn long_catch_up() -> Vec<Operation> {
    const REVISIONS: usize = 2_500;
    let mut operations: Vec<Operation> =
        (0..REVISIONS).map(|number| put("counter", number.to_string(), 0)).collect();
    for (start_revision, prev_kv) in [(1, true), (1_200, false)] {
        operations
            .push(watch(0, WatchCreateRequest { start_revision, prev_kv, ..Default::default() }));
    }
    operations.push(Operation::Settle);
    operations
}
