//! Out: a consistent view of the backend as the bytes of an etcd snapshot, in bounded steps.
//!
//! The view is gone through twice, first to measure the file and then to write it (see
//! [`coracle_bolt::Writer`]); memory holds about a step's bytes and one page per level of a tree,
//! whatever the size of the state. Writes go on meanwhile: the view is of one commit.

use bytes::Bytes;
use coracle_bolt::{Layout, WriteError, Writer};
use prost::Message;
use sha2::{Digest, Sha256};

use super::{CONF_STATE, CONSISTENT_INDEX, REMOVED, TERM, member_key};
use crate::api::etcdserverpb::{AlarmMember, Member};
use crate::backend::{BackendView, Bucket, Contents};
use crate::cluster::alarm_of_key;
use crate::error::{Fatal, hex};
use crate::mvcc::{FINISHED_COMPACTION, SCHEDULED_COMPACTION};
use crate::raft::snapshot::view_applied;

/// Bytes of entries that one step takes from the view, at least one entry.
const STEP_BYTES: usize = 512 * 1024;

/// An etcd snapshot that is being made.
pub struct Export {
    view: BackendView,
    tables: Vec<Table>,
    /// The table that is being written, and the key to go on from.
    table: usize,
    from: Bytes,
    writer: Writer,
    layout: Option<Layout>,
    hash: Sha256,
    remaining: u64,
    /// Whether the last byte was handed out.
    written: bool,
}

/// What a step of an [`Export`] gave.
pub enum Piece {
    /// Nothing yet: the file is being measured.
    Measuring,
    /// The next bytes of the file, and how many come after them.
    Bytes { bytes: Bytes, remaining: u64 },
    /// The SHA-256 of all bytes: the end.
    Checksum(Bytes),
}

/// A bucket of the file.
struct Table {
    name: &'static str,
    content: Content,
}

/// Keys and values, by key.
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

enum Content {
    /// As it is stored here.
    Stored(Bucket),
    /// Translated; there is little of it.
    Made(Entries),
}

impl Export {
    /// The snapshot of what `view` holds. Blocks shortly.
    pub fn new(view: BackendView) -> Result<Export, Fatal> {
        let tables = tables(&view)?;
        Ok(Export {
            view,
            tables,
            table: 0,
            from: Bytes::new(),
            writer: Writer::measuring(),
            layout: None,
            hash: Sha256::new(),
            remaining: 0,
            written: false,
        })
    }

    /// Does a bounded part of the work. Blocks for as long as reading that much takes.
    pub fn step(&mut self) -> Result<Piece, Fatal> {
        if self.written {
            return Ok(Piece::Checksum(Bytes::copy_from_slice(&self.hash.finalize_reset())));
        }
        let mut fed = 0;
        while fed < STEP_BYTES && self.table < self.tables.len() {
            fed += self.feed()?;
        }
        let ended = self.table == self.tables.len();
        if ended {
            let layout = self.writer.finish().map_err(refused)?;
            if self.layout.is_none() {
                self.layout = Some(layout);
                self.writer = Writer::writing(layout);
                self.remaining = layout.bytes();
                self.table = 0;
                return Ok(Piece::Measuring);
            }
        }
        if self.layout.is_none() {
            return Ok(Piece::Measuring);
        }
        self.written = ended;
        let bytes = Bytes::from(self.writer.take());
        self.hash.update(&bytes);
        self.remaining -= bytes.len() as u64;
        Ok(Piece::Bytes { bytes, remaining: self.remaining })
    }

    /// Gives the writer some entries of the current table; returns about how many bytes.
    fn feed(&mut self) -> Result<usize, Fatal> {
        let Table { name, content } = &self.tables[self.table];
        if self.from.is_empty() {
            self.writer.bucket(name.as_bytes()).map_err(refused)?;
        }
        let mut fed = 0;
        match content {
            Content::Made(entries) => {
                for (key, value) in entries {
                    self.writer.put(key, value).map_err(refused)?;
                    fed += key.len() + value.len();
                }
            }
            Content::Stored(bucket) => {
                let page = self.view.scan(*bucket, &self.from, usize::MAX, STEP_BYTES)?;
                for (key, value) in &page {
                    self.writer.put(key, value).map_err(refused)?;
                    fed += key.len() + value.len();
                }
                if let Some((last, _)) = page.last() {
                    self.from = [last, &[0][..]].concat().into();
                    return Ok(fed);
                }
            }
        }
        self.table += 1;
        self.from = Bytes::new();
        Ok(fed)
    }
}

fn refused(error: WriteError) -> Fatal {
    Fatal::Invariant(format!("the state does not fit into an etcd snapshot: {error}"))
}

