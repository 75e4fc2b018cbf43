//! What a node does by itself: follow the role, expire leases, free space, keep Raft's membership
//! in line with the member table. Every task ends when the node stops.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::select;
use futures_util::stream::{FuturesUnordered, StreamExt};

use super::{Node, StopReason};
use crate::api::coraclepb as pb;
use crate::api::coraclepb::command::Request as CommandRequest;
use crate::api::coraclepb::peer_request::Request as PeerMessage;
use crate::api::etcdserverpb::{
    LeaseCheckpointRequest, LeaseRevokeRequest, Member, MemberPromoteRequest, MemberRemoveRequest,
};
use crate::auth::Identity;
use crate::error::Error;
use crate::limits;
use crate::platform::Platform;
use crate::raft::snapshot::on_worker;
use crate::raft::types::AsyncRuntime;
use crate::raft::{RaftStatus, Role};
use crate::trace::Event;

/// How often the leader looks for expired leases (etcd: `expiredLeaseC`). LEASE-03.
const LEASE_TICK: Duration = Duration::from_millis(500);
/// How often a leader compares Raft's membership with the member table.
const RECONCILE_TICK: Duration = Duration::from_millis(200);
/// How often a leader that was removed tries to take itself out of Raft's voters.
const LEAVING_ATTEMPTS: usize = 30;
/// How often simple tokens that nobody uses are forgotten.
pub(super) const TOKEN_TICK: Duration = Duration::from_secs(1);
/// A new voter may lack this many entries: few enough to catch up within an election timeout.
const VOTER_LAG: u64 = 1_000;

impl<P: Platform> Node<P> {
    /// Starts all tasks on the runtime that calls this.
    pub(super) fn spawn_tasks(self: &Arc<Self>) {
        self.spawn(|node| async move { node.follow_role().await });
        self.spawn(|node| async move {
            node.consensus.send_heartbeats(node.config.heartbeat_interval).await
        });
        self.spawn(|node| async move { node.expire_leases().await });
        self.spawn(|node| async move { node.flush_backend().await });
        self.spawn(|node| async move { node.compact_physically().await });
        self.spawn(|node| async move { node.confirm_reads().await });
        self.spawn(|node| async move { node.watch_quota().await });
        self.spawn(|node| async move { node.reconcile_membership().await });
        self.spawn(|node| async move { node.publish().await });
        self.spawn(|node| async move { node.expire_tokens().await });
        self.spawn(|node| async move { node.compact_automatically().await });
        self.spawn(|node| async move { node.check_corruption_periodically().await });
        self.spawn(|node| async move { node.check_compact_hashes().await });
        self.spawn(|node| async move { node.follow_versions().await });
        self.spawn(|node| async move { node.finish_downgrades().await });
    }

