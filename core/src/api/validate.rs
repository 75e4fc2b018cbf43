//! Checks of requests before they are proposed or answered: what etcd refuses at the door.
//!
//! The order of the checks is etcd's, because a request that is wrong in two ways gets the first
//! error (etcd `v3rpc/key.go`).

use std::collections::BTreeSet;

use super::etcdserverpb::range_request::{SortOrder, SortTarget};
use super::etcdserverpb::request_op::Request;
use super::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::error::{Code, Error};
use crate::limits::MAX_TXN_DEPTH;
use crate::mvcc::{KeyRange, KeySet};

/// Checks a range: it needs a key, and a sort that exists (KV-01, KV-05).
pub fn check_range(request: &RangeRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    let order = SortOrder::try_from(request.sort_order);
    if order.is_err() || SortTarget::try_from(request.sort_target).is_err() {
        return Err(Error::InvalidSortOption);
    }
    Ok(())
}

/// Checks what a range must be to be streamed, beside being a range: in key order, and without the
/// filters that need all of it first (RS-01).
pub fn check_range_stream(request: &RangeRequest) -> Result<(), Error> {
    let in_key_order = match SortOrder::try_from(request.sort_order) {
        Ok(SortOrder::None) => true,
        Ok(SortOrder::Ascend) => request.sort_target == SortTarget::Key as i32,
        _ => false,
    };
    let refused = |what: &str| {
        Err(Error::Other(Code::Unimplemented, format!("RangeStream does not support {what}")))
    };
    if !in_key_order {
        return refused("custom sort orders");
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|revision| *revision != 0) {
        return refused("revision filters");
    }
    Ok(())
}

