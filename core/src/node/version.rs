//! The cluster's version, which is that of its oldest member, and Maintenance.Downgrade. CL-07,
//! MNT-09.
//!
//! The leader asks the members for their versions as long as the answer could change anything, and
//! records what it finds. Etcd asks for ever; here a cluster whose version is its leader's own is
//! left in peace.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::Node;
use super::propose::mismatch;
use crate::api::coraclepb::command::Request as CommandRequest;
use crate::api::coraclepb::peer_request::Request as PeerMessage;
use crate::api::coraclepb::peer_response::Response as PeerAnswer;
use crate::api::coraclepb::{ClusterVersionSet, Members};
use crate::api::etcdserverpb as pb;
use crate::api::etcdserverpb::downgrade_request::DowngradeAction;
use crate::apply::Reply;
use crate::auth::{Caller, Identity};
use crate::cluster::Version;
use crate::error::{Code, Error};
use crate::platform::Platform;
use crate::raft::types::AsyncRuntime;

/// The version that this release speaks: [`super::ETCD_VERSION`] without its patch.
pub(super) const OWN_VERSION: Version = Version { major: 3, minor: 7 };
/// What a cluster is taken for while not all of its members say what they speak (etcd:
/// `MinClusterVersion`).
const OLDEST_VERSION: Version = Version { major: 3, minor: 0 };
/// Between two looks of the leader at the members' versions.
const VERSION_TICK: Duration = Duration::from_secs(1);
/// The same in a cluster that has no version yet, and how many of these looks may fail.
const UNDECIDED_TICK: Duration = Duration::from_millis(200);
const UNDECIDED_LOOKS: u32 = 20;

impl<P: Platform> Node<P> {
    /// The version of the form in which this member keeps its state: the cluster's, once that is
    /// known.
    pub fn storage_version(&self) -> String {
        let known = self.cluster_version().filter(|version| *version > OLDEST_VERSION);
        known.unwrap_or(OWN_VERSION).full()
    }

    /// The version that all members can speak; none until the first leader has recorded it.
    pub fn cluster_version(&self) -> Option<Version> {
        self.version.get()
    }

    /// The downgrade under way, if `enabled`.
    pub fn downgrade_info(&self) -> pb::DowngradeInfo {
        self.version.downgrade()
    }

    /// Maintenance.Downgrade: one minor version down, or back again. What it changes is replicated
    /// and outlives restarts; the reply names the version that the cluster has now.
    pub async fn downgrade(
        &self,
        by: &Caller,
        request: pb::DowngradeRequest,
    ) -> Result<pb::DowngradeResponse, Error> {
        let who = self.require_admin(by).await?;
        match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => {
                self.check_downgrade(&request.version).await?;
            }
            Ok(DowngradeAction::Enable) => {
                let target = self.check_downgrade(&request.version).await?;
                self.set_downgrade(&who, true, target.full()).await?;
            }
            Ok(DowngradeAction::Cancel) => self.cancel_downgrade(&who).await?,
            Err(_) => return Err(unknown_method()),
        }
        let version = self.cluster_version().ok_or(Error::ClusterVersionUnavailable)?;
        Ok(pb::DowngradeResponse {
            header: Some(self.header(self.store.current_revision())),
            version: version.to_string(),
        })
    }

    /// The version that `text` names, if the cluster may go there now.
    async fn check_downgrade(&self, text: &str) -> Result<Version, Error> {
        let target: Version = text.parse().map_err(|_| Error::WrongDowngradeVersionFormat)?;
        self.linearize().await?;
        let version = self.cluster_version().ok_or(Error::ClusterVersionUnavailable)?;
        if version.one_lower() != Some(target) {
            return Err(Error::InvalidDowngradeTargetVersion);
        }
        if self.downgrade_info().enabled {
            return Err(Error::DowngradeInProcess);
        }
        Ok(target)
    }

    /// etcd takes the end of what never began for a success too, and logs it.
    async fn cancel_downgrade(&self, who: &Identity) -> Result<(), Error> {
        self.linearize().await?;
        if !self.downgrade_info().enabled {
            tracing::warn!(error = %Error::NoInflightDowngrade, "failed to cancel downgrade");
            return Ok(());
        }
        self.set_downgrade(who, false, String::new()).await
    }

    async fn set_downgrade(
        &self,
        who: &Identity,
        enabled: bool,
        target_version: String,
    ) -> Result<(), Error> {
        let info = pb::DowngradeInfo { enabled, target_version };
        match self.propose(who, CommandRequest::DowngradeInfoSet(info)).await? {
            Reply::ClusterVersion => Ok(()),
            other => Err(mismatch(other)),
        }
    }

    /// Has the cluster take `version` for its own.
    pub(super) async fn set_cluster_version(&self, version: Version) -> Result<(), Error> {
        let set = ClusterVersionSet { version: version.full() };
        let set = CommandRequest::ClusterVersionSet(set);
        match self.propose(&Identity::Internal, set).await? {
            Reply::ClusterVersion => Ok(()),
            other => Err(mismatch(other)),
        }
    }

    /// The leader's loop that brings the cluster's version in line with the members'.
    pub(super) async fn follow_versions(self: &Arc<Self>) {
        let mut failed_looks = 0;
        loop {
            let undecided = self.cluster_version().is_none();
            P::Runtime::sleep(if undecided { UNDECIDED_TICK } else { VERSION_TICK }).await;
            let is_leader = self.leadership.role().is_leader;
            let decided = is_leader && self.find_cluster_version().await;
            failed_looks = if decided || !is_leader { 0 } else { failed_looks + 1 };
            if failed_looks >= UNDECIDED_LOOKS && self.cluster_version().is_none() {
                self.record_cluster_version(OLDEST_VERSION).await;
            }
        }
    }

    /// Records the version that the members' make necessary, if that is known and another one.
    /// Answers whether it is known.
    pub(super) async fn find_cluster_version(&self) -> bool {
        let (cluster, downgrade) = (self.cluster_version(), self.downgrade_info());
        if cluster == Some(OWN_VERSION) && !downgrade.enabled {
            return true;
        }
        let Some(versions) = self.member_versions().await else { return false };
        if let Some(version) = decide(cluster, &versions, &downgrade) {
            self.record_cluster_version(version).await;
        }
        true
    }

    /// The leader's loop that ends a downgrade when every member runs the version it is to.
    pub(super) async fn finish_downgrades(self: &Arc<Self>) {
        loop {
            P::Runtime::sleep(self.config.downgrade_check_time.max(VERSION_TICK)).await;
            let downgrade = self.downgrade_info();
            if !self.leadership.role().is_leader || !downgrade.enabled {
                continue;
            }
            let Ok(target) = downgrade.target_version.parse::<Version>() else { continue };
            let Some(versions) = self.member_versions().await else { continue };
            if versions.iter().all(|version| *version == target) {
                tracing::info!("cluster-version" = %target, "the cluster has been downgraded");
                // Not done: the next round finds it so.
                let _ = self.set_downgrade(&Identity::Internal, false, String::new()).await;
            }
        }
    }

    async fn record_cluster_version(&self, version: Version) {
        // Without it another leader, or another look, goes on.
        let _ = self.set_cluster_version(version).await;
    }

    /// What every member speaks; none while one of them does not say it.
    async fn member_versions(&self) -> Option<Vec<Version>> {
        let members = self.members.list();
        let asked = members.iter().map(|member| self.version_of(member.id));
        join_all(asked).await.into_iter().collect()
    }

    async fn version_of(&self, id: u64) -> Option<Version> {
        if id == self.member_id {
            return Some(OWN_VERSION);
        }
        let question = PeerMessage::Members(Members {});
        match self.call_peer(id, question, self.config.election_timeout).await {
            Ok(PeerAnswer::Members(answer)) => answer.server_version.parse().ok(),
            _ => None,
        }
    }
}

