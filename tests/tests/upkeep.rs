//! What members do by themselves to stay well: automatic compaction, corruption checks, and what an
//! operator has when all others are lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_core::api::etcdserverpb as pb;
use coracle_core::api::etcdserverpb::AlarmType;
use coracle_core::api::mvccpb::KeyValue;
use coracle_core::auth::Caller;
use coracle_core::backend::{Backend, BackendOptions, Bucket, Contents};
use coracle_core::error::Error;
use coracle_core::node::{AutoCompaction, NodeConfig};
use coracle_core::platform::MemoryDisk;
use coracle_core::snapshot::{Import, NewCluster};
use coracle_tests::local_cluster::{LocalCluster, LocalNode, eventually, peer_url};
use prost::Message;

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

/// Changes the value of the oldest key behind the member's back, as a broken disk or a bug would.
fn corrupt(disk: &MemoryDisk) {
    let backend = Backend::open(Arc::new(disk.clone()), BackendOptions::default()).expect("opens");
    let (key, stored) = backend.all(Bucket::Key).expect("a scan").remove(0);
    let kv = KeyValue::decode(stored).expect("a key-value");
    let changed = KeyValue { value: b"corrupt".to_vec().into(), ..kv };
    backend.put(Bucket::Key, key, changed.encode_to_vec().into());
    backend.flush().expect("a flush");
}

fn corrupt_alarms(node: &LocalNode) -> Vec<u64> {
    let alarms = node.info().alarms.into_iter();
    alarms.filter(|alarm| alarm.alarm() == AlarmType::Corrupt).map(|a| a.member_id).collect()
}

