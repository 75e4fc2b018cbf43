//! What openraft offers, in the node's words: propose, read index, membership, leadership.
//!
//! The adapter also answers the Raft messages of other members. A rejected proposal and one whose
//! fate is unknown are told apart: only the first may be tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::Instant;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};
use openraft::impls::{EmptyNode, OneshotResponder};
use openraft::metrics::{RaftMetrics, RaftServerMetrics};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, ClientWriteResult, TransferLeaderRequest,
    VoteRequest, VoteResponse,
};
use openraft::storage::{Snapshot, SnapshotMeta};
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{
    AsyncRuntime, ChangeMembers, Config, Precondition, Raft, ReadPolicy, ServerState,
    SnapshotPolicy,
};

use super::log::LogStore;
use super::network::{NetworkFactory, QuorumSilence};
use super::snapshot::RaftSnapshot;
use super::state_machine::StateMachine;
use super::types::{
    Entry, LogId, Membership, Payload, ProposedCommand, StoredMembership, TypeConfig, Vote,
};
use crate::api::coraclepb as pb;
use crate::api::coraclepb::append_entries_response::Kind;
use crate::apply::Outcome;
use crate::backend::Restorer;
use crate::trace;

/// Entries of one append message to a follower.
const MAX_PAYLOAD_ENTRIES: u64 = 1024;

/// Raft's timing and log retention.
#[derive(Clone, Copy, Debug)]
pub struct ConsensusOptions {
    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    pub snapshot_count: u64,
    pub snapshot_catchup_entries: u64,
    pub pre_vote: bool,
}

/// Why a proposal has no outcome.
#[derive(Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// It was refused before it was appended: safe to try again.
    NotAccepted,
    /// It may have been appended, and may or may not become committed: must not be tried again.
    Unknown,
    /// Raft has stopped on this member, and did not take the proposal.
    Stopped,
}

/// Raft's state as this member sees it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RaftStatus {
    pub term: u64,
    pub leader: Option<u64>,
    pub is_leader: bool,
    pub running: bool,
    pub last_log_index: u64,
    pub committed: u64,
    pub voters: BTreeSet<u64>,
    pub learners: BTreeSet<u64>,
    /// Whether the last membership is committed: the next change may be made.
    pub membership_settled: bool,
    /// Whether the last membership is joint, as a leader leaves it that ends halfway.
    pub membership_joint: bool,
    /// On the leader: the log index that each member has stored.
    pub matched: BTreeMap<u64, u64>,
}

/// The Raft group of one member.
pub struct Consensus<R: AsyncRuntime> {
    raft: Raft<TypeConfig<R>, StateMachine>,
    metrics: WatchReceiverOf<TypeConfig<R>, RaftMetrics<TypeConfig<R>>>,
    quorum_silence: Arc<QuorumSilence>,
}

impl<R: AsyncRuntime> Consensus<R> {
    /// Starts Raft on this member's log and state.
    pub async fn start(
        network: NetworkFactory,
        log: LogStore<R>,
        state_machine: StateMachine,
    ) -> Result<Consensus<R>, String> {
        check(&network.options)?;
        let quorum_silence = network.quorum_silence.clone();
        let config = Arc::new(config(&network.options));
        let raft = Raft::new(network.own_id, config, network, log, state_machine)
            .await
            .map_err(|error| error.to_string())?;
        let metrics = raft.metrics();
        Ok(Consensus { raft, metrics, quorum_silence })
    }

