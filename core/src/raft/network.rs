//! Raft's messages to the other members, over the host's transport.
//!
//! One [`Network`] per target. openraft decides when to send and what to do about a failure; here
//! messages are put into Coracle's own protobuf and answers taken out of it. How long an answer may
//! take is decided here too, as far as openraft lets it: it would wait for a heartbeat's interval,
//! and a round trip may be longer.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, Either, select};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::impls::EmptyNode;
use openraft::network::{Backoff, RPCOption, RPCTypes};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::storage::Snapshot;
use openraft::{AsyncRuntime, OptionalSend, RaftNetworkFactory, RaftNetworkV2};

use super::ask::ask_until_answered;
use super::consensus::ConsensusOptions;
use super::snapshot::RaftSnapshot;
use super::types::{CommittedLeaderId, LogId, TypeConfig, Vote};
use crate::api::coraclepb as pb;
use crate::api::coraclepb::append_entries_response::Kind;
use crate::api::coraclepb::peer_request::Request;
use crate::api::coraclepb::peer_response::Response;
use crate::cluster::Members;
use crate::meters::Meters;
use crate::platform::{PeerTarget, Transport, TransportError};

/// The text by which a removed member learns that it was removed.
pub const REMOVED_TEXT: &str = "the member has been permanently removed from the cluster";
/// Pause between attempts to reach a member that cannot be reached.
const UNREACHABLE_BACKOFF: Duration = Duration::from_millis(100);
/// How long the installation of one snapshot chunk may take.
const SNAPSHOT_CHUNK_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes the networks to the members that Raft replicates to.
#[derive(Clone)]
pub struct NetworkFactory {
    pub members: Arc<Members>,
    pub transport: Arc<dyn Transport>,
    pub own_id: u64,
    /// Called when a member answers that this one was removed from the cluster.
    pub on_removed: Arc<dyn Fn() + Send + Sync>,
    pub meters: Arc<Meters>,
    pub options: ConsensusOptions,
    pub quorum_silence: Arc<QuorumSilence>,
}

/// How long ago a quorum last answered this leader, which its followers are told.
#[derive(Default)]
pub struct QuorumSilence(AtomicU64);

