//! `downgrade validate`, `enable` and `cancel`.

use coracle_core::api::etcdserverpb::DowngradeRequest;
use coracle_core::api::etcdserverpb::downgrade_request::DowngradeAction;

use super::{Context, Failure};
use crate::args::Command;
use crate::format::Output;

pub(super) const COMMAND: Command = Command {
    name: "downgrade",
    usage: "<TARGET_VERSION>",
    short: "Downgrade related commands",
    long: "",
    flags: &[],
    subcommands: &[
        Command {
            name: "cancel",
            usage: "",
            short: "Cancel the ongoing downgrade action to cluster",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(cancel(context))),
        },
        Command {
            name: "enable",
            usage: "<TARGET_VERSION>",
            short: "Start a downgrade action to cluster",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(to_version(context, DowngradeAction::Enable))),
        },
        Command {
            name: "validate",
            usage: "<TARGET_VERSION>",
            short: "Validate downgrade capability before starting downgrade",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(to_version(context, DowngradeAction::Validate))),
        },
    ],
    run: None,
};

async fn to_version(context: &Context<'_>, action: DowngradeAction) -> Result<(), Failure> {
    let version = match context.arguments() {
        [] => return Err(Failure::arguments("TARGET_VERSION not provided")),
        [version] if version.is_empty() => {
            return Err(Failure::arguments("target version not provided"));
        }
        [version] => String::from_utf8_lossy(version).into_owned(),
        _ => return Err(Failure::arguments("too many arguments")),
    };
    send(context, action, version).await
}

async fn cancel(context: &Context<'_>) -> Result<(), Failure> {
    send(context, DowngradeAction::Cancel, String::new()).await
}

async fn send(
    context: &Context<'_>,
    action: DowngradeAction,
    version: String,
) -> Result<(), Failure> {
    let client = context.client().await?;
    let request = DowngradeRequest { action: action.into(), version };
    let response = context.within_timeout(client.downgrade(request)).await?;
    context.show(&Output::Downgrade(action, response))
}
