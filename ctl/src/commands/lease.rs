//! `lease grant`, `revoke`, `timetolive`, `list` and `keep-alive`.

use std::time::Duration;

use coracle_core::api::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest,
};
use futures_util::future::{Either, select};
use futures_util::{FutureExt, StreamExt};

use super::{Context, Exit, Failure, UNAVAILABLE, parse_lease};
use crate::args::{Command, Flag};
use crate::client::{Client, Duplex, RpcError};
use crate::format::{Format, Output};
use crate::go::parse_i64;

pub(super) const COMMAND: Command = Command {
    name: "lease",
    usage: "<subcommand>",
    short: "Lease related commands",
    long: "",
    flags: &[],
    subcommands: &[
        Command {
            name: "grant",
            usage: "<ttl>",
            short: "Creates leases",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(grant(context))),
        },
        Command {
            name: "keep-alive",
            usage: "[options] <leaseID>",
            short: "Keeps leases alive (renew)",
            long: "",
            flags: &KEEP_ALIVE_FLAGS,
            subcommands: &[],
            run: Some(|context| Box::pin(keep_alive(context))),
        },
        Command {
            name: "list",
            usage: "",
            short: "List all active leases",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(list(context))),
        },
        Command {
            name: "revoke",
            usage: "<leaseID>",
            short: "Revokes leases",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(revoke(context))),
        },
        Command {
            name: "timetolive",
            usage: "<leaseID> [options]",
            short: "Get lease information",
            long: "",
            flags: &TIME_TO_LIVE_FLAGS,
            subcommands: &[],
            run: Some(|context| Box::pin(time_to_live(context))),
        },
    ],
    run: None,
};

static KEEP_ALIVE_FLAGS: [Flag; 1] = [Flag::switch(
    "once",
    "Resets the keep-alive time to its original value and exits immediately",
)];
static TIME_TO_LIVE_FLAGS: [Flag; 1] = [Flag::switch("keys", "Get keys attached to this lease")];

const NOT_FOUND: &str = "etcdserver: requested lease not found";

/// Pause before a broken stream is opened again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

async fn grant(context: &Context<'_>) -> Result<(), Failure> {
    let argument = context.only_argument("lease grant command needs TTL argument")?;
    let ttl = parse_i64(&argument, 10)
        .map_err(|error| Failure::arguments(format!("bad TTL ({error})")))?;
    let client = context.client().await?;
    let response = context.within_timeout(client.lease_grant(LeaseGrantRequest { ttl, id: 0 }));
    let response = response
        .await
        .map_err(|error| Failure::new(Exit::Error, format!("failed to grant lease ({error})")))?;
    context.show(&Output::LeaseGrant(response))
}

async fn revoke(context: &Context<'_>) -> Result<(), Failure> {
    let id = parse_lease(&context.only_argument("lease revoke command needs 1 argument")?)?;
    let client = context.client().await?;
    let response = context.within_timeout(client.lease_revoke(LeaseRevokeRequest { id }));
    let response = response
        .await
        .map_err(|error| Failure::new(Exit::Error, format!("failed to revoke lease ({error})")))?;
    context.show(&Output::LeaseRevoke(id, response))
}

async fn time_to_live(context: &Context<'_>) -> Result<(), Failure> {
    let complaint = "lease timetolive command needs lease ID as argument";
    let id = parse_lease(&context.only_argument(complaint)?)?;
    let keys = context.parsed.is_on("keys");
    let client = context.client().await?;
    let request = LeaseTimeToLiveRequest { id, keys };
    let response = context.within_timeout(client.lease_time_to_live(request)).await;
    context.show(&Output::LeaseTimeToLive(response.map_err(bad_connection)?, keys))
}

async fn list(context: &Context<'_>) -> Result<(), Failure> {
    let client = context.client().await?;
    let response = context.within_timeout(client.lease_leases(LeaseLeasesRequest {})).await;
    context.show(&Output::LeaseList(response.map_err(bad_connection)?))
}

fn bad_connection(error: RpcError) -> Failure {
    Failure::new(Exit::BadConnection, error.message)
}

async fn keep_alive(context: &Context<'_>) -> Result<(), Failure> {
    let complaint = "lease keep-alive command needs lease ID as argument";
    let id = parse_lease(&context.only_argument(complaint)?)?;
    let client = context.client().await?;
    if context.parsed.is_on("once") {
        let response = context.within_timeout(once(client.as_ref(), id).boxed_local()).await;
        let response = response.map_err(bad_connection)?;
        return context.show(&Output::LeaseKeepAlive(response));
    }
    let show = |response| context.show(&Output::LeaseKeepAlive(response));
    renew(context, client.as_ref(), id, show).await?;
    if context.format()? == Format::Simple {
        context.print(&format!("lease {id:016x} expired or revoked."));
    }
    Ok(())
}

async fn once(client: &dyn Client, id: i64) -> Result<LeaseKeepAliveResponse, RpcError> {
    let mut stream = client.lease_keep_alive();
    stream.requests.send(LeaseKeepAliveRequest { id })?;
    match stream.replies.next().await {
        Some(Ok(response)) if response.ttl <= 0 => {
            Err(RpcError { code: 5, message: NOT_FOUND.into() })
        }
        Some(answer) => answer,
        None => Err(RpcError { code: UNAVAILABLE, message: "EOF".into() }),
    }
}

/// Renews the lease at each third of its TTL until it is gone, or must be: no member has renewed it
/// for as long as it lives, whatever the reasons. Every reply is handed to `told`.
pub(super) async fn renew(
    context: &Context<'_>,
    client: &dyn Client,
    id: i64,
    told: impl Fn(LeaseKeepAliveResponse) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let environment = context.environment;
    let first = context.parsed.duration("dial-timeout") + Duration::from_secs(1);
    let mut deadline = environment.now() + first;
    let mut stream = client.lease_keep_alive();
    loop {
        let answer = ask(&mut stream, id).boxed_local();
        let left = deadline.saturating_sub(environment.now());
        let answer = match select(answer, environment.sleep(left)).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => return Ok(()),
        };
        match answer {
            Ok(response) if response.ttl <= 0 => return Ok(()),
            Ok(response) => {
                let ttl = Duration::from_secs(response.ttl.unsigned_abs());
                deadline = environment.now() + ttl;
                told(response)?;
                environment.sleep(ttl / 3).await;
            }
            Err(error) if error.message == NOT_FOUND => return Ok(()),
            Err(_) if environment.now() >= deadline => return Ok(()),
            Err(_) => {
                environment.sleep(RETRY_PAUSE).await;
                stream = client.lease_keep_alive();
            }
        }
    }
}

type KeepAlive = Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse>;

async fn ask(stream: &mut KeepAlive, id: i64) -> Result<LeaseKeepAliveResponse, RpcError> {
    stream.requests.send(LeaseKeepAliveRequest { id })?;
    match stream.replies.next().await {
        Some(answer) => answer,
        None => Err(RpcError { code: UNAVAILABLE, message: "EOF".into() }),
    }
}
