//! Whom members take for their leader.

use std::time::Duration;

use super::cluster::{Cluster, Sent};
use crate::platform::step::Tag;

/// The leader that each of `members` names, by their numbers; 0 is nobody.
fn named(cluster: &Cluster, members: &[Tag]) -> Vec<u64> {
    members.iter().map(|member| cluster.nodes[member].info().leader).collect()
}

#[test]
fn w_06_nobody_names_a_leader_that_a_quorum_does_not_hear() {
    let cluster = Cluster::new(4);
    let leader = cluster.leader();
    let follower = cluster.others(leader)[0];
    let inside = [leader, follower];
    cluster.lose(move |Sent { from, to, .. }| inside.contains(&from) != inside.contains(&to));
    // It takes some time to notice; the follower hears the leader all the time.
    cluster.until("neither of them names it", |_| named(&cluster, &inside) == [0, 0]);
    cluster.run(Duration::from_secs(2));
    assert_eq!(named(&cluster, &[1, 2, 3, 4]), [0; 4]);
    cluster.heal();
    cluster.until("all name one leader", |_| {
        let named = named(&cluster, &[1, 2, 3, 4]);
        named[0] != 0 && named.iter().all(|leader| *leader == named[0])
    });
}
