//! `etcdserverpb.Lease`.

use coracle_core::api::etcdserverpb::LeaseKeepAliveRequest;
use coracle_core::auth::Caller;

use super::{Context, Method, credentials, method, requires_leader, unary};
use crate::front::call::{Call, Requests, Responses, Status};

pub(super) const METHODS: [Method; 5] = [
    unary!("etcdserverpb.Lease" "LeaseGrant" lease_grant),
    unary!("etcdserverpb.Lease" "LeaseRevoke" lease_revoke),
    method!("etcdserverpb.Lease" "LeaseKeepAlive" "bidi_stream" lease_keep_alive),
    unary!("etcdserverpb.Lease" "LeaseTimeToLive" lease_time_to_live),
    unary!("etcdserverpb.Lease" "LeaseLeases" lease_leases),
];

/// One answer for each request, in order, until the client ends its side (LEASE-05).
async fn lease_keep_alive(context: Context, call: Call) {
    let required = requires_leader(&call);
    // The stream may outlive a time without authentication.
    let by = credentials(&call);
    let Some((mut requests, mut responses)) = call.stream() else { return };
    let ended = tokio::select! {
        ended = keep_alive(&context, &by, &mut requests, &mut responses) => ended,
        status = context.leader_lost(required) => Some(Err(status)),
    };
    if let Some(ended) = ended {
        responses.finish(ended);
    }
}

/// `None` if the client has gone.
async fn keep_alive(
    context: &Context,
    by: &Caller,
    requests: &mut Requests<LeaseKeepAliveRequest>,
    responses: &mut Responses,
) -> Option<Result<(), Status>> {
    while let Some(request) = requests.next().await {
        let request = match request {
            Ok(request) => request,
            Err(status) => return Some(Err(status)),
        };
        match responses.unless_gone(context.member.lease_keep_alive(by, request)).await? {
            Ok(response) => {
                if !responses.send_when_ready(&response).await {
                    return None;
                }
            }
            Err(error) => return Some(Err(error.into())),
        }
    }
    Some(Ok(()))
}
