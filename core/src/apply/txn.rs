//! Txn: compare, then one of two lists of operations, at one revision (TXN-01 to TXN-11).
//!
//! Three steps. First every compare, also those of nested transactions on the way, is evaluated on
//! the state before the transaction: that fixes the *path*. Then what may refuse an operation on
//! the path is checked, still on that state, so that the third step, which carries the operations
//! out in order, cannot fail halfway.

use std::cmp::Ordering;

use bytes::Bytes;

use super::context::ApplyContext;
use super::delete_range::delete_range_in;
use super::header;
use super::put::put_in;
use crate::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::api::etcdserverpb::request_op::Request;
use crate::api::etcdserverpb::response_op::Response;
use crate::api::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};
use crate::api::mvccpb::KeyValue;
use crate::error::{Answer, Error, Fatal};
use crate::mvcc::{Committed, KeyRange, KeySet, Store, View, WriteTxn};

/// How often a read-only transaction begins again because a compaction overtook it.
const READ_ATTEMPTS: usize = 8;

/// Applies a (validated) transaction.
pub fn txn(context: &ApplyContext<'_>, request: &TxnRequest) -> Answer<(TxnResponse, Committed)> {
    let mut txn = context.store.write();
    let path = match choose(&txn.view(), request)? {
        Ok(path) => path,
        Err(error) => return Ok(Err(error)),
    };
    if let Err(error) = check(context, &txn.view(), &path)? {
        return Ok(Err(error));
    }
    let responses = match execute(&path, &mut |op| write_op(context, &mut txn, op))? {
        Ok(responses) => responses,
        // The checks found nothing to refuse: a change may have been made already.
        Err(error) => return Err(unchecked(error)),
    };
    let header = header(txn.revision());
    let response = TxnResponse { header, succeeded: path.succeeded, responses };
    Ok(Ok((response, txn.commit())))
}

/// Answers a transaction that only reads, at the newest revision (TXN-10).
///
/// The request must be [`is_read_only`].
pub fn read_only_txn(store: &Store, request: &TxnRequest) -> Answer<TxnResponse> {
    for _ in 1..READ_ATTEMPTS {
        match read_only_at(&store.view(), request)? {
            Err(Error::Compacted) if !names_revision(request) => continue,
            answer => return Ok(answer),
        }
    }
    read_only_at(&store.view(), request)
}

/// Whether a transaction only reads, whichever way it goes. A nested one counts as a write.
pub fn is_read_only(request: &TxnRequest) -> bool {
    let reads = |op: &RequestOp| matches!(op.request, Some(Request::RequestRange(_)));
    request.success.iter().chain(&request.failure).all(reads)
}

fn read_only_at(view: &View<'_>, request: &TxnRequest) -> Answer<TxnResponse> {
    let path = match choose(view, request)? {
        Ok(path) => path,
        Err(error) => return Ok(Err(error)),
    };
    if let Err(error) = check_ranges(view, &path) {
        return Ok(Err(error));
    }
    let responses = execute(&path, &mut |op| match op {
        Request::RequestRange(range) => Ok(view.range(range)?.map(Response::ResponseRange)),
        _ => Err(Fatal::Invariant("a read-only transaction that writes".into())),
    })?;
    Ok(responses.map(|responses| TxnResponse {
        header: header(view.revision()),
        succeeded: path.succeeded,
        responses,
    }))
}

fn names_revision(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(Request::RequestRange(range)) => range.revision != 0,
        _ => false,
    })
}

fn unchecked(error: Error) -> Fatal {
    Fatal::Invariant(format!("a checked transaction was refused halfway: {error}"))
}

/// The way a transaction takes: which branch, and the ways of the transactions nested in it.
struct Path<'a> {
    succeeded: bool,
    ops: &'a [RequestOp],
    /// Of the nested transactions among `ops`, in their order.
    nested: Vec<Path<'a>>,
}

/// Evaluates the compares of `request`, and of the nested transactions that it would run.
fn choose<'a>(view: &View<'_>, request: &'a TxnRequest) -> Answer<Path<'a>> {
    let mut succeeded = true;
    for compare in &request.compare {
        match holds(view, compare)? {
            Ok(true) => {}
            Ok(false) => {
                succeeded = false;
                break;
            }
            Err(error) => return Ok(Err(error)),
        }
    }
    let ops = if succeeded { &request.success } else { &request.failure };
    let mut nested = Vec::new();
    for op in ops {
        if let Some(Request::RequestTxn(request)) = &op.request {
            match choose(view, request)? {
                Ok(path) => nested.push(path),
                Err(error) => return Ok(Err(error)),
            }
        }
    }
    Ok(Ok(Path { succeeded, ops, nested }))
}

/// Whether `compare` holds for every key that it names. A range without keys counts as one key
/// that does not exist (TXN-02, TXN-03).
fn holds(view: &View<'_>, compare: &Compare) -> Answer<bool> {
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let by_value = compare.target == CompareTarget::Value as i32;
    let (mut any, mut all) = (false, true);
    let visited = view.visit(&range, by_value, |kv| {
        any = true;
        all = compares(compare, kv);
        all
    })?;
    Ok(visited.map(
        |()| {
            if any { all } else { !by_value && compares(compare, &KeyValue::default()) }
        },
    ))
}

