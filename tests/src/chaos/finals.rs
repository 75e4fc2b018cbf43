//! The ground truth: after the load, each member tells its whole history and all its keys.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;

use super::client::channel;
use super::messages::range_request;
use super::watcher::whole_history;
use crate::check::Final;
use crate::grpc::KvClient;

/// How long a member may take to tell its history.
const DEADLINE: Duration = Duration::from_secs(60);
/// Answers above tonic's default of 4 MiB are fine here.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// What the member at `endpoint` says.
///
/// # Errors
/// If it cannot be reached, or does not tell everything within a minute.
pub(super) async fn final_of(name: String, endpoint: &str) -> Result<Final> {
    tokio::time::timeout(DEADLINE, read(&name, endpoint))
        .await
        .map_err(anyhow::Error::from)
        .flatten()
        .with_context(|| format!("the final history of {name}"))
}

async fn read(name: &str, endpoint: &str) -> Result<Final> {
    let mut kv = KvClient::new(channel(endpoint)?).max_decoding_message_size(MAX_ANSWER_BYTES);
    let everything = Bytes::from_static(b"\0");
    let range = kv.range(range_request(&everything, &everything, false)).await?.into_inner();
    let revision = range.header.context("a range has a header")?.revision;
    let mut last = Final { member: name.to_owned(), revision, events: Vec::new(), kvs: range.kvs };
    // The requests' end must stay open, or the server may end the stream.
    let (mut responses, _requests) = whole_history(endpoint, 1).await?;
    let mut reached = 1;
    while reached < revision {
        let response = responses.message().await?.context("the stream ended")?;
        if response.canceled {
            bail!("the watch was cancelled: {response:?}");
        }
        for event in response.events {
            reached = event.kv.as_ref().map_or(reached, |kv| kv.mod_revision);
            last.events.push(event);
        }
    }
    Ok(last)
}
