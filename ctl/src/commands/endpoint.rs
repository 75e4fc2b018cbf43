//! `endpoint health`, `endpoint status`, `endpoint hashkv`: one answer for each endpoint given.

use coracle_core::api::etcdserverpb::{
    AlarmMember, AlarmType, HashKvRequest, MemberListRequest, RangeRequest, StatusRequest,
};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::{Context, Exit, Failure, alarm, told};
use crate::args::{Command, Flag, Kind};
use crate::environment::Connection;
use crate::format::{EndpointHealth, Output};
use crate::go::format_duration;

pub(super) const CLUSTER: Flag =
    Flag::switch("cluster", "use all endpoints from the cluster member list");

pub(super) const COMMAND: Command = Command {
    name: "endpoint",
    usage: "<subcommand>",
    short: "Endpoint related commands",
    long: "",
    flags: &GROUP_FLAGS,
    subcommands: &[
        Command {
            name: "hashkv",
            usage: "",
            short: "Prints the KV history hash for each endpoint in --endpoints",
            long: "",
            flags: &HASHKV_FLAGS,
            subcommands: &[],
            run: Some(|context| Box::pin(hash_kv(context))),
        },
        Command {
            name: "health",
            usage: "",
            short: "Checks the healthiness of endpoints specified in `--endpoints` flag",
            long: "",
            flags: &FLAGS,
            subcommands: &[],
            run: Some(|context| Box::pin(health(context))),
        },
        Command {
            name: "status",
            usage: "",
            short: "Prints out the status of endpoints specified in `--endpoints` flag",
            long: "When --write-out is set to simple, this command prints out comma-separated \
                   status lists for each endpoint.\n\
                   The items in the lists are endpoint, ID, version, db size, is leader, is \
                   learner, raft term, raft index, raft applied index, errors.",
            flags: &FLAGS,
            subcommands: &[],
            run: Some(|context| Box::pin(status(context))),
        },
    ],
    run: None,
};

static GROUP_FLAGS: [Flag; 1] = [CLUSTER];
static FLAGS: [Flag; 1] = [CLUSTER.inherited()];
static HASHKV_FLAGS: [Flag; 2] = [
    CLUSTER.inherited(),
    Flag::new("rev", Kind::Int64, "0", "maximum revision to hash (default: all revisions)"),
];

/// The endpoints given, or with `--cluster` the client URLs of all members.
pub(super) async fn endpoints(
    context: &Context<'_>,
    connection: &Connection,
) -> Result<Vec<String>, Failure> {
    if !context.parsed.is_on("cluster") {
        return Ok(connection.endpoints.clone());
    }
    let client = context.client_if_reachable(connection.clone()).await?;
    let request = MemberListRequest { linearizable: true };
    let listed = async { context.within_timeout(client?.member_list(request)).await };
    let response = listed.await.map_err(|error| {
        let what = "failed to fetch endpoints from etcd cluster member list";
        Failure::new(Exit::Error, format!("{what}: {error}"))
    })?;
    let urls = response.members.into_iter().flat_map(|member| member.client_ur_ls);
    Ok(urls.collect())
}

/// Asks all endpoints at once; they are shown in the order in which they answer.
async fn health(context: &Context<'_>) -> Result<(), Failure> {
    let connection = context.connection().await?;
    let mut list = Vec::new();
    let endpoints = endpoints(context, &connection).await?;
    let ask = |endpoint| health_of(context, &connection, endpoint);
    let mut answers: FuturesUnordered<_> = endpoints.into_iter().map(ask).collect();
    while let Some(answer) = answers.next().await {
        list.push(answer);
    }
    let is_healthy = list.iter().all(|health| health.is_healthy);
    context.show(&Output::EndpointHealth(list))?;
    if is_healthy { Ok(()) } else { Err(Failure::new(Exit::Error, "unhealthy cluster")) }
}

/// A member is healthy if it answers a linearizable read (refusing it for want of permission is an
/// answer too) and no alarm is raised.
async fn health_of(
    context: &Context<'_>,
    connection: &Connection,
    endpoint: String,
) -> EndpointHealth {
    let started = context.environment.now();
    let read = async {
        let client = context.connect(connection.to(&endpoint)).await?;
        let request = RangeRequest { key: "health".into(), ..RangeRequest::default() };
        match context.within_timeout(client.range(request)).await {
            Err(error) if error.message != "etcdserver: permission denied" => Err(error),
            _ => Ok(client),
        }
    };
    let read = read.await;
    let took = format_duration(context.environment.now().saturating_sub(started));
    let error = match read {
        Err(error) => told(error),
        Ok(client) => match alarm::alarms(context, client.as_ref()).await {
            Ok(response) => active_alarms(&response.alarms),
            Err(_) => "Unable to fetch the alarm list".into(),
        },
    };
    EndpointHealth { endpoint, is_healthy: error.is_empty(), took, error }
}

/// The alarms as a reason for bad health; empty if there are none.
fn active_alarms(alarms: &[AlarmMember]) -> String {
    let name = |alarm: &AlarmMember| match AlarmType::try_from(alarm.alarm) {
        Ok(AlarmType::Nospace) => "NOSPACE ",
        Ok(AlarmType::Corrupt) => "CORRUPT ",
        _ => "UNKNOWN ",
    };
    match alarms {
        [] => String::new(),
        alarms => format!("Active Alarm(s): {}", alarms.iter().map(name).collect::<String>()),
    }
}

async fn status(context: &Context<'_>) -> Result<(), Failure> {
    let mut list = Vec::new();
    let mut has_failed = false;
    let connection = context.connection().await?;
    for endpoint in endpoints(context, &connection).await? {
        let client = context.client_if_reachable(connection.to(&endpoint)).await?;
        let answer = async { context.within_timeout(client?.status(StatusRequest {})).await };
        match answer.await {
            Ok(response) => list.push((endpoint, response)),
            Err(error) => {
                has_failed = true;
                let what = "Failed to get the status of endpoint";
                context.complain(&format!("{what} {endpoint} ({})", told(error)));
            }
        }
    }
    context.show(&Output::EndpointStatus(list))?;
    if has_failed { Err(Failure::silent()) } else { Ok(()) }
}

async fn hash_kv(context: &Context<'_>) -> Result<(), Failure> {
    let mut list = Vec::new();
    let mut failure = None;
    let connection = context.connection().await?;
    for endpoint in endpoints(context, &connection).await? {
        let request = HashKvRequest { revision: context.parsed.int64("rev") };
        let client = context.client_if_reachable(connection.to(&endpoint)).await?;
        let answer = async { context.within_timeout(client?.hash_kv(request)).await };
        match answer.await {
            Ok(response) => list.push((endpoint, response)),
            Err(error) => {
                let what = "Failed to get the hash of endpoint";
                let error = told(error);
                context.complain(&format!("{what} {endpoint} ({error})"));
                failure = Some(Failure::new(Exit::Error, error));
            }
        }
    }
    context.show(&Output::EndpointHashKv(list))?;
    failure.map_or(Ok(()), Err)
}
