//! DeleteRange: the life of every key in a range ends (DEL-01, DEL-02).

use super::context::ApplyContext;
use super::header;
use crate::api::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse, RangeRequest};
use crate::error::Answer;
use crate::mvcc::{Committed, KeyRange, WriteTxn};

/// Applies a (validated) delete. If no key lives in the range, nothing changes.
pub fn delete_range(
    context: &ApplyContext<'_>,
    request: &DeleteRangeRequest,
) -> Answer<(DeleteRangeResponse, Committed)> {
    let mut txn = context.store.write();
    match delete_range_in(context, &mut txn, request)? {
        Ok(response) => Ok(Ok((response, txn.commit()))),
        Err(error) => Ok(Err(error)),
    }
}

/// Deletes inside a transaction. Refuses before it changes anything.
pub(super) fn delete_range_in(
    context: &ApplyContext<'_>,
    txn: &mut WriteTxn<'_>,
    request: &DeleteRangeRequest,
) -> Answer<DeleteRangeResponse> {
    let mut prev_kvs = Vec::new();
    if request.prev_kv {
        let victims = RangeRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            ..Default::default()
        };
        prev_kvs = match txn.view().range(&victims)? {
            Ok(response) => response.kvs,
            Err(error) => return Ok(Err(error)),
        };
    }
    let deleted = txn.delete_range(&KeyRange::new(&request.key, &request.range_end));
    for victim in deleted.iter().filter(|victim| victim.lease != 0) {
        context.leases.detach(victim.lease, &victim.key);
    }
    let header = header(txn.revision());
    Ok(Ok(DeleteRangeResponse { header, deleted: deleted.len() as i64, prev_kvs }))
}
