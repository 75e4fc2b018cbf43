//! Put, delete, transaction and compaction as etcd answers them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::api::etcdserverpb::request_op::Request;
use crate::api::etcdserverpb::response_op::Response;
use crate::api::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RequestOp, TxnRequest, TxnResponse,
};
use crate::api::mvccpb::KeyValue;
use crate::backend::{Backend, BackendOptions};
use crate::mvcc::Store;
use crate::platform::MemoryDisk;

/// Leases 1 and 2, and the keys on them.
struct Leases(Mutex<BTreeMap<i64, BTreeSet<Bytes>>>);

impl LeaseKeeper for Leases {
    fn exists(&self, id: i64) -> bool {
        self.0.lock().unwrap().contains_key(&id)
    }

    fn attach(&self, id: i64, key: Bytes) {
        let added = self.0.lock().unwrap().get_mut(&id).unwrap().insert(key);
        assert!(added, "attached once");
    }

    fn every_key(&self, id: i64, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.lock().unwrap().get(&id).is_none_or(|keys| keys.iter().all(|key| holds(key)))
    }

    fn detach(&self, id: i64, key: &[u8]) {
        let removed = self.0.lock().unwrap().get_mut(&id).unwrap().remove(key);
        assert!(removed, "detached only if attached");
    }
}

struct Lab {
    store: Store,
    leases: Leases,
}

impl Lab {
    fn new() -> Lab {
        let disk = Arc::new(MemoryDisk::default());
        let backend = Backend::open(disk, BackendOptions::default()).unwrap();
        let (store, _) = Store::open(Arc::new(backend)).unwrap();
        let leases = Leases(Mutex::new([(1, BTreeSet::new()), (2, BTreeSet::new())].into()));
        Lab { store, leases }
    }

    fn context(&self) -> ApplyContext<'_> {
        ApplyContext { store: &self.store, leases: &self.leases }
    }

    fn attached(&self, id: i64) -> Vec<Bytes> {
        self.leases.0.lock().unwrap()[&id].iter().cloned().collect()
    }

    fn put(&self, request: PutRequest) -> Result<PutResponse, Error> {
        put(&self.context(), &request).unwrap().map(|(response, _)| response)
    }

    fn set(&self, key: &'static str, value: &'static str) -> i64 {
        let response = self.put(PutRequest { key: key.into(), value: value.into(), ..default() });
        response.unwrap().header.unwrap().revision
    }

    fn delete(&self, key: &'static str, range_end: &'static str) -> DeleteRangeResponse {
        let (key, range_end) = (key.into(), range_end.into());
        let request = DeleteRangeRequest { key, range_end, prev_kv: true };
        delete_range(&self.context(), &request).unwrap().unwrap().0
    }

    fn get(&self, key: &str) -> Option<KeyValue> {
        self.store.value_at(key.as_bytes(), self.store.current_revision()).unwrap()
    }

    fn txn(&self, request: TxnRequest) -> Result<TxnResponse, Error> {
        txn(&self.context(), &request).unwrap().map(|(response, _)| response)
    }

    /// Whether a transaction with these compares succeeds, asked on both ways.
    fn holds(&self, compare: Vec<Compare>) -> bool {
        let request = TxnRequest { compare, ..default() };
        let written = self.txn(request.clone()).unwrap().succeeded;
        let read = read_only_txn(&self.store, &request).unwrap().unwrap().succeeded;
        assert_eq!(written, read);
        written
    }
}

fn default<T: Default>() -> T {
    T::default()
}

fn put_op(key: &'static str, value: &'static str) -> RequestOp {
    op(Request::RequestPut(PutRequest { key: key.into(), value: value.into(), ..default() }))
}

