//! The first start on a data directory that etcd wrote: its state becomes ours.
//!
//! What a member of etcd knows is its database (`member/snap/db`), and what the log beside it has
//! beyond that. The database is taken over as a snapshot is restored. Entries of etcd's log cannot
//! be applied here: a log that reaches further than the database, as a crash leaves it, is refused,
//! for it may hold what was acknowledged. Members of a cluster of several must have been restored
//! from one snapshot and not started since; only then do they all hold the same.
//!
//! etcd's own files stay as they are: whoever wants to go back can.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use coracle_core::api::etcdserverpb::Member;
use coracle_core::node::NodeConfig;
use coracle_core::platform::Disk;
use coracle_core::snapshot::NewCluster;
use prost::Message;
use prost::encoding::{DecodeContext, decode_key, skip_field};
use serde::Deserialize;

use super::{Failure, restore, snapshot_file};

/// A database that is complete has a mark with this ending beside it; it is ours.
const COMPLETE: &str = "complete";

/// The database of an etcd whose folder this still is: ours is not there yet.
pub(super) fn etcds_database(data_dir: &Path) -> Option<PathBuf> {
    let snap = data_dir.join("member/snap");
    let mut entries = fs::read_dir(&snap).ok()?.filter_map(Result::ok);
    let is_ours = entries
        .any(|entry| Path::new(&entry.file_name()).extension() == Some(OsStr::new(COMPLETE)));
    let database = snap.join("db");
    (!is_ours && database.is_file()).then_some(database)
}

/// Makes the state of the etcd that lived in `data_dir`, if one did, that of our member on `disk`.
/// Otherwise a sentence for the operator.
pub(crate) fn adopt(
    data_dir: &Path,
    wal_dir: Option<&Path>,
    disk: Arc<dyn Disk>,
    node: &NodeConfig,
) -> Result<(), String> {
    let Some(path) = etcds_database(data_dir) else { return Ok(()) };
    let default = data_dir.join("member/wal");
    take_over(&path, wal_dir.unwrap_or(&default), disk, node).map_err(|failure| {
        format!(
            "the data directory {} is etcd's, and cannot be taken over as it is: {}. Its database \
             alone can be restored into another folder: `etcdutl snapshot restore {} \
             --skip-hash-check`",
            data_dir.display(),
            failure.message,
            path.display()
        )
    })
}

fn take_over(
    path: &Path,
    wal_dir: &Path,
    disk: Arc<dyn Disk>,
    node: &NodeConfig,
) -> Result<(), Failure> {
    let database = snapshot_file::open(&path.to_string_lossy())?;
    let (applied, members) = known(&database)?;
    let log = Log::read(wal_dir, applied)
        .map_err(|error| Failure::error(format!("cannot read {}: {error}", wal_dir.display())))?;
    let unapplied = log.unapplied.len();
    if applied == 0 && members.is_empty() && log.members.is_empty() && unapplied == 0 {
        // An etcd that refused to start made it, and wrote nothing into it.
        return Ok(());
    }
    if unapplied > 0 {
        let message = format!(
            "{unapplied} entries of its log are not in its database; start etcd and stop it"
        );
        return Err(Failure::error(message));
    }
    let cluster = if log.requests {
        cluster(members, node, node.force_new_cluster)?
    } else {
        // What a tool restored tells of its members in the log; the database may still tell of the
        // ones before (etcd 3.4).
        let members = log.members.iter().map(|json| member(json)).collect::<Result<_, _>>()?;
        cluster(members, node, true)?
    };
    tracing::info!(path = %path.display(), "taking over the state of etcd");
    restore::import(&database, disk, &cluster)?;
    tracing::info!(path = %path.display(), "took over the state of etcd; its files are left there");
    Ok(())
}

