//! `snapshot save`.
//!
//! The stream is a backend's bytes and then, as its last 32, their SHA-256. Whether the file has
//! the right length for that is checked here; whether the hash is right, when it is restored.

use coracle_core::api::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use futures_util::StreamExt;
use futures_util::future::{Either, select};

use super::{Context, Exit, Failure, deadline_exceeded, told};
use crate::args::Command;
use crate::client::Replies;
use crate::environment::FileWriter;

pub(super) const COMMAND: Command = Command {
    name: "snapshot",
    usage: "<subcommand>",
    short: "Manages etcd node snapshots",
    long: "",
    flags: &[],
    subcommands: &[Command {
        name: "save",
        usage: "<filename>",
        short: "Stores an etcd node backend snapshot to a given file",
        long: "",
        flags: &[],
        subcommands: &[],
        run: Some(|context| Box::pin(save(context))),
    }],
    run: None,
};

/// A backend's length is a multiple of its page's, and pages are multiples of this.
const PAGE_BYTES: u64 = 512;
const HASH_BYTES: u64 = 32;

async fn save(context: &Context<'_>) -> Result<(), Failure> {
    let path = context.only_argument("snapshot save expects one argument")?;
    let connection = context.connection().await?;
    if connection.endpoints.len() > 1 {
        let list = connection.endpoints.join(" ");
        return Err(interrupted(format!(
            "snapshot must be requested to one selected node, not multiple [{list}]"
        )));
    }
    let client = context.connect(connection).await;
    let client = client.map_err(|error| interrupted(told(error)))?;
    let file = context.environment.create_file(&path).await;
    let file =
        file.map_err(|error| interrupted(format!("could not open {path}.part ({error})")))?;
    let replies = client.snapshot(SnapshotRequest {});
    let version = if context.parsed.is_set("command-timeout") {
        let timeout = context.environment.sleep(context.parsed.duration("command-timeout"));
        match select(Box::pin(download(replies, file)), timeout).await {
            Either::Left((result, _)) => result?,
            Either::Right(_) => return Err(interrupted(deadline_exceeded().message)),
        }
    } else {
        download(replies, file).await?
    };
    context.print(&format!("Snapshot saved at {path}"));
    if !version.is_empty() {
        context.print(&format!("Server version {version}"));
    }
    Ok(())
}

/// Writes the stream to the file; returns the server's version, or nothing if it does not tell.
async fn download(
    mut replies: Replies<SnapshotResponse>,
    mut file: Box<dyn FileWriter>,
) -> Result<String, Failure> {
    let mut size = 0;
    let mut version = String::new();
    while let Some(reply) = replies.next().await {
        let response = reply.map_err(|error| interrupted(told(error)))?;
        size += response.blob.len() as u64;
        if version.is_empty() {
            version = response.version;
        }
        file.write(response.blob).await.map_err(interrupted)?;
    }
    if size % PAGE_BYTES != HASH_BYTES {
        return Err(interrupted(format!("sha256 checksum not found [bytes: {size}]")));
    }
    file.finish().await.map_err(interrupted)?;
    Ok(version)
}

fn interrupted(message: String) -> Failure {
    Failure::new(Exit::Interrupted, message)
}
