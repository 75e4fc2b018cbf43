//! The cluster's version: what its oldest member speaks, found by asking all of them; and who is
//! too old to take part. CL-07, FS-01.

use std::sync::Arc;
use std::time::Duration;

use coracle_core::api::etcdserverpb as pb;
use coracle_core::api::etcdserverpb::downgrade_request::DowngradeAction;
use coracle_core::auth::Caller;
use coracle_core::backend::{Backend, BackendOptions};
use coracle_core::cluster::{ClusterVersion, Version};
use coracle_core::platform::MemoryDisk;
use coracle_tests::local_cluster::{LocalCluster, eventually, peer_url};

const INTERNAL: Caller = Caller::Internal;

fn version(minor: u64) -> Version {
    Version { major: 3, minor }
}

/// Waits until every node says that the cluster speaks `3.minor`.
async fn speaks(cluster: &LocalCluster, minor: u64) {
    eventually(&format!("version 3.{minor}"), || {
        let mut nodes = cluster.nodes.values();
        nodes.all(|node| node.cluster_version() == Some(version(minor))).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cl_07_the_cluster_speaks_what_its_oldest_member_speaks() {
    let mut cluster = LocalCluster::new(3);
    cluster.board.pretend(&peer_url(3), Some("3.6.4"));
    for number in 1..=2 {
        cluster.start_node(number).await.expect("a node starts");
    }
    cluster.leader().await;
    let early = cluster.nodes[&1].cluster_version();
    assert_ne!(early, Some(version(7)), "the third has not said what it speaks");
    // The third must not lead: it would believe itself.
    cluster.adjust = Some(|config| config.election_timeout = Duration::from_secs(30));
    cluster.start_node(3).await.expect("a node starts");
    speaks(&cluster, 6).await;
    let status = cluster.nodes[&1].status(&INTERNAL, pb::StatusRequest {}).await.expect("status");
    assert_eq!(status.storage_version, "3.6.0");
    // The third is replaced by one of the same release as the others.
    cluster.board.pretend(&peer_url(3), None);
    speaks(&cluster, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cl_07_while_a_member_is_silent_the_cluster_speaks_the_oldest_version() {
    let mut cluster = LocalCluster::new(3);
    for number in 1..=2 {
        cluster.start_node(number).await.expect("a node starts");
    }
    speaks(&cluster, 0).await;
    cluster.start_node(3).await.expect("a node starts");
    speaks(&cluster, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mnt_09_a_downgrade_takes_the_cluster_down_at_once_and_up_again() {
    let cluster = LocalCluster::start_with(3, |config| {
        config.downgrade_check_time = Duration::ZERO;
    })
    .await;
    speaks(&cluster, 7).await;
    let leader = cluster.leader().await;
    let node = &cluster.nodes[&leader];
    let enable =
        pb::DowngradeRequest { action: DowngradeAction::Enable as i32, version: "3.6".to_owned() };
    node.downgrade(&INTERNAL, enable).await.expect("a downgrade");
    speaks(&cluster, 6).await;
    assert!(node.downgrade_info().enabled, "this release still runs");
    let cancel = pb::DowngradeRequest { action: DowngradeAction::Cancel as i32, ..<_>::default() };
    node.downgrade(&INTERNAL, cancel).await.expect("it is called off");
    speaks(&cluster, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fs_01_the_data_of_a_newer_release_is_left_alone() {
    let mut cluster = LocalCluster::start(1).await;
    speaks(&cluster, 7).await;
    cluster.stop_node(1).await;
    let disk: Arc<MemoryDisk> = Arc::new(cluster.disks[&1].clone());
    let backend = Arc::new(Backend::open(disk, BackendOptions::default()).expect("opens"));
    ClusterVersion::open(backend.clone()).expect("opens").set(version(8));
    backend.flush().expect("a flush");
    drop(backend);
    let refused = cluster.start_node(1).await.expect_err("the data is newer").to_string();
    let expected = "invalid downgrade; server version is lower than determined cluster version";
    assert!(refused.starts_with(expected), "{refused}");
}