/// What etcd's database says: the index of the last entry that is in it, and the members.
fn known(
    database: &coracle_bolt::Database<snapshot_file::Positioned>,
) -> Result<(u64, Vec<Member>), Failure> {
    let (mut applied, mut members) = (0, Vec::new());
    for bucket in database.buckets() {
        let is_meta = match bucket.name() {
            b"meta" => true,
            b"members" => false,
            _ => continue,
        };
        let mut entries = database.entries(bucket).map_err(Failure::error)?;
        while let Some(entry) = entries.next().map_err(Failure::error)? {
            if !is_meta {
                members.push(member(&entry.value)?);
            } else if &entry.key[..] == b"consistent_index" {
                let index = entry.value[..].try_into().map(u64::from_be_bytes);
                applied = index.map_err(|_| {
                    Failure::error(format!("its consistent_index is {:02x?}", entry.value))
                })?;
            }
        }
    }
    Ok((applied, members))
}

/// The cluster of `members`; one of several is only taken over if they are known to be `alike`.
fn cluster(members: Vec<Member>, node: &NodeConfig, alike: bool) -> Result<NewCluster, Failure> {
    let own = match &members[..] {
        [] => return Err(Failure::error("it tells of no members")),
        [only] => only.id,
        several if !alike => {
            let message = format!("it is of one of {} members, which may differ", several.len());
            return Err(Failure::error(message));
        }
        several => {
            let named = several.iter().find(|member| member.name == node.name);
            let missing = || Failure::error(format!("no member of it is called {:?}", node.name));
            named.ok_or_else(missing)?.id
        }
    };
    Ok(NewCluster::of(members, own))
}

/// A record of the bucket `members`, and what an entry says that adds a member.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MemberRecord {
    id: u64,
    #[serde(rename = "peerURLs")]
    peer_urls: Vec<String>,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "clientURLs")]
    client_urls: Vec<String>,
    #[serde(default)]
    is_learner: bool,
}

fn member(json: &[u8]) -> Result<Member, Failure> {
    let record: MemberRecord = serde_json::from_slice(json)
        .map_err(|error| Failure::error(format!("it holds no record of a member: {error}")))?;
    Ok(Member {
        id: record.id,
        name: record.name,
        peer_ur_ls: record.peer_urls,
        client_ur_ls: record.client_urls,
        is_learner: record.is_learner,
    })
}

/// A record of etcd's log.
#[derive(Clone, PartialEq, Message)]
struct LogRecord {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(uint32, tag = "2")]
    crc: u32,
    #[prost(bytes = "bytes", tag = "3")]
    data: Bytes,
}

/// [`LogRecord::kind`] of an entry of Raft.
const ENTRY: i64 = 2;

#[derive(Clone, PartialEq, Message)]
struct LogEntry {
    /// 0 for a request; the others change the membership.
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(bytes = "bytes", tag = "4")]
    data: Bytes,
}

/// A change of the membership.
#[derive(Clone, PartialEq, Message)]
struct ConfChange {
    #[prost(bytes = "bytes", tag = "4")]
    context: Bytes,
}

/// What etcd's log says.
#[derive(Debug, Default, PartialEq)]
struct Log {
    /// The indexes of entries that change the store and are not in the database.
    unapplied: Vec<u64>,
    /// Whether there is anything but changes of the membership: the member has been started.
    requests: bool,
    /// What the changes of the membership say of the members.
    members: Vec<Bytes>,
}

impl Log {
    /// Reads the log in `folder`, of which the database has the entries up to `applied`.
    fn read(folder: &Path, applied: u64) -> io::Result<Log> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.extension() == Some(OsStr::new("wal")) {
                files.push(path);
            }
        }
        // The names begin with a sequence number of fixed width.
        files.sort();
        let mut log = Log::default();
        for path in files {
            each_entry(&path, |entry| log.take(entry, applied))?;
        }
        Ok(log)
    }

    fn take(&mut self, entry: LogEntry, applied: u64) {
        // An entry takes the place of those that were written with its index and later ones.
        while self.unapplied.pop_if(|index| *index >= entry.index).is_some() {}
        if entry.kind == 0 {
            self.requests = true;
            if entry.index > applied && changes_store(entry.data) {
                self.unapplied.push(entry.index);
            }
        } else if let Ok(change) = ConfChange::decode(entry.data) {
            self.members.push(change.context);
        }
    }
}