fn range_op(key: &'static str, revision: i64) -> RequestOp {
    op(Request::RequestRange(RangeRequest { key: key.into(), revision, ..default() }))
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn compare(
    key: &'static str,
    target: CompareTarget,
    result: CompareResult,
    union: TargetUnion,
) -> Compare {
    Compare {
        key: key.into(),
        target: target as i32,
        result: result as i32,
        target_union: Some(union),
        ..default()
    }
}

#[test]
fn put_01_flags_on_a_missing_key() {
    let lab = Lab::new();
    for (ignore_value, ignore_lease) in [(true, false), (false, true)] {
        let request = PutRequest { key: "a".into(), ignore_value, ignore_lease, ..default() };
        assert_eq!(lab.put(request), Err(Error::KeyNotFound));
    }
    assert_eq!(lab.store.current_revision(), 1);
}

#[test]
fn put_02_a_key_has_one_lease_at_most() {
    let lab = Lab::new();
    let with = |lease| lab.put(PutRequest { key: "a".into(), lease, ..default() });
    assert_eq!(with(3), Err(Error::LeaseNotFound));
    with(1).unwrap();
    with(1).unwrap();
    assert_eq!(lab.attached(1), ["a"]);
    with(2).unwrap();
    assert_eq!((lab.attached(1), lab.attached(2)), (vec![], vec!["a".into()]));
    let keep = PutRequest { key: "a".into(), value: "v".into(), ignore_lease: true, ..default() };
    lab.put(keep).unwrap();
    assert_eq!((lab.get("a").unwrap().lease, lab.attached(2)), (2, vec!["a".into()]));
    with(0).unwrap();
    assert_eq!((lab.get("a").unwrap().lease, lab.attached(2)), (0, vec![]));
    with(1).unwrap();
    lab.delete("a", "");
    assert_eq!(lab.attached(1), Vec::<Bytes>::new());
}

#[test]
fn put_03_put_04_previous_and_empty_values() {
    let lab = Lab::new();
    let with = |value: &'static str| PutRequest {
        key: "a".into(),
        value: value.into(),
        prev_kv: true,
        ..default()
    };
    assert_eq!(lab.put(with("1")).unwrap().prev_kv, None);
    let first = lab.get("a");
    assert_eq!(lab.put(with("")).unwrap().prev_kv, first);
    assert_eq!(lab.get("a").unwrap().value, "");
    lab.set("a", "2");
    lab.put(PutRequest { key: "a".into(), ignore_value: true, ..default() }).unwrap();
    let kv = lab.get("a").unwrap();
    assert_eq!((kv.value.as_ref(), kv.version, kv.mod_revision), (&b"2"[..], 4, 5));
}

#[test]
fn del_01_counts_victims_and_moves_the_revision_only_then() {
    let lab = Lab::new();
    for key in ["a", "b", "c"] {
        lab.set(key, "1");
    }
    let response = lab.delete("a", "c");
    let keys: Vec<_> = response.prev_kvs.iter().map(|kv| kv.key.clone()).collect();
    assert_eq!((response.deleted, response.header.unwrap().revision), (2, 5));
    assert_eq!(keys, ["a", "b"]);
    let response = lab.delete("a", "c");
    assert_eq!((response.deleted, response.header.unwrap().revision), (0, 5));
    assert_eq!(lab.delete("\0", "\0").deleted, 1, "DEL-02");
}

#[test]
fn txn_01_targets_and_results() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Mod, Value, Version};
    let lab = Lab::new();
    lab.set("a", "1");
    lab.set("a", "2");
    for (target, union, expected) in [
        (Version, TargetUnion::Version(2), [true, false, false, false]),
        (Create, TargetUnion::CreateRevision(1), [false, true, false, true]),
        (Mod, TargetUnion::ModRevision(9), [false, false, true, true]),
        (Value, TargetUnion::Value("2".into()), [true, false, false, false]),
        (CompareTarget::Lease, TargetUnion::Lease(0), [true, false, false, false]),
        // Of another target: counts as zero, or as empty.
        (Version, TargetUnion::Lease(2), [false, true, false, true]),
        (Value, TargetUnion::Version(2), [false, true, false, true]),
    ] {
        let holds = [Equal, Greater, Less, NotEqual]
            .map(|result| lab.holds(vec![compare("a", target, result, union.clone())]));
        assert_eq!(holds, expected, "{target:?} {union:?}");
    }
    assert!(lab.holds(vec![]));
    let yes = compare("a", Version, Equal, TargetUnion::Version(2));
    let no = compare("a", Version, Equal, TargetUnion::Version(1));
    assert!(!lab.holds(vec![yes, no]));
}

#[test]
fn txn_02_missing_keys_compare_as_zero_and_values_never() {
    let lab = Lab::new();
    let zero = compare("a", CompareTarget::Mod, CompareResult::Equal, TargetUnion::ModRevision(0));
    assert!(lab.holds(vec![zero]));
    for result in [CompareResult::Equal, CompareResult::NotEqual, CompareResult::Less] {
        let value = compare("a", CompareTarget::Value, result, TargetUnion::Value("".into()));
        assert!(!lab.holds(vec![value]));
    }
}

#[test]
fn txn_03_a_compare_of_a_range_holds_for_every_key() {
    let lab = Lab::new();
    let empty = |result, union| Compare {
        range_end: "z".into(),
        ..compare("a", CompareTarget::Create, result, union)
    };
    let none = empty(CompareResult::Equal, TargetUnion::CreateRevision(0));
    assert!(lab.holds(vec![none.clone()]));
    lab.set("b", "1");
    lab.set("c", "1");
    assert!(!lab.holds(vec![none]));
    let below = |revision| empty(CompareResult::Less, TargetUnion::CreateRevision(revision));
    assert!(lab.holds(vec![below(4)]));
    assert!(!lab.holds(vec![below(3)]));
}

