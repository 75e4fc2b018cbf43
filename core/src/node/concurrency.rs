//! The queue behind locks and elections: the protocol of etcd's `concurrency` package, which lives
//! in keys, so that users of this service and of any client library stand in one queue. CC-02.
//!
//! ```text
//!   name/694d7c8c9b6c6b0a   create revision 7    holds the lock, leads
//!   name/694d7c8c9b6c6b21   create revision 9    waits until the one above is deleted
//!   name/694d7c8c9b6c6b3f   create revision 12   waits for the one above it, and no other
//! ```
//!
//! A key ends with its session's lease, or when its owner deletes it. Somebody who gives up
//! waiting takes its key out of the queue, whenever that happens: a [`Place`] that is dropped
//! before it was kept deletes its key (EL-02).

use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;

use super::{Node, NodeWatch};
use crate::api::etcdserverpb as pb;
use crate::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::api::etcdserverpb::request_op::Request as OpRequest;
use crate::api::etcdserverpb::response_op::Response as OpResponse;
use crate::api::etcdserverpb::watch_request::RequestUnion;
use crate::api::mvccpb::KeyValue;
use crate::api::mvccpb::event::EventType;
use crate::auth::Caller;
use crate::error::{Code, Error};
use crate::platform::Platform;
use crate::raft::types::AsyncRuntime;

/// The lease of a session whose client brings none, in seconds; nobody keeps it alive. LK-01.
const SESSION_TTL: i64 = 60;

/// A key in the queue. Dropped before [`Place::keep`], it is taken out again.
pub(super) struct Place<P: Platform> {
    node: Arc<Node<P>>,
    pub(super) key: Bytes,
    /// The create revision of the key: its place.
    pub(super) revision: i64,
    /// What the key held before, if it was there: the same session asks again.
    pub(super) former: Option<Bytes>,
    /// Whether nobody stands before it.
    pub(super) is_first: bool,
    pub(super) header: Option<pb::ResponseHeader>,
    kept: bool,
}

impl<P: Platform> Place<P> {
    /// The key stays when this is dropped.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl<P: Platform> Drop for Place<P> {
    fn drop(&mut self) {
        // A key that was there before belongs to another call of the same session. The key that
        // goes is the client's own, so the cluster takes it out: its token may not live that long.
        if self.kept || self.former.is_some() {
            return;
        }
        let (node, leave) = (self.node.clone(), leave(&self.key, self.revision));
        drop(P::Runtime::spawn(async move {
            // If this fails, the key ends with its lease.
            let _ = node.txn(&Caller::Internal, leave).await;
        }));
    }
}

impl<P: Platform> Node<P> {
    /// The lease of a session: the client's own, or a new one.
    pub(super) async fn session(&self, by: &Caller, lease: i64) -> Result<i64, Error> {
        if lease != 0 {
            return Ok(lease);
        }
        let grant = pb::LeaseGrantRequest { ttl: SESSION_TTL, id: 0 };
        self.lease_grant(by, grant).await.map(|granted| granted.id)
    }

    /// Puts the session's key into the queue `name`, or finds it there.
    ///
    /// The proposal is carried out even if the caller goes away in the middle: only then is it
    /// known which key has to be taken out again.
    pub(super) async fn queue_up(
        self: &Arc<Self>,
        by: &Caller,
        name: &[u8],
        value: Bytes,
        lease: i64,
    ) -> Result<Place<P>, Error> {
        let (node, by) = (self.clone(), by.clone());
        let (key, first) = (session_key(name, lease), first_of(name));
        let (sender, receiver) = oneshot::channel();
        drop(P::Runtime::spawn(async move {
            // If nobody waits for it any more, the place is dropped, and so given up.
            let _ = sender.send(node.take_place(&by, key, value, lease, first).await);
        }));
        receiver.await.unwrap_or(Err(Error::Stopped))
    }

