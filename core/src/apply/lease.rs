//! Applies lease commands: the lessor's replicated half, its stored records, and the deletion of
//! a revoked lease's keys.

use bytes::Bytes;
use prost::Message;

use super::{Applier, Outcome, Reply};
use crate::api::coraclepb::LeaseRecord;
use crate::api::etcdserverpb as pb;
use crate::backend::{Bucket, Contents};
use crate::error::{Error, Fatal};
use crate::mvcc::{Committed, KeyRange};

/// The stored leases.
pub(super) fn load_records(contents: &dyn Contents) -> Result<Vec<LeaseRecord>, Fatal> {
    let decode = |(_, value): (Bytes, Bytes)| {
        LeaseRecord::decode(value)
            .map_err(|error| Fatal::Backend(format!("a stored lease: {error}")))
    };
    contents.all(Bucket::Lease)?.into_iter().map(decode).collect()
}

impl Applier {
    pub(super) fn lease_grant(&self, request: &pb::LeaseGrantRequest) -> Outcome {
        self.lessor.grant(request.id, request.ttl)?;
        self.store_lease(request.id);
        Ok(Reply::LeaseGrant(pb::LeaseGrantResponse {
            header: None,
            id: request.id,
            ttl: request.ttl,
            error: String::new(),
        }))
    }

    /// Deletes the lease and its keys, in key order and in one revision. LEASE-04.
    pub(super) fn lease_revoke(
        &self,
        request: &pb::LeaseRevokeRequest,
    ) -> Result<Result<(pb::LeaseRevokeResponse, Committed), Error>, Fatal> {
        let keys = match self.lessor.revoke(request.id) {
            Ok(keys) => keys,
            Err(error) => return Ok(Err(error)),
        };
        self.backend.delete(Bucket::Lease, key(request.id));
        let mut txn = self.store.write();
        for key in keys {
            txn.delete_range(&KeyRange::Key(&key));
        }
        let committed = txn.commit();
        let header = super::header(committed.revision);
        Ok(Ok((pb::LeaseRevokeResponse { header }, committed)))
    }

    pub(super) fn lease_checkpoint(&self, request: &pb::LeaseCheckpointRequest) -> Outcome {
        for checkpoint in &request.checkpoints {
            self.lessor.checkpoint(checkpoint.id, checkpoint.remaining_ttl);
            self.store_lease(checkpoint.id);
        }
        Ok(Reply::LeaseCheckpoint)
    }

    fn store_lease(&self, id: i64) {
        if let Some(record) = self.lessor.record(id) {
            self.backend.put(Bucket::Lease, key(id), record.encode_to_vec().into());
        }
    }
}

fn key(id: i64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}
