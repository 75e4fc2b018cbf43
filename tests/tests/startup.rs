//! What a member says of itself when it starts.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use coracle_core::api::etcdserverpb::MemberListRequest;
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::grpc::ClusterClient;

/// Whether it is in time is decided anew at each start.
const STARTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// A client that asks a fresh member right away once got a list without client URLs: the member
/// served before its own name had gone through the log.
#[tokio::test(flavor = "multi_thread")]
async fn cl_01_a_member_serves_clients_when_its_cluster_knows_it() -> Result<()> {
    for start in 0..STARTS {
        let cluster = tokio::task::block_in_place(|| Cluster::start(Kind::Coracle, 1))?;
        let mut client = ClusterClient::connect(cluster.endpoint(0)).await?;
        let list = client.member_list(MemberListRequest::default()).await?.into_inner();
        let urls: Vec<_> = list.members.iter().map(|member| &member.client_ur_ls).collect();
        ensure!(
            urls == [&vec![cluster.endpoint(0)]],
            "start {start}: the first list of members says {urls:?}"
        );
    }
    Ok(())
}

/// Its votes would count, and it has forgotten what it acknowledged.
#[test]
fn cl_03_a_member_whose_data_is_lost_does_not_come_back_as_a_new_one() -> Result<()> {
    for kind in [Kind::Etcd, Kind::Coracle] {
        let mut cluster = Cluster::start(kind, 3)?;
        cluster.kill(0)?;
        fs::remove_dir_all(cluster.data_dir(0))?;
        cluster.restart(0)?;
        let deadline = Instant::now() + PATIENCE;
        while !cluster.has_exited(0)? {
            ensure!(Instant::now() < deadline, "{kind:?}: it came back\n{}", cluster.log_tails());
            thread::sleep(POLL);
        }
        let logs = cluster.logs();
        ensure!(logs.contains("has already been bootstrapped"), "{kind:?}: {logs}");
    }
    Ok(())
}
