//! The KV service: reads locally (after a read index, unless serializable), writes through the log.

use std::sync::atomic::Ordering;

use super::Node;
use super::propose::mismatch;
use crate::api::coraclepb::command::Request as CommandRequest;
use crate::api::etcdserverpb as pb;
use crate::api::etcdserverpb::request_op::Request as OpRequest;
use crate::api::validate;
use crate::apply::{self, Reply};
use crate::auth::Caller;
use crate::error::{Error, Fatal};
use crate::mvcc::KeyRange;
use crate::platform::Platform;
use crate::quota::{put_cost, txn_cost};
use crate::trace::Event;

impl<P: Platform> Node<P> {
    /// KV.Range. KV-01 to KV-10.
    pub async fn range(
        &self,
        by: &Caller,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Error> {
        validate::check_range(&request)?;
        self.counters.ranges.fetch_add(1, Ordering::Relaxed);
        if !request.serializable {
            self.linearize().await?;
        }
        let who = self.identify(by).await?;
        self.auth.check_read(&who, &KeyRange::new(&request.key, &request.range_end))?;
        let start = self.meters.now();
        let ranged = self.or_stop(self.store.range(&request))?;
        self.meters.ranged(ranged.is_ok(), start);
        let mut response = ranged?;
        self.auth.check_unchanged(&who)?;
        let revision = revision_of(&response.header);
        self.trace.emit(|| Event::Read { serializable: request.serializable, revision });
        response.header = Some(self.header(revision));
        Ok(response)
    }

    /// KV.Put. PUT-01 to PUT-04.
    pub async fn put(
        &self,
        by: &Caller,
        request: pb::PutRequest,
    ) -> Result<pb::PutResponse, Error> {
        validate::check_put(&request)?;
        self.check_quota(put_cost(&request)).await?;
        self.counters.puts.fetch_add(1, Ordering::Relaxed);
        let who = self.identify(by).await?;
        match self.propose(&who, CommandRequest::Put(request)).await? {
            Reply::Put(mut response) => {
                response.header = Some(self.header(revision_of(&response.header)));
                Ok(response)
            }
            other => Err(mismatch(other)),
        }
    }

    /// KV.DeleteRange. DEL-01, DEL-02.
    pub async fn delete_range(
        &self,
        by: &Caller,
        request: pb::DeleteRangeRequest,
    ) -> Result<pb::DeleteRangeResponse, Error> {
        validate::check_delete_range(&request)?;
        self.counters.deletes.fetch_add(1, Ordering::Relaxed);
        let who = self.identify(by).await?;
        match self.propose(&who, CommandRequest::DeleteRange(request)).await? {
            Reply::DeleteRange(mut response) => {
                response.header = Some(self.header(revision_of(&response.header)));
                Ok(response)
            }
            other => Err(mismatch(other)),
        }
    }

    /// KV.Txn. TXN-01 to TXN-12. One that only reads never enters the log.
    pub async fn txn(
        &self,
        by: &Caller,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, Error> {
        validate::check_txn(&request, self.config.max_txn_ops)?;
        self.counters.txns.fetch_add(1, Ordering::Relaxed);
        let mut response = if apply::is_read_only(&request) {
            if !is_serializable(&request) {
                self.linearize().await?;
            }
            let who = self.identify(by).await?;
            self.permit(&who).txn(&request)?;
            let response = self.or_stop(apply::read_only_txn(&self.store, &request))??;
            self.auth.check_unchanged(&who)?;
            response
        } else {
            // One that puts nothing may free space, and passes (MNT-02).
            let cost = txn_cost(&request);
            if cost > 0 {
                self.check_quota(cost).await?;
            }
            let who = self.identify(by).await?;
            match self.propose(&who, CommandRequest::Txn(request)).await? {
                Reply::Txn(response) => response,
                other => return Err(mismatch(other)),
            }
        };
        response.header = Some(self.header(revision_of(&response.header)));
        Ok(response)
    }

    /// KV.Compact. CMP-01 to CMP-03. With `physical`, returns when the space is free here.
    pub async fn compact(
        &self,
        by: &Caller,
        request: pb::CompactionRequest,
    ) -> Result<pb::CompactionResponse, Error> {
        let physical = request.physical;
        let who = self.identify(by).await?;
        let mut response = match self.propose(&who, CommandRequest::Compaction(request)).await? {
            Reply::Compaction(response) => response,
            other => return Err(mismatch(other)),
        };
        if physical {
            self.finish_compaction().await?;
        }
        response.header = Some(self.header(revision_of(&response.header)));
        Ok(response)
    }

    /// A storage failure stops the node; the caller is told that the server stops.
    pub(super) fn or_stop<T>(&self, result: Result<T, Fatal>) -> Result<T, Error> {
        result.map_err(|fatal| {
            self.fail(fatal);
            Error::Stopped
        })
    }
}

/// Whether a read-only transaction may be stale: it has reads, and all of them may. TXN-10.
fn is_serializable(request: &pb::TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure).peekable();
    let serializable = |op: &pb::RequestOp| match &op.request {
        Some(OpRequest::RequestRange(range)) => range.serializable,
        _ => false,
    };
    ops.peek().is_some() && ops.all(serializable)
}

/// The revision that a response was made at.
fn revision_of(header: &Option<pb::ResponseHeader>) -> i64 {
    header.as_ref().map_or(0, |header| header.revision)
}
