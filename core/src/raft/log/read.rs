//! Reading entries: from the cache where they are there, from their segments otherwise.
//!
//! What to read is settled under the state's lock, the reading itself is not: entries that are
//! purged or truncated meanwhile are still read as they were.

use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::vec;

use futures_util::stream::{self, Stream};
use openraft::errors::LeaderChanged;
use openraft::storage::{LeaderBoundedStreamError, LeaderBoundedStreamResult};

use super::super::types::{AsyncRuntime, Entry, LeaderId, LogId, TypeConfig, Vote};
use super::record::{decode_entry, entry_bytes};
use super::{LogStore, State, lock};
use crate::error::Fatal;
use crate::wal::{Located, Segments};

/// Where an entry comes from.
enum Source {
    Cache(Entry),
    Segment(LogId, Located),
}

impl Source {
    fn read(self) -> Result<Entry, Fatal> {
        let (log_id, located) = match self {
            Source::Cache(entry) => return Ok(entry),
            Source::Segment(log_id, located) => (log_id, located),
        };
        let entry = decode_entry(located.read()?);
        let entry = entry.map_err(|malformed| located.corrupt(malformed.to_string()))?;
        if entry.log_id != log_id {
            return Err(located.corrupt(format!("entry {} in place of {log_id}", entry.log_id)));
        }
        Ok(entry)
    }
}

impl<R: AsyncRuntime> State<R> {
    /// Where the entries in `range` are; at least one if there is one, and no more once they take
    /// `limit` bytes.
    fn locate(
        &self,
        segments: &Segments,
        range: Range<u64>,
        limit: usize,
    ) -> Result<Vec<Source>, Fatal> {
        let mut sources = Vec::new();
        let mut bytes = 0;
        for index in range.start.max(self.index.first())..range.end.min(self.index.next()) {
            if bytes >= limit {
                break;
            }
            if let Some(entry) = self.cache.get(index) {
                bytes += entry_bytes(entry);
                sources.push(Source::Cache(entry.clone()));
                continue;
            }
            let found = self.index.get(index).zip(self.index.log_id(index));
            let Some((slot, log_id)) = found else { break };
            let position = slot.position.ok_or_else(|| {
                Fatal::Invariant(format!("entry {index} is neither in memory nor on disk"))
            })?;
            bytes += position.length as usize;
            sources.push(Source::Segment(log_id, segments.locate(position)?));
        }
        Ok(sources)
    }
}

impl<R: AsyncRuntime> LogStore<R> {
    /// The entries in `range` that the log has; at least one if there is one, and no more once
    /// they take `limit` bytes.
    pub(super) fn read(
        &self,
        range: impl RangeBounds<u64>,
        limit: usize,
    ) -> io::Result<Vec<Entry>> {
        self.read_with_vote(bounds(&range), limit).map(|(_, entries)| entries)
    }

    /// As [`LogStore::read`], with the vote at the time.
    fn read_with_vote(
        &self,
        range: Range<u64>,
        limit: usize,
    ) -> io::Result<(Option<Vote>, Vec<Entry>)> {
        let state = lock(&self.shared.state);
        let vote = state.vote;
        let sources = state.locate(&self.shared.segments, range, limit);
        drop(state);
        let entries = sources.and_then(|sources| sources.into_iter().map(Source::read).collect());
        entries.map(|entries| (vote, entries)).map_err(|fatal| self.shared.fail(fatal))
    }
}

/// The entries in `range`, read a piece at a time.
pub(super) fn entries_stream<R: AsyncRuntime>(
    log: LogStore<R>,
    range: impl RangeBounds<u64>,
) -> impl Stream<Item = io::Result<Entry>> + Send {
    let limit = log.shared.options.read_bytes;
    stream::iter(Pieces::new(&range, move |range| log.read(range, limit)))
}

/// The entries in `range`, as long as the vote is that of the established `leader`.
pub(super) fn leader_bounded_stream<R: AsyncRuntime>(
    log: LogStore<R>,
    leader: LeaderId,
    range: impl RangeBounds<u64>,
) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig<R>>> + Send {
    let limit = log.shared.options.read_bytes;
    stream::iter(Pieces::new(&range, move |range| {
        let (vote, entries) = log.read_with_vote(range, limit)?;
        match vote {
            Some(vote) if vote.committed && vote.leader_id == leader => Ok(entries),
            _ => Err(LeaderBoundedStreamError::from(LeaderChanged::new(leader, vote))),
        }
    }))
}

/// Iterates over entries that `read` gives in pieces; ends after an error.
struct Pieces<F> {
    read: F,
    /// What is still to be read.
    range: Range<u64>,
    piece: vec::IntoIter<Entry>,
    /// Whether anything was read: an empty range must be tried too, for its errors.
    begun: bool,
}

impl<F> Pieces<F> {
    fn new(range: &impl RangeBounds<u64>, read: F) -> Self {
        Pieces { read, range: bounds(range), piece: Vec::new().into_iter(), begun: false }
    }
}

impl<E, F: FnMut(Range<u64>) -> Result<Vec<Entry>, E>> Iterator for Pieces<F> {
    type Item = Result<Entry, E>;

    fn next(&mut self) -> Option<Result<Entry, E>> {
        if let Some(entry) = self.piece.next() {
            return Some(Ok(entry));
        }
        if self.begun && self.range.is_empty() {
            return None;
        }
        self.begun = true;
        match (self.read)(self.range.clone()) {
            Ok(entries) => {
                let next = entries.last().map_or(self.range.end, |last| last.log_id.index + 1);
                self.range.start = next;
                self.piece = entries.into_iter();
                self.piece.next().map(Ok)
            }
            Err(error) => {
                self.range.start = self.range.end;
                Some(Err(error))
            }
        }
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