/// Whether `compare` holds for `kv`. A value of another target than the compare's counts as zero
/// or empty (TXN-01).
fn compares(compare: &Compare, kv: &KeyValue) -> bool {
    let union = compare.target_union.as_ref();
    let number = |of: fn(&TargetUnion) -> Option<i64>| union.and_then(of).unwrap_or(0);
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => kv.version.cmp(&number(|union| match union {
            TargetUnion::Version(version) => Some(*version),
            _ => None,
        })),
        Ok(CompareTarget::Create) => kv.create_revision.cmp(&number(|union| match union {
            TargetUnion::CreateRevision(revision) => Some(*revision),
            _ => None,
        })),
        Ok(CompareTarget::Mod) => kv.mod_revision.cmp(&number(|union| match union {
            TargetUnion::ModRevision(revision) => Some(*revision),
            _ => None,
        })),
        Ok(CompareTarget::Lease) => kv.lease.cmp(&number(|union| match union {
            TargetUnion::Lease(lease) => Some(*lease),
            _ => None,
        })),
        Ok(CompareTarget::Value) => match union {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.cmp(&Bytes::new()),
        },
        // etcd compares nothing for a target that it does not know, and finds it equal.
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

/// Checks what may refuse an operation on the path: puts first, then ranges, as etcd 3.5 does.
fn check(context: &ApplyContext<'_>, view: &View<'_>, path: &Path<'_>) -> Answer<()> {
    if let Err(error) = check_puts(context, view, path, &mut KeySet::default())? {
        return Ok(Err(error));
    }
    Ok(check_ranges(view, path))
}

/// Checks the puts on the path; `deleted` collects what deletes before them on the path name.
///
/// A put that keeps its key's value or lease must find the key, also after those deletes. Few can
/// stand before it (no key may be put and deleted), but "from the key on" can, and etcd panics
/// then.
fn check_puts<'a>(
    context: &ApplyContext<'_>,
    view: &View<'_>,
    path: &Path<'a>,
    deleted: &mut KeySet<&'a [u8]>,
) -> Answer<()> {
    let mut nested = path.nested.iter();
    for op in path.ops {
        let checked = match &op.request {
            Some(Request::RequestPut(put)) => {
                let keeps = put.ignore_value || put.ignore_lease;
                if keeps && deleted.contains(&put.key) {
                    Err(Error::KeyNotFound)
                } else {
                    check_put(context, view, put)?
                }
            }
            Some(Request::RequestDeleteRange(delete)) => {
                deleted.insert(KeyRange::new(&delete.key, &delete.range_end));
                Ok(())
            }
            Some(Request::RequestTxn(_)) => match nested.next() {
                Some(path) => check_puts(context, view, path, deleted)?,
                None => Ok(()),
            },
            _ => Ok(()),
        };
        if checked.is_err() {
            return Ok(checked);
        }
    }
    Ok(Ok(()))
}

fn check_put(context: &ApplyContext<'_>, view: &View<'_>, put: &PutRequest) -> Answer<()> {
    if put.ignore_value || put.ignore_lease {
        let mut exists = false;
        let visited = view.visit(&KeyRange::Key(&put.key), false, |_| {
            exists = true;
            false
        })?;
        if visited.is_err() || !exists {
            return Ok(visited.and(Err(Error::KeyNotFound)));
        }
    }
    if put.lease != 0 && !context.leases.exists(put.lease) {
        return Ok(Err(Error::LeaseNotFound));
    }
    Ok(Ok(()))
}

fn check_ranges(view: &View<'_>, path: &Path<'_>) -> Result<(), Error> {
    let mut nested = path.nested.iter();
    for op in path.ops {
        match &op.request {
            Some(Request::RequestRange(range)) => check_range(view, range)?,
            Some(Request::RequestTxn(_)) => {
                nested.next().map_or(Ok(()), |path| check_ranges(view, path))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A quirk of etcd: a negative revision is older than any but a compact revision of -1, that of a
/// store never compacted; outside transactions it means "now" (TXN-07).
fn check_range(view: &View<'_>, range: &RangeRequest) -> Result<(), Error> {
    match range.revision {
        0 => Ok(()),
        revision if revision > view.revision() => Err(Error::FutureRev),
        revision if revision < view.compact_revision() => Err(Error::Compacted),
        _ => Ok(()),
    }
}

/// Runs the operations on `path` in order.
fn execute(
    path: &Path<'_>,
    run: &mut dyn FnMut(&Request) -> Answer<Response>,
) -> Answer<Vec<ResponseOp>> {
    let mut responses = Vec::with_capacity(path.ops.len());
    let mut nested = path.nested.iter();
    for op in path.ops {
        let response = match &op.request {
            Some(Request::RequestTxn(_)) => match nested.next() {
                Some(path) => nested_response(path, run)?,
                None => Err(Error::KeyNotFound),
            },
            Some(request) => run(request)?,
            None => Err(Error::KeyNotFound),
        };
        match response {
            Ok(response) => responses.push(ResponseOp { response: Some(response) }),
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(responses))
}

/// Runs a nested transaction. Its header is there and says nothing, as etcd's.
fn nested_response(
    path: &Path<'_>,
    run: &mut dyn FnMut(&Request) -> Answer<Response>,
) -> Answer<Response> {
    let responses = execute(path, run)?;
    Ok(responses.map(|responses| {
        let header = Some(ResponseHeader::default());
        Response::ResponseTxn(TxnResponse { header, succeeded: path.succeeded, responses })
    }))
}

fn write_op(
    context: &ApplyContext<'_>,
    txn: &mut WriteTxn<'_>,
    request: &Request,
) -> Answer<Response> {
    Ok(match request {
        Request::RequestRange(range) => txn.view().range(range)?.map(Response::ResponseRange),
        Request::RequestPut(put) => put_in(context, txn, put)?.map(Response::ResponsePut),
        Request::RequestDeleteRange(delete) => {
            delete_range_in(context, txn, delete)?.map(Response::ResponseDeleteRange)
        }
        Request::RequestTxn(_) => Err(Error::KeyNotFound),
    })
}