    pub(super) fn spawn<F>(self: &Arc<Self>, task: impl FnOnce(Arc<Self>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let node = self.clone();
        let work = Box::pin(task(self.clone()));
        let until_stopped = async move {
            let stopped = Box::pin(node.stop.wait());
            select(work, stopped).await;
        };
        drop(P::Runtime::spawn(until_stopped));
    }

    /// Keeps [`super::leadership::Leadership`] current and gives the lessor its clock.
    async fn follow_role(self: &Arc<Self>) {
        let mut watch = self.consensus.watch_role();
        loop {
            self.take_role(watch.role());
            if !watch.changed().await {
                self.stop.stop(StopReason::Fatal("raft has stopped".to_owned()));
                return;
            }
        }
    }

    pub(super) fn take_role(self: &Arc<Self>, role: Role) {
        let former = self.leadership.update(role);
        if former == role {
            return;
        }
        self.trace.emit(|| Event::Role { role: role.state, term: role.term, leader: role.leader });
        self.tell_role(former, role);
        match (former.is_leader, role.is_leader) {
            // The terms of others in between may have been too short to be seen.
            (true, true) if former.term == role.term => {}
            (_, true) => {
                // Every lease gets its time anew: the former leader's clock is not known. LEASE-08.
                let extend = self.config.election_timeout;
                self.lessor.promote(self.platform.monotonic(), extend);
                self.spawn(|node| async move {
                    node.forget_lost_members().await;
                    node.propose_first_members().await;
                });
            }
            (true, false) => self.lessor.demote(),
            (false, false) => {}
        }
    }

    /// In the words of etcd's raft, which operators search their logs for.
    fn tell_role(&self, former: Role, role: Role) {
        let (own, term) = (self.member_id, role.term);
        if former.state != role.state {
            let state = role.state.name();
            tracing::info!("{own:x} became {state} at term {term}");
        }
        match (former.leader, role.leader) {
            (former, Some(leader)) if former != Some(leader) => {
                tracing::info!("raft.node: {own:x} elected leader {leader:x} at term {term}");
            }
            (Some(former), None) => {
                tracing::info!("raft.node: {own:x} lost leader {former:x} at term {term}");
            }
            _ => {}
        }
    }

    /// The first leader of a new cluster writes its first members into the log, and then its
    /// version, if they say theirs at once, so that whoever replays the log knows them.
    async fn propose_first_members(self: &Arc<Self>) {
        for member in self.members.unrecorded_seeds() {
            let add = pb::MemberAdd { member: Some(member), max_learners: None };
            let add = CommandRequest::MemberAdd(add);
            match self.propose(&Identity::Internal, add).await {
                Ok(_) | Err(Error::MemberExist | Error::PeerURLExist) => {}
                // Another leader goes on with it.
                Err(_) => return,
            }
        }
        self.find_cluster_version().await;
    }

    /// After `--force-new-cluster`: the log removes all members but this one, so that Raft's
    /// membership, which follows the table, stays what it was forced to be.
    async fn forget_lost_members(self: &Arc<Self>) {
        while self.forgetting.load(Ordering::Acquire) && self.leadership.role().is_leader {
            // What the log held before is in the table only when it is applied.
            if self.linearize().await.is_err() {
                match self.pause_for_leader().await {
                    Ok(()) => continue,
                    Err(_) => return,
                }
            }
            let Some(change) = self.next_change_to_be_alone() else {
                self.forgetting.store(false, Ordering::Release);
                return;
            };
            if let Err(error) = self.propose(&Identity::Internal, change).await {
                tracing::warn!(%error, "forgetting the lost members failed; it is tried again");
                if self.pause_for_leader().await.is_err() {
                    return;
                }
            }
        }
    }

    /// What the table still differs in from that of a cluster of this voter alone. Initial members
    /// that it never held are added first, since only who is removed can never come back: the next
    /// start would take them from its flags again.
    fn next_change_to_be_alone(&self) -> Option<CommandRequest> {
        let add = |member| {
            CommandRequest::MemberAdd(pb::MemberAdd { member: Some(member), max_learners: None })
        };
        // After `--force-new-cluster` this member is the only seed.
        if let Some(own) = self.members.unrecorded_seeds().into_iter().next() {
            return Some(add(own));
        }
        let members = self.members.list();
        if let Some(Member { id, .. }) = members.iter().find(|member| member.id != self.member_id) {
            return Some(CommandRequest::MemberRemove(MemberRemoveRequest { id: *id }));
        }
        if let Some(lost) = self.lost_seeds.iter().find(|seed| !self.members.is_removed(seed.id)) {
            return Some(add(Member { is_learner: true, ..lost.clone() }));
        }
        let promote = MemberPromoteRequest { id: self.member_id };
        self.is_learner().then_some(CommandRequest::MemberPromote(promote))
    }

    async fn expire_leases(self: &Arc<Self>) {
        loop {
            P::Runtime::sleep(LEASE_TICK).await;
            let Role { term, is_leader, .. } = self.leadership.role();
            if !is_leader || !self.lessor.is_primary() {
                continue;
            }
            let now = self.platform.monotonic();
            self.lessor.tick(now);
            let expired = self.lessor.expired(now, limits::LEASE_REVOKE_RATE);
            // A leader that lost its quorum must not revoke what a newer leader keeps alive.
            self.meters.leases_expired.add(expired.len() as u64);
            for id in &expired {
                self.trace.emit(|| Event::LeaseExpired { id: *id });
            }
            if !expired.is_empty() && self.linearize().await.is_ok() {
                self.revoke_all(term, expired).await;
            }
            let now = self.platform.monotonic();
            let due = self.lessor.due_checkpoints(now, limits::MAX_LEASE_CHECKPOINT_BATCH);
            if !due.is_empty() {
                let request = LeaseCheckpointRequest { checkpoints: due };
                // A checkpoint that is missed costs a longer lease, nothing else.
                let checkpoint = CommandRequest::LeaseCheckpoint(request);
                let _ = self.propose_as_leader(term, checkpoint).await;
            }
        }
    }

    /// Proposes the revocations, a bounded number at once, as the leader of the term by whose clock
    /// the leases expired: the next leader has a clock of its own. What fails is expired still and
    /// comes back in the next round.
    async fn revoke_all(self: &Arc<Self>, term: u64, ids: Vec<i64>) {
        let mut waiting = ids.into_iter();
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < limits::MAX_PENDING_REVOKES {
                let Some(id) = waiting.next() else { break };
                let request = CommandRequest::LeaseRevoke(LeaseRevokeRequest { id });
                under_way.push(self.propose_as_leader(term, request));
            }
            if under_way.next().await.is_none() {
                return;
            }
        }
    }

