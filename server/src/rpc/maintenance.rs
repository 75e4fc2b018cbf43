//! `etcdserverpb.Maintenance`.

use coracle_core::api::etcdserverpb::SnapshotRequest;

use super::{Context, Method, method, unary};
use crate::front::call::Call;

pub(super) const METHODS: [Method; 8] = [
    unary!("etcdserverpb.Maintenance" "Alarm" alarm),
    unary!("etcdserverpb.Maintenance" "Status" status),
    unary!("etcdserverpb.Maintenance" "Defragment" defragment),
    unary!("etcdserverpb.Maintenance" "Hash" hash),
    unary!("etcdserverpb.Maintenance" "HashKV" hash_kv),
    unary!("etcdserverpb.Maintenance" "MoveLeader" move_leader),
    unary!("etcdserverpb.Maintenance" "Downgrade" downgrade),
    method!("etcdserverpb.Maintenance" "Snapshot" "server_stream" snapshot),
];

/// Sends the maintenance snapshot blob by blob, no faster than the client takes them.
async fn snapshot(context: Context, call: Call) {
    let by = context.caller(&call);
    let Some((mut requests, mut responses)) = call.stream::<SnapshotRequest>() else { return };
    // The request has no fields; its absence is as good.
    if let Some(Err(status)) = requests.next().await {
        return responses.finish(Err(status));
    }
    let mut snapshot = match responses.unless_gone(context.member.snapshot(&by)).await {
        Some(Ok(snapshot)) => snapshot,
        Some(Err(error)) => return responses.finish(Err(error.into())),
        None => return,
    };
    loop {
        match responses.unless_gone(snapshot.next()).await {
            Some(Some(Ok(blob))) if responses.send_when_ready(&blob).await => {}
            Some(Some(Err(error))) => return responses.finish(Err(error.into())),
            Some(None) => return responses.finish(Ok(())),
            // The client has gone.
            Some(Some(Ok(_))) | None => return,
        }
    }
}
