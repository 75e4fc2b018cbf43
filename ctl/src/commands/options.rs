//! `options`: the flags that every command has.

use super::{Context, Failure};
use crate::args::Command;
use crate::help::global_options;

pub(super) const COMMAND: Command = Command {
    name: "options",
    usage: "",
    short: "Show the global command-line flags",
    long: "",
    flags: &[],
    subcommands: &[],
    run: Some(|context| Box::pin(std::future::ready(options(context)))),
};

fn options(context: &Context<'_>) -> Result<(), Failure> {
    context.no_arguments("options command does not accept any arguments")?;
    let options = global_options();
    let text = format!("The following options can be passed to any command:\n\n{options}");
    context.environment.stdout(text.as_bytes());
    Ok(())
}