    /// Forms a new cluster of `voters`; every one of them may call it with the same set.
    pub async fn initialize(&self, voters: BTreeSet<u64>) -> Result<(), String> {
        match self.raft.initialize(voters).await {
            Ok(()) => Ok(()),
            // Another member was faster, or a restart: the log already has its first entry.
            Err(RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Proposes an encoded command on the leader; returns its log index and what applying it
    /// answered.
    pub async fn propose(&self, command: Bytes) -> Result<(u64, Outcome), ProposeError> {
        let (responder, receiver) = OneshotResponder::new_pair();
        self.raft
            .client_write_ff(ProposedCommand(command), Some(responder))
            .await
            .map_err(|_| ProposeError::Stopped)?;
        outcome(receiver.await)
    }

    /// The same, unless this member does not lead in `term` (any more).
    pub async fn propose_in_term(
        &self,
        term: u64,
        command: Bytes,
    ) -> Result<(u64, Outcome), ProposeError> {
        let (responder, receiver) = OneshotResponder::new_pair();
        let write = self.raft.write(ProposedCommand(command)).responder(responder);
        write.with_leader(term).await.map_err(|_| ProposeError::Stopped)?;
        outcome(receiver.await)
    }

    /// Confirms with a quorum that this member leads; returns the index that must be applied
    /// before a linearizable read (Raft dissertation, section 6.4).
    ///
    /// With `by_lease` the quorum is not asked while it answered this leader less than a leader's
    /// lease ago, by this member's clock. That is linearizable only if the clocks of all members
    /// run at the same speed and this process is not paused before the read.
    pub async fn read_index(&self, by_lease: bool) -> Result<u64, ProposeError> {
        if by_lease
            && let Ok((read_log_id, _)) = self.raft.get_read_log_id(ReadPolicy::LeaseRead).await
        {
            return Ok(read_log_id.index());
        }
        match self.raft.get_read_log_id(ReadPolicy::ReadIndex).await {
            Ok((read_log_id, _)) => Ok(read_log_id.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))
            | Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                Err(ProposeError::NotAccepted)
            }
            Err(RaftError::Fatal(_)) => Err(ProposeError::Stopped),
        }
    }

    pub fn status(&self) -> RaftStatus {
        status(&self.metrics.borrow_watched())
    }

    pub fn progress(&self) -> Progress {
        let metrics = self.metrics.borrow_watched();
        Progress {
            last_log_index: metrics.last_log_index.unwrap_or(0),
            committed: metrics.local_committed.map_or(0, |log_id| log_id.index),
        }
    }

    /// The highest log index known to be committed.
    pub fn committed(&self) -> u64 {
        self.metrics.borrow_watched().local_committed.map_or(0, |log_id| log_id.index)
    }

    /// On the leader: how long ago a quorum last acknowledged it, as of its last heartbeat.
    pub fn quorum_silence(&self) -> Duration {
        Duration::from_millis(self.quorum_silence.millis())
    }

    /// A watcher of role and membership.
    pub fn watch_role(&self) -> RoleWatch<R> {
        RoleWatch { metrics: self.raft.server_metrics() }
    }

    /// Sends a heartbeat to everybody at every `interval` in which this member leads, until Raft
    /// stops.
    pub async fn send_heartbeats(&self, interval: Duration) {
        let mut metrics = self.raft.server_metrics();
        let mut beats = 0u32;
        loop {
            let leads = metrics.borrow_and_update().state == ServerState::Leader;
            let goes_on = if leads {
                self.quorum_silence.set(self.silence_of_quorum(interval * beats));
                beats = beats.saturating_add(1);
                R::sleep(interval).await;
                self.raft.trigger().heartbeat().await.is_ok()
            } else {
                beats = 0;
                self.quorum_silence.set(Duration::ZERO);
                metrics.changed().await.is_ok()
            };
            if !goes_on {
                return;
            }
        }
    }

    /// How long a quorum has not acknowledged this leader, which has led for `led`; no time for the
    /// only voter.
    fn silence_of_quorum(&self, led: Duration) -> Duration {
        let metrics = self.metrics.borrow_watched();
        match metrics.last_quorum_acked.as_ref() {
            _ if metrics.membership_config.membership().voter_ids().count() == 1 => Duration::ZERO,
            Some(acked) => acked.elapsed(),
            None => led,
        }
    }

    /// Starts an election at once, for a member that is its cluster's only voter.
    pub async fn elect(&self) {
        // Raft that has stopped has told why by its own way.
        let _ = self.raft.trigger().elect(false).await;
    }

    /// Adds a Raft learner without waiting for it to catch up.
    pub async fn add_learner(&self, id: u64) -> Result<(), String> {
        let added = self.raft.add_learner(id, EmptyNode::default(), false).await;
        added.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Changes the voters; members that are no longer voters are dropped.
    ///
    /// One voter more or less is one entry of the log, which a majority of the new voters commits
    /// (Raft's dissertation, section 4.1). So of two voters one can be removed that has gone, or
    /// goes, without a word. Every other change goes by joint consensus.
    pub async fn change_voters(&self, voters: BTreeSet<u64>) -> Result<(), String> {
        let last = self.raft.metrics().borrow_watched().membership_config.clone();
        let membership: &Membership = last.membership();
        let former: BTreeSet<u64> = membership.voter_ids().collect();
        let is_one_step = membership.get_joint_config().len() == 1
            && former.symmetric_difference(&voters).count() == 1;
        let changed = if is_one_step {
            let stay = |id: &u64| voters.contains(id) || !former.contains(id);
            let nodes = membership.nodes().filter(|(id, _)| stay(id));
            let nodes: BTreeMap<u64, EmptyNode> =
                nodes.map(|(id, node)| (*id, node.clone())).collect();
            let new = Membership::new(vec![voters], nodes).map_err(|error| error.to_string())?;
            let unchanged =
                Precondition::LastMembershipLogId { last_membership_log_id: *last.log_id() };
            self.raft.append_membership(new, Payload::Blank, [unchanged]).await
        } else {
            self.raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), false).await
        };
        changed.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Drops Raft learners.
    pub async fn remove_learners(&self, ids: BTreeSet<u64>) -> Result<(), String> {
        let removed = self.raft.change_membership(ChangeMembers::RemoveNodes(ids), false).await;
        removed.map(|_| ()).map_err(|error| error.to_string())
    }

    /// Asks `target` to take over; whether it did shows in the status.
    pub async fn transfer_leadership(&self, target: u64) {
        let _ = self.raft.trigger().transfer_leader(target).await;
    }

    /// Stops Raft; the log and state stay as they are.
    pub async fn shutdown(&self) {
        // A panic of its core task would be reported here, and the process ends anyway.
        let _ = self.raft.shutdown().await;
    }

    /// Answers a leader's append message.
    pub async fn append_entries(
        &self,
        message: pb::AppendEntries,
    ) -> Result<pb::AppendEntriesResponse, String> {
        let entries: Result<Vec<Entry>, _> =
            message.entries.into_iter().map(Entry::try_from).collect();
        let request = AppendEntriesRequest {
            vote: message.vote.ok_or("append entries without a vote")?.into(),
            prev_log_id: message.prev_log_id.map(LogId::from),
            entries: entries.map_err(|error| error.to_string())?,
            leader_commit: message.leader_commit.map(LogId::from),
        };
        let answer = self.raft.append_entries(request).await.map_err(|error| error.to_string())?;
        let mut response = pb::AppendEntriesResponse::default();
        match answer {
            AppendEntriesResponse::Success => response.set_kind(Kind::Success),
            AppendEntriesResponse::PartialSuccess(matching) => {
                response.set_kind(Kind::PartialSuccess);
                response.matching = matching.map(Into::into);
            }
            AppendEntriesResponse::Conflict => response.set_kind(Kind::Conflict),
            AppendEntriesResponse::HigherVote(vote) => {
                response.set_kind(Kind::HigherVote);
                response.vote = Some(vote.into());
            }
        }
        Ok(response)
    }

    /// Answers a candidate.
    pub async fn vote(&self, message: pb::VoteRequest) -> Result<pb::VoteResponse, String> {
        let answer = self.raft.vote(vote_request(message)?).await;
        answer.map(vote_response).map_err(|error| error.to_string())
    }

    /// Answers a member that asks whether it would win an election.
    pub async fn pre_vote(&self, message: pb::VoteRequest) -> Result<pb::VoteResponse, String> {
        let answer = self.raft.pre_vote(vote_request(message)?).await;
        answer.map(vote_response).map_err(|error| error.to_string())
    }

    /// Follows a leader's request to take over.
    pub async fn take_over(&self, message: pb::TransferLeader) -> Result<(), String> {
        let request = TransferLeaderRequest::new(
            message.from.ok_or("leadership transfer without a vote")?.into(),
            message.to,
            message.last_log_id.map(LogId::from),
        );
        let taken = self.raft.handle_transfer_leader(request).await;
        taken.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    /// This member's vote, as snapshot chunks before the last are answered with it.
    pub fn current_vote(&self) -> pb::Vote {
        self.metrics.borrow_watched().vote.into()
    }

    /// Switches to the state whose last chunk came; answers this member's vote.
    pub async fn install_received(
        &self,
        last: pb::SnapshotChunk,
        received: Restorer,
    ) -> Result<pb::Vote, String> {
        let vote: Vote = last.vote.ok_or("a snapshot without a vote")?.into();
        let membership = last.membership.ok_or("a snapshot without a membership")?;
        let meta = SnapshotMeta {
            last_log_id: last.last_log_id.map(LogId::from),
            last_membership: StoredMembership::try_from(membership)
                .map_err(|error| error.to_string())?,
        };
        let snapshot = Snapshot { meta, snapshot: RaftSnapshot::Received(Box::new(received)) };
        let answer = self.raft.install_full_snapshot(vote, snapshot).await;
        answer.map(|answer| answer.vote.into()).map_err(|error| error.to_string())
    }
}

/// Who leads, as this member sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    pub term: u64,
    pub leader: Option<u64>,
    pub is_leader: bool,
    pub state: trace::Role,
}

/// The numbers that change all the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub last_log_index: u64,
    pub committed: u64,
}

