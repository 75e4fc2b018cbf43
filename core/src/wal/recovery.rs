//! Reading a segment back: which records count, and what the rest of the file means.
//!
//! Records are read in order until one is not valid. What stands there decides, by one rule:
//!
//! * **Clean end**: only zeroes follow. Segments are zeroed ahead of the records.
//! * **Corrupt**: a valid record follows that was written when the segment was already synced
//!   beyond the bad place ([`durable_to`](super::record)). So what stood there was durable and may
//!   have been acknowledged: dropping it could lose a vote or a committed entry. The member must
//!   not start. An earlier segment that ends before the next one says it does is corrupt too.
//! * **Torn tail**: otherwise. The bytes belong to writes that no sync had finished, so nothing of
//!   them was acknowledged. A crash can leave any part of them, the last record without the first
//!   included; all are dropped.
//!
//! A bit that flips in what the very last sync made durable looks like a torn tail, until the next
//! write. [`Kind::Mark`](super::Kind::Mark) closes most of that window: it is written without a
//! sync once the log is idle.
//!
//! Protocol-Aware Recovery (Alagappan et al., FAST 2018) shows what goes wrong otherwise: a log
//! that is cut at any bad checksum silently loses committed data.

use std::sync::Arc;

use super::record::{ALIGNMENT, Header, Kind, Position, record_bytes};
use super::segment::{
    NewestSegment, Segments, corrupt, io_error, read_segment, remove_segment, segment_name,
    segment_numbers,
};
use super::{FORMAT, START_BYTES};
use crate::error::Fatal;
use crate::platform::{Disk, File};

/// A record of an existing log.
pub struct Recovered<'a> {
    pub kind: Kind,
    pub position: Position,
    /// Of a [`Kind::Start`]: the state that its user gave.
    pub payload: &'a [u8],
}

/// Takes the records in order; refuses one that contradicts those before it, with a reason.
pub type Visit<'a> = dyn FnMut(Recovered<'_>) -> Result<(), String> + 'a;

/// A segment that was read.
struct Opened {
    number: u64,
    file: Arc<dyn File>,
    length: u64,
    tail: Tail,
    /// The bytes of the last records that no later record confirms as durable.
    unconfirmed: Vec<u8>,
}

/// Reads the log on `disk`, hands its records to `visit`, repairs its tail and makes all durable.
/// None if there is no log yet, or none whose first segment came to be.
pub(super) fn recover(
    disk: &dyn Disk,
    segments: &Segments,
    visit: &mut Visit<'_>,
) -> Result<Option<NewestSegment>, Fatal> {
    let numbers = segment_numbers(disk)?;
    let mut last: Option<Opened> = None;
    for (at, number) in numbers.iter().enumerate() {
        if let Some(last) = last.as_ref().filter(|last| last.number + 1 != *number) {
            return Err(corrupt(last.number + 1, 0u64, "the segment is missing"));
        }
        let (file, bytes) = read_segment(disk, *number)?;
        let mut scanner = Scanner::new(&bytes, *number);
        let Some(start) = scanner.next() else {
            let newest = at + 1 == numbers.len();
            drop_unborn(disk, *number, &scanner.tail(), newest, last.as_ref())?;
            break;
        };
        check_start(&start, last.as_ref())?;
        hand_out(start, &mut scanner, visit)?;
        let tail = scanner.tail();
        segments.insert(*number, file.clone());
        let unconfirmed = bytes[tail.durable_to as usize..tail.end as usize].to_vec();
        let length = bytes.len() as u64;
        last = Some(Opened { number: *number, file, length, tail, unconfirmed });
    }
    match last {
        Some(last) => repair(last).map(Some),
        None => Ok(None),
    }
}

/// Checks the first record of a segment, and that the segment before ends where it says.
fn check_start(start: &Recovered<'_>, before: Option<&Opened>) -> Result<(), Fatal> {
    let segment = start.position.segment;
    let payload = match (start.kind, start.payload.first_chunk::<START_BYTES>()) {
        (Kind::Start, Some(payload)) => payload,
        _ => return Err(corrupt(segment, 0u64, "the segment does not begin with its start")),
    };
    let [a, b, c, d, e, f, g, h] = *payload;
    let format = u32::from_le_bytes([a, b, c, d]);
    if format != FORMAT {
        return Err(corrupt(segment, 0u64, format!("format {format} is not known")));
    }
    let expected = u64::from(u32::from_le_bytes([e, f, g, h]));
    match before {
        Some(before) if before.tail.end != expected => {
            let detail = format!("records are missing or damaged up to offset {expected}");
            Err(corrupt(before.number, before.tail.end, detail))
        }
        _ => Ok(()),
    }
}

