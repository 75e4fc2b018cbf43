//! `del`.

use coracle_core::api::etcdserverpb::DeleteRangeRequest;

use super::{Context, Failure, range};
use crate::args::{Command, Flag, Parsed};
use crate::format::Output;

pub(super) const COMMAND: Command = Command {
    name: "del",
    usage: "[options] <key> [range_end]",
    short: "Removes the specified key or range of keys [key, range_end)",
    long: "",
    flags: &FLAGS,
    subcommands: &[],
    run: Some(|context| Box::pin(del(context))),
};

pub(super) static FLAGS: [Flag; 4] = [
    Flag::switch(
        "from-key",
        "delete keys that are greater than or equal to the given key using byte compare",
    ),
    Flag::switch("prefix", "delete keys with matching prefix"),
    Flag::switch("prev-kv", "return deleted key-value pairs"),
    // Newer releases of etcdctl wait two seconds before deleting a range without it.
    Flag::switch("range", "delete range of keys"),
];

async fn del(context: &Context<'_>) -> Result<(), Failure> {
    let request = request(&context.parsed)?;
    let client = context.client().await?;
    let response = context.within_timeout(client.delete_range(request)).await?;
    context.show(&Output::Delete(response))
}

/// The request that the arguments mean.
pub(super) fn request(parsed: &Parsed) -> Result<DeleteRangeRequest, Failure> {
    if !matches!(parsed.arguments.len(), 1 | 2) {
        return Err(Failure::arguments(
            "del command needs one argument as key and an optional argument as range_end",
        ));
    }
    let (key, range_end) = range(parsed)?;
    Ok(DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: parsed.is_on("prev-kv"),
    })
}
