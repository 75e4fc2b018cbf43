//! `move-leader`.

use coracle_core::api::etcdserverpb::{MoveLeaderRequest, StatusRequest};

use super::{Context, Failure};
use crate::args::Command;
use crate::format::Output;
use crate::go::parse_u64;

pub(super) const COMMAND: Command = Command {
    name: "move-leader",
    usage: "<transferee-member-id>",
    short: "Transfers leadership to another etcd cluster member.",
    long: "",
    flags: &[],
    subcommands: &[],
    run: Some(|context| Box::pin(move_leader(context))),
};

/// Only the leader takes the request, so the endpoints are asked for it one after another.
async fn move_leader(context: &Context<'_>) -> Result<(), Failure> {
    let argument = context.only_argument("move-leader command needs 1 argument")?;
    let target_id = parse_u64(&argument, 16).map_err(Failure::arguments)?;
    let connection = context.connection().await?;
    for endpoint in &connection.endpoints {
        let client = context.client_of(connection.to(endpoint)).await?;
        let status = context.within_timeout(client.status(StatusRequest {})).await?;
        if status.header.is_none_or(|header| header.member_id != status.leader) {
            continue;
        }
        let request = MoveLeaderRequest { target_id };
        let response = context.within_timeout(client.move_leader(request)).await?;
        return context.show(&Output::MoveLeader { from: status.leader, to: target_id, response });
    }
    let endpoints = connection.endpoints.join(" ");
    Err(Failure::arguments(format!("no leader endpoint given at [{endpoints}]")))
}