/// Hands `start` and all that `scanner` finds to `visit`.
fn hand_out(
    mut start: Recovered<'_>,
    scanner: &mut Scanner<'_>,
    visit: &mut Visit<'_>,
) -> Result<(), Fatal> {
    start.payload = &start.payload[START_BYTES..];
    let mut next = Some(start);
    while let Some(record) = next {
        let position = record.position;
        if record.kind == Kind::Start && position.offset != 0 {
            return Err(corrupt(position.segment, position.offset, "a start within a segment"));
        }
        visit(record).map_err(|reason| corrupt(position.segment, position.offset, reason))?;
        next = scanner.next();
    }
    Ok(())
}

/// Removes a segment whose creation did not get as far as its first sync. It must be the newest,
/// and then `before`, if there is one, was synced to its end.
fn drop_unborn(
    disk: &dyn Disk,
    number: u64,
    tail: &Tail,
    newest: bool,
    before: Option<&Opened>,
) -> Result<(), Fatal> {
    let orphan = before.is_none() && number > 1;
    if !newest || orphan || tail.witness.is_some() {
        return Err(corrupt(number, 0u64, "the segment's start is damaged"));
    }
    if let Some(before) = before.filter(|before| before.tail.dirty_to > before.tail.end) {
        let detail = "damaged, though a later segment was begun";
        return Err(corrupt(before.number, before.tail.end, detail));
    }
    let file = segment_name(number);
    tracing::warn!(file, bytes = tail.dirty_to, "dropped a segment that was never finished");
    remove_segment(disk, number)
}

/// Brings the newest segment into the state that a writer needs: nothing but zeroes behind its
/// last record, and all of it durable.
fn repair(segment: Opened) -> Result<NewestSegment, Fatal> {
    let Opened { number, file, length, tail, unconfirmed } = segment;
    if let Some(witness) = tail.witness {
        let detail = format!("damaged, but the record at {witness} proves that it was durable");
        return Err(corrupt(number, tail.end, detail));
    }
    let dirty = tail.dirty_to.saturating_sub(tail.end);
    if dirty > 0 {
        let (file, offset) = (segment_name(number), tail.end);
        tracing::warn!(file, offset, bytes = dirty, "dropped a torn tail that no sync confirmed");
    }
    // What no later record confirms may be in the system's memory only, even if a sync of the
    // process before failed: write it once more.
    let zeroes = vec![0; dirty as usize];
    file.write_at(tail.durable_to, &unconfirmed)
        .and_then(|()| file.write_at(tail.end, &zeroes))
        .map_err(|error| io_error("write", number, error))?;
    file.sync().map_err(|error| io_error("sync", number, error))?;
    Ok(NewestSegment { number, file, end: tail.end, length })
}

/// How a segment ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// The end of the last valid record.
    pub(super) end: u64,
    /// The segment is known to be synced up to here.
    pub(super) durable_to: u64,
    /// The end of the last byte that is not zero; `end` or less if the end is clean.
    pub(super) dirty_to: u64,
    /// A record behind `end` proves that the bytes at `end` were durable: corruption.
    pub(super) witness: Option<u64>,
}

/// Iterates over the valid records at the start of a segment's bytes.
pub(super) struct Scanner<'a> {
    bytes: &'a [u8],
    segment: u64,
    offset: usize,
    durable_to: u64,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(bytes: &'a [u8], segment: u64) -> Self {
        Scanner { bytes, segment, offset: 0, durable_to: 0 }
    }

    fn valid_at(&self, offset: usize) -> Option<(Header, &'a [u8])> {
        let bytes = self.bytes.get(offset..)?;
        let header = Header::parse(bytes, self.segment, offset as u64)?;
        Some((header, header.payload(bytes)?))
    }

    /// What follows the last record that the iterator gave.
    pub(super) fn tail(&self) -> Tail {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let dirty = rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let dirty_to = self.offset + dirty;
        let proves = |offset: &usize| match self.valid_at(*offset) {
            Some((header, _)) => header.durable_to > self.offset as u64,
            None => false,
        };
        let witness = (self.offset..dirty_to).step_by(ALIGNMENT).find(proves);
        Tail {
            end: self.offset as u64,
            durable_to: self.durable_to,
            dirty_to: dirty_to as u64,
            witness: witness.map(|offset| offset as u64),
        }
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Recovered<'a>;

    fn next(&mut self) -> Option<Recovered<'a>> {
        let (header, payload) = self.valid_at(self.offset)?;
        let position = Position {
            segment: self.segment,
            offset: u32::try_from(self.offset).ok()?,
            length: u32::try_from(header.length).ok()?,
        };
        self.durable_to = self.durable_to.max(header.durable_to);
        self.offset += record_bytes(header.length);
        Some(Recovered { kind: header.kind, position, payload })
    }
}
