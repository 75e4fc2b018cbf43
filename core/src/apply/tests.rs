//! What a log may hold, whoever wrote it; and the state as a whole, when a snapshot replaces it.

use std::io;
use std::sync::{Arc, Mutex};

use prost::Message;

use super::*;
use crate::backend::{BackendOptions, BackendView};
use crate::platform::{Disk, File, MemoryDisk};
use crate::quota::Quota;

fn applier() -> Applier {
    applier_on(Arc::new(MemoryDisk::default()))
}

fn applier_on(disk: Arc<dyn Disk>) -> Applier {
    // So little that what is read comes from the disk.
    let options = BackendOptions { cache_bytes: 64 << 10, recent_bytes: 0 };
    let backend = Arc::new(Backend::open(disk, options).unwrap());
    let members = Arc::new(Members::open(backend.clone()).unwrap());
    Applier::open(backend, members, Quota::new(0), 1 << 20).unwrap()
}

/// A command that the gRPC door would let in by itself, and that no decoder takes out of the log.
fn too_deep() -> Bytes {
    let innermost = pb::TxnRequest::default();
    let txn = (0..50).fold(innermost, |inner, _| pb::TxnRequest {
        success: vec![pb::RequestOp { request: Some(OpRequest::RequestTxn(inner)) }],
        ..Default::default()
    });
    assert_eq!(pb::TxnRequest::decode(&txn.encode_to_vec()[..]), Ok(txn.clone()));
    Command { id: 7, request: Some(Request::Txn(txn)), asker: None }.encode_to_vec().into()
}

#[test]
fn txn_04_a_committed_command_that_cannot_be_decoded_is_refused_alike_by_all() {
    for encoded in [too_deep(), Bytes::from_static(b"\xffgarbage")] {
        let outcomes = [applier(), applier()].map(|applier| {
            let applied = applier.apply(1, encoded.clone()).expect("it does not stop the member");
            assert_eq!(applier.store.current_revision(), 1);
            applied.2
        });
        let refused = outcomes[0].clone().expect_err("nothing to carry out");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(outcomes[0], outcomes[1]);
    }
}

type Probe = Arc<dyn Fn() + Send + Sync>;

/// A disk that calls a probe before each read of a database file but the first.
#[derive(Clone, Default)]
struct ProbedDisk {
    disk: MemoryDisk,
    probe: Arc<Mutex<Option<Probe>>>,
}

struct ProbedFile {
    file: Arc<dyn File>,
    probe: Arc<Mutex<Option<Probe>>>,
}

impl Disk for ProbedDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(name, create)?;
        if name.ends_with("01") {
            return Ok(file);
        }
        Ok(Arc::new(ProbedFile { file, probe: self.probe.clone() }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
}

impl File for ProbedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        // Taken out meanwhile: what the probe reads is not probed.
        let probe = self.probe.lock().unwrap().take();
        if let Some(probe) = probe {
            probe();
            *self.probe.lock().unwrap() = Some(probe);
        }
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Puts each key of 400 once; the values are long enough to make a file of some size.
fn put_all(applier: &Applier, from: u64, value: &str) {
    for n in 0..400_u64 {
        let (key, value) = (format!("k{n:03}"), value.repeat(1_000));
        let request = pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() };
        let command = Command { id: n, request: Some(Request::Put(request)), asker: None };
        applier.apply(from + n, command.encode_to_vec().into()).unwrap().2.unwrap();
    }
}

fn receive(applier: &Applier, view: &BackendView) {
    let mut restorer = applier.backend.restorer().unwrap();
    for chunk in view.chunks() {
        restorer.write_chunk(&chunk.unwrap()).unwrap();
    }
    restorer.finish().unwrap();
}

#[test]
fn watch_14_while_a_snapshot_is_read_everybody_sees_the_state_before() {
    let leader = applier();
    put_all(&leader, 1, "1");
    put_all(&leader, 401, "2");
    leader.store.compact(801).unwrap();
    while leader.store.compact_step(1_000).unwrap() {}
    let disk = ProbedDisk::default();
    let follower = Arc::new(applier_on(Arc::new(disk.clone())));
    put_all(&follower, 1, "1");
    follower.backend.flush().unwrap();
    receive(&follower, &leader.backend.view().unwrap());
    let looks = Arc::new(Mutex::new(0));
    let (looking, count) = (follower.clone(), looks.clone());
    *disk.probe.lock().unwrap() = Some(Arc::new(move || {
        let request = pb::RangeRequest { key: "k007".into(), ..Default::default() };
        let read = looking.store.range(&request).expect("no reader stops the member");
        assert!(read.expect("not compacted").kvs[0].value.starts_with(b"1"));
        let past = looking.store.events(2, 10).expect("no watcher stops the member");
        assert_eq!(past.expect("not compacted").len(), 10, "history without holes");
        // What the node's own thread asks ten times a second does not wait for the whole file.
        assert!(!looking.store.compaction_pending());
        *count.lock().unwrap() += 1;
    }));
    follower.replace_with_restored().unwrap();
    *disk.probe.lock().unwrap() = None;
    assert!(*looks.lock().unwrap() > 10, "the file is read from the disk");
    let request = pb::RangeRequest { key: "k007".into(), ..Default::default() };
    let read = follower.store.range(&request).unwrap().unwrap();
    assert!(read.kvs[0].value.starts_with(b"2"));
    assert_eq!(follower.store.events(2, 10).unwrap(), Err(Error::Compacted));
}
