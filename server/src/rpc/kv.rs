//! `etcdserverpb.KV`.

use coracle_core::api::etcdserverpb::RangeRequest;
use coracle_core::error::Error;

use super::{Context, Method, method, unary};
use crate::front::call::Call;

pub(super) const METHODS: [Method; 6] = [
    method!("etcdserverpb.KV" "Range" "unary" range),
    method!("etcdserverpb.KV" "RangeStream" "server_stream" range_stream),
    method!("etcdserverpb.KV" "Put" "unary" put),
    unary!("etcdserverpb.KV" "DeleteRange" delete_range),
    method!("etcdserverpb.KV" "Txn" "unary" txn),
    unary!("etcdserverpb.KV" "Compact" compact),
];

/// A learner may lag behind what was acknowledged, so it answers serializable ranges only (W-07).
async fn range(context: Context, call: Call) {
    let by = context.caller(&call);
    call.traced(async |request: RangeRequest| {
        if !request.serializable && context.is_learner() {
            return Err(Error::NotSupportedForLearner);
        }
        context.member.range(&by, request).await
    })
    .await;
}

async fn put(context: Context, call: Call) {
    let by = context.caller(&call);
    call.traced(|request| context.member.put(&by, request)).await;
}

async fn txn(context: Context, call: Call) {
    let by = context.caller(&call);
    call.traced(|request| context.member.txn(&by, request)).await;
}

/// Sends the range piece by piece, no faster than the client takes them.
async fn range_stream(context: Context, call: Call) {
    let by = context.caller(&call);
    let Some((mut requests, mut responses)) = call.stream::<RangeRequest>() else { return };
    let request = match requests.next().await {
        Some(Ok(request)) => request,
        Some(Err(status)) => return responses.finish(Err(status)),
        None => RangeRequest::default(),
    };
    let opened = context.member.range_stream(&by, request);
    let mut stream = match responses.unless_gone(opened).await {
        Some(Ok(stream)) => stream,
        Some(Err(error)) => return responses.finish(Err(error.into())),
        None => return,
    };
    while let Some(piece) = stream.next() {
        match piece {
            Ok(piece) if responses.send_when_ready(&piece).await => {}
            // The client has gone.
            Ok(_) => return,
            Err(error) => return responses.finish(Err(error.into())),
        }
    }
    responses.finish(Ok(()));
}
