//! What the raft log's records say, as bytes.
//!
//! A log id is 16 bytes: term and index, little-endian. An entry is its log id, a tag and the
//! payload; a command is the proposer's bytes as they are, copied once on the way in and not at all
//! on the way out. Votes and the state at the start of a segment are protobuf, since they may grow.

use bytes::{Buf, Bytes};
use openraft::EntryPayload;
use prost::Message;

use super::super::convert::{Malformed, membership_message};
use super::super::types::{CommittedLeaderId, Entry, LogId, Membership, ProposedCommand, Vote};
use crate::api::coraclepb as pb;
use crate::wal::{Batch, Kind};

const LOG_ID_BYTES: usize = 16;
const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// What a segment starts with: all that the records before it say, except entries.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct StoredState {
    #[prost(message, optional, tag = "1")]
    vote: Option<pb::Vote>,
    #[prost(message, optional, tag = "2")]
    purged: Option<pb::LogId>,
    #[prost(message, optional, tag = "3")]
    last: Option<pb::LogId>,
    #[prost(message, optional, tag = "4")]
    committed: Option<pb::LogId>,
}

/// The raft log but for its entries. Each record changes it in the same way when it is written and
/// when it is read back.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LogBase {
    pub(super) vote: Option<Vote>,
    /// The last entry that was purged.
    pub(super) purged: Option<LogId>,
    /// The last entry, or `purged` if there is none.
    pub(super) last: Option<LogId>,
    pub(super) committed: Option<LogId>,
}

impl LogBase {
    pub(super) fn encode(&self) -> Vec<u8> {
        let stored = StoredState {
            vote: self.vote.map(pb::Vote::from),
            purged: self.purged.map(pb::LogId::from),
            last: self.last.map(pb::LogId::from),
            committed: self.committed.map(pb::LogId::from),
        };
        stored.encode_to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<LogBase, Malformed> {
        let stored = StoredState::decode(bytes);
        let stored = stored.map_err(|_| Malformed("a segment's start is not a state"))?;
        Ok(LogBase {
            vote: stored.vote.map(Vote::from),
            purged: stored.purged.map(LogId::from),
            last: stored.last.map(LogId::from),
            committed: stored.committed.map(LogId::from),
        })
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match *change {
            Change::Vote(vote) => self.vote = Some(vote),
            Change::Appended(id) => self.last = Some(id),
            Change::Truncate(after) => self.last = later(after, self.purged),
            Change::Purge(id) => {
                self.purged = later(self.purged, Some(id));
                self.last = later(self.last, self.purged);
            }
            Change::Committed(id) => self.committed = Some(id),
        }
    }
}

/// The one with the greater index; the second if they are equal.
pub(super) fn later(a: Option<LogId>, b: Option<LogId>) -> Option<LogId> {
    let index = |id: Option<LogId>| id.map(|id| id.index);
    if index(a) > index(b) { a } else { b }
}

/// What a record changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    Vote(Vote),
    /// An entry follows the last one. Its payload is not needed to know the log's shape.
    Appended(LogId),
    /// All entries after this one are gone; all entries if None.
    Truncate(Option<LogId>),
    /// All entries up to this one are gone.
    Purge(LogId),
    Committed(LogId),
}

impl Change {
    /// The change of a record. None for a mark, which changes nothing.
    pub(super) fn decode(kind: Kind, mut payload: &[u8]) -> Result<Option<Change>, Malformed> {
        let change = match kind {
            Kind::Start | Kind::Mark => return Ok(None),
            Kind::Vote => {
                let vote = pb::Vote::decode(payload);
                return vote.map(|vote| Some(Change::Vote(vote.into()))).map_err(|_| NOT_A_VOTE);
            }
            // The payload is looked at when the entry is read.
            Kind::Entry => return Ok(Some(Change::Appended(get_log_id(&mut payload)?))),
            Kind::Truncate if payload.is_empty() => Change::Truncate(None),
            Kind::Truncate => Change::Truncate(Some(get_log_id(&mut payload)?)),
            Kind::Purge => Change::Purge(get_log_id(&mut payload)?),
            Kind::Committed => Change::Committed(get_log_id(&mut payload)?),
        };
        if payload.is_empty() { Ok(Some(change)) } else { Err(Malformed("a record is too long")) }
    }
}

const NOT_A_VOTE: Malformed = Malformed("a vote record holds no vote");

pub(super) fn push_vote(batch: &mut Batch, vote: Vote) {
    batch.push(Kind::Vote, |buffer| buffer.extend(pb::Vote::from(vote).encode_to_vec()));
}

pub(super) fn push_truncate(batch: &mut Batch, after: Option<LogId>) {
    batch.push(Kind::Truncate, |buffer| {
        if let Some(after) = after {
            put_log_id(buffer, after);
        }
    });
}

pub(super) fn push_purge(batch: &mut Batch, upto: LogId) {
    batch.push(Kind::Purge, |buffer| put_log_id(buffer, upto));
}

pub(super) fn push_committed(batch: &mut Batch, committed: LogId) {
    batch.push(Kind::Committed, |buffer| put_log_id(buffer, committed));
}

/// Adds the record of `entry` to `batch`.
pub(super) fn push_entry(batch: &mut Batch, entry: &Entry) {
    batch.push(Kind::Entry, |buffer| {
        put_log_id(buffer, entry.log_id);
        match &entry.payload {
            EntryPayload::Blank => buffer.push(BLANK),
            EntryPayload::Normal(command) => {
                buffer.push(COMMAND);
                buffer.extend_from_slice(&command.0);
            }
            EntryPayload::Membership(membership) => {
                buffer.push(MEMBERSHIP);
                buffer.extend(membership_message(membership, None).encode_to_vec());
            }
        }
    });
}

/// The entry of a record's payload, which it keeps alive.
pub(super) fn decode_entry(mut payload: Bytes) -> Result<Entry, Malformed> {
    let log_id = get_log_id(&mut payload)?;
    let tag = payload.try_get_u8().map_err(|_| Malformed("an entry has no payload"))?;
    let payload = match tag {
        BLANK => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(ProposedCommand(payload)),
        MEMBERSHIP => {
            let message = pb::Membership::decode(payload);
            let message = message.map_err(|_| Malformed("an entry holds no membership"))?;
            EntryPayload::Membership(Membership::try_from(message)?)
        }
        _ => return Err(Malformed("an entry has an unknown payload")),
    };
    Ok(Entry { log_id, payload })
}

/// What an entry counts beside its command. Not its size in memory: batches are cut by it, and a
/// run has to be the same where pointers are shorter.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// About how many bytes of memory an entry takes.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    let payload = match &entry.payload {
        EntryPayload::Normal(command) => command.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    };
    payload + ENTRY_OVERHEAD_BYTES
}

fn put_log_id(buffer: &mut Vec<u8>, id: LogId) {
    buffer.extend(id.leader_id.term.to_le_bytes());
    buffer.extend(id.index.to_le_bytes());
}

fn get_log_id(payload: &mut impl Buf) -> Result<LogId, Malformed> {
    if payload.remaining() < LOG_ID_BYTES {
        return Err(Malformed("a log id is cut off"));
    }
    let leader_id = CommittedLeaderId::new(payload.get_u64_le());
    Ok(LogId { leader_id, index: payload.get_u64_le() })
}
