//! Members, when they come and go.

use super::cluster::{Cluster, HEALTH_INTERVAL};
use crate::api::etcdserverpb as pb;
use crate::auth::Caller;
use crate::error::Error;

#[test]
fn cl_01_cl_03_members_are_added_and_removed_once_the_others_were_up_for_a_while() {
    let cluster = Cluster::new(3);
    let leader = cluster.leader();
    let node = cluster.nodes[&leader].clone();
    let change = || {
        let (adding, removing) = (node.clone(), node.clone());
        let other = cluster.nodes[&cluster.others(leader)[0]].member_id();
        let add = pb::MemberAddRequest {
            peer_ur_ls: vec!["http://127.0.0.1:1".to_owned()],
            is_learner: true,
        };
        let remove = pb::MemberRemoveRequest { id: other };
        cluster.run_on(leader, async move {
            let removed = removing.member_remove(&Caller::Internal, remove).await.map(drop);
            (removed, adding.member_add(&Caller::Internal, add).await.map(drop))
        })
    };
    assert_eq!(change(), (Err(Error::Unhealthy), Err(Error::Unhealthy)));
    cluster.run(HEALTH_INTERVAL);
    assert_eq!(change(), (Ok(()), Ok(())));
}
