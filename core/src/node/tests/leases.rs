//! Leases, when leaders change.

use std::time::Duration;

use super::cluster::{Cluster, TestNode};
use crate::api::coraclepb::peer_request::Request;
use crate::api::etcdserverpb as pb;
use crate::auth::Caller;
use crate::error::Error;
use crate::platform::step::Tag;

const LEASE: i64 = 7;
const TTL: i64 = 20;

fn grant(cluster: &Cluster, tag: Tag) {
    let node = cluster.nodes[&tag].clone();
    let request = pb::LeaseGrantRequest { ttl: TTL, id: LEASE };
    let granted =
        cluster.run_on(tag, async move { node.lease_grant(&Caller::Internal, request).await });
    granted.expect("a grant on a healthy cluster");
}

/// Seconds left, as the leader `node` counts them.
fn left(cluster: &Cluster, node: &TestNode) -> i64 {
    let lease = node.lessor.time_to_live(LEASE, cluster.executor.now());
    lease.expect("the lease exists").remaining
}

#[test]
fn lease_10_a_deposed_leader_does_not_revoke_what_the_next_one_keeps_alive() {
    let cluster = Cluster::new(3);
    let deposed = cluster.leader();
    grant(&cluster, deposed);
    cluster.run(Duration::from_secs(TTL as u64 - 1));
    // Its last second passes where nobody hears the leader.
    cluster.lose(move |sent| sent.from == deposed || sent.to == deposed);
    cluster.until("the others have a leader", |nodes| {
        nodes.iter().any(|(tag, node)| *tag != deposed && node.leadership.role().is_leader)
    });
    let next = cluster.leader();
    assert_ne!(next, deposed);
    // The old one finds the lease expired, and asks whether it still leads.
    cluster.run(Duration::from_secs(2));
    assert!(cluster.nodes[&deposed].leadership.role().is_leader);
    cluster.heal();
    cluster.until("the old leader follows", |nodes| {
        nodes[&deposed].leadership.role().leader == nodes[&next].leadership.role().leader
    });
    cluster.run(Duration::from_secs(5));
    assert!(cluster.nodes[&next].lessor.exists(LEASE), "its time began anew with the next leader");
    assert!(left(&cluster, &cluster.nodes[&next]) > 0);
}

#[test]
fn lease_10_a_leader_without_a_quorum_renews_nothing() {
    let cluster = Cluster::new(3);
    let leader = cluster.leader();
    grant(&cluster, leader);
    cluster.run(Duration::from_secs(5));
    cluster.lose(move |sent| sent.from == leader || sent.to == leader);
    let node = cluster.nodes[&leader].clone();
    let before = left(&cluster, &node);
    let request = pb::LeaseKeepAliveRequest { id: LEASE };
    let asked = node.clone();
    let renewed = cluster
        .run_on(leader, async move { asked.lease_keep_alive(&Caller::Internal, request).await });
    assert_eq!(renewed, Err(Error::NoLeader), "nobody leads who has no quorum");
    assert!(left(&cluster, &node) < before);
}

#[test]
fn lease_08_a_leader_whose_term_changed_starts_the_clock_anew() {
    let cluster = Cluster::new(1);
    let node = cluster.nodes[&1].clone();
    grant(&cluster, 1);
    cluster.run(Duration::from_secs(15));
    assert!(left(&cluster, &node) <= 5);
    // Another member led for a moment, and nobody looked meanwhile.
    let mut role = node.leadership.role();
    role.term += 2;
    let again = node.clone();
    cluster.run_on(1, async move { again.take_role(role) });
    assert_eq!(left(&cluster, &node), TTL);
    // What changes within a term leaves it alone.
    cluster.run(Duration::from_secs(5));
    role.leader = None;
    let again = node.clone();
    cluster.run_on(1, async move { again.take_role(role) });
    assert!(left(&cluster, &node) <= TTL - 4);
}

#[test]
fn lease_10_a_follower_does_not_forward_what_only_a_leader_may_propose() {
    let cluster = Cluster::new(3);
    let leader = cluster.leader();
    grant(&cluster, leader);
    let follower = cluster.others(leader)[0];
    cluster.lose(|sent| {
        assert!(!matches!(sent.request, Request::Propose(_)), "it is not forwarded");
        false
    });
    for (tag, terms_ago) in [(follower, 0), (leader, 1)] {
        let node = cluster.nodes[&tag].clone();
        let term = node.leadership.role().term - terms_ago;
        let revoke = pb::LeaseRevokeRequest { id: LEASE };
        let revoke = crate::api::coraclepb::command::Request::LeaseRevoke(revoke);
        let refused =
            cluster.run_on(tag, async move { node.propose_as_leader(term, revoke).await });
        assert_eq!(refused, Err(Error::NotLeader));
    }
    assert!(cluster.nodes[&leader].lessor.exists(LEASE));
}
