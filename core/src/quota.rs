//! How large a member's backend may grow, and what requests cost (etcd `server/storage/quota.go`).
//! MNT-02.
//!
//! A member judges twice: what it is asked, and what it applies, which another member with another
//! quota may have been asked.

use crate::api::coraclepb::command::Request;
use crate::api::etcdserverpb as pb;
use crate::api::etcdserverpb::request_op::Request as OpRequest;
use crate::limits;
use crate::notify::Notify;

/// Bytes that a lease counts for. LEASE-11.
pub const LEASE_COST: u64 = 64;

/// The quota of one member.
pub struct Quota {
    /// None: the backend may grow as it likes.
    bytes: Option<u64>,
    /// Notified when something was applied that exceeds it.
    pub(crate) exceeded: Notify,
}

impl Quota {
    /// The quota of `--quota-backend-bytes`: 0 is the default, a negative one is none.
    pub fn new(quota_backend_bytes: i64) -> Quota {
        let bytes = match quota_backend_bytes {
            0 => Some(limits::DEFAULT_QUOTA_BYTES as u64),
            bytes => u64::try_from(bytes).ok(),
        };
        Quota { bytes, exceeded: Notify::default() }
    }

    /// In bytes; none if there is no bound.
    pub fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Whether a backend whose file has `size` bytes takes a request that costs `cost`.
    pub fn admits(&self, size: u64, cost: u64) -> bool {
        let used = size.saturating_sub(limits::EMPTY_BACKEND_BYTES);
        cost == 0 || self.bytes.is_none_or(|bytes| used + cost < bytes)
    }

    /// Judges a request that is applied now, whatever the judgement is: all members apply it.
    pub fn judge_applied(&self, size: u64, request: &Request) {
        if !self.admits(size, cost(request)) {
            self.exceeded.notify();
        }
    }
}

fn cost(request: &Request) -> u64 {
    match request {
        Request::Put(put) => put_cost(put),
        Request::Txn(txn) => txn_cost(txn),
        Request::LeaseGrant(_) => LEASE_COST,
        _ => 0,
    }
}

/// Bytes that a put may add to the backend.
pub fn put_cost(request: &pb::PutRequest) -> u64 {
    256 + (request.key.len() + request.value.len()) as u64
}

/// The dearer branch of a transaction, nested ones included; 0 if it puts nothing.
pub fn txn_cost(request: &pb::TxnRequest) -> u64 {
    let branch = |ops: &[pb::RequestOp]| -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(OpRequest::RequestPut(put)) => put_cost(put),
                Some(OpRequest::RequestTxn(txn)) => txn_cost(txn),
                _ => 0,
            })
            .sum()
    };
    branch(&request.success).max(branch(&request.failure))
}
