//! The cluster's version, and Maintenance.Downgrade. MNT-09.

use std::sync::Arc;

use super::Node;
use super::propose::mismatch;
use crate::api::coraclepb::ClusterVersionSet;
use crate::api::coraclepb::command::Request as CommandRequest;
use crate::api::etcdserverpb as pb;
use crate::api::etcdserverpb::downgrade_request::DowngradeAction;
use crate::apply::Reply;
use crate::auth::{Caller, Identity};
use crate::cluster::Version;
use crate::error::{Code, Error};
use crate::platform::Platform;

impl<P: Platform> Node<P> {
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

    /// The first leader of a new cluster records the version that it starts with.
    pub(super) async fn record_cluster_version(self: &Arc<Self>) {
        if self.cluster_version().is_some() {
            return;
        }
        if let Ok(version) = super::ETCD_VERSION.parse() {
            // Without it another leader goes on.
            let _ = self.set_cluster_version(version).await;
        }
    }
}

/// etcd's answer to an action that it does not know.
fn unknown_method() -> Error {
    Error::Other(Code::Unknown, "etcdserver: unknown method".to_owned())
}
