//! Checks of requests before they are proposed or answered: what etcd refuses at the door.
//!
//! The order of the checks is etcd's, because a request that is wrong in two ways gets the first
//! error (etcd `v3rpc/key.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::etcdserverpb::range_request::{SortOrder, SortTarget};
use super::etcdserverpb::request_op::Request;
use super::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use crate::error::Error;

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
    check_txn_ops(request, max_txn_ops)?;
    changes_of(&request.success)?;
    changes_of(&request.failure)?;
    Ok(())
}

/// Nested transactions share what their parent leaves of the limit.
fn check_txn_ops(request: &TxnRequest, limit: usize) -> Result<(), Error> {
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
            Some(Request::RequestTxn(txn)) => check_txn_ops(txn, left)?,
            None => return Err(Error::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys that a list of operations may change.
#[derive(Default)]
struct Changes<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Ranges<'a>,
}

/// Collects what `ops` may change; refuses a key that could be put twice, or put and deleted.
///
/// The quirks are etcd's: a put in one nested transaction and a delete in a later sibling pass,
/// and so do puts beside a delete "from the key on", which etcd takes for an empty range here.
fn changes_of(ops: &[RequestOp]) -> Result<Changes<'_>, Error> {
    let mut all = Changes::default();
    for op in ops {
        if let Some(Request::RequestDeleteRange(delete)) = &op.request {
            all.deletes.insert(&delete.key, &delete.range_end);
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

/// A set of key ranges, kept disjoint: the number of nested operations is the client's choice.
#[derive(Default)]
struct Ranges<'a> {
    /// Where each range begins, and where it ends; `None` ends right after its one key.
    ranges: BTreeMap<&'a [u8], &'a [u8]>,
    keys: BTreeSet<&'a [u8]>,
}

impl<'a> Ranges<'a> {
    fn insert(&mut self, key: &'a [u8], range_end: &'a [u8]) {
        if range_end.is_empty() {
            self.keys.insert(key);
        } else if key < range_end {
            self.insert_range(key, range_end);
        }
    }

    fn insert_range(&mut self, mut from: &'a [u8], mut end: &'a [u8]) {
        // Swallow the ranges that touch the new one.
        while let Some((&other, &other_end)) = self.ranges.range(..=end).next_back() {
            if other_end < from {
                break;
            }
            self.ranges.remove(other);
            from = from.min(other);
            end = end.max(other_end);
        }
        self.ranges.insert(from, end);
    }

    fn extend(&mut self, other: Ranges<'a>) {
        self.keys.extend(other.keys);
        for (from, end) in other.ranges {
            self.insert_range(from, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        let mut before = self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        let in_range = before.next_back().is_some_and(|(_, end)| key < *end);
        in_range || self.keys.contains(key)
    }
}
