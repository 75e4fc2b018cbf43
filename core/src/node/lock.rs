//! The Lock service: a mutex whose owner is the first of a queue. LK-01.

use std::sync::Arc;

use bytes::Bytes;

use super::Node;
use super::concurrency::{as_its_client_says, raw};
use crate::api::etcdserverpb::DeleteRangeRequest;
use crate::api::v3lockpb as pb;
use crate::auth::Caller;
use crate::error::Error;
use crate::platform::Platform;

impl<P: Platform> Node<P> {
    /// Lock.Lock: waits until the session owns the lock. Dropped before that, it leaves the queue.
    pub async fn lock(
        self: &Arc<Self>,
        by: &Caller,
        request: pb::LockRequest,
    ) -> Result<pb::LockResponse, Error> {
        self.acquire(by, request).await.map_err(as_its_client_says)
    }

    async fn acquire(
        self: &Arc<Self>,
        by: &Caller,
        request: pb::LockRequest,
    ) -> Result<pb::LockResponse, Error> {
        let lease = self.session(by, request.lease).await?;
        let place = self.queue_up(by, &request.name, Bytes::new(), lease).await?;
        let header = if place.is_first {
            place.header
        } else {
            let turn = self.wait_turn(by, &request.name, &place).await?;
            Some(turn.ok_or_else(|| raw("mutex: session is expired"))?)
        };
        let key = place.key.clone();
        place.keep();
        Ok(pb::LockResponse { header, key })
    }

    /// Lock.Unlock: whoever knows the key may delete it.
    pub async fn unlock(
        &self,
        by: &Caller,
        request: pb::UnlockRequest,
    ) -> Result<pb::UnlockResponse, Error> {
        let delete = DeleteRangeRequest { key: request.key, ..Default::default() };
        let deleted = self.delete_range(by, delete).await.map_err(as_its_client_says)?;
        Ok(pb::UnlockResponse { header: deleted.header })
    }
}
