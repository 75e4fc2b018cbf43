//! Put: one key, one new version (PUT-01 to PUT-04).

use std::mem::take;

use bytes::Bytes;

use super::context::ApplyContext;
use super::header;
use crate::api::etcdserverpb::{PutRequest, PutResponse};
use crate::error::{Answer, Error};
use crate::mvcc::{Committed, WriteTxn};

/// Applies a (validated) put.
pub fn put(context: &ApplyContext<'_>, request: &PutRequest) -> Answer<(PutResponse, Committed)> {
    if request.lease != 0 && !context.leases.exists(request.lease) {
        return Ok(Err(Error::LeaseNotFound));
    }
    let mut txn = context.store.write();
    match put_in(context, &mut txn, request)? {
        Ok(response) => Ok(Ok((response, txn.commit()))),
        Err(error) => Ok(Err(error)),
    }
}

/// Puts inside a transaction. Refuses before it changes anything.
pub(super) fn put_in(
    context: &ApplyContext<'_>,
    txn: &mut WriteTxn<'_>,
    request: &PutRequest,
) -> Answer<PutResponse> {
    let needs_previous = request.ignore_value || request.ignore_lease;
    let mut previous = None;
    if needs_previous || request.prev_kv {
        previous = match txn.view().get(&request.key)? {
            Ok(previous) => previous,
            Err(error) => return Ok(Err(error)),
        };
    }
    let (mut value, mut lease) = (request.value.clone(), request.lease);
    match &previous {
        None if needs_previous => return Ok(Err(Error::KeyNotFound)),
        Some(previous) if request.ignore_value => value = previous.value.clone(),
        _ => {}
    }
    if let Some(previous) = previous.as_ref().filter(|_| request.ignore_lease) {
        lease = previous.lease;
    }
    let old_lease = txn.put(request.key.clone(), value, lease);
    if old_lease != lease {
        if old_lease != 0 {
            context.leases.detach(old_lease, &request.key);
        }
        if lease != 0 {
            // A copy: a slice of the request would keep all of it alive as long as the lease.
            context.leases.attach(lease, Bytes::copy_from_slice(&request.key));
        }
    }
    let prev_kv = if request.prev_kv { take(&mut previous) } else { None };
    Ok(Ok(PutResponse { header: header(txn.revision()), prev_kv }))
}
