//! `version`.

use super::{API_VERSION, Context, Failure, VERSION};
use crate::args::Command;

pub(super) const COMMAND: Command = Command {
    name: "version",
    usage: "",
    short: "Prints the version of etcdctl",
    long: "",
    flags: &[],
    subcommands: &[],
    run: Some(|context| Box::pin(version(context))),
};

async fn version(context: &Context<'_>) -> Result<(), Failure> {
    context.print(&format!("etcdctl version: {VERSION}\nAPI version: {API_VERSION}"));
    Ok(())
}
