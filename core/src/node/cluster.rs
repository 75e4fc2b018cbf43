//! The Cluster service: the member table changes through the log, Raft's membership follows it
//! (see `reconcile`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};

use super::Node;
use super::propose::mismatch;
use crate::api::coraclepb::command::Request as CommandRequest;
use crate::api::coraclepb::peer_request::Request as PeerMessage;
use crate::api::coraclepb::peer_response::Response as PeerAnswer;
use crate::api::coraclepb::{MemberAdd, MemberPublish, Members};
use crate::api::etcdserverpb as pb;
use crate::apply::Reply;
use crate::auth::{Caller, Identity};
use crate::cluster::member_id;
use crate::error::Error;
use crate::platform::Platform;
use crate::platform::parse_peer_url;
use crate::raft::ask::ask_until_answered;
use crate::raft::types::AsyncRuntime;

/// A learner may be promoted when it has stored this share of the leader's log, in percent. CL-04.
const LEARNER_READY_PERCENT: u64 = 90;
/// Between two looks whether this member's name and client URLs are known.
const PUBLISHED_LOOKS: Duration = Duration::from_millis(5);

impl<P: Platform> Node<P> {
    /// Cluster.MemberAdd. CL-01. It returns at once, before the new member's process runs.
    pub async fn member_add(
        &self,
        by: &Caller,
        mut request: pb::MemberAddRequest,
    ) -> Result<pb::MemberAddResponse, Error> {
        for url in &mut request.peer_ur_ls {
            *url = url.trim().to_owned();
        }
        check_peer_urls(&request.peer_ur_ls)?;
        request.peer_ur_ls.sort_unstable();
        let who = self.require_admin(by).await?;
        self.check_started(&request)?;
        self.check_quorum_with_one_more().await?;
        let added_at = self.platform.unix_millis() / 1000;
        let member = pb::Member {
            id: member_id(&request.peer_ur_ls, "", Some(added_at)),
            name: String::new(),
            peer_ur_ls: request.peer_ur_ls,
            client_ur_ls: Vec::new(),
            is_learner: request.is_learner,
        };
        self.check_new(&member)?;
        let max_learners = Some(self.config.max_learners as u64);
        let add = MemberAdd { member: Some(member.clone()), max_learners };
        let command = CommandRequest::MemberAdd(add);
        let members = self.propose_member_change(&who, command).await?;
        Ok(pb::MemberAddResponse { header: Some(self.header(0)), member: Some(member), members })
    }

    /// What etcd asks of a new member, in its order: a new identifier, free URLs, and not one
    /// learner too many.
    fn check_new(&self, member: &pb::Member) -> Result<(), Error> {
        let members = self.members.list();
        if members.iter().any(|other| other.id == member.id) {
            return Err(Error::MemberExist);
        }
        let taken: BTreeSet<&String> =
            members.iter().flat_map(|member| &member.peer_ur_ls).collect();
        if member.peer_ur_ls.iter().any(|url| taken.contains(url)) {
            return Err(Error::PeerURLExist);
        }
        let learners = members.iter().filter(|member| member.is_learner).count();
        if member.is_learner && learners >= self.config.max_learners {
            return Err(Error::TooManyLearners);
        }
        Ok(())
    }

    /// With `--strict-reconfig-check`, enough members have to be up to survive the change.
    fn check_started(&self, request: &pb::MemberAddRequest) -> Result<(), Error> {
        let members = self.members.list();
        if !self.config.strict_reconfig_check || request.is_learner {
            return Ok(());
        }
        let voters: Vec<&pb::Member> = members.iter().filter(|m| !m.is_learner).collect();
        let started = voters.iter().filter(|member| !member.name.is_empty()).count();
        // With the new one, which has not started. To an only member the second may be added.
        let after = voters.len() + 1;
        let is_second = started == 1 && after == 2;
        if !is_second && started < after / 2 + 1 {
            return Err(not_enough_started());
        }
        Ok(())
    }

    /// Cluster.MemberRemove. CL-03.
    pub async fn member_remove(
        &self,
        by: &Caller,
        request: pb::MemberRemoveRequest,
    ) -> Result<pb::MemberRemoveResponse, Error> {
        let who = self.require_admin(by).await?;
        self.check_remove(request.id)?;
        self.check_quorum_without(request.id).await?;
        let command = CommandRequest::MemberRemove(request);
        let members = self.propose_member_change(&who, command).await?;
        Ok(pb::MemberRemoveResponse { header: Some(self.header(0)), members })
    }

