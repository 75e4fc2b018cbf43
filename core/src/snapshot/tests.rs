//! There and back: what is exported is a database file of etcd's with all of the state in it, and
//! what is imported is that state again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use coracle_bolt::Database;
use prost::Message;
use sha2::{Digest, Sha256};

use super::{Export, Import, ImportError, NewCluster, Piece};
use crate::api::coraclepb::command::Request;
use crate::api::coraclepb::{Command, MemberAdd};
use crate::api::etcdserverpb as pb;
use crate::api::etcdserverpb::alarm_request::AlarmAction;
use crate::api::mvccpb::KeyValue;
use crate::apply::Applier;
use crate::backend::{Backend, BackendOptions};
use crate::cluster::Members;
use crate::mvcc::HashKv;
use crate::platform::MemoryDisk;
use crate::quota::Quota;

type Content = BTreeMap<String, Vec<(Bytes, Bytes)>>;

fn open(disk: &MemoryDisk) -> Applier {
    let disk = Arc::new(disk.clone());
    let backend = Arc::new(Backend::open(disk, BackendOptions::default()).unwrap());
    let members = Arc::new(Members::open(backend.clone()).unwrap());
    Applier::open(backend, members, Quota::new(0), 1 << 20).unwrap()
}

fn apply(applier: &Applier, request: Request) {
    let command = Command { request: Some(request), ..Command::default() };
    applier.apply(1, command.encode_to_vec().into()).unwrap().2.unwrap();
}

fn put(applier: &Applier, key: &str, value: Vec<u8>, lease: i64) {
    let (key, value) = (key.to_owned().into(), value.into());
    apply(applier, Request::Put(pb::PutRequest { key, value, lease, ..Default::default() }));
}

/// A state with some of everything.
fn filled() -> Applier {
    let applier = open(&MemoryDisk::default());
    for id in [7, 0x1234_5678_9abc] {
        let grant = pb::LeaseGrantRequest { id, ttl: 100 + id % 1_000 };
        apply(&applier, Request::LeaseGrant(grant));
    }
    for n in 0..3_000 {
        put(
            &applier,
            &format!("key{}", n % 700),
            vec![n as u8; n % 300],
            7 * i64::from(n % 5 == 0),
        );
    }
    put(&applier, "large", vec![9; 1_000_000], 0);
    let range =
        pb::DeleteRangeRequest { key: "key1".into(), range_end: "key2".into(), ..<_>::default() };
    apply(&applier, Request::DeleteRange(range));
    apply(&applier, Request::Compaction(pb::CompactionRequest { revision: 1_000, physical: true }));
    while applier.store.compact_step(1_000).unwrap() {}
    let member = pb::Member {
        id: 0xab,
        name: "a \"b\"\n".into(),
        peer_ur_ls: vec!["http://a:1".into(), "http://b:2".into()],
        client_ur_ls: vec!["http://c:3".into()],
        is_learner: true,
    };
    apply(
        &applier,
        Request::MemberAdd(MemberAdd { member: Some(member.clone()), max_learners: None }),
    );
    let gone = pb::Member { id: 0xcd, peer_ur_ls: vec!["http://d:4".into()], ..member };
    apply(&applier, Request::MemberAdd(MemberAdd { member: Some(gone), max_learners: None }));
    apply(&applier, Request::MemberRemove(pb::MemberRemoveRequest { id: 0xcd }));
    let (action, alarm) = (AlarmAction::Activate as i32, pb::AlarmType::Nospace as i32);
    apply(&applier, Request::Alarm(pb::AlarmRequest { action, member_id: 0xab, alarm }));
    applier
}

/// The snapshot's bytes, without the checksum, which is compared.
fn exported(applier: &Applier) -> Bytes {
    let mut export = Export::new(applier.backend.view().unwrap()).unwrap();
    let (mut file, mut expected) = (Vec::new(), None);
    loop {
        match export.step().unwrap() {
            Piece::Measuring => assert!(file.is_empty()),
            Piece::Bytes { bytes, remaining } => {
                file.extend_from_slice(&bytes);
                let total = file.len() as u64 + remaining;
                assert_eq!(*expected.get_or_insert(total), total, "the length is known at first");
            }
            Piece::Checksum(checksum) => {
                assert_eq!(expected, Some(file.len() as u64));
                assert_eq!(checksum[..], Sha256::digest(&file)[..]);
                return file.into();
            }
        }
    }
}

