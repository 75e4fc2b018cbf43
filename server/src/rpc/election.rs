//! `v3electionpb.Election`.

use coracle_core::api::v3electionpb::LeaderRequest;
use coracle_core::auth::Caller;

use super::{Context, Method, method, requires_leader, unary};
use crate::front::call::{Call, Responses, Status};

pub(super) const METHODS: [Method; 5] = [
    unary!("v3electionpb.Election" "Campaign" campaign_in),
    unary!("v3electionpb.Election" "Proclaim" proclaim),
    unary!("v3electionpb.Election" "Leader" leader),
    method!("v3electionpb.Election" "Observe" "server_stream" observe),
    unary!("v3electionpb.Election" "Resign" resign),
];

/// Tells of every leader until the client has heard enough.
async fn observe(context: Context, call: Call) {
    let required = requires_leader(&call);
    let by = context.caller(&call);
    let Some((mut requests, mut responses)) = call.stream() else { return };
    let request = match requests.next().await {
        Some(Ok(request)) => request,
        Some(Err(status)) => return responses.finish(Err(status)),
        None => LeaderRequest::default(),
    };
    let ended = tokio::select! {
        ended = tell_leaders(&context, by, request, &mut responses) => ended,
        status = context.leader_lost(required) => Some(status),
    };
    if let Some(status) = ended {
        responses.finish(Err(status));
    }
}

/// `None` if the client has gone.
async fn tell_leaders(
    context: &Context,
    by: Caller,
    request: LeaderRequest,
    responses: &mut Responses,
) -> Option<Status> {
    let mut observer = context.member.observe(by, request);
    loop {
        match responses.unless_gone(observer.next()).await? {
            Ok(leader) if responses.send_when_ready(&leader).await => {}
            Ok(_) => return None,
            Err(error) => return Some(error.into()),
        }
    }
}