/// The buckets of the file, by name.
fn tables(view: &BackendView) -> Result<Vec<Table>, Fatal> {
    let members = members(view)?;
    let mut tables = Vec::new();
    for bucket in Bucket::ALL {
        let content = match bucket {
            Bucket::Alarm => Content::Made(alarms(view)?),
            Bucket::Members => Content::Made(sorted(members.iter().map(member_entry))),
            Bucket::MembersRemoved => Content::Made(removed(view)?),
            Bucket::Meta => Content::Made(meta(view, &members)?),
            // Of a later version than its own a release of etcd takes no state.
            Bucket::Cluster => Content::Made(Vec::new()),
            _ => Content::Stored(bucket),
        };
        tables.push(Table { name: bucket.name(), content });
    }
    tables.sort_by_key(|table| table.name);
    Ok(tables)
}

fn sorted(entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) -> Entries {
    let mut entries: Entries = entries.collect();
    entries.sort();
    entries
}

fn alarms(view: &BackendView) -> Result<Entries, Fatal> {
    let mut alarms = Vec::new();
    for (key, _) in view.all(Bucket::Alarm)? {
        let (alarm, member_id) = alarm_of_key(&key)?;
        alarms.push((AlarmMember { member_id, alarm }.encode_to_vec(), Vec::new()));
    }
    Ok(sorted(alarms.into_iter()))
}

fn members(view: &BackendView) -> Result<Vec<Member>, Fatal> {
    let decode = |(_, value): (Bytes, Bytes)| {
        Member::decode(value).map_err(|error| Fatal::Backend(format!("a stored member: {error}")))
    };
    view.all(Bucket::Members)?.into_iter().map(decode).collect()
}

/// A member as etcd stores it: JSON under its identifier in hex.
fn member_entry(member: &Member) -> (Vec<u8>, Vec<u8>) {
    let mut json = format!("{{\"id\":{},\"peerURLs\":{}", member.id, list(&member.peer_ur_ls));
    if member.is_learner {
        json.push_str(",\"isLearner\":true");
    }
    if !member.name.is_empty() {
        json.push_str(&format!(",\"name\":{}", quoted(&member.name)));
    }
    if !member.client_ur_ls.is_empty() {
        json.push_str(&format!(",\"clientURLs\":{}", list(&member.client_ur_ls)));
    }
    json.push('}');
    (member_key(member.id), json.into_bytes())
}

fn list(texts: &[String]) -> String {
    let texts: Vec<String> = texts.iter().map(|text| quoted(text)).collect();
    format!("[{}]", texts.join(","))
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut json = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => json.extend(['\\', letter]),
            '\0'..='\x1f' => json.push_str(&format!("\\u{:04x}", u32::from(letter))),
            _ => json.push(letter),
        }
    }
    json.push('"');
    json
}

fn removed(view: &BackendView) -> Result<Entries, Fatal> {
    let mut removed = Vec::new();
    for (key, _) in view.all(Bucket::MembersRemoved)? {
        let id = key[..]
            .try_into()
            .map_err(|_| Fatal::Backend(format!("removed member key {}", hex(&key))))?;
        removed.push((member_key(u64::from_be_bytes(id)), REMOVED.to_vec()));
    }
    Ok(sorted(removed.into_iter()))
}

fn meta(view: &BackendView, members: &[Member]) -> Result<Entries, Fatal> {
    let mut meta = Vec::new();
    for name in [FINISHED_COMPACTION, SCHEDULED_COMPACTION] {
        if let Some(revision) = view.get(Bucket::Meta, name)? {
            meta.push((name.to_vec(), revision.to_vec()));
        }
    }
    let (applied, _) = view_applied(view)?;
    let (index, term) = applied.map_or((0, 0), |id| (id.index, id.leader_id.term));
    meta.push((CONSISTENT_INDEX.to_vec(), index.max(1).to_be_bytes().to_vec()));
    // A file of term 0 is none to etcd 3.6.
    meta.push((TERM.to_vec(), term.max(1).to_be_bytes().to_vec()));
    let ids = |learners: bool| -> Vec<String> {
        let chosen = members.iter().filter(|member| member.is_learner == learners);
        chosen.map(|member| member.id.to_string()).collect()
    };
    let mut state = format!("{{\"voters\":[{}]", ids(false).join(","));
    let learners = ids(true);
    if !learners.is_empty() {
        state.push_str(&format!(",\"learners\":[{}]", learners.join(",")));
    }
    state.push_str(",\"auto_leave\":false}");
    meta.push((CONF_STATE.to_vec(), state.into_bytes()));
    Ok(sorted(meta.into_iter()))
}