fn content(file: &Bytes) -> Content {
    let database = Database::open(file.clone()).unwrap();
    let mut content = Content::new();
    for bucket in database.buckets() {
        let mut entries = Vec::new();
        let mut cursor = database.entries(bucket).unwrap();
        while let Some(entry) = cursor.next().unwrap() {
            entries.push((entry.key, entry.value));
        }
        content.insert(String::from_utf8(bucket.name().to_vec()).unwrap(), entries);
    }
    content
}

fn cluster(bump_revision: Option<u64>) -> NewCluster {
    let initial = ["a", "b"].map(|name| (name.to_owned(), format!("http://{name}:1")));
    let own = ["http://b:1".to_owned()];
    let mut cluster = NewCluster::new(&initial, "t", "b", &own).unwrap();
    cluster.bump_revision = bump_revision;
    cluster
}

fn imported(content: &Content, cluster: &NewCluster) -> Result<Applier, ImportError> {
    let disk = MemoryDisk::default();
    let mut import = Import::create(Arc::new(disk.clone())).unwrap();
    for (bucket, entries) in content {
        for (key, value) in entries {
            import.entry(bucket, key.clone(), value.clone())?;
        }
    }
    import.finish(cluster)?;
    Ok(open(&disk))
}

fn hash(applier: &Applier) -> HashKv {
    applier.store.hash_kv(0).unwrap().unwrap()
}

#[test]
fn mnt_07_an_exported_file_has_etcds_buckets_and_forms() {
    let applier = filled();
    let content = content(&exported(&applier));
    let names: Vec<_> = content.keys().map(String::as_str).collect();
    let expected = ["alarm", "cluster", "key", "lease", "members", "members_removed", "meta"];
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");
    let text = |bucket: &str| -> Vec<(String, String)> {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        content[bucket].iter().map(|(key, value)| (text(key), text(value))).collect()
    };
    let json = "{\"id\":171,\"peerURLs\":[\"http://a:1\",\"http://b:2\"],\"isLearner\":true,\
                \"name\":\"a \\\"b\\\"\\u000a\",\"clientURLs\":[\"http://c:3\"]}";
    assert_eq!(text("members"), [("ab".to_owned(), json.to_owned())]);
    assert_eq!(text("members_removed"), [("cd".to_owned(), "removed".to_owned())]);
    assert_eq!(content["alarm"], [(Bytes::from_static(b"\x08\xab\x01\x10\x01"), Bytes::new())]);
    assert!(content["cluster"].is_empty());
    let meta = text("meta");
    let meta: Vec<_> = meta.iter().map(|(key, _)| key.as_str()).collect();
    let expected =
        ["confState", "consistent_index", "finishedCompactRev", "scheduledCompactRev", "term"];
    assert_eq!(meta, expected);
    assert_eq!(content["lease"].len(), 2);
    let (key, lease) = &content["lease"][0];
    assert_eq!((&key[..], &lease[..]), (&7_i64.to_be_bytes()[..], &b"\x08\x07\x10\x6b"[..]));
}

#[test]
fn mnt_07_the_state_comes_back_and_the_cluster_is_new() {
    let applier = filled();
    let file = exported(&applier);
    let restored = imported(&content(&file), &cluster(None)).unwrap();
    assert_eq!(hash(&restored), hash(&applier));
    assert_eq!(restored.store.current_revision(), applier.store.current_revision());
    assert_eq!(restored.lessor.records(), applier.lessor.records());
    let keys =
        |applier: &Applier| applier.lessor.time_to_live(7, <_>::default()).map(|lease| lease.keys);
    assert!(keys(&restored).is_some_and(|keys| keys.len() > 100));
    assert_eq!(keys(&restored), keys(&applier));
    let all = pb::AlarmType::None;
    assert_eq!(restored.alarms.list(all), applier.alarms.list(all));
    assert_eq!(restored.members.list().len(), 2);
    assert!(restored.members.removed().is_empty());
    // What is exported of it is the same but for cluster and log.
    let (again, before) = (content(&exported(&restored)), content(&file));
    for bucket in before.keys().filter(|name| !name.starts_with("me")) {
        assert!(again[bucket] == before[bucket], "bucket {bucket}");
    }
}

