//! `etcdserverpb.KV`. (`RangeStream` is not served: clients fall back to `Range`.)

use coracle_core::api::etcdserverpb::RangeRequest;
use coracle_core::error::Error;

use super::{Context, Method, method, unary};
use crate::front::call::Call;

pub(super) const METHODS: [Method; 5] = [
    method!("etcdserverpb.KV" "Range" "unary" range),
    unary!("etcdserverpb.KV" "Put" put),
    unary!("etcdserverpb.KV" "DeleteRange" delete_range),
    unary!("etcdserverpb.KV" "Txn" txn),
    unary!("etcdserverpb.KV" "Compact" compact),
];

/// A learner may lag behind what was acknowledged, so it answers serializable ranges only (W-07).
async fn range(context: Context, call: Call) {
    let by = context.caller(&call);
    call.unary(async |request: RangeRequest| {
        if !request.serializable && context.is_learner() {
            return Err(Error::NotSupportedForLearner);
        }
        context.member.range(&by, request).await
    })
    .await;
}
