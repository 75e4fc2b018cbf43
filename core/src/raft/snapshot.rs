//! Raft snapshots: a consistent view of the backend going out, a received one coming in.
//!
//! The backend is durable, so "building" a snapshot only makes it so up to what is applied: the
//! log may then be purged behind that point. The data is read when a follower needs it.

use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use prost::Message;

use super::types::{LogId, StoredMembership};
use crate::api::coraclepb::AppliedState;
use crate::backend::{Backend, BackendView, Bucket, Restorer};
use crate::error::Fatal;
use crate::platform::Worker;

/// The key in the Meta bucket of what is applied: log id and Raft membership.
const APPLIED_KEY: &[u8] = b"applied";

/// What openraft carries between its snapshot builder, the network and the state machine.
pub enum RaftSnapshot {
    /// A view of this member's own state, to be streamed to a follower.
    View(Box<BackendView>),
    /// A complete state received from the leader; it counts once the state machine finished it.
    Received(Box<Restorer>),
}

/// Records in the backend what its other content is the result of.
pub fn store_applied(backend: &Backend, applied: Option<LogId>, membership: &StoredMembership) {
    let state =
        AppliedState { last_applied: applied.map(Into::into), membership: Some(membership.into()) };
    let (key, record) = applied_record(&state);
    backend.put(Bucket::Meta, key, record);
}

/// The key in the Meta bucket and the value of what is applied.
pub fn applied_record(state: &AppliedState) -> (Bytes, Bytes) {
    (Bytes::from_static(APPLIED_KEY), state.encode_to_vec().into())
}

/// Reads what [`store_applied`] recorded; nothing in a new backend.
pub fn load_applied(backend: &Backend) -> Result<(Option<LogId>, StoredMembership), Fatal> {
    match backend.get(Bucket::Meta, APPLIED_KEY)? {
        None => Ok((None, StoredMembership::default())),
        Some(bytes) => decode_applied(&bytes),
    }
}

/// The same for a view, whose content may be older than the backend's.
pub fn view_applied(view: &BackendView) -> Result<(Option<LogId>, StoredMembership), Fatal> {
    match view.get(Bucket::Meta, APPLIED_KEY)? {
        None => Ok((None, StoredMembership::default())),
        Some(bytes) => decode_applied(&bytes),
    }
}

fn decode_applied(bytes: &[u8]) -> Result<(Option<LogId>, StoredMembership), Fatal> {
    let state = AppliedState::decode(bytes)
        .map_err(|error| Fatal::Backend(format!("the applied-state record: {error}")))?;
    let applied = state.last_applied.map(LogId::from);
    let membership = match state.membership {
        None => StoredMembership::default(),
        Some(stored) => StoredMembership::try_from(stored)
            .map_err(|error| Fatal::Backend(format!("the stored membership: {error}")))?,
    };
    Ok((applied, membership))
}

/// Runs `step` on the backend's worker until it has a result, each time as a job of its own: what
/// waits for the worker meanwhile, a flush above all, takes its turn.
pub async fn in_steps<T: Send + 'static>(
    worker: &Arc<dyn Worker>,
    mut step: impl FnMut() -> Result<Option<T>, Fatal> + Send + 'static,
) -> Result<T, Fatal> {
    loop {
        let job = move || {
            let result = step()?;
            Ok((step, result))
        };
        let (next, result) = on_worker(worker, job).await?;
        match result {
            Some(result) => return Ok(result),
            None => step = next,
        }
    }
}

/// Runs `job` on the backend's worker and waits for it, so that the node's thread goes on.
pub async fn on_worker<T: Send + 'static>(
    worker: &Arc<dyn Worker>,
    job: impl FnOnce() -> Result<T, Fatal> + Send + 'static,
) -> Result<T, Fatal> {
    let (sender, receiver) = oneshot::channel();
    worker.submit(Box::new(move || {
        // The receiver is gone only if the whole node is.
        let _ = sender.send(job());
    }));
    match receiver.await {
        Ok(result) => result,
        Err(_) => Err(Fatal::Invariant("the backend's worker has stopped".to_owned())),
    }
}