/// The version that a cluster of `cluster`, if it has one, must take; none if that is right. The
/// rules are etcd's: down only if a downgrade wants it, and then by one; up to the oldest member.
fn decide(
    cluster: Option<Version>,
    members: &[Version],
    downgrade: &pb::DowngradeInfo,
) -> Option<Version> {
    let lowest = members.iter().min().copied()?;
    let Some(cluster) = cluster else { return Some(lowest) };
    if downgrade.enabled {
        let target = downgrade.target_version.parse().ok()?;
        let steps_down = cluster.one_lower() == Some(target) && lowest.one_lower() == Some(target);
        return steps_down.then_some(target);
    }
    (cluster < lowest).then_some(lowest)
}

/// etcd's answer to an action that it does not know.
fn unknown_method() -> Error {
    Error::Other(Code::Unknown, "etcdserver: unknown method".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cl_07_the_version_follows_the_oldest_member_up_and_a_downgrade_one_down() {
        assert_eq!(super::super::ETCD_VERSION.parse(), Ok(OWN_VERSION));
        let of = |minor| Version { major: 3, minor };
        let none = pb::DowngradeInfo::default();
        let to = |text: &str| pb::DowngradeInfo { enabled: true, target_version: text.to_owned() };
        for (cluster, members, downgrade, expected) in [
            (None, &[7, 6, 7][..], &none, Some(6)),
            (None, &[7][..], &none, Some(7)),
            (Some(0), &[7, 7][..], &none, Some(7)),
            (Some(6), &[7, 6][..], &none, None),
            (Some(6), &[7, 7][..], &none, Some(7)),
            // An older member that came later does not take back what the cluster agreed on.
            (Some(7), &[7, 6][..], &none, None),
            (Some(7), &[7, 7][..], &to("3.6.0"), Some(6)),
            (Some(6), &[7, 6][..], &to("3.6.0"), None),
            (Some(7), &[7, 7][..], &to("3.5.0"), None),
            (Some(7), &[7, 5][..], &to("3.6.0"), None),
            (Some(7), &[][..], &none, None),
        ] {
            let members: Vec<_> = members.iter().map(|minor| of(*minor)).collect();
            let decided = decide(cluster.map(of), &members, downgrade);
            assert_eq!(decided, expected.map(of), "{cluster:?} {members:?} {downgrade:?}");
        }
    }
}
