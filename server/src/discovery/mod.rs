//! Finding the initial cluster where `--initial-cluster` does not say it: a discovery service
//! (another etcd cluster, `--discovery-token`) or DNS (`--discovery-srv`). Only a member without
//! data asks; afterwards its data says who the cluster is.
//!
//! Clients are found by DNS too: [`clients`].

mod clients;
mod dns;
mod service;
mod srv;

use coracle_core::node::NodeConfig;

pub(crate) use self::clients::{Endpoint, clients};
use crate::config::settings::DiscoveryConfig;

/// Why the initial cluster was not found.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    #[error("{0}")]
    Service(String),
    #[error("{0}")]
    Srv(String),
}

/// Completes the initial cluster of `node`, if `config` says where to ask.
pub(crate) async fn discover(
    config: &DiscoveryConfig,
    node: &mut NodeConfig,
) -> Result<(), DiscoveryError> {
    if !config.endpoints.is_empty() {
        node.initial_cluster_token = config.token.clone();
        node.initial_cluster =
            service::join(config, node).await.map_err(DiscoveryError::Service)?;
    } else if !config.srv.is_empty() {
        node.initial_cluster =
            srv::initial_cluster(config, node).await.map_err(DiscoveryError::Srv)?;
    }
    Ok(())
}
