//! Chaos: a real cluster of processes under load, while members are killed and paused.
//!
//! ```text
//!   scenario (one test)          Cluster: kill -9, SIGSTOP, restart        (crate::cluster)
//!      │                            ▲
//!      │ start, faults, finish      │ endpoints
//!      ▼                            │
//!   Load ──► clients: put, delete, guarded put, pair of puts, reads      ┐
//!        ──► watchers: reconnect elsewhere, resume at last revision + 1  ├► History ──► check
//!        ──► in the end: each member's whole history                     ┘  (crate::check)
//! ```
//!
//! Clients and watchers run on a runtime of their own, so that a scenario is plain blocking code:
//! do harm, wait until writes are acknowledged again, measure, repeat. Every client is bound to
//! one member, has a deadline for each call, and never retries a call: a retry would be a new
//! operation, and whether the first one happened is for the checker to find out.
//!
//! Nothing here knows whether the members are Coracle or etcd.

mod client;
mod finals;
mod load;
mod messages;
mod recorder;
mod watcher;

pub use load::{Load, LoadOptions};
pub use recorder::Statistics;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use coracle_core::api::etcdserverpb::StatusRequest;

use crate::cluster::Cluster;
use crate::grpc::MaintenanceClient;

/// How long a cluster may be without a leader before a scenario gives up.
const LEADER_DEADLINE: Duration = Duration::from_secs(30);
/// Time between two looks at a condition.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// The member that leads, as the running members say (`Status`).
///
/// # Errors
/// If none of them names a leader among them within half a minute.
pub fn wait_for_leader(load: &Load, cluster: &Cluster) -> Result<usize> {
    let deadline = Instant::now() + LEADER_DEADLINE;
    while Instant::now() < deadline {
        for index in 0..cluster.size() {
            if cluster.process_id(index).is_none() {
                continue;
            }
            if load.block_on(leads(cluster.endpoint(index))).unwrap_or(false) {
                return Ok(index);
            }
        }
        std::thread::sleep(POLL);
    }
    bail!("no leader within {LEADER_DEADLINE:?}")
}

async fn leads(endpoint: String) -> Result<bool> {
    let status = async {
        let mut client = MaintenanceClient::connect(endpoint).await?;
        anyhow::Ok(client.status(StatusRequest {}).await?.into_inner())
    };
    let status = tokio::time::timeout(Duration::from_secs(1), status).await??;
    let header = status.header.context("a status has a header")?;
    Ok(status.leader != 0 && status.leader == header.member_id)
}