#[test]
fn txn_06_operations_see_the_ones_before_but_nested_compares_do_not() {
    let lab = Lab::new();
    lab.set("a", "1");
    let changed = TxnRequest {
        compare: vec![compare(
            "a",
            CompareTarget::Value,
            CompareResult::Equal,
            TargetUnion::Value("2".into()),
        )],
        failure: vec![put_op("saw", "old")],
        ..default()
    };
    let response = lab.txn(TxnRequest {
        success: vec![
            range_op("a", 0),
            put_op("a", "2"),
            range_op("a", 0),
            op(Request::RequestTxn(changed)),
        ],
        ..default()
    });
    let response = response.unwrap();
    assert_eq!(response.header.unwrap().revision, 3);
    let revision_and_value = |n: usize| match &response.responses[n].response {
        Some(Response::ResponseRange(range)) => {
            (range.header.unwrap().revision, range.kvs[0].value.clone())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(revision_and_value(0), (2, "1".into()));
    assert_eq!(revision_and_value(2), (3, "2".into()));
    let Some(Response::ResponseTxn(nested)) = &response.responses[3].response else { panic!() };
    assert!(!nested.succeeded);
    assert_eq!(nested.header, Some(default()), "HDR-01");
    assert_eq!(lab.get("saw").unwrap().mod_revision, 3);
}

#[test]
fn txn_07_txn_08_what_is_refused_leaves_no_trace() {
    let lab = Lab::new();
    lab.set("a", "1");
    lab.set("a", "2");
    let refused = |last: RequestOp| {
        let nested = TxnRequest { success: vec![last], ..default() };
        let success = vec![put_op("x", "1"), op(Request::RequestTxn(nested))];
        let answer = lab.txn(TxnRequest { success, ..default() });
        assert_eq!((lab.store.current_revision(), lab.get("x")), (3, None));
        answer.err()
    };
    let put = |put: PutRequest| op(Request::RequestPut(PutRequest { key: "b".into(), ..put }));
    assert_eq!(refused(range_op("a", 4)), Some(Error::FutureRev));
    assert_eq!(refused(put(PutRequest { lease: 9, ..default() })), Some(Error::LeaseNotFound));
    let keeps = PutRequest { ignore_value: true, ..default() };
    assert_eq!(refused(put(keeps)), Some(Error::KeyNotFound));
    assert_eq!(refused(range_op("a", -2)), Some(Error::Compacted));
    compact(&lab.context(), &CompactionRequest { revision: 3, physical: false }).unwrap();
    assert_eq!(refused(range_op("a", 2)), Some(Error::Compacted));
    assert_eq!(refused(range_op("a", -1)), Some(Error::Compacted));
}

#[test]
fn txn_a_put_that_keeps_what_an_earlier_delete_removes_is_refused() {
    // etcd 3.5 panics on this one: its duplicate check does not see "from the key on".
    let lab = Lab::new();
    lab.set("a", "1");
    let all = DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), prev_kv: false };
    let keeps = PutRequest { key: "a".into(), ignore_value: true, ..default() };
    let success = vec![op(Request::RequestDeleteRange(all)), op(Request::RequestPut(keeps))];
    assert_eq!(lab.txn(TxnRequest { success, ..default() }), Err(Error::KeyNotFound));
    assert_eq!(lab.get("a").unwrap().value, "1");
}

#[test]
fn txn_10_what_only_reads() {
    let only = |success| TxnRequest { success, ..default() };
    assert!(is_read_only(&only(vec![])));
    assert!(is_read_only(&only(vec![range_op("a", 0)])));
    assert!(!is_read_only(&only(vec![range_op("a", 0), put_op("a", "1")])));
    assert!(!is_read_only(&only(vec![op(Request::RequestTxn(default()))])));
    let lab = Lab::new();
    lab.set("a", "1");
    let reads = TxnRequest { failure: vec![put_op("a", "2")], ..only(vec![range_op("a", 0)]) };
    assert!(!is_read_only(&reads), "whichever way it goes");
    let response = read_only_txn(&lab.store, &only(vec![range_op("a", 0)])).unwrap().unwrap();
    let Some(Response::ResponseRange(range)) = &response.responses[0].response else { panic!() };
    assert_eq!((range.count, response.header.unwrap().revision), (1, 2));
}

#[test]
fn cmp_01_compaction_bounds() {
    let lab = Lab::new();
    lab.set("a", "1");
    let at = |revision| {
        let answer = compact(&lab.context(), &CompactionRequest { revision, physical: false });
        answer.map(|response| response.header.unwrap().revision)
    };
    assert_eq!(at(-1), Err(Error::Compacted));
    assert_eq!(at(0), Ok(2), "once, on a store never compacted");
    assert_eq!(at(0), Err(Error::Compacted));
    assert_eq!(at(3), Err(Error::FutureRev));
    assert_eq!(at(2), Ok(2));
    assert_eq!(lab.get("a").unwrap().value, "1", "KV-02: the compact revision is readable");
}