#[test]
fn mnt_07_a_bumped_revision_compacts_all_before() {
    let applier = filled();
    let restored = imported(&content(&exported(&applier)), &cluster(Some(1_000))).unwrap();
    let revision = applier.store.current_revision() + 1_000;
    assert_eq!(restored.store.current_revision(), revision);
    assert_eq!(restored.store.compact_revision(), revision);
    while restored.store.compact_step(1_000).unwrap() {}
    let all = |applier: &Applier, revision| {
        let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        let request = pb::RangeRequest { key, range_end, revision, ..Default::default() };
        applier.store.range(&request).unwrap().map(|response| response.kvs)
    };
    assert_eq!(all(&restored, 0).unwrap(), all(&applier, 0).unwrap());
    assert_eq!(all(&restored, revision - 1), Err(crate::error::Error::Compacted));
    // The alarm has come along.
    let (action, alarm) = (AlarmAction::Deactivate as i32, pb::AlarmType::Nospace as i32);
    apply(&restored, Request::Alarm(pb::AlarmRequest { action, member_id: 0xab, alarm }));
    put(&restored, "next", vec![1], 0);
    assert_eq!(restored.store.current_revision(), revision + 1);
    let too_far = imported(&content(&exported(&applier)), &cluster(Some(u64::MAX)));
    assert!(too_far.err().is_some_and(|error| error.to_string().contains("cannot grow")));
}

#[test]
fn mnt_07_what_etcd_cannot_have_written_is_refused() {
    let key = |key: &[u8]| Bytes::copy_from_slice(key);
    let revision = key(b"\0\0\0\0\0\0\0\x05_\0\0\0\0\0\0\0\0");
    let at = |main: i64| [&main.to_be_bytes()[..], b"_\0\0\0\0\0\0\0\0"].concat().into();
    let kv = |create_revision, version| {
        let kv = KeyValue { key: "k".into(), create_revision, version, ..<_>::default() };
        Bytes::from(kv.encode_to_vec())
    };
    for (bucket, key, value) in [
        ("key", key(b"short"), Bytes::new()),
        ("key", revision.clone(), Bytes::from_static(b"\xff\xff")),
        // No store could count on from these.
        ("key", at(0), kv(0, 1)),
        ("key", at(-1), kv(1, 1)),
        ("key", at(i64::MAX), kv(1, 1)),
        ("key", revision.clone(), kv(6, 1)),
        ("key", revision.clone(), kv(-1, 1)),
        ("key", revision.clone(), kv(5, i64::MAX)),
        ("meta", key(b"scheduledCompactRev"), at(-1)),
        ("lease", key(&7_u64.to_be_bytes()), Bytes::from_static(b"\x08\x08\x10\x01")),
        ("lease", key(&7_u64.to_be_bytes()), Bytes::from_static(b"\xff")),
        ("alarm", key(b"\xff"), Bytes::new()),
        ("meta", key(b"scheduledCompactRev"), Bytes::from_static(b"5")),
    ] {
        let content = Content::from([(bucket.to_owned(), vec![(key, value)])]);
        let refused = imported(&content, &cluster(None)).err().expect(bucket);
        assert!(refused.to_string().starts_with(&format!("the bucket {bucket} holds")));
    }
    let alone = [("a".to_owned(), "http://a:1".to_owned())];
    let refused = NewCluster::new(&alone, "t", "x", &[]).err().map(|error| error.to_string());
    let expected = "couldn't find local name \"x\" in the initial cluster configuration";
    assert_eq!(refused.as_deref(), Some(expected));
}
