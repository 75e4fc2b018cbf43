//! Sessions and their places in a queue: what `lock` and `elect` stand on.
//!
//! The protocol is that of etcd's `concurrency` package (CC-01 to CC-03): a key `name/<lease>` for
//! each session, in the order of their create revisions; the first one holds the lock, or leads.

use std::future::Future;
use std::pin::Pin;

use coracle_core::api::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use coracle_core::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use coracle_core::api::etcdserverpb::request_op::Request as OpRequest;
use coracle_core::api::etcdserverpb::response_op::Response as OpResponse;
use coracle_core::api::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RangeResponse,
    RequestOp, ResponseOp, TxnRequest, WatchCreateRequest,
};
use coracle_core::api::mvccpb::KeyValue;
use coracle_core::api::mvccpb::event::EventType;
use futures_util::future::{Either, LocalBoxFuture, select};

use super::watch::Watches;
use super::{Context, Exit, Failure, lease, prefix_range};
use crate::client::{Client, RpcError};

/// Seconds that a session's lease lives unless told otherwise; Go's default.
pub(super) const DEFAULT_TTL: i64 = 60;

/// A lease that is kept alive as long as the session's work is driven by [`Session::run`].
pub(super) struct Session<'a> {
    context: &'a Context<'a>,
    client: &'a dyn Client,
    lease: i64,
    /// Ends when the lease is gone.
    expired: LocalBoxFuture<'a, ()>,
    /// Ends when the user or the system wants the program to end.
    signalled: LocalBoxFuture<'a, ()>,
}

/// How a session's work came to its end.
pub(super) enum Ended<T> {
    Done(T),
    Signalled,
    Expired,
}

impl<'a> Session<'a> {
    /// Grants a lease of `ttl` seconds; as in Go, a number that is none counts for nothing. From
    /// here on an interrupt is the session's to handle.
    pub(super) async fn begin(
        context: &'a Context<'a>,
        client: &'a dyn Client,
        ttl: i64,
    ) -> Result<Session<'a>, Failure> {
        let ttl = if ttl > 0 { ttl } else { DEFAULT_TTL };
        context.handles_interrupts.set(true);
        let environment = context.environment;
        let signalled = select(environment.interrupted(), environment.terminated());
        let mut signalled: LocalBoxFuture<'a, ()> = Box::pin(async { drop(signalled.await) });
        let grant =
            Box::pin(context.within_timeout(client.lease_grant(LeaseGrantRequest { ttl, id: 0 })));
        let lease = match select(grant, &mut signalled).await {
            Either::Left((granted, _)) => granted?.id,
            Either::Right(_) => return Err(canceled()),
        };
        let expired = Box::pin(async move {
            // Whatever ended the renewals, without them the lease is as good as gone.
            let _ = lease::renew(context, client, lease, |_| Ok(())).await;
        });
        Ok(Session { context, client, lease, expired, signalled })
    }

    /// Drives `work`, and the renewals of the lease beside it, until one of them ends.
    pub(super) async fn run<T>(&mut self, work: impl Future<Output = T>) -> Ended<T> {
        let work: Pin<Box<dyn Future<Output = T> + '_>> = Box::pin(work);
        let ended = select(&mut self.signalled, &mut self.expired);
        let ended = match select(work, ended).await {
            Either::Left((done, _)) => Ended::Done(done),
            Either::Right((Either::Left(_), _)) => Ended::Signalled,
            Either::Right((Either::Right(_), _)) => Ended::Expired,
        };
        // Each is told once.
        match ended {
            Ended::Done(_) => {}
            Ended::Signalled => self.signalled = Box::pin(std::future::pending()),
            Ended::Expired => self.expired = Box::pin(std::future::pending()),
        }
        ended
    }

    /// Puts the session's key into the queue `name`.
    pub(super) async fn queue_up(&self, name: &[u8], value: &[u8]) -> Result<Place<'a>, Failure> {
        let sign = if self.lease < 0 { "-" } else { "" };
        let own = format!("/{sign}{:x}", self.lease.unsigned_abs());
        let key = [name, own.as_bytes()].concat();
        let put = PutRequest {
            key: key.clone().into(),
            value: value.to_vec().into(),
            lease: self.lease,
            ..PutRequest::default()
        };
        let get = RangeRequest { key: key.clone().into(), ..RangeRequest::default() };
        let request = TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(OpRequest::RequestPut(put))],
            failure: vec![op(OpRequest::RequestRange(get))],
        };
        let response = self.context.within_timeout(self.client.txn(request)).await?;
        let revision = response.header.unwrap_or_default().revision;
        let found = response.responses.into_iter().next().and_then(only_kv);
        Ok(Place {
            context: self.context,
            client: self.client,
            name: [name, b"/"].concat(),
            key,
            revision: found.map_or(revision, |kv| kv.create_revision),
        })
    }
}

