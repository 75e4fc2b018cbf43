//! `elect`: stands for a leader until a signal, or with `-l` tells who leads.

use coracle_core::api::etcdserverpb::{RangeResponse, ResponseHeader, WatchCreateRequest};
use coracle_core::api::mvccpb::KeyValue;
use coracle_core::api::mvccpb::event::EventType;

use super::session::{DEFAULT_TTL, Ended, Session, canceled, first_of};
use super::watch::Watches;
use super::{Context, Exit, Failure};
use crate::args::{Command, Flag};
use crate::client::Client;
use crate::format::Output;

pub(super) const COMMAND: Command = Command {
    name: "elect",
    usage: "<election-name> [proposal]",
    short: "Observes and participates in leader election",
    long: "",
    flags: &FLAGS,
    subcommands: &[],
    run: Some(|context| Box::pin(elect(context))),
};

static FLAGS: [Flag; 1] = [Flag::switch("listen", "observation mode").short('l')];

async fn elect(context: &Context<'_>) -> Result<(), Failure> {
    let listen = context.parsed.is_on("listen");
    let (name, proposal) = match context.arguments() {
        [name] if listen => (name, None),
        [_] => return Err(Failure::arguments("no proposal argument but -l not set")),
        [_, _] if listen => return Err(Failure::arguments("proposal given but -l is set")),
        [name, proposal] => (name, Some(proposal)),
        _ => {
            return Err(Failure::arguments(
                "elect takes one election name argument and an optional proposal argument",
            ));
        }
    };
    let client = context.patient_client(context.connection().await?).await?;
    let mut session = Session::begin(context, &*client, DEFAULT_TTL).await?;
    match proposal {
        Some(proposal) => campaign(context, &mut session, name, proposal).await,
        None => match session.run(observe(context, &*client, name)).await {
            Ended::Signalled => Ok(()),
            Ended::Done(Err(failure)) => Err(failure),
            _ => Err(Failure::new(Exit::Error, "elect: observer lost")),
        },
    }
}

async fn campaign(
    context: &Context<'_>,
    session: &mut Session<'_>,
    name: &[u8],
    proposal: &[u8],
) -> Result<(), Failure> {
    let place = session.queue_up(name, proposal).await?;
    let elected = match session.run(place.wait()).await {
        Ended::Done(elected) => elected,
        Ended::Signalled => {
            place.leave().await?;
            return Err(canceled());
        }
        Ended::Expired => return Err(Failure::new(Exit::Error, "elect: session expired")),
    };
    match elected {
        Ok(elected) => context.show(&Output::Get(elected))?,
        Err(failure) => {
            // The first failure is the one to be told of, and soon.
            let _ = context.within_timeout(Box::pin(place.leave())).await;
            return Err(failure);
        }
    }
    match session.run(std::future::pending::<()>()).await {
        Ended::Expired => Err(Failure::new(Exit::Error, "elect: session expired")),
        _ => Ok(place.leave().await?),
    }
}

/// Shows every leader and everything that it proclaims.
async fn observe(context: &Context<'_>, client: &dyn Client, name: &[u8]) -> Result<(), Failure> {
    loop {
        let found = context.within_timeout(client.range(first_of(name))).await?;
        let header = found.header;
        let (leader, seen) = match found.kvs.into_iter().next() {
            Some(leader) => {
                let seen = header.unwrap_or_default().revision;
                show(context, header, leader.clone())?;
                (leader, seen)
            }
            None => {
                let leader = first_put(context, client, name, header).await?;
                let seen = leader.mod_revision;
                (leader, seen)
            }
        };
        follow(context, client, leader, seen + 1).await?;
    }
}

/// A reply to a read of the leader, as Go's observer gives it: without `count`.
fn show(
    context: &Context<'_>,
    header: Option<ResponseHeader>,
    kv: KeyValue,
) -> Result<(), Failure> {
    context.show(&Output::Get(RangeResponse { header, kvs: vec![kv], ..RangeResponse::default() }))
}

/// Waits until somebody joins the empty queue, and shows who it is.
async fn first_put(
    context: &Context<'_>,
    client: &dyn Client,
    name: &[u8],
    read: Option<ResponseHeader>,
) -> Result<KeyValue, Failure> {
    let queue = first_of(name);
    let mut watches = Watches::open_without_leader(context, client);
    watches.follow(WatchCreateRequest {
        key: queue.key,
        range_end: queue.range_end,
        start_revision: read.unwrap_or_default().revision + 1,
        ..WatchCreateRequest::default()
    });
    loop {
        let reply = watches.next().await?;
        if reply.canceled {
            return Err(Failure::new(Exit::Error, "elect: observer lost"));
        }
        watches.settle(&reply);
        let puts = reply.events.into_iter().filter(|event| event.r#type() == EventType::Put);
        if let Some(kv) = puts.filter_map(|event| event.kv).next() {
            let revision = kv.mod_revision;
            let header = reply.header.map(|header| ResponseHeader { revision, ..header });
            show(context, header, kv.clone())?;
            return Ok(kv);
        }
    }
}

/// Shows what the leader proclaims, until its key is deleted.
async fn follow(
    context: &Context<'_>,
    client: &dyn Client,
    leader: KeyValue,
    start_revision: i64,
) -> Result<(), Failure> {
    let mut watches = Watches::open_without_leader(context, client);
    watches.follow(WatchCreateRequest {
        key: leader.key,
        start_revision,
        ..WatchCreateRequest::default()
    });
    loop {
        let reply = watches.next().await?;
        // A compaction that overtook the watch hides what happened: the caller looks again.
        if reply.canceled {
            return Ok(());
        }
        watches.settle(&reply);
        for event in reply.events {
            if event.r#type() == EventType::Delete {
                return Ok(());
            }
            show(context, reply.header, event.kv.unwrap_or_default())?;
        }
    }
}