    fn check_remove(&self, id: u64) -> Result<(), Error> {
        let members = self.members.list();
        let Some(leaving) = members.iter().find(|member| member.id == id) else {
            return Err(Error::MemberNotFound);
        };
        if !self.config.strict_reconfig_check || leaving.is_learner {
            return Ok(());
        }
        let remaining = members.iter().filter(|m| !m.is_learner && m.id != id);
        let (total, started) = remaining.fold((0, 0), |(total, started), member| {
            (total + 1, started + usize::from(!member.name.is_empty()))
        });
        // The last member cannot go either: nothing started would be left.
        if started < total / 2 + 1 {
            return Err(not_enough_started());
        }
        Ok(())
    }

    /// A cluster that grows must be able to bear the new member's absence: the voters that are
    /// there have to be a quorum with it counted as down. Only a single member need not. etcd looks
    /// how long its connections stand; here each voter is asked.
    async fn check_quorum_with_one_more(&self) -> Result<(), Error> {
        let voters = self.voters();
        if !self.config.strict_reconfig_check || voters.len() == 1 {
            return Ok(());
        }
        let steady = self.steady(&self.reachable(&voters).await);
        if steady < voters.len().div_ceil(2) + 1 { Err(Error::Unhealthy) } else { Ok(()) }
    }

    /// A voter that is up may leave only if those who stay are a quorum without it. One that is
    /// down is no loss.
    async fn check_quorum_without(&self, id: u64) -> Result<(), Error> {
        let voters = self.voters();
        if !self.config.strict_reconfig_check || !voters.contains(&id) {
            return Ok(());
        }
        let reachable = self.reachable(&voters).await;
        let quorum_left = (voters.len() - 1) / 2 + 1;
        // A member that is no voter itself may find nobody steady.
        if reachable.contains_key(&id) && self.steady(&reachable) <= quorum_left {
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    fn voters(&self) -> BTreeSet<u64> {
        let members = self.members.list();
        members.into_iter().filter(|member| !member.is_learner).map(|member| member.id).collect()
    }

    /// Those who answer now, and how long they have been up; this member is among them.
    async fn reachable(&self, ids: &BTreeSet<u64>) -> BTreeMap<u64, Duration> {
        let asked: Vec<_> = ids.iter().map(|id| self.time_up(*id)).collect();
        let answers = join_all(asked).await;
        ids.iter().zip(answers).filter_map(|(id, up)| Some((*id, up?))).collect()
    }

    /// How many of the `reachable` can be counted on: this member, and those who have been up for a
    /// while, as has this one. etcd asks as much of its connections (`HealthInterval`).
    fn steady(&self, reachable: &BTreeMap<u64, Duration>) -> usize {
        let is_steady = |up: Duration| up.min(self.time_up_here()) >= self.config.health_interval;
        reachable.iter().filter(|(id, up)| **id == self.member_id || is_steady(**up)).count()
    }

    /// Of two election timeouts one is for the round trip, which may take about as long, and one
    /// for what is lost on the way.
    fn time_up(&self, id: u64) -> BoxFuture<'_, Option<Duration>> {
        let (pause, timeout) = (self.config.heartbeat_interval, self.config.election_timeout * 2);
        let ask = move || -> BoxFuture<'_, _> {
            Box::pin(self.call_peer(id, PeerMessage::Members(Members {}), timeout))
        };
        Box::pin(async move {
            if id == self.member_id {
                return Some(self.time_up_here());
            }
            match ask_until_answered::<P::Runtime, _>(pause, ask).await {
                Ok(PeerAnswer::Members(answer)) => Some(Duration::from_millis(answer.up_millis)),
                _ => None,
            }
        })
    }

    pub(super) fn time_up_here(&self) -> Duration {
        self.platform.monotonic().saturating_sub(self.started)
    }

    /// Cluster.MemberUpdate: new peer URLs. CL-03. etcd takes any text for one; a member that
    /// cannot be reached at its URL would be lost, so malformed ones are refused here.
    pub async fn member_update(
        &self,
        by: &Caller,
        request: pb::MemberUpdateRequest,
    ) -> Result<pb::MemberUpdateResponse, Error> {
        let who = self.require_admin(by).await?;
        if self.members.get(request.id).is_none() {
            return Err(Error::MemberNotFound);
        }
        check_peer_urls(&request.peer_ur_ls)?;
        let command = CommandRequest::MemberUpdate(request);
        let members = self.propose_member_change(&who, command).await?;
        Ok(pb::MemberUpdateResponse { header: Some(self.header(0)), members })
    }

