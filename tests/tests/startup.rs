//! What a member says of itself when it starts.

use anyhow::{Result, ensure};
use coracle_core::api::etcdserverpb::MemberListRequest;
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::grpc::ClusterClient;

/// Whether it is in time is decided anew at each start.
const STARTS: usize = 8;

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