    /// Makes applied state durable in the backend regularly; the WAL is what replies rest on.
    async fn flush_backend(self: &Arc<Self>) {
        loop {
            P::Runtime::sleep(self.config.backend_batch_interval).await;
            if self.backend.pending_bytes() == 0 {
                continue;
            }
            let applied = self.shared.applied.get();
            let (backend, meters) = (self.backend.clone(), self.meters.clone());
            let flush = move || {
                let start = meters.now();
                let flushed = backend.flush();
                meters.backend_commit.took(meters.since(start));
                flushed
            };
            if let Err(fatal) = on_worker(&self.shared.worker, flush).await {
                self.fail(fatal);
                return;
            }
            self.trace.emit(|| Event::StateFlushed { applied });
        }
    }

    /// Frees what compactions made unreachable, batch by batch.
    async fn compact_physically(self: &Arc<Self>) {
        while self.finish_compaction().await.is_ok() {
            self.store.compaction_due().await;
        }
    }

    /// Returns when no compacted revision is left in this member's backend. CMP-02.
    pub(super) async fn finish_compaction(&self) -> Result<(), Error> {
        if !self.store.compaction_pending() {
            return Ok(());
        }
        let begun = self.meters.now();
        while self.store.compaction_pending() {
            let (store, meters) = (self.store.clone(), self.meters.clone());
            let batch = self.config.compaction_batch_limit;
            let step = on_worker(&self.shared.worker, move || {
                let start = meters.now();
                let left = store.compact_step(batch)?;
                meters.compaction_pause.observe(millis(meters.since(start)));
                Ok(left)
            });
            self.or_stop(step.await)?;
            P::Runtime::sleep(self.config.compaction_sleep_interval).await;
        }
        tracing::info!(
            compact_revision = self.store.compact_revision(),
            took = format!("{:?}", self.meters.since(begun)),
            current_db_size_bytes = self.backend.size(),
            current_db_size_in_use_bytes = self.backend.size_in_use(),
            "finished scheduled compaction"
        );
        self.meters.compaction_total.observe(millis(self.meters.since(begun)));
        self.meters.compaction_last.set(self.platform.unix_millis() / 1000);
        Ok(())
    }

    /// Wakes the membership task early, after a change of the member table.
    pub(super) fn reconcile_soon(&self) {
        self.reconcile.notify();
    }

