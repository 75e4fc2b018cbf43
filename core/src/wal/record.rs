//! One record: its bytes, its checksums, and batches of them.
//!
//! ```text
//!  0        4        8            12           16             20            20+length
//!  | length | kind   | durable_to | header_crc | payload_crc  | payload ... | 0..3 zeroes |
//! ```
//!
//! All numbers are little-endian 32-bit, records start at multiples of four. `header_crc` is the
//! CRC-32C of segment number, offset in the segment and the first twelve bytes, so a record is
//! valid only where it was meant to be: bytes that a disk wrote to the wrong place, or that were
//! left over, do not pass. `payload_crc` goes on from `header_crc` over payload and padding, so
//! nothing of a record is outside the checksums. The header has its own because recovery tries
//! every offset behind a damaged record, which must stay cheap.
//!
//! `durable_to` says: when this record was written, the segment was synced up to here. It is what
//! tells a torn tail from a corrupt middle, see [`recovery`](super::recovery).

use bytes::Buf;

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 20;
/// Records start at multiples of this.
pub(super) const ALIGNMENT: usize = 4;

/// What a record says. The WAL itself writes `Start`; the others are its user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The first record of a segment: the state in which it starts.
    Start = 1,
    /// Nothing but its `durable_to`: all before it was synced.
    Mark = 2,
    /// The member's vote.
    Vote = 3,
    /// A log entry.
    Entry = 4,
    /// Entries after a log id are gone.
    Truncate = 5,
    /// Entries up to a log id are gone.
    Purge = 6,
    /// Entries up to a log id are committed.
    Committed = 7,
}

impl Kind {
    fn from_u32(number: u32) -> Option<Kind> {
        use Kind::*;
        let all = [Start, Mark, Vote, Entry, Truncate, Purge, Committed];
        all.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The segment's number.
    pub segment: u64,
    /// Where the record starts in the segment, in bytes.
    pub offset: u32,
    /// The payload's length in bytes.
    pub length: u32,
}

impl Position {
    /// The bytes of the whole record, padding included.
    pub(super) fn record_bytes(&self) -> usize {
        record_bytes(self.length as usize)
    }
}

/// A valid header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) length: usize,
    pub(super) durable_to: u64,
    header_crc: u32,
    payload_crc: u32,
}

impl Header {
    /// Reads the header at the start of `bytes`, which stand at `offset` of `segment`. None if
    /// they are not a header that was written there.
    pub(super) fn parse(mut bytes: &[u8], segment: u64, offset: u64) -> Option<Header> {
        if bytes.len() < HEADER_BYTES {
            return None;
        }
        let checked = &bytes[..12];
        let length = bytes.get_u32_le();
        // Most offsets fail here, without a checksum.
        let kind = Kind::from_u32(bytes.get_u32_le())?;
        let durable_to = bytes.get_u32_le();
        let header_crc = bytes.get_u32_le();
        if header_crc != position_crc(segment, offset, checked) {
            return None;
        }
        let payload_crc = bytes.get_u32_le();
        let durable_to = u64::from(durable_to);
        Some(Header { kind, length: length as usize, durable_to, header_crc, payload_crc })
    }

    /// The payload of the record that `bytes` start with, if it is whole and undamaged.
    pub(super) fn payload<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let padded = bytes.get(HEADER_BYTES..record_bytes(self.length))?;
        (crc32c::crc32c_append(self.header_crc, padded) == self.payload_crc)
            .then(|| &padded[..self.length])
    }
}

/// The bytes of a record whose payload has `length` bytes.
pub(super) fn record_bytes(length: usize) -> usize {
    HEADER_BYTES.saturating_add(length).next_multiple_of(ALIGNMENT)
}

fn position_crc(segment: u64, offset: u64, header: &[u8]) -> u32 {
    let mut seed = [0; 16];
    seed[..8].copy_from_slice(&segment.to_le_bytes());
    seed[8..].copy_from_slice(&offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), header)
}

/// Records that are written together, in order, in one buffer that is used again.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    records: Vec<Pending>,
    /// Segment and offset of the first record, once written.
    segment: u64,
    base: u64,
}

struct Pending {
    kind: Kind,
    start: usize,
    length: usize,
}

impl Batch {
    /// Adds a record; `write` appends its payload to the buffer.
    pub fn push(&mut self, kind: Kind, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.resize(start + HEADER_BYTES, 0);
        write(&mut self.bytes);
        let length = self.bytes.len() - start - HEADER_BYTES;
        self.bytes.resize(start + record_bytes(length), 0);
        self.records.push(Pending { kind, start, length });
    }

    /// The bytes that the batch takes in a segment.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Removes all records and keeps at most `keep` bytes of the buffer for the next ones.
    pub fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
        self.records.clear();
    }

    /// Fills in the headers for a batch that starts at `base` of `segment`. The caller has checked
    /// that the end of the batch fits into 32 bits.
    pub(super) fn seal(&mut self, segment: u64, base: u64, durable_to: u64) -> &[u8] {
        (self.segment, self.base) = (segment, base);
        for record in &self.records {
            let offset = base + record.start as u64;
            let end = record.start + record_bytes(record.length);
            let (header, payload) = self.bytes[record.start..end].split_at_mut(HEADER_BYTES);
            header[0..4].copy_from_slice(&(record.length as u32).to_le_bytes());
            header[4..8].copy_from_slice(&(record.kind as u32).to_le_bytes());
            header[8..12].copy_from_slice(&(durable_to as u32).to_le_bytes());
            let header_crc = position_crc(segment, offset, &header[..12]);
            header[12..16].copy_from_slice(&header_crc.to_le_bytes());
            let payload_crc = crc32c::crc32c_append(header_crc, payload);
            header[16..20].copy_from_slice(&payload_crc.to_le_bytes());
        }
        &self.bytes
    }

    /// Where the records stand, in order. Only after the batch was written.
    pub fn positions(&self) -> impl Iterator<Item = (Kind, Position)> {
        self.records.iter().map(|record| {
            let offset = (self.base + record.start as u64) as u32;
            let length = record.length as u32;
            (record.kind, Position { segment: self.segment, offset, length })
        })
    }
}