/// Checks a put: it needs a key, and must not give what it says to ignore (PUT-01).
pub fn check_put(request: &PutRequest) -> Result<(), Error> {
    if request.key.is_empty() {
        return Err(Error::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete: it needs a key (DEL-02).
pub fn check_delete_range(request: &DeleteRangeRequest) -> Result<(), Error> {
    if request.key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

/// Checks a transaction: its size, everything in it, and that no key is changed twice (TXN-04,
/// TXN-05, TXN-09). `max_txn_ops` is what the operator allows (`--max-txn-ops`).
pub fn check_txn(request: &TxnRequest, max_txn_ops: usize) -> Result<(), Error> {
    check_txn_ops(request, max_txn_ops, MAX_TXN_DEPTH)?;
    changes_of(&request.success)?;
    changes_of(&request.failure)?;
    Ok(())
}

/// Nested transactions share what their parent leaves of the limit. `depth` is how many may be
/// inside each other, this one included: what is deeper than a decoder goes could be proposed, and
/// then applied by nobody.
fn check_txn_ops(request: &TxnRequest, limit: usize, depth: usize) -> Result<(), Error> {
    let Some(depth_left) = depth.checked_sub(1) else {
        let text = "etcdserver: transactions are nested too deeply";
        return Err(Error::Other(Code::InvalidArgument, text.to_owned()));
    };
    let lists = [request.compare.len(), request.success.len(), request.failure.len()];
    let longest = lists.into_iter().max().unwrap_or(0);
    let Some(left) = limit.checked_sub(longest) else {
        return Err(Error::TooManyOps);
    };
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Error::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(range)?,
            Some(Request::RequestPut(put)) => check_put(put)?,
            Some(Request::RequestDeleteRange(delete)) => check_delete_range(delete)?,
            Some(Request::RequestTxn(txn)) => check_txn_ops(txn, left, depth_left)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys that a list of operations may change.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: KeySet<&'a [u8]>,
}

/// Collects what `ops` may change; refuses a key that could be put twice, or put and deleted.
///
/// The quirks are etcd's: a put in one nested transaction and a delete in a later sibling pass,
/// and so do puts beside a delete "from the key on", which etcd takes for an empty range here.
fn changes_of(ops: &[RequestOp]) -> Result<Changes<'_>, Error> {
    let mut all = Changes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request
            && delete.range_end != [0][..]
        {
            all.deletes.insert(KeyRange::new(&delete.key, &delete.range_end));
        }
    }
    for op in ops {
        let Some(Request::RequestTxn(txn)) = &op.request else {
            continue;
        };
        let (success, failure) = (changes_of(&txn.success)?, changes_of(&txn.failure)?);
        // Only one of the two branches will run: they may put the same keys.
        let puts: BTreeSet<_> = success.puts.union(&failure.puts).copied().collect();
        if puts.iter().any(|key| all.puts.contains(key) || all.deletes.contains(key)) {
            return Err(Error::DuplicateKey);
        }
        all.puts.extend(puts);
        all.deletes.extend(success.deletes);
        all.deletes.extend(failure.deletes);
    }
    for op in ops {
        let Some(Request::RequestPut(put)) = &op.request else {
            continue;
        };
        if all.deletes.contains(&put.key) || !all.puts.insert(&put.key) {
            return Err(Error::DuplicateKey);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::coraclepb::{Asker, Command, command};
    use super::super::etcdserverpb::Compare;
    use super::*;

    fn op(request: Request) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn put(key: &'static str) -> RequestOp {
        op(Request::RequestPut(PutRequest { key: key.into(), ..Default::default() }))
    }

    fn del(key: &'static str, range_end: &'static str) -> RequestOp {
        let (key, range_end) = (key.into(), range_end.into());
        op(Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }))
    }

    fn range(key: &'static str) -> RequestOp {
        op(Request::RequestRange(RangeRequest { key: key.into(), ..Default::default() }))
    }

    fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Request::RequestTxn(TxnRequest { compare: vec![], success, failure }))
    }

    fn check(success: Vec<RequestOp>) -> Result<(), Error> {
        check_txn(&TxnRequest { success, ..Default::default() }, 128)
    }

    #[test]
    fn kv_01_kv_05_ranges() {
        let request = RangeRequest { key: "a".into(), ..Default::default() };
        assert_eq!(check_range(&request), Ok(()));
        assert_eq!(check_range(&RangeRequest::default()), Err(Error::EmptyKey));
        let invalid = Err(Error::InvalidSortOption);
        assert_eq!(check_range(&RangeRequest { sort_order: 3, ..request.clone() }), invalid);
        assert_eq!(check_range(&RangeRequest { sort_target: 5, ..request }), invalid);
    }

    #[test]
    fn put_01_puts() {
        let request = PutRequest { key: "a".into(), ..Default::default() };
        assert_eq!(check_put(&PutRequest::default()), Err(Error::EmptyKey));
        let with = PutRequest { ignore_value: true, ..request.clone() };
        assert_eq!(check_put(&with), Ok(()));
        let with = PutRequest { value: "v".into(), ..with };
        assert_eq!(check_put(&with), Err(Error::ValueProvided));
        let with = PutRequest { ignore_lease: true, lease: 1, ..request };
        assert_eq!(check_put(&with), Err(Error::LeaseProvided));
    }

    #[test]
    fn del_02_deletes_need_a_key() {
        let request = DeleteRangeRequest { range_end: "b".into(), ..Default::default() };
        assert_eq!(check_delete_range(&request), Err(Error::EmptyKey));
    }

    #[test]
    fn txn_04_nested_transactions_share_the_limit() {
        let many = |n: usize| vec![range("a"); n];
        let sized = |outer: usize, inner: usize| {
            let mut ops = many(outer - 1);
            ops.push(txn(many(inner), vec![]));
            check_txn(&TxnRequest { success: ops, ..Default::default() }, 10)
        };
        assert_eq!(sized(6, 4), Ok(()));
        assert_eq!(sized(6, 5), Err(Error::TooManyOps));
        assert_eq!(sized(11, 1), Err(Error::TooManyOps));
        let compares = vec![Compare { key: "a".into(), ..Default::default() }; 11];
        let request = TxnRequest { compare: compares, ..Default::default() };
        assert_eq!(check_txn(&request, 10), Err(Error::TooManyOps));
    }

    #[test]
    fn txn_04_what_may_be_nested_can_be_decoded_from_the_log_and_by_clients() {
        let nested = |depth| {
            let innermost = TxnRequest { success: vec![put("a")], ..Default::default() };
            (1..depth).fold(innermost, |inner, _| TxnRequest {
                success: vec![op(Request::RequestTxn(inner))],
                ..Default::default()
            })
        };
        let deepest = nested(MAX_TXN_DEPTH);
        assert_eq!(check_txn(&deepest, 128), Ok(()));
        let command = Command {
            id: 1,
            request: Some(command::Request::Txn(deepest)),
            asker: Some(Asker::default()),
        };
        assert_eq!(Command::decode(&command.encode_to_vec()[..]), Ok(command));
        for depth in [MAX_TXN_DEPTH + 1, 50, 100] {
            let refused = check_txn(&nested(depth), 128).expect_err("too deep");
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        }
    }

    #[test]
    fn txn_05_no_key_is_changed_twice() {
        let duplicate = Err(Error::DuplicateKey);
        assert_eq!(check(vec![put("a"), put("a")]), duplicate);
        assert_eq!(check(vec![put("a"), del("a", "")]), duplicate);
        assert_eq!(check(vec![del("a", "c"), put("b")]), duplicate);
        assert_eq!(check(vec![put("a"), txn(vec![del("a", "")], vec![])]), duplicate);
        assert_eq!(check(vec![del("a", ""), txn(vec![put("a")], vec![])]), duplicate);
        let either = || txn(vec![put("a")], vec![put("a")]);
        assert_eq!(check(vec![either()]), Ok(()));
        assert_eq!(check(vec![either(), either()]), duplicate);
        assert_eq!(check(vec![del("x", ""), either()]), Ok(()));
        let deletes = || txn(vec![del("a", "")], vec![del("a", "c")]);
        assert_eq!(check(vec![txn(vec![del("a", "")], vec![]), deletes()]), Ok(()));
        assert_eq!(check(vec![del("a", "c"), del("b", ""), del("a", ""), del("b", "d")]), Ok(()));
        assert_eq!(check(vec![put("a"), range("a"), put("b"), del("c", "d")]), Ok(()));
        let both =
            TxnRequest { success: vec![put("a")], failure: vec![put("a")], ..Default::default() };
        assert_eq!(check_txn(&both, 128), Ok(()), "only one branch runs");
    }

    #[test]
    fn txn_05_etcds_quirks() {
        let put_nested = || txn(vec![put("a")], vec![]);
        let delete_nested = || txn(vec![del("a", "")], vec![]);
        assert_eq!(check(vec![put_nested(), delete_nested()]), Ok(()));
        assert_eq!(check(vec![delete_nested(), put_nested()]), Err(Error::DuplicateKey));
        assert_eq!(check(vec![put("b"), del("a", "\0")]), Ok(()));
    }

    #[test]
    fn txn_09_what_is_inside_is_checked_too() {
        assert_eq!(check(vec![RequestOp { request: None }]), Err(Error::KeyNotFound));
        assert_eq!(check(vec![put("")]), Err(Error::EmptyKey));
        assert_eq!(check(vec![txn(vec![], vec![del("", "")])]), Err(Error::EmptyKey));
        let compare = vec![Compare::default()];
        let request = TxnRequest { compare, ..Default::default() };
        assert_eq!(check_txn(&request, 128), Err(Error::EmptyKey));
    }
}