impl QuorumSilence {
    pub fn millis(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, silence: Duration) {
        self.0.store(u64::try_from(silence.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl<R: AsyncRuntime> RaftNetworkFactory<TypeConfig<R>> for NetworkFactory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Network {
        let patience = self.options.heartbeat_interval;
        Network { factory: self.clone(), target, patience, transfers: 0 }
    }
}

/// The way to one member. Its URLs are looked up for every message, since they may be updated.
pub struct Network {
    factory: NetworkFactory,
    target: u64,
    /// How long the answer to entries may take: twice as long as the last one did, and twice as
    /// long again each time that none came; a heartbeat's interval at least, two election timeouts
    /// at most.
    patience: Duration,
    /// Snapshot transfers begun, so that the receiver can tell them apart.
    transfers: u64,
}

impl Network {
    async fn call(&self, request: Request, timeout: Duration) -> Result<Response, TransportError> {
        let Some(member) = self.factory.members.raft_peer(self.target) else {
            return Err(TransportError::Unreachable(format!(
                "member {:x} is not in the member table",
                self.target
            )));
        };
        let target = PeerTarget { id: self.target, urls: member.peer_ur_ls };
        let request = pb::PeerRequest { request: Some(request), asker: None };
        let meters = self.factory.meters.peer(self.target);
        let start = self.factory.meters.now();
        let answer = self.factory.transport.call(target, request, timeout).await;
        match &answer {
            Ok(_) => meters.round_trip.took(self.factory.meters.since(start)),
            Err(_) => meters.send_failures.add(1),
        }
        let answer = answer?;
        match answer.response {
            Some(Response::Error(status)) => {
                if status.message == REMOVED_TEXT {
                    (self.factory.on_removed)();
                }
                Err(TransportError::Broken(status.message))
            }
            Some(response) => Ok(response),
            None => Err(TransportError::Broken("an empty answer".to_owned())),
        }
    }

    async fn raft_call<R: AsyncRuntime>(
        &self,
        action: RPCTypes,
        request: Request,
        timeout: Duration,
    ) -> Result<Response, RPCError<TypeConfig<R>>> {
        let answer = self.call(request, timeout).await;
        answer.map_err(|error| self.raft_error(action, error))
    }

    /// Sends entries, which may be many: again only when the first are taken for lost.
    async fn send_entries<R: AsyncRuntime>(
        &mut self,
        request: Request,
    ) -> Result<Response, RPCError<TypeConfig<R>>> {
        let start = self.factory.meters.now();
        let answer = self.call(request, self.patience).await;
        let ConsensusOptions { heartbeat_interval: shortest, election_timeout, .. } =
            self.factory.options;
        let wanted = match &answer {
            Ok(_) => self.factory.meters.since(start) * 2,
            Err(TransportError::Timeout(_)) => self.patience * 2,
            Err(_) => shortest,
        };
        self.patience = wanted.min(election_timeout * 2).max(shortest);
        answer.map_err(|error| self.raft_error(RPCTypes::AppendEntries, error))
    }

    /// Sends a heartbeat, and again while there is no answer: a lost one must not silence the
    /// leader for as long as the answer may take. An answer to any of them is one to the first.
    async fn send_heartbeat<R: AsyncRuntime>(
        &self,
        request: Request,
        timeout: Duration,
    ) -> Result<Response, RPCError<TypeConfig<R>>> {
        let ask = || -> BoxFuture<'_, _> { Box::pin(self.call(request.clone(), timeout)) };
        let pause = self.factory.options.heartbeat_interval;
        let answer = ask_until_answered::<R, _>(pause, ask).await;
        if answer.is_err() {
            self.factory.meters.heartbeat_send_failures.add(1);
        }
        answer.map_err(|error| self.raft_error(RPCTypes::AppendEntries, error))
    }

    fn raft_error<R: AsyncRuntime>(
        &self,
        action: RPCTypes,
        error: TransportError,
    ) -> RPCError<TypeConfig<R>> {
        match error {
            TransportError::Timeout(timeout) => RPCError::Timeout(Timeout {
                action,
                id: self.factory.own_id,
                target: self.target,
                timeout,
            }),
            TransportError::Broken(_) => RPCError::Network(NetworkError::new(&error)),
            TransportError::Unreachable(_) | TransportError::Refused(_) => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
        }
    }

    async fn vote_call<R: AsyncRuntime>(
        &self,
        request: Request,
        timeout: Duration,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        match self.raft_call(RPCTypes::Vote, request, timeout).await? {
            Response::Vote(answer) | Response::PreVote(answer) => match answer.vote {
                Some(vote) => Ok(VoteResponse {
                    vote: vote.into(),
                    vote_granted: answer.granted,
                    last_log_id: answer.last_log_id.map(LogId::from),
                }),
                None => Err(unexpected("a vote answer without a vote")),
            },
            _ => Err(unexpected("not the answer to a vote request")),
        }
    }

    async fn send_snapshot<R: AsyncRuntime>(
        &mut self,
        vote: Vote,
        snapshot: OutgoingSnapshot,
    ) -> Result<SnapshotResponse<TypeConfig<R>>, StreamingError<TypeConfig<R>>> {
        let RaftSnapshot::View(view) = snapshot.snapshot else {
            return Err(network_error("a received snapshot cannot be sent on"));
        };
        self.transfers += 1;
        let first = pb::SnapshotChunk {
            transfer: self.transfers,
            vote: Some(vote.into()),
            last_log_id: snapshot.meta.last_log_id.map(Into::into),
            membership: Some((&snapshot.meta.last_membership).into()),
            ..pb::SnapshotChunk::default()
        };
        let mut offset = 0;
        let mut chunks = view.chunks();
        loop {
            let data = match chunks.next() {
                None => None,
                Some(Ok(data)) => Some(data),
                Some(Err(fatal)) => return Err(network_error(&fatal.to_string())),
            };
            let chunk = pb::SnapshotChunk {
                offset,
                done: data.is_none(),
                data: data.unwrap_or_else(Bytes::new),
                ..first.clone()
            };
            offset += chunk.data.len() as u64;
            let done = chunk.done;
            let answer = self.call(Request::Snapshot(chunk), SNAPSHOT_CHUNK_TIMEOUT).await;
            let Response::Snapshot(answer) =
                answer.map_err(|error| network_error(&error.to_string()))?
            else {
                return Err(network_error("not the answer to a snapshot chunk"));
            };
            let Some(answered) = answer.vote.map(Vote::from) else {
                return Err(network_error("a snapshot answer without a vote"));
            };
            // A higher vote means that another leader took over: openraft steps down by it.
            if done || answered != vote {
                return Ok(SnapshotResponse::new(answered));
            }
        }
    }
}

type OutgoingSnapshot = Snapshot<CommittedLeaderId, u64, EmptyNode, RaftSnapshot>;

impl<R: AsyncRuntime> RaftNetworkV2<TypeConfig<R>> for Network {
    type SnapshotData = RaftSnapshot;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        let heartbeat = rpc.entries.is_empty();
        let request = Request::AppendEntries(pb::AppendEntries {
            vote: Some(rpc.vote.into()),
            prev_log_id: rpc.prev_log_id.map(Into::into),
            entries: rpc.entries.into_iter().map(Into::into).collect(),
            leader_commit: rpc.leader_commit.map(Into::into),
            quorum_silence_millis: self.factory.quorum_silence.millis(),
        });
        let answer = match heartbeat {
            true => self.send_heartbeat(request, option.hard_ttl()).await,
            false => self.send_entries(request).await,
        };
        let Response::AppendEntries(answer) = answer? else {
            return Err(unexpected("not the answer to append entries"));
        };
        Ok(match answer.kind() {
            Kind::Success => AppendEntriesResponse::Success,
            Kind::PartialSuccess => {
                AppendEntriesResponse::PartialSuccess(answer.matching.map(LogId::from))
            }
            Kind::Conflict => AppendEntriesResponse::Conflict,
            Kind::HigherVote => match answer.vote {
                Some(vote) => AppendEntriesResponse::HigherVote(vote.into()),
                None => return Err(unexpected("a higher vote without a vote")),
            },
        })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        self.vote_call(Request::Vote(vote_request(rpc)), option.hard_ttl()).await
    }

    // openraft's default grants, which would make pre-vote useless.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        self.vote_call(Request::PreVote(vote_request(rpc)), option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: OutgoingSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<R>>, StreamingError<TypeConfig<R>>> {
        let meters = self.factory.meters.clone();
        let peer = meters.peer(self.target);
        let start = meters.now();
        peer.snapshots_sending.add(1);
        let sending = Box::pin(self.send_snapshot(vote, snapshot));
        let result = match select(sending, Box::pin(cancel)).await {
            Either::Left((result, _)) => result,
            Either::Right((closed, _)) => Err(StreamingError::Closed(closed)),
        };
        peer.snapshots_sending.subtract(1);
        peer.snapshot_send.took(meters.since(start));
        match &result {
            Ok(_) => peer.snapshots_sent.add(1),
            Err(_) => peer.snapshots_failed.add(1),
        }
        result
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig<R>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig<R>>, RPCError<TypeConfig<R>>> {
        let message = Request::TransferLeader(pb::TransferLeader {
            from: Some((*request.from_leader()).into()),
            to: *request.to_node_id(),
            last_log_id: request.last_log_id().map(|id| (*id).into()),
        });
        match self.raft_call(RPCTypes::TransferLeader, message, option.hard_ttl()).await? {
            Response::TransferLeader(_) => Ok(Ok(())),
            _ => Err(unexpected("not the answer to a leadership transfer")),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(UNREACHABLE_BACKOFF)))
    }
}

fn vote_request<R: AsyncRuntime>(rpc: VoteRequest<TypeConfig<R>>) -> pb::VoteRequest {
    pb::VoteRequest {
        vote: Some(rpc.vote.into()),
        last_log_id: rpc.last_log_id.map(Into::into),
        leadership_transfer: rpc.leadership_transfer,
    }
}

fn unexpected<R: AsyncRuntime>(what: &str) -> RPCError<TypeConfig<R>> {
    RPCError::Network(NetworkError::from_string(what))
}

fn network_error<R: AsyncRuntime>(what: &str) -> StreamingError<TypeConfig<R>> {
    StreamingError::Network(NetworkError::from_string(what))
}