    async fn take_place(
        self: Arc<Self>,
        by: &Caller,
        key: Bytes,
        value: Bytes,
        lease: i64,
        first: pb::RangeRequest,
    ) -> Result<Place<P>, Error> {
        let put = pb::PutRequest { key: key.clone(), value, lease, ..Default::default() };
        let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
        let first = op(OpRequest::RequestRange(first));
        let request = pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(OpRequest::RequestPut(put)), first.clone()],
            failure: vec![op(OpRequest::RequestRange(get)), first],
        };
        let response = self.txn(by, request).await?;
        let mut found = response.responses.into_iter().map(only_kv);
        let (own, owner) = (found.next().flatten(), found.next().flatten());
        let revision = match &own {
            Some(kv) => kv.create_revision,
            None => response.header.map_or(0, |header| header.revision),
        };
        Ok(Place {
            node: self,
            key,
            revision,
            former: own.map(|kv| kv.value),
            is_first: owner.is_none_or(|owner| owner.create_revision == revision),
            header: response.header,
            kept: false,
        })
    }

    /// Returns when nobody stands before `place`: with its key's header if it is still there.
    pub(super) async fn wait_turn(
        self: &Arc<Self>,
        by: &Caller,
        name: &[u8],
        place: &Place<P>,
    ) -> Result<Option<pb::ResponseHeader>, Error> {
        loop {
            let before = pb::RangeRequest {
                sort_order: SortOrder::Descend as i32,
                max_create_revision: place.revision - 1,
                ..first_of(name)
            };
            let response = self.range(by, before).await?;
            let Some(predecessor) = response.kvs.into_iter().next() else { break };
            let from = response.header.map_or(0, |header| header.revision) + 1;
            self.wait_deleted(by, [predecessor.key, place.key.clone()], from).await?;
            if self.key_of(by, place).await?.is_none() {
                return Ok(None);
            }
        }
        self.key_of(by, place).await
    }

    /// The header of a read that finds the key of `place`.
    async fn key_of(
        &self,
        by: &Caller,
        place: &Place<P>,
    ) -> Result<Option<pb::ResponseHeader>, Error> {
        let get = pb::RangeRequest { key: place.key.clone(), ..Default::default() };
        let response = self.range(by, get).await?;
        let kv = response.kvs.first();
        let is_there = kv.is_some_and(|kv| kv.create_revision == place.revision);
        Ok(response.header.filter(|_| is_there))
    }

    /// Returns when one of `keys` was deleted at `revision` or later, or may have been.
    async fn wait_deleted(
        self: &Arc<Self>,
        by: &Caller,
        keys: [Bytes; 2],
        revision: i64,
    ) -> Result<(), Error> {
        let mut watch = self.watch(by.clone()).await;
        for key in keys {
            watch_key(&mut watch, key, Bytes::new(), revision);
        }
        loop {
            let response = watch.next().await.ok_or(Error::Stopped)?;
            let deleted = |event: &crate::api::mvccpb::Event| event.r#type() == EventType::Delete;
            // A compaction that overtook the watch hides what happened: the caller looks again.
            if response.canceled || response.events.iter().any(deleted) {
                return Ok(());
            }
        }
    }
}

/// Adds a watch of `key`, or of the range up to `range_end`.
pub(super) fn watch_key<P: Platform>(
    watch: &mut NodeWatch<P>,
    key: Bytes,
    range_end: Bytes,
    start_revision: i64,
) {
    let create = pb::WatchCreateRequest { key, range_end, start_revision, ..Default::default() };
    watch.request(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
}

/// `name/<lease>`; a negative lease has its sign before its digits, as Go prints it.
fn session_key(name: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    let digits = format!("/{sign}{:x}", lease.unsigned_abs());
    [name, digits.as_bytes()].concat().into()
}

/// The range of the queue `name`: all keys that begin with `name/`.
pub(super) fn queue_range(name: &[u8]) -> (Bytes, Bytes) {
    ([name, b"/"].concat().into(), [name, b"0"].concat().into())
}

/// A request for the first of the queue.
pub(super) fn first_of(name: &[u8]) -> pb::RangeRequest {
    let (key, range_end) = queue_range(name);
    pb::RangeRequest {
        key,
        range_end,
        limit: 1,
        sort_order: SortOrder::Ascend as i32,
        sort_target: SortTarget::Create as i32,
        ..Default::default()
    }
}

/// Deletes `key` if it is still the one of this place.
pub(super) fn leave(key: &Bytes, revision: i64) -> pb::TxnRequest {
    let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
    pb::TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![op(OpRequest::RequestDeleteRange(delete))],
        failure: Vec::new(),
    }
}

/// Whether `key` was created at `revision`; 0 for "is not there".
pub(super) fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

pub(super) fn op(request: OpRequest) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn only_kv(response: pb::ResponseOp) -> Option<KeyValue> {
    match response.response {
        Some(OpResponse::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    }
}

/// etcd serves locks and elections through its own client, which turns the errors that it knows
/// into errors of its own; they reach the caller as their text alone. LK-01. Not so when the member
/// stops: its connections break then, for the caller as well.
pub(super) fn as_its_client_says(error: Error) -> Error {
    match error {
        Error::Other(..)
        | Error::InvalidClientAPIVersion
        | Error::WatchCanceled
        | Error::PermissionNotGiven
        | Error::TimeoutWaitAppliedIndex
        | Error::Canceled
        | Error::DeadlineExceeded
        | Error::Stopped => error,
        known => raw(known.message()),
    }
}

/// An error that is nothing but a text.
pub(super) fn raw(text: &str) -> Error {
    Error::Other(Code::Unknown, text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cc_02_keys_are_named_as_go_names_them() {
        for (lease, key) in [
            (0x694d_7c8c_9b6c_6b0a, "q/694d7c8c9b6c6b0a"),
            (10, "q/a"),
            (-255, "q/-ff"),
            (i64::MIN, "q/-8000000000000000"),
        ] {
            assert_eq!(session_key(b"q", lease), key);
        }
        assert_eq!(queue_range(b"q"), ("q/".into(), "q0".into()));
    }
}