    /// The leader's loop that brings Raft's membership in line with the member table.
    async fn reconcile_membership(self: &Arc<Self>) {
        loop {
            let tick = Box::pin(P::Runtime::sleep(RECONCILE_TICK));
            select(pin!(self.reconcile.notified()), tick).await;
            if self.members.is_removed(self.member_id) {
                self.leave().await;
                return;
            }
            let role = self.leadership.role();
            if self.forgetting.load(Ordering::Acquire) {
                continue;
            }
            if !role.is_leader {
                let status = self.consensus.status();
                let own_id = &self.member_id;
                let in_raft = status.voters.contains(own_id) || status.learners.contains(own_id);
                if self.live_leader().is_none() || !in_raft {
                    self.ask_whether_removed().await;
                }
                continue;
            }
            let status = self.consensus.status();
            if status.membership_settled {
                self.change_one(&status).await;
            }
        }
    }

    /// A member that was removed may never hear of it from Raft, which stops talking to it (so a
    /// silent leader is no leader here). Whoever
    /// knows of the removal says so in answer to any request.
    async fn ask_whether_removed(&self) {
        let others = self.members.list().into_iter().filter(|member| member.id != self.member_id);
        for other in others {
            let question = PeerMessage::Members(pb::Members {});
            // An unreachable member says nothing; the next round asks again.
            let _ = self.call_peer(other.id, question, self.config.election_timeout).await;
        }
    }

    /// Makes at most one change of Raft's membership; the next round sees what is left.
    async fn change_one(&self, status: &RaftStatus) {
        let table = self.members.list();
        let in_raft: BTreeSet<u64> = status.voters.union(&status.learners).copied().collect();
        // A leader that was removed takes itself out last: see `leave`.
        let is_gone = |id: &u64| *id != self.member_id && self.members.get(*id).is_none();
        let gone: BTreeSet<u64> = in_raft.iter().copied().filter(is_gone).collect();
        let mut left = status.voters.clone();
        let changed = if status.membership_joint {
            left.retain(|id| !gone.contains(id));
            self.consensus.change_voters(left).await
        } else if let Some(voter) = gone.iter().find(|id| status.voters.contains(id)) {
            left.remove(voter);
            self.consensus.change_voters(left).await
        } else if let Some(new) = table.iter().find(|m| !in_raft.contains(&m.id)) {
            self.consensus.add_learner(new.id).await
        } else if !gone.is_empty() {
            self.consensus.remove_learners(gone).await
        } else if let Some(ready) = table.iter().find(|m| is_ready_to_vote(m, status)) {
            let mut voters = status.voters.clone();
            voters.insert(ready.id);
            self.consensus.change_voters(voters).await
        } else {
            return;
        };
        if let Err(error) = changed {
            tracing::info!(error, "changing raft's membership failed; it is tried again");
        }
    }

    /// This member was removed: it hands over what it leads and stops.
    async fn leave(self: &Arc<Self>) {
        for _ in 0..LEAVING_ATTEMPTS {
            let status = self.consensus.status();
            let mut left = status.voters.clone();
            if !status.is_leader || !left.remove(&self.member_id) {
                break;
            }
            if !left.is_empty() {
                // Taking itself out of Raft's voters ends its leadership.
                let change = self.consensus.change_voters(left);
                match P::Runtime::timeout(self.config.election_timeout, change).await {
                    Ok(Ok(())) => break,
                    // Such as another change that is not committed yet.
                    Ok(Err(error)) => tracing::info!(error, "leaving raft is tried again"),
                    Err(_) => tracing::info!("leaving raft takes long"),
                }
            } else if status.membership_settled {
                // The members that stay are no voters of Raft yet.
                self.change_one(&status).await;
            }
            P::Runtime::sleep(self.config.heartbeat_interval).await;
        }
        // Followers learn the commit of the removal from this member before it goes, and a leader
        // may need its acknowledgement of what it appended before.
        P::Runtime::sleep(self.config.election_timeout).await;
        self.stop.stop(StopReason::Removed);
    }
}

/// Whether a Raft learner is a voter by the table and has connected and caught up.
fn is_ready_to_vote(member: &Member, status: &RaftStatus) -> bool {
    let Some(matched) = status.matched.get(&member.id) else { return false };
    !member.is_learner
        && status.learners.contains(&member.id)
        && *matched > 0
        && matched + VOTER_LAG > status.last_log_index
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