/// A session's key in a queue.
pub(super) struct Place<'a> {
    context: &'a Context<'a>,
    client: &'a dyn Client,
    /// What all keys of the queue begin with.
    name: Vec<u8>,
    pub(super) key: Vec<u8>,
    /// The create revision of the key: its place.
    revision: i64,
}

impl Place<'_> {
    /// Waits until nobody stands before this place; gives the key as it is then.
    pub(super) async fn wait(&self) -> Result<RangeResponse, Failure> {
        loop {
            let (key, range_end) = prefix_range(&self.name);
            let before = RangeRequest {
                key: key.into(),
                range_end: range_end.into(),
                limit: 1,
                sort_order: SortOrder::Descend.into(),
                sort_target: SortTarget::Create.into(),
                max_create_revision: self.revision - 1,
                ..RangeRequest::default()
            };
            let response = self.context.within_timeout(self.client.range(before)).await?;
            let Some(predecessor) = response.kvs.into_iter().next() else { break };
            let start_revision = response.header.unwrap_or_default().revision + 1;
            self.wait_deleted(predecessor, start_revision).await?;
        }
        let get = RangeRequest { key: self.key.clone().into(), ..RangeRequest::default() };
        Ok(self.context.within_timeout(self.client.range(get)).await?)
    }

    /// Returns when the key was deleted, or may have been.
    async fn wait_deleted(&self, kv: KeyValue, start_revision: i64) -> Result<(), Failure> {
        let mut watches = Watches::open_without_leader(self.context, self.client);
        watches.follow(WatchCreateRequest {
            key: kv.key,
            start_revision,
            ..WatchCreateRequest::default()
        });
        loop {
            let reply = watches.next().await?;
            let mut events = reply.events.iter();
            // A compaction that overtook the watch hides what happened: the caller looks again.
            if reply.canceled || events.any(|event| event.r#type() == EventType::Delete) {
                return Ok(());
            }
            watches.settle(&reply);
        }
    }

    /// Takes the key out of the queue. As in etcdctl that has no time limit: who comes next should
    /// not have to wait for the lease to expire.
    pub(super) async fn leave(&self) -> Result<(), RpcError> {
        let delete =
            DeleteRangeRequest { key: self.key.clone().into(), ..DeleteRangeRequest::default() };
        let request = TxnRequest {
            compare: vec![created_at(&self.key, self.revision)],
            success: vec![op(OpRequest::RequestDeleteRange(delete))],
            failure: Vec::new(),
        };
        self.client.txn(request).await?;
        Ok(())
    }
}

/// What Go says of work that was given up.
pub(super) fn canceled() -> Failure {
    Failure::new(Exit::Error, "context canceled")
}

/// A request for the first of the queue `name`.
pub(super) fn first_of(name: &[u8]) -> RangeRequest {
    let (key, range_end) = prefix_range(&[name, b"/"].concat());
    RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: 1,
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

fn created_at(key: &[u8], revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.to_vec().into(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

fn op(request: OpRequest) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn only_kv(response: ResponseOp) -> Option<KeyValue> {
    match response.response {
        Some(OpResponse::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    }
}
