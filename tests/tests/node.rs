//! The core as a cluster, without sockets: replication, elections, reads, members, leases,
//! snapshots.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use coracle_core::api::etcdserverpb as pb;
use coracle_core::api::{authpb, coraclepb, mvccpb};
use coracle_core::auth::{Caller, Credentials};
use coracle_core::error::Error;
use coracle_core::trace::{Event, Listener, Trace};
use coracle_tests::local_cluster::{LocalCluster, LocalNode, eventually, peer_url};
use tokio::task::JoinHandle;

/// Nobody in these tests has credentials, or needs any.
const INTERNAL: Caller = Caller::Internal;

fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: key.as_bytes().to_vec().into(),
        value: value.as_bytes().to_vec().into(),
        ..Default::default()
    }
}

fn get(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.as_bytes().to_vec().into(), ..Default::default() }
}

async fn value(node: &LocalNode, key: &str) -> Option<String> {
    let response = node.range(&INTERNAL, get(key)).await.expect("a read on a healthy cluster");
    response.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
}

async fn hash(node: &LocalNode) -> (u32, i64) {
    let response =
        node.hash_kv(&INTERNAL, pb::HashKvRequest { revision: 0 }).await.expect("a hash");
    (response.hash, response.hash_revision)
}

/// Waits until all nodes of the cluster have one state.
async fn agree(cluster: &LocalCluster) {
    let revision = {
        let mut revision = 0;
        for node in cluster.nodes.values() {
            revision = revision.max(node.info().revision);
        }
        revision
    };
    eventually("all nodes at one revision", || {
        cluster.nodes.values().all(|node| node.info().revision == revision).then_some(())
    })
    .await;
    let mut hashes = Vec::new();
    for node in cluster.nodes.values() {
        hashes.push(hash(node).await);
    }
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "hashes differ: {hashes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kv_07_a_write_through_any_member_is_read_on_every_member() {
    let cluster = LocalCluster::start(3).await;
    cluster.leader().await;
    for (number, node) in &cluster.nodes {
        let key = format!("key{number}");
        let response = node.put(&INTERNAL, put(&key, "value")).await.expect("a put");
        assert_eq!(response.header.expect("a header").member_id, node.member_id());
        // The member that was written through has applied the write itself.
        let local =
            node.range(&INTERNAL, pb::RangeRequest { serializable: true, ..get(&key) }).await;
        assert_eq!(local.expect("a serializable read").kvs.len(), 1);
        for reader in cluster.nodes.values() {
            assert_eq!(value(reader, &key).await.as_deref(), Some("value"));
        }
    }
    agree(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_leader_is_replaced_and_catches_up() {
    let mut cluster = LocalCluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.nodes[&leader].put(&INTERNAL, put("a", "1")).await.expect("a put");
    cluster.stop_node(leader).await;
    let next = cluster.leader().await;
    cluster.nodes[&next].put(&INTERNAL, put("a", "2")).await.expect("a put without the old leader");
    cluster.start_node(leader).await.expect("the old leader starts again");
    assert_eq!(value(&cluster.nodes[&leader], "a").await.as_deref(), Some("2"));
    agree(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kv_07_an_isolated_leader_serves_only_serializable_reads() {
    let cluster = LocalCluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.nodes[&leader].put(&INTERNAL, put("a", "old")).await.expect("a put");
    let others: Vec<usize> = cluster.nodes.keys().copied().filter(|n| *n != leader).collect();
    cluster.partition(&[leader], &others);
    let isolated = &cluster.nodes[&leader];
    eventually("the majority has its own leader", || {
        others.iter().find(|n| cluster.nodes[n].info().is_leader).copied()
    })
    .await;
    cluster.nodes[&others[0]].put(&INTERNAL, put("a", "new")).await.expect("the majority writes");
    let stale =
        isolated.range(&INTERNAL, pb::RangeRequest { serializable: true, ..get("a") }).await;
    assert_eq!(&stale.expect("a serializable read").kvs[0].value[..], b"old");
    assert_eq!(isolated.range(&INTERNAL, get("a")).await.expect_err("no quorum"), Error::Timeout);
    cluster.heal();
    assert_eq!(value(isolated, "a").await.as_deref(), Some("new"));
    agree(&cluster).await;
}

/// The leader, once no member has a proposal under way: each makes itself known at its start.
async fn quiet_leader(cluster: &LocalCluster) -> usize {
    let leader = cluster.leader().await;
    for node in cluster.nodes.values() {
        node.published().await;
        let quiet = || (node.info().proposals_pending == 0).then_some(());
        eventually("nothing is proposed", quiet).await;
    }
    leader
}

/// A put through a leader that the others no longer hear, and those others.
async fn put_in_vain(cluster: &LocalCluster) -> (usize, Vec<usize>, JoinHandle<Error>) {
    let leader = quiet_leader(cluster).await;
    let others: Vec<usize> = cluster.nodes.keys().copied().filter(|n| *n != leader).collect();
    cluster.partition(&[leader], &others);
    let isolated = cluster.nodes[&leader].clone();
    let pending = {
        let isolated = isolated.clone();
        tokio::spawn(async move {
            isolated.put(&INTERNAL, put("vain", "1")).await.expect_err("there is no quorum")
        })
    };
    eventually("the put is under way", || (isolated.info().proposals_pending > 0).then_some(()))
        .await;
    (leader, others, pending)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fell_with_its_leader_is_told_so() {
    let cluster = LocalCluster::start(3).await;
    let (leader, others, pending) = put_in_vain(&cluster).await;
    eventually("the majority has its own leader", || {
        others.iter().find(|n| cluster.nodes[n].info().is_leader).copied()
    })
    .await;
    cluster.nodes[&others[0]].put(&INTERNAL, put("a", "1")).await.expect("the majority writes");
    cluster.heal();
    assert_eq!(pending.await.expect("no panic"), Error::TimeoutDueToLeaderFail);
    assert_eq!(value(&cluster.nodes[&leader], "vain").await, None);
    agree(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_wait_for_a_leader_where_the_one_that_is_named_has_lost_its_quorum() {
    let cluster = LocalCluster::start(5).await;
    let leader = quiet_leader(&cluster).await;
    let mut others = cluster.nodes.keys().copied().filter(|n| *n != leader).collect::<Vec<_>>();
    let follower = others.remove(0);
    cluster.partition(&[leader, follower], &others);
    let mut pending = Vec::new();
    for number in [leader, follower] {
        let node = cluster.nodes[&number].clone();
        eventually("the leader is given up", || (!node.has_leader()).then_some(())).await;
        let key = format!("through {number}");
        pending.push(tokio::spawn({
            let node = node.clone();
            async move { node.put(&INTERNAL, put(&key, "1")).await }
        }));
        eventually("the put waits", || (node.info().proposals_pending > 0).then_some(())).await;
    }
    let next = eventually("the majority has its own leader", || {
        others.iter().find(|n| cluster.nodes[n].info().is_leader).copied()
    })
    .await;
    cluster.nodes[&next].put(&INTERNAL, put("a", "1")).await.expect("the majority writes");
    cluster.heal();
    for put in pending {
        put.await.expect("no panic").expect("the next leader takes it");
    }
    agree(&cluster).await;
}

/// The follower cannot know what became of what it handed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_through_a_follower_that_fell_with_its_leader_is_told_so() {
    let cluster = LocalCluster::start(5).await;
    let leader = quiet_leader(&cluster).await;
    let mut others = cluster.nodes.keys().copied().filter(|n| *n != leader).collect::<Vec<_>>();
    let follower = others.remove(0);
    let node = cluster.nodes[&follower].clone();
    cluster.partition(&[leader, follower], &others);
    let before = cluster.nodes[&leader].progress().last_log_index;
    let pending = tokio::spawn(async move { node.put(&INTERNAL, put("vain", "1")).await });
    eventually("the leader has taken it", || {
        (cluster.nodes[&leader].progress().last_log_index > before).then_some(())
    })
    .await;
    let next = eventually("the majority has its own leader", || {
        others.iter().find(|n| cluster.nodes[n].info().is_leader).copied()
    })
    .await;
    cluster.nodes[&next].put(&INTERNAL, put("a", "1")).await.expect("the majority writes");
    cluster.heal();
    let told = pending.await.expect("no panic").expect_err("it is in no log");
    assert_eq!(told, Error::TimeoutDueToLeaderFail);
    agree(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_under_way_when_its_member_stops_is_told_so() {
    let mut cluster = LocalCluster::start(3).await;
    let (leader, _, pending) = put_in_vain(&cluster).await;
    cluster.stop_node(leader).await;
    assert_eq!(pending.await.expect("no panic"), Error::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cl_01_a_one_member_cluster_grows_before_the_new_process_runs() {
    let mut cluster = LocalCluster::start(1).await;
    cluster.leader().await;
    let first = cluster.nodes[&1].clone();
    let add = pb::MemberAddRequest { peer_ur_ls: vec![peer_url(2)], is_learner: false };
    let added = first.member_add(&INTERNAL, add.clone()).await.expect("member add");
    assert_eq!(added.members.len(), 2);
    first.put(&INTERNAL, put("a", "1")).await.expect("a put while the second member is not there");
    // As with etcd, whether enough have started is asked before what is wrong with the new one.
    let refused = first.member_add(&INTERNAL, add).await.expect_err("one has not started");
    assert_eq!(refused.message(), Error::MemberNotEnoughStarted.message());
    cluster.start_node(2).await.expect("the added member starts");
    let second = cluster.nodes[&2].clone();
    assert_eq!(value(&second, "a").await.as_deref(), Some("1"));
    let both = eventually("both members published", || {
        let members = futures_util::FutureExt::now_or_never(
            first.member_list(&INTERNAL, pb::MemberListRequest { linearizable: false }),
        )?;
        let members = members.ok()?.members;
        members.iter().all(|member| !member.client_ur_ls.is_empty()).then_some(members)
    })
    .await;
    assert_eq!(both.len(), 2);
    agree(&cluster).await;
    let id = second.member_id();
    let left = first
        .member_remove(&INTERNAL, pb::MemberRemoveRequest { id })
        .await
        .expect("member remove");
    assert_eq!(left.members.len(), 1);
    let reason = tokio::time::timeout(Duration::from_secs(10), second.stopped()).await;
    assert_eq!(reason.expect("it stops"), coracle_core::node::StopReason::Removed);
    first.put(&INTERNAL, put("a", "2")).await.expect("a put of the only member left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cl_04_a_learner_is_promoted_when_it_has_caught_up() {
    let mut cluster = LocalCluster::start(3).await;
    let leader = cluster.nodes[&cluster.leader().await].clone();
    for number in 0..50 {
        leader.put(&INTERNAL, put(&format!("k{number}"), "v")).await.expect("a put");
    }
    let add = pb::MemberAddRequest { peer_ur_ls: vec![peer_url(4)], is_learner: true };
    let id = leader.member_add(&INTERNAL, add).await.expect("add").member.expect("a member").id;
    let promote = pb::MemberPromoteRequest { id };
    assert_eq!(
        leader.member_promote(&INTERNAL, promote).await.expect_err("down"),
        Error::LearnerNotReady
    );
    cluster.start_node(4).await.expect("the learner starts");
    let learner = cluster.nodes[&4].clone();
    assert!(learner.info().is_learner);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while let Err(error) = leader.member_promote(&INTERNAL, promote).await {
        assert_eq!(error, Error::LearnerNotReady);
        assert!(std::time::Instant::now() < deadline, "the learner never caught up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eventually("it knows", || (!learner.info().is_learner).then_some(())).await;
    agree(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_04_expiry_deletes_the_keys_everywhere_in_one_revision() {
    let cluster = LocalCluster::start(3).await;
    cluster.leader().await;
    let node = cluster.nodes[&1].clone();
    let grant = pb::LeaseGrantRequest { ttl: 1, id: 77 };
    let lease = node.lease_grant(&INTERNAL, grant).await.expect("a grant");
    for key in ["b", "a"] {
        let put = pb::PutRequest { lease: lease.id, ..put(key, "v") };
        node.put(&INTERNAL, put).await.expect("a put with a lease");
    }
    let mut watch = cluster.nodes[&2].watch(INTERNAL).await;
    let create = pb::WatchCreateRequest {
        key: b"\0".to_vec().into(),
        range_end: b"\0".to_vec().into(),
        start_revision: 4,
        ..Default::default()
    };
    watch.request(pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    });
    assert!(watch.next().await.expect("created").created);
    let response = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
    let events = response.expect("the lease expires").expect("a response").events;
    let deleted: Vec<&[u8]> =
        events.iter().map(|event| &event.kv.as_ref().expect("a kv").key[..]).collect();
    assert_eq!(deleted, [b"a", b"b"]);
    assert!(events.iter().all(|event| event.r#type() == mvccpb::event::EventType::Delete));
    let gone =
        node.lease_time_to_live(&INTERNAL, pb::LeaseTimeToLiveRequest { id: 77, keys: true }).await;
    assert_eq!(gone.expect("no error").ttl, -1);
    agree(&cluster).await;
}

/// While it is closed, a node that it listens to gets no further with applying entries.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set_closed(&self, closed: bool) {
        *self.closed.lock().expect("lock") = closed;
        self.opened.notify_all();
    }
}

impl Listener for Gate {
    fn event(&self, event: Event) {
        if matches!(event, Event::Applied { .. }) {
            tokio::task::block_in_place(|| {
                let closed = self.closed.lock().expect("lock");
                drop(self.opened.wait_while(closed, |closed| *closed).expect("lock"));
            });
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lease_09_a_known_lease_is_renewed_whatever_is_not_applied() {
    for fast in [true, false] {
        let gate = Arc::new(Gate::default());
        let mut cluster = LocalCluster::new(1);
        cluster.trace = Trace::to(gate.clone());
        if !fast {
            cluster.adjust = Some(|config| config.fast_lease_keep_alive = false);
        }
        cluster.start_all().await;
        let node = cluster.nodes[&1].clone();
        let grant = pb::LeaseGrantRequest { id: 7, ttl: 60 };
        node.lease_grant(&INTERNAL, grant).await.expect("a lease");
        gate.set_closed(true);
        let writer = node.clone();
        let write = tokio::spawn(async move { writer.put(&INTERNAL, put("a", "1")).await });
        eventually("an entry that is committed and not applied", || {
            let info = node.info();
            (info.committed > info.applied).then_some(())
        })
        .await;
        let late = Err(Error::TimeoutWaitAppliedIndex);
        let renew = async |id| {
            let request = pb::LeaseKeepAliveRequest { id };
            node.lease_keep_alive(&INTERNAL, request).await.map(|response| response.ttl)
        };
        assert_eq!(renew(7).await, if fast { Ok(60) } else { late.clone() });
        assert_eq!(renew(8).await, late, "the entry might have granted it");
        gate.set_closed(false);
        write.await.expect("no panic").expect("the put");
        assert_eq!(renew(7).await, Ok(60));
        assert_eq!(renew(8).await, Ok(0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mnt_08_leadership_moves_to_the_member_that_was_named() {
    let cluster = LocalCluster::start(3).await;
    let leader = cluster.leader().await;
    let target = cluster.nodes.keys().copied().find(|number| *number != leader).expect("another");
    let target_id = cluster.nodes[&target].member_id();
    let request = pb::MoveLeaderRequest { target_id };
    let refused = cluster.nodes[&target].move_leader(&INTERNAL, request).await;
    assert_eq!(refused.expect_err("not the leader"), Error::NotLeader);
    cluster.nodes[&leader].move_leader(&INTERNAL, request).await.expect("moved");
    assert_eq!(cluster.leader().await, target);
    let unknown = pb::MoveLeaderRequest { target_id: 1 };
    let refused = cluster.nodes[&target].move_leader(&INTERNAL, unknown).await;
    assert_eq!(refused.expect_err("unknown"), Error::BadLeaderTransferee);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_lacks_purged_entries_gets_a_snapshot() {
    let mut cluster = LocalCluster::start_with(3, |config| {
        config.snapshot_count = 50;
        config.snapshot_catchup_entries = 10;
    })
    .await;
    let leader = cluster.leader().await;
    let lagging = cluster.nodes.keys().copied().find(|n| *n != leader).expect("another");
    cluster.stop_node(lagging).await;
    let node = cluster.nodes[&cluster.leader().await].clone();
    let grant = node.lease_grant(&INTERNAL, pb::LeaseGrantRequest { ttl: 600, id: 5 }).await;
    grant.expect("a grant");
    for number in 0..400 {
        let request = pb::PutRequest { lease: 5, ..put(&format!("k{}", number % 37), "v") };
        node.put(&INTERNAL, request).await.expect("a put");
    }
    cluster.start_node(lagging).await.expect("it starts again");
    assert_eq!(value(&cluster.nodes[&lagging], "k1").await.as_deref(), Some("v"));
    agree(&cluster).await;
    assert_eq!(cluster.nodes[&lagging].info().leases, 1);
    // What it received survives its own restart.
    cluster.stop_node(lagging).await;
    cluster.start_node(lagging).await.expect("it starts from the received state");
    agree(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mnt_07_a_stray_chunk_does_not_end_the_transfer_of_a_snapshot() {
    let cluster = LocalCluster::start(1).await;
    let node = &cluster.nodes[&1];
    let chunk = |transfer, offset, data: &'static [u8]| {
        let chunk =
            coraclepb::SnapshotChunk { transfer, offset, data: data.into(), ..Default::default() };
        let request = Some(coraclepb::peer_request::Request::Snapshot(chunk));
        node.handle_peer(7, coraclepb::PeerRequest { request, asker: None })
    };
    let is_taken = |answer: coraclepb::PeerResponse| {
        matches!(answer.response, Some(coraclepb::peer_response::Response::Snapshot(_)))
    };
    // The beginning of a frame: more is to come.
    assert!(is_taken(chunk(1, 0, b"\x10\0").await));
    for (transfer, offset) in [(2, 2), (1, 5)] {
        assert!(!is_taken(chunk(transfer, offset, b"stray").await));
    }
    assert!(is_taken(chunk(1, 2, b"\0\0").await), "the transfer goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kv_07_who_reads_of_a_member_that_stops_is_told_so() {
    let cluster = LocalCluster::start(3).await;
    let leader = cluster.leader().await;
    let others: Vec<usize> = cluster.nodes.keys().copied().filter(|n| *n != leader).collect();
    // Nobody confirms that it still leads, so that this read waits.
    cluster.partition(&[leader], &others);
    let node = cluster.nodes[&leader].clone();
    let waiting = tokio::spawn({
        let node = node.clone();
        async move { node.range(&INTERNAL, get("a")).await }
    });
    node.shutdown().await;
    let answers = [waiting.await.expect("no panic"), node.range(&INTERNAL, get("a")).await];
    for answer in answers {
        assert_eq!(answer.expect_err("it has stopped"), Error::Stopped);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auth_07_a_range_in_pieces_ends_with_the_rights_that_it_began_with() {
    let cluster = LocalCluster::start_with(1, |config| config.client_cert_auth = true).await;
    cluster.leader().await;
    let node = cluster.nodes[&1].clone();
    // Two of them are as large as a piece.
    let value = "v".repeat(900_000);
    for number in 0..6 {
        node.put(&INTERNAL, put(&format!("k{number}"), &value)).await.expect("a put");
    }
    let text = str::to_owned;
    for name in ["root", "alice"] {
        let options = Some(authpb::UserAddOptions { no_password: true });
        let add = pb::AuthUserAddRequest { name: text(name), options, ..Default::default() };
        node.user_add(&INTERNAL, add).await.expect("a user");
        let (user, role) = (text(name), text("root"));
        let grant = pb::AuthUserGrantRoleRequest { user, role };
        node.user_grant_role(&INTERNAL, grant).await.expect("a role");
    }
    node.auth_enable(&INTERNAL, pb::AuthEnableRequest {}).await.expect("enabled");
    let alice = Caller::Client(Credentials { token: None, common_name: Some(text("alice")) });
    let all = pb::RangeRequest { range_end: "l".into(), ..get("k") };
    let mut stream = node.range_stream(&alice, all).await.expect("a stream");
    stream.next().expect("a piece").expect("that she may read");
    let revoke = pb::AuthUserRevokeRoleRequest { name: text("alice"), role: text("root") };
    node.user_revoke_role(&INTERNAL, revoke).await.expect("revoked");
    let next = stream.next().expect("an answer").map(drop);
    assert_eq!(next.expect_err("she may not read any more"), Error::AuthOldRevision);
}