/// Whether the request in an entry is one of those that the database keeps something of: from a
/// put to an alarm, leases, and everything of authentication.
fn changes_store(mut request: Bytes) -> bool {
    while request.has_remaining() {
        let Ok((field, wire_type)) = decode_key(&mut request) else { return true };
        if matches!(field, 4..=11 | 1000..=1299) {
            return true;
        }
        if skip_field(wire_type, field, &mut request, DecodeContext::default()).is_err() {
            return true;
        }
    }
    false
}

/// Goes through the entries in one file of the log, to its end or to where a write was torn.
fn each_entry(path: &Path, mut visit: impl FnMut(LogEntry)) -> io::Result<()> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut file = BufReader::new(file);
    // Each record is framed by a number: its length, and in the topmost byte how many bytes follow
    // it so that the next begins at a multiple of 8. A file is made with zeros in it.
    let mut frame = [0; 8];
    while filled(&mut file, &mut frame)? {
        let frame = u64::from_le_bytes(frame);
        let size = frame & (u64::MAX >> 8);
        if frame == 0 || size > length {
            break;
        }
        let padding = if frame >> 63 == 1 { (frame >> 56) & 7 } else { 0 };
        let mut record = vec![0; (size + padding) as usize];
        if !filled(&mut file, &mut record)? {
            break;
        }
        record.truncate(size as usize);
        let Ok(record) = LogRecord::decode(&record[..]) else { break };
        if record.kind == ENTRY {
            let Ok(entry) = LogEntry::decode(record.data) else { break };
            visit(entry);
        }
    }
    Ok(())
}

/// Fills `buffer`; false at the end of the file.
fn filled(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        read => read.map(|()| true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(record: &LogRecord) -> Vec<u8> {
        let bytes = record.encode_to_vec();
        let padding = (8 - bytes.len() % 8) % 8;
        let marked = if padding == 0 { 0 } else { (0x80 | padding as u64) << 56 };
        let mut framed = (bytes.len() as u64 | marked).to_le_bytes().to_vec();
        framed.extend(&bytes);
        framed.resize(framed.len() + padding, 0);
        framed
    }

    fn entry(index: u64, kind: i32, data: &'static [u8]) -> Vec<u8> {
        let data = Bytes::from_static(data);
        let entry = LogEntry { kind, term: 1, index, data }.encode_to_vec();
        frame(&LogRecord { kind: ENTRY, crc: 7, data: entry.into() })
    }

    /// A put is field 4 of the request, what a member says of itself is field 1301, whose key is
    /// `aa 51`.
    const PUT: &[u8] = &[0x22, 0];
    const ATTRIBUTES: &[u8] = &[0xaa, 0x51, 0];

    #[test]
    fn fs_01_what_etcds_log_has_beyond_its_database_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let first = [
            frame(&LogRecord { kind: 4, crc: 0, data: Bytes::new() }),
            entry(1, 1, b"\x22\x02{}"),
            entry(2, 0, PUT),
            entry(3, 0, PUT),
            entry(4, 0, PUT),
            // Another leader's entries take the place of two.
            entry(3, 0, b""),
            entry(4, 0, ATTRIBUTES),
            entry(5, 0, PUT),
        ];
        let mut second = [entry(6, 0, PUT), entry(7, 0, PUT)].concat();
        second.truncate(second.len() - 9);
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
        write("0000000000000000-0000000000000000.wal", &[first.concat(), vec![0; 64]].concat());
        write("0000000000000001-0000000000000006.wal", &second);
        write("1.tmp", b"not of the log");
        let read = |applied| Log::read(folder.path(), applied).unwrap();
        assert_eq!(read(6), Log { unapplied: vec![], requests: true, members: vec!["{}".into()] });
        assert_eq!([read(5).unapplied, read(4).unapplied], [vec![6], vec![5, 6]]);
        assert_eq!(read(1).unapplied, [2, 5, 6]);
    }
}