    /// Cluster.MemberPromote: a learner that caught up becomes a voter. CL-04.
    pub async fn member_promote(
        &self,
        by: &Caller,
        request: pb::MemberPromoteRequest,
    ) -> Result<pb::MemberPromoteResponse, Error> {
        let who = self.require_admin(by).await?;
        match self.members.get(request.id) {
            None => return Err(Error::MemberNotFound),
            Some(member) if !member.is_learner => return Err(Error::MemberNotLearner),
            Some(_) => {}
        }
        if self.leadership.role().is_leader
            && let Err(error) = self.check_learner_ready(request.id)
        {
            self.meters.learner_promotions_failed.add(1);
            return Err(error);
        }
        let command = CommandRequest::MemberPromote(request);
        let members = self.propose_member_change(&who, command).await?;
        if self.leadership.role().is_leader {
            self.meters.learner_promotions.add(1);
        }
        Ok(pb::MemberPromoteResponse { header: Some(self.header(0)), members })
    }

    /// Whether learner `id` has stored enough of this leader's log.
    pub(super) fn check_learner_ready(&self, id: u64) -> Result<(), Error> {
        let status = self.consensus.status();
        let matched = status.matched.get(&id).copied().unwrap_or(0);
        if matched * 100 < status.last_log_index * LEARNER_READY_PERCENT {
            return Err(Error::LearnerNotReady);
        }
        Ok(())
    }

    /// Cluster.MemberList: linearizable unless asked otherwise. CL-05.
    pub async fn member_list(
        &self,
        by: &Caller,
        request: pb::MemberListRequest,
    ) -> Result<pb::MemberListResponse, Error> {
        if request.linearizable {
            self.linearize().await?;
        }
        self.require_user(by).await?;
        Ok(pb::MemberListResponse { header: Some(self.header(0)), members: self.members.list() })
    }

    async fn propose_member_change(
        &self,
        who: &Identity,
        command: CommandRequest,
    ) -> Result<Vec<pb::Member>, Error> {
        match self.propose(who, command).await? {
            Reply::Members(members) => {
                self.reconcile_soon();
                Ok(members)
            }
            other => Err(mismatch(other)),
        }
    }

    /// Tells the cluster this member's name and client URLs, until it is told.
    pub(super) async fn publish(&self) {
        while !self.is_published() {
            let publish = MemberPublish {
                id: self.member_id,
                name: self.config.name.clone(),
                client_urls: self.config.advertise_client_urls.clone(),
            };
            // Not applied in time: the loop looks at the table and tries again.
            let publish = CommandRequest::MemberPublish(publish);
            let _ = self.propose(&Identity::Internal, publish).await;
            if self.pause_for_leader().await.is_err() {
                return;
            }
        }
        let name = &self.config.name;
        tracing::info!(%name, "published local member to cluster through raft");
    }

    /// Returns when the cluster knows this member's name and client URLs: from then on the member
    /// lists that clients get name it as it is. After `--force-new-cluster` also the others are
    /// forgotten: a start without that flag would not bring them back.
    pub async fn published(&self) {
        while !self.is_published() || self.forgetting.load(Ordering::Acquire) {
            P::Runtime::sleep(PUBLISHED_LOOKS).await;
        }
    }

    fn is_published(&self) -> bool {
        self.members.get(self.member_id).is_some_and(|member| {
            member.name == self.config.name
                && member.client_ur_ls == self.config.advertise_client_urls
        })
    }
}

fn check_peer_urls(urls: &[String]) -> Result<(), Error> {
    if urls.is_empty() || urls.iter().any(|url| parse_peer_url(url).is_err()) {
        return Err(Error::MemberBadURLs);
    }
    Ok(())
}

/// etcd sends this text with code Unknown (ETCD.md 2.12, "Quirks"); clients go by the text.
fn not_enough_started() -> Error {
    let message = Error::MemberNotEnoughStarted.message().to_owned();
    Error::Other(crate::error::Code::Unknown, message)
}