/// A cluster of three with a few keys, one follower of which is stopped; and the follower's number.
async fn with_a_stopped_follower(adjust: fn(&mut NodeConfig)) -> (LocalCluster, usize) {
    let mut cluster = LocalCluster::start_with(3, adjust).await;
    let leader = cluster.leader().await;
    for key in ["a", "b", "c"] {
        cluster.nodes[&leader].put(&INTERNAL, put(key, "value")).await.expect("a put");
    }
    let follower = *cluster.nodes.keys().find(|number| **number != leader).expect("a follower");
    let revision = cluster.nodes[&leader].info().revision;
    eventually("the follower has all keys", || {
        (cluster.nodes[&follower].info().revision == revision).then_some(())
    })
    .await;
    cluster.stop_node(follower).await;
    (cluster, follower)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cmp_06_the_leader_compacts_by_itself() {
    let periodic = |config: &mut NodeConfig| {
        config.auto_compaction = Some(AutoCompaction::Periodic(Duration::from_millis(500)));
    };
    let cluster = LocalCluster::start_with(3, periodic).await;
    let leader = cluster.leader().await;
    for round in 0..3 {
        cluster.nodes[&leader].put(&INTERNAL, put("a", &round.to_string())).await.expect("a put");
    }
    eventually("all members have compacted", || {
        let mut nodes = cluster.nodes.values();
        nodes.all(|node| node.info().compact_revision == 4).then_some(())
    })
    .await;
    let old = pb::RangeRequest { revision: 2, ..get("a") };
    let error = cluster.nodes[&leader].range(&INTERNAL, old).await.expect_err("it is compacted");
    assert_eq!(error, Error::Compacted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mnt_03_the_periodic_check_raises_the_alarm_for_the_corrupt_member() {
    let (mut cluster, follower) = with_a_stopped_follower(|config| {
        config.corrupt_check_time = Duration::from_millis(300);
    })
    .await;
    let leader = cluster.leader().await;
    assert!(corrupt_alarms(&cluster.nodes[&leader]).is_empty());
    corrupt(&cluster.disks[&follower]);
    cluster.start_node(follower).await.expect("it starts without a check");
    let corrupt = cluster.nodes[&follower].member_id();
    for node in cluster.nodes.values() {
        eventually("the alarm", || (corrupt_alarms(node) == [corrupt]).then_some(())).await;
        assert_eq!(
            node.put(&INTERNAL, put("a", "x")).await.expect_err("no writes"),
            Error::Corrupt
        );
        node.range(&INTERNAL, get("a")).await.expect("reads are answered");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mnt_03_the_compact_check_blames_the_minority() {
    let (mut cluster, follower) = with_a_stopped_follower(|config| {
        config.compact_hash_check = Some(Duration::from_millis(300));
    })
    .await;
    corrupt(&cluster.disks[&follower]);
    cluster.start_node(follower).await.expect("it starts without a check");
    let leader = cluster.leader().await;
    let compact = pb::CompactionRequest { revision: 4, physical: false };
    cluster.nodes[&leader].compact(&INTERNAL, compact).await.expect("a compaction");
    let corrupt = cluster.nodes[&follower].member_id();
    let node = &cluster.nodes[&leader];
    eventually("the alarm", || (corrupt_alarms(node) == [corrupt]).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mnt_03_the_initial_check_keeps_a_corrupt_member_from_starting() {
    let (mut cluster, follower) =
        with_a_stopped_follower(|config| config.initial_corrupt_check = true).await;
    corrupt(&cluster.disks[&follower]);
    let refused = cluster.start_node(follower).await.expect_err("it is corrupt").to_string();
    assert!(refused.ends_with(" found data inconsistency with peers"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mnt_03_the_initial_check_lets_a_sound_member_start() {
    let (mut cluster, follower) =
        with_a_stopped_follower(|config| config.initial_corrupt_check = true).await;
    cluster.start_node(follower).await.expect("it is sound");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mnt_02_a_quota_that_etcd_can_keep_leaves_room_here_too() {
    let cluster = LocalCluster::start_with(1, |config| config.quota_backend_bytes = 53_248).await;
    let node = &cluster.nodes[&1];
    node.put(&INTERNAL, put("first", "small")).await.expect("a small put");
    let chunk = "b".repeat(4096);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while node.put(&INTERNAL, put("second", &chunk)).await != Err(Error::NoSpace) {
        assert!(tokio::time::Instant::now() < deadline, "the quota is never reached");
    }
    let revision = node.info().revision;
    let compact = pb::CompactionRequest { revision, physical: true };
    node.compact(&INTERNAL, compact).await.expect("a compaction");
    node.defragment(&INTERNAL, pb::DefragmentRequest {}).await.expect("a defragmentation");
    let disarm = pb::AlarmRequest {
        action: pb::alarm_request::AlarmAction::Deactivate as i32,
        member_id: node.member_id(),
        alarm: AlarmType::Nospace as i32,
    };
    node.alarm(&INTERNAL, disarm).await.expect("the alarm ends");
    node.put(&INTERNAL, put("third", "small")).await.expect("there is room again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mnt_02_a_member_looks_at_its_own_quota_when_another_was_asked() {
    let adjust = |config: &mut NodeConfig| {
        if config.name == "n1" {
            config.quota_backend_bytes = 65_536;
        }
    };
    let cluster = LocalCluster::start_with(2, adjust).await;
    let [small, large] = [1, 2].map(|number| cluster.nodes[&number].clone());
    small.put(&INTERNAL, put("k", &"v".repeat(1024))).await.expect("a small put");
    large.put(&INTERNAL, put("k", &"v".repeat(65_536))).await.expect("member 2 has room for it");
    eventually("member 1 raises the alarm", || {
        let alarms = large.info().alarms;
        let raised = alarms.iter().any(|alarm| alarm.alarm() == AlarmType::Nospace);
        raised.then(|| assert_eq!(alarms[0].member_id, small.member_id()))
    })
    .await;
    assert_eq!(large.put(&INTERNAL, put("k", "v")).await, Err(Error::NoSpace));
    large.range(&INTERNAL, get("k")).await.expect("reads go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cfg_01_a_backend_with_much_unused_space_is_defragmented_at_the_start() {
    let mut cluster = LocalCluster::start_with(1, |_| {}).await;
    let node = cluster.nodes[&1].clone();
    let chunk = "b".repeat(64 * 1024);
    for _ in 0..64 {
        node.put(&INTERNAL, put("a", &chunk)).await.expect("a put");
    }
    let large = 2 << 20;
    eventually("all is written", || (node.info().db_size > large).then_some(())).await;
    let compact = pb::CompactionRequest { revision: node.info().revision, physical: true };
    node.compact(&INTERNAL, compact).await.expect("a compaction");
    for smaller in [false, true] {
        cluster.stop_node(1).await;
        cluster.adjust = Some(match smaller {
            false => |config| config.bootstrap_defrag_threshold = 1 << 30,
            true => |config| config.bootstrap_defrag_threshold = 1 << 20,
        });
        cluster.start_node(1).await.expect("it starts");
        let size = cluster.nodes[&1].info().db_size;
        assert_eq!(size < large, smaller, "{size}");
    }
    let kvs = cluster.nodes[&1].range(&INTERNAL, get("a")).await.expect("a read").kvs;
    assert_eq!(kvs[0].value.len(), chunk.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fs_04_a_member_goes_on_alone_with_its_data() {
    let mut cluster = LocalCluster::start(3).await;
    let leader = cluster.leader().await;
    cluster.nodes[&leader].put(&INTERNAL, put("a", "1")).await.expect("a put");
    for number in 1..=3 {
        cluster.stop_node(number).await;
    }
    goes_on_alone(&mut cluster, leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fs_04_a_member_that_no_table_held_goes_on_alone() {
    let mut cluster = LocalCluster::start(3).await;
    let leader = cluster.leader().await;
    for node in cluster.nodes.values() {
        node.published().await;
    }
    cluster.nodes[&leader].put(&INTERNAL, put("a", "1")).await.expect("a put");
    let id = cluster.nodes[&leader].member_id();
    for number in 1..=3 {
        cluster.stop_node(number).await;
    }
    // As if the log had ended before it told of this member.
    forget_member(&cluster.disks[&leader], id);
    goes_on_alone(&mut cluster, leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fs_04_initial_members_of_whom_no_log_told_stay_away() {
    let mut cluster = LocalCluster::start(3).await;
    let leader = cluster.leader().await;
    for node in cluster.nodes.values() {
        node.published().await;
    }
    cluster.nodes[&leader].put(&INTERNAL, put("a", "1")).await.expect("a put");
    let ids: Vec<u64> = cluster.nodes.values().map(|node| node.member_id()).collect();
    for number in 1..=3 {
        cluster.stop_node(number).await;
    }
    for id in ids {
        forget_member(&cluster.disks[&leader], id);
    }
    goes_on_alone(&mut cluster, leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fs_04_a_learner_that_goes_on_alone_votes() {
    let mut cluster = LocalCluster::start(1).await;
    cluster.nodes[&1].put(&INTERNAL, put("a", "1")).await.expect("a put");
    let urls = vec![peer_url(2)];
    let add = pb::MemberAddRequest { peer_ur_ls: urls, is_learner: true };
    cluster.nodes[&1].member_add(&INTERNAL, add).await.expect("member add");
    cluster.start_node(2).await.expect("the learner starts");
    let revision = cluster.nodes[&1].info().revision;
    eventually("the learner has the key and its own record", || {
        let node = &cluster.nodes[&2];
        (node.info().revision == revision && node.is_learner()).then_some(())
    })
    .await;
    cluster.stop_node(1).await;
    cluster.stop_node(2).await;
    goes_on_alone(&mut cluster, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fs_04_a_restored_member_goes_on_alone() {
    let mut cluster = LocalCluster::start(3).await;
    for number in 1..=3 {
        cluster.stop_node(number).await;
    }
    let initial: Vec<_> = (1..=3).map(|number| (format!("n{number}"), peer_url(number))).collect();
    let new = NewCluster::new(&initial, "etcd-cluster", "n2", &[peer_url(2)]).expect("a cluster");
    let disk = MemoryDisk::default();
    let mut import = Import::create(Arc::new(disk.clone())).expect("an empty disk");
    let revision = Bytes::from_static(b"\0\0\0\0\0\0\0\x02_\0\0\0\0\0\0\0\0");
    let kv = KeyValue {
        key: b"a".to_vec().into(),
        value: b"1".to_vec().into(),
        create_revision: 2,
        mod_revision: 2,
        version: 1,
        lease: 0,
    };
    import.entry("key", revision, kv.encode_to_vec().into()).expect("an entry");
    import.finish(&new).expect("a member");
    cluster.disks.insert(2, disk);
    goes_on_alone(&mut cluster, 2).await;
}

/// Takes member `id` out of the stopped member's table.
fn forget_member(disk: &MemoryDisk, id: u64) {
    let backend = Backend::open(Arc::new(disk.clone()), BackendOptions::default()).expect("opens");
    backend.delete(Bucket::Members, Bytes::copy_from_slice(&id.to_be_bytes()));
    backend.flush().expect("a flush");
}

/// Starts the stopped node `number`, which has stored `1` under `a`, as a cluster of its own, and
/// then as any other member.
async fn goes_on_alone(cluster: &mut LocalCluster, number: usize) {
    cluster.adjust = Some(|config| config.force_new_cluster = true);
    cluster.start_node(number).await.expect("it starts alone");
    let node = cluster.nodes[&number].clone();
    let kvs = node.range(&INTERNAL, get("a")).await.expect("a read without the others").kvs;
    assert_eq!(&kvs[0].value[..], b"1");
    node.put(&INTERNAL, put("a", "2")).await.expect("a write without the others");
    node.published().await;
    let alone = |members: Vec<pb::Member>| {
        let [own] = &members[..] else { return None };
        assert_eq!(own.id, node.member_id());
        // Client URLs are in the log only: until then the list may be what the flags say.
        let is_recorded = !own.client_ur_ls.is_empty();
        (is_recorded && own.name == format!("n{number}") && !own.is_learner).then_some(())
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let list = pb::MemberListRequest { linearizable: true };
        let members = node.member_list(&INTERNAL, list).await.expect("the members").members;
        if alone(members.clone()).is_some() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "it is not alone: {members:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    // An ordinary start afterwards, and growing again.
    cluster.stop_node(number).await;
    cluster.adjust = None;
    cluster.start_node(number).await.expect("it starts as ever");
    let node = cluster.nodes[&number].clone();
    assert_eq!(&node.range(&INTERNAL, get("a")).await.expect("a read").kvs[0].value[..], b"2");
    let urls = vec!["http://127.0.0.1:10009".to_owned()];
    let add = pb::MemberAddRequest { peer_ur_ls: urls, is_learner: false };
    let members = node.member_add(&INTERNAL, add).await.expect("member add").members;
    assert_eq!(members.len(), 2, "{members:?}");
    assert!(members.iter().any(|member| member.id == node.member_id()), "{members:?}");
}
