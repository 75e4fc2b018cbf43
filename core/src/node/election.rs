//! The Election service: the leader is the first of a queue, and its key's value what it proclaims.
//! EL-01, CC-03.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::concurrency::{
    as_its_client_says, created_at, first_of, leave, op, queue_range, raw, watch_key,
};
use super::{Node, NodeWatch};
use crate::api::etcdserverpb::request_op::Request as OpRequest;
use crate::api::etcdserverpb::{PutRequest, ResponseHeader, TxnRequest, WatchResponse};
use crate::api::mvccpb::event::EventType;
use crate::api::v3electionpb as pb;
use crate::auth::Caller;
use crate::error::Error;
use crate::platform::Platform;

const NOT_LEADER: &str = "election: not leader";

impl<P: Platform> Node<P> {
    /// Election.Campaign: waits until the session leads. Dropped before that, it leaves the queue.
    pub async fn campaign_in(
        self: &Arc<Self>,
        by: &Caller,
        request: pb::CampaignRequest,
    ) -> Result<pb::CampaignResponse, Error> {
        self.win(by, request).await.map_err(as_its_client_says)
    }

    async fn win(
        self: &Arc<Self>,
        by: &Caller,
        request: pb::CampaignRequest,
    ) -> Result<pb::CampaignResponse, Error> {
        let pb::CampaignRequest { name, lease, value } = request;
        let lease = self.session(by, lease).await?;
        let place = self.queue_up(by, &name, value.clone(), lease).await?;
        let leader = pb::LeaderKey { name, key: place.key.clone(), rev: place.revision, lease };
        if place.former.as_ref().is_some_and(|former| *former != value)
            && let Err(error) = self.announce(by, &leader, value).await
        {
            // The session asked for another value than it can have: it does not lead with the old.
            let _ = self.txn(by, leave(&leader.key, leader.rev)).await;
            return Err(error);
        }
        if !place.is_first && self.wait_turn(by, &leader.name, &place).await?.is_none() {
            return Err(raw(NOT_LEADER));
        }
        let header = place.header;
        place.keep();
        Ok(pb::CampaignResponse { header, leader: Some(leader) })
    }

    /// Election.Proclaim: a new value, if this is still the leader.
    pub async fn proclaim(
        &self,
        by: &Caller,
        request: pb::ProclaimRequest,
    ) -> Result<pb::ProclaimResponse, Error> {
        let mut leader = request.leader.ok_or_else(missing_leader)?;
        let announce = async {
            leader.lease = self.session(by, leader.lease).await?;
            self.announce(by, &leader, request.value).await
        };
        let header = announce.await.map_err(as_its_client_says)?;
        Ok(pb::ProclaimResponse { header })
    }

    async fn announce(
        &self,
        by: &Caller,
        leader: &pb::LeaderKey,
        value: Bytes,
    ) -> Result<Option<ResponseHeader>, Error> {
        let key = leader.key.clone();
        let put = PutRequest { key, value, lease: leader.lease, ..Default::default() };
        let request = TxnRequest {
            compare: vec![created_at(&leader.key, leader.rev)],
            success: vec![op(OpRequest::RequestPut(put))],
            failure: Vec::new(),
        };
        let response = self.txn(by, request).await?;
        if response.succeeded { Ok(response.header) } else { Err(raw(NOT_LEADER)) }
    }

    /// Election.Leader: who leads now.
    pub async fn leader(
        &self,
        by: &Caller,
        request: pb::LeaderRequest,
    ) -> Result<pb::LeaderResponse, Error> {
        let found = self.range(by, first_of(&request.name)).await.map_err(as_its_client_says)?;
        match found.kvs.into_iter().next() {
            Some(kv) => Ok(pb::LeaderResponse { header: found.header, kv: Some(kv) }),
            None => Err(raw("election: no leader")),
        }
    }

    /// Election.Observe: every leader, and everything that it proclaims, from now on.
    pub fn observe(self: &Arc<Self>, by: Caller, request: pb::LeaderRequest) -> NodeObserver<P> {
        let (node, told) = (self.clone(), VecDeque::new());
        NodeObserver { node, by, name: request.name, leader: None, told }
    }

    /// Election.Resign: another one may lead. It is no error not to have led.
    pub async fn resign(
        &self,
        by: &Caller,
        request: pb::ResignRequest,
    ) -> Result<pb::ResignResponse, Error> {
        let leader = request.leader.ok_or_else(missing_leader)?;
        let left =
            self.txn(by, leave(&leader.key, leader.rev)).await.map_err(as_its_client_says)?;
        Ok(pb::ResignResponse { header: left.header })
    }
}

fn missing_leader() -> Error {
    raw("\"leader\" field must be provided")
}

/// The leaders of an election, one after the other; the reader sets the pace.
pub struct NodeObserver<P: Platform> {
    node: Arc<Node<P>>,
    by: Caller,
    name: Bytes,
    /// A watch of the leader's key.
    leader: Option<NodeWatch<P>>,
    told: VecDeque<pb::LeaderResponse>,
}

impl<P: Platform> NodeObserver<P> {
    /// The next leader, or the next thing that the same one proclaims.
    pub async fn next(&mut self) -> Result<pb::LeaderResponse, Error> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(told);
            }
            let Some(watch) = &mut self.leader else {
                let leader = self.next_leader().await.map_err(as_its_client_says)?;
                return Ok(leader);
            };
            let response = watch.next().await.ok_or(as_its_client_says(Error::Stopped))?;
            self.take(response);
        }
    }

    /// Waits for a leader, and watches its key from there.
    async fn next_leader(&mut self) -> Result<pb::LeaderResponse, Error> {
        let found = self.node.range(&self.by, first_of(&self.name)).await?;
        let revision = found.header.map_or(0, |header| header.revision);
        let told = match found.kvs.into_iter().next() {
            Some(kv) => pb::LeaderResponse { header: found.header, kv: Some(kv) },
            None => self.first_put(revision + 1).await?,
        };
        let (key, seen) = match (&told.kv, &told.header) {
            (Some(kv), Some(header)) => (kv.key.clone(), header.revision),
            _ => return Err(Error::Stopped),
        };
        let mut watch = self.node.watch(self.by.clone()).await;
        watch_key(&mut watch, key, Bytes::new(), seen + 1);
        self.leader = Some(watch);
        Ok(told)
    }

    /// Waits until somebody joins the empty queue.
    async fn first_put(&self, revision: i64) -> Result<pb::LeaderResponse, Error> {
        let (key, range_end) = queue_range(&self.name);
        let mut watch = self.node.watch(self.by.clone()).await;
        watch_key(&mut watch, key, range_end, revision);
        loop {
            let response = watch.next().await.ok_or(Error::Stopped)?;
            if response.canceled {
                return Err(Error::Compacted);
            }
            let mut events = response.events.into_iter();
            if let Some(put) = events.find(|event| event.r#type() == EventType::Put) {
                let seen = put.kv.as_ref().map_or(0, |kv| kv.mod_revision);
                let header =
                    response.header.map(|header| ResponseHeader { revision: seen, ..header });
                return Ok(pb::LeaderResponse { header, kv: put.kv });
            }
        }
    }

    /// Notes what the leader proclaimed. With the end of its key another one is looked for, and
    /// also where a compaction hides what became of it.
    fn take(&mut self, response: WatchResponse) {
        if response.canceled {
            self.leader = None;
        }
        for event in response.events {
            if event.r#type() == EventType::Delete {
                self.leader = None;
                return;
            }
            self.told.push_back(pb::LeaderResponse { header: response.header, kv: event.kv });
        }
    }
}
