//! The checker's requests as etcd's messages, and what of the answers it needs. Every write asks
//! for previous values, because they too must be right.

use bytes::Bytes;
use coracle_core::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use coracle_core::api::etcdserverpb::request_op::Request as Op;
use coracle_core::api::etcdserverpb::response_op::Response as OpResponse;
use coracle_core::api::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, ResponseOp,
    TxnRequest,
};
use coracle_core::api::mvccpb::KeyValue;
use tonic::Status;

use crate::check::{Guard, Write};

pub(super) fn range_request(key: &Bytes, range_end: &Bytes, serializable: bool) -> RangeRequest {
    RangeRequest {
        key: key.clone(),
        range_end: range_end.clone(),
        serializable,
        ..Default::default()
    }
}

pub(super) fn put_request(key: &Bytes, value: &Bytes) -> PutRequest {
    PutRequest { key: key.clone(), value: value.clone(), prev_kv: true, ..Default::default() }
}

pub(super) fn delete_request(key: &Bytes, range_end: &Bytes) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.clone(), range_end: range_end.clone(), prev_kv: true }
}

/// If the guard holds the writes, else a read of the guard's key.
pub(super) fn txn_request(guard: Option<&Guard>, writes: &[Write]) -> TxnRequest {
    let operation = |request| RequestOp { request: Some(request) };
    TxnRequest {
        compare: guard.map(compare).into_iter().collect(),
        success: writes
            .iter()
            .map(|write| {
                operation(match write {
                    Write::Put { key, value } => Op::RequestPut(put_request(key, value)),
                    Write::Delete { key, range_end } => {
                        Op::RequestDeleteRange(delete_request(key, range_end))
                    }
                })
            })
            .collect(),
        failure: guard
            .map(|guard| {
                operation(Op::RequestRange(range_request(&guard.key, &Bytes::new(), false)))
            })
            .into_iter()
            .collect(),
    }
}

fn compare(guard: &Guard) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: guard.key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::ModRevision(guard.mod_revision)),
    }
}

/// The key-values in one response of a transaction: replaced, deleted, or read.
pub(super) fn key_values(response: ResponseOp) -> Result<Vec<KeyValue>, Status> {
    match response.response {
        Some(OpResponse::ResponsePut(put)) => Ok(put.prev_kv.into_iter().collect()),
        Some(OpResponse::ResponseDeleteRange(delete)) => Ok(delete.prev_kvs),
        Some(OpResponse::ResponseRange(range)) => Ok(range.kvs),
        _ => Err(Status::data_loss("a transaction answered what it was not asked")),
    }
}

pub(super) fn revision_of(header: Option<ResponseHeader>) -> Result<i64, Status> {
    header
        .map(|header| header.revision)
        .ok_or_else(|| Status::data_loss("an answer without a header"))
}
