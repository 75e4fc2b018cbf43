//! `compaction`.

use coracle_core::api::etcdserverpb::CompactionRequest;

use super::{Context, Exit, Failure};
use crate::args::{Command, Flag};
use crate::go::parse_i64;

pub(super) const COMMAND: Command = Command {
    name: "compaction",
    usage: "[options] <revision>",
    short: "Compacts the event history in etcd",
    long: "",
    flags: &FLAGS,
    subcommands: &[],
    run: Some(|context| Box::pin(compaction(context))),
};

static FLAGS: [Flag; 1] = [Flag::switch(
    "physical",
    "'true' to wait for compaction to physically remove all old revisions",
)];

async fn compaction(context: &Context<'_>) -> Result<(), Failure> {
    let argument = context.only_argument("compaction command needs 1 argument")?;
    let revision = parse_i64(&argument, 10).map_err(|error| Failure::new(Exit::Error, error))?;
    let client = context.client().await?;
    let request = CompactionRequest { revision, physical: context.parsed.is_on("physical") };
    context.within_timeout(client.compact(request)).await?;
    context.print(&format!("compacted revision {revision}"));
    Ok(())
}