/// Waits for changes of role or membership; appends and commits do not wake it.
pub struct RoleWatch<R: AsyncRuntime> {
    metrics: WatchReceiverOf<TypeConfig<R>, RaftServerMetrics<TypeConfig<R>>>,
}

impl<R: AsyncRuntime> RoleWatch<R> {
    /// The role now; a later [`RoleWatch::changed`] waits for a newer one.
    pub fn role(&mut self) -> Role {
        let metrics = self.metrics.borrow_and_update();
        Role {
            term: metrics.vote.leader_id.term,
            leader: metrics.current_leader,
            is_leader: metrics.state == ServerState::Leader,
            state: match metrics.state {
                ServerState::Leader => trace::Role::Leader,
                ServerState::Candidate => trace::Role::Candidate,
                ServerState::Learner => trace::Role::Learner,
                ServerState::Follower | ServerState::Shutdown => trace::Role::Follower,
            },
        }
    }

    /// Returns when something changed; `false` if Raft is gone and nothing ever will.
    pub async fn changed(&mut self) -> bool {
        self.metrics.changed().await.is_ok()
    }
}

/// What became of a proposal that Raft took; `E` says that it dropped the sender of the answer.
fn outcome<R: AsyncRuntime, E>(
    answer: Result<ClientWriteResult<TypeConfig<R>>, E>,
) -> Result<(u64, Outcome), ProposeError> {
    match answer {
        Ok(Ok(response)) => Ok((response.log_id.index, response.data)),
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(ProposeError::NotAccepted),
        // An entry that Raft had when it stopped may be on other members.
        Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
    }
}

fn config(options: &ConsensusOptions) -> Config {
    let election = u64::try_from(options.election_timeout.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "coracle".to_owned(),
        // To openraft this is also how long it waits for the answer to a heartbeat, so a round trip
        // may take that. The heartbeats themselves come from `Consensus::send_heartbeats`.
        // (openraft looks at its timers five times in this interval.)
        heartbeat_interval: election / 4 * 3,
        // openraft waits for the leader's lease (the maximum) and then for a draw, so that a
        // follower stands for election after 1.2 to 2 election timeouts; etcd after 1 to 2. Nearly
        // as wide a range as etcd's: openraft looks at its timers every 0.15 election timeouts, and
        // two draws that end in one such step split the vote.
        election_timeout_min: election / 5,
        election_timeout_max: election,
        max_payload_entries: MAX_PAYLOAD_ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_count),
        max_in_snapshot_log_to_keep: options.snapshot_catchup_entries,
        replication_lag_threshold: options.snapshot_catchup_entries,
        purge_batch_size: 256,
        enable_pre_vote: Some(options.pre_vote),
        // The commit index is written without a sync: a restarted leader must be elected again
        // before it may trust what it knows.
        enable_leader_restore: Some(false),
        ..Config::default()
    }
}

/// Raft's timing makes sense only if several heartbeats go into an election timeout.
fn check(options: &ConsensusOptions) -> Result<(), String> {
    let heartbeat = options.heartbeat_interval.as_millis();
    let election = options.election_timeout.as_millis();
    if election / 2 > heartbeat {
        return Ok(());
    }
    Err(format!(
        "an election timeout of {election} ms is too short: it must be more than twice the \
         heartbeat interval, which is {heartbeat} ms"
    ))
}

fn status<R: AsyncRuntime>(metrics: &RaftMetrics<TypeConfig<R>>) -> RaftStatus {
    let membership: &Membership = metrics.membership_config.membership();
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let learners =
        membership.nodes().map(|(id, _)| *id).filter(|id| !voters.contains(id)).collect();
    let matched = metrics
        .replication
        .iter()
        .flatten()
        .map(|(id, matched)| (*id, matched.as_ref().map_or(0, |log_id| log_id.index)));
    RaftStatus {
        term: metrics.current_term,
        leader: metrics.current_leader,
        is_leader: metrics.state == ServerState::Leader,
        running: metrics.running_state.is_ok(),
        last_log_index: metrics.last_log_index.unwrap_or(0),
        committed: metrics.local_committed.map_or(0, |log_id| log_id.index),
        membership_settled: metrics.membership_config.log_id()
            == metrics.committed_membership_config.log_id(),
        membership_joint: membership.get_joint_config().len() > 1,
        matched: matched.collect(),
        voters,
        learners,
    }
}

fn vote_request<R: AsyncRuntime>(
    message: pb::VoteRequest,
) -> Result<VoteRequest<TypeConfig<R>>, String> {
    Ok(VoteRequest {
        vote: message.vote.ok_or("a vote request without a vote")?.into(),
        last_log_id: message.last_log_id.map(LogId::from),
        leadership_transfer: message.leadership_transfer,
    })
}

fn vote_response<R: AsyncRuntime>(answer: VoteResponse<TypeConfig<R>>) -> pb::VoteResponse {
    pb::VoteResponse {
        vote: Some(answer.vote.into()),
        granted: answer.vote_granted,
        last_log_id: answer.last_log_id.map(Into::into),
    }
}
