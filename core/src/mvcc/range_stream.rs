//! A range answered in pieces of bounded size, all of one revision. RS-01.
//!
//! Nothing is held between two pieces but the key to go on behind, so that a list of any length
//! costs its reader's pace and one piece of memory. A compaction above the revision ends it.

use prost::Message;

use super::key_range::KeyRange;
use super::range::{View, drop_value};
use super::store::Store;
use crate::api::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::error::{Answer, Error};
use crate::limits::{RANGE_SLICE_KEYS, RANGE_STREAM_FIRST, RANGE_STREAM_VALUES};

/// Where a streamed range is.
pub struct RangeCursor {
    request: RangeRequest,
    /// The revision of the store when the stream began, which its header names.
    current: i64,
    /// The revision that is read.
    revision: i64,
    after: Option<Box<[u8]>>,
    /// Key-values wanted in the next piece: it doubles until pieces are large enough.
    wanted: usize,
    /// Key-values that the request's limit leaves.
    left: usize,
    sent: i64,
    done: bool,
    piece_bytes: usize,
}

impl RangeCursor {
    /// Begins a (validated) range at its revision, or at the newest if it names none. Pieces end
    /// with the key-value that makes them `piece_bytes` long.
    pub fn open(
        store: &Store,
        request: RangeRequest,
        piece_bytes: usize,
    ) -> Result<RangeCursor, Error> {
        let current = store.current_revision();
        let revision = if request.revision <= 0 { current } else { request.revision };
        if revision > current {
            return Err(Error::FutureRev);
        }
        let left = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
        Ok(RangeCursor {
            current,
            revision,
            after: None,
            wanted: RANGE_STREAM_FIRST,
            left: left.unwrap_or(usize::MAX),
            sent: 0,
            done: false,
            piece_bytes,
            request,
        })
    }

    /// The revision of the store when the stream began.
    pub fn current_revision(&self) -> i64 {
        self.current
    }

    /// The next piece; none behind the last, which alone has header, `more` and `count`. All of
    /// them together are what [`Store::range`] would have answered.
    pub fn next(&mut self, store: &Store) -> Option<Answer<RangeResponse>> {
        if self.done {
            return None;
        }
        let piece = self.piece(View { store, revision: self.revision });
        self.done |= !matches!(piece, Ok(Ok(_)));
        Some(piece)
    }

    fn piece(&mut self, view: View<'_>) -> Answer<RangeResponse> {
        let mut piece = RangeResponse::default();
        let ended = if self.request.count_only {
            false
        } else {
            match self.fill(view, &mut piece)? {
                Ok(ended) => ended,
                Err(error) => return Ok(Err(error)),
            }
        };
        self.sent += piece.kvs.len() as i64;
        self.left -= piece.kvs.len().min(self.left);
        let at_limit = self.request.count_only || self.left == 0;
        if !ended && !at_limit {
            return Ok(Ok(piece));
        }
        let behind = match ended {
            true => 0,
            false => match self.count_behind(view) {
                Ok(count) => count,
                Err(error) => return Ok(Err(error)),
            },
        };
        self.done = true;
        let header = ResponseHeader { revision: self.current, ..Default::default() };
        piece.header = Some(header);
        piece.more = !self.request.count_only && behind > 0;
        piece.count = self.sent + behind;
        Ok(Ok(piece))
    }

    /// Reads key-values into `piece` until it is full; answers whether the range has ended.
    fn fill(&mut self, view: View<'_>, piece: &mut RangeResponse) -> Answer<bool> {
        let range = KeyRange::new(&self.request.key, &self.request.range_end);
        let wanted = self.wanted.min(self.left);
        let mut bytes = 0;
        while piece.kvs.len() < wanted {
            let portion = (wanted - piece.kvs.len()).min(RANGE_STREAM_VALUES);
            // No more looks than wanted: what is looked at and not taken would be lost.
            let slice = match view.slice(&range, self.after.as_deref(), portion, portion) {
                Ok(slice) => slice,
                Err(error) => return Ok(Err(error)),
            };
            let values = match view.store.values(&slice.found, view.revision)? {
                Ok(values) => values,
                Err(error) => return Ok(Err(error)),
            };
            for mut kv in values {
                if self.request.keys_only {
                    drop_value(&mut kv);
                }
                bytes += kv.encoded_len();
                piece.kvs.push(kv);
                if bytes >= self.piece_bytes {
                    self.wanted = piece.kvs.len();
                    self.after = piece.kvs.last().map(|kv| kv.key[..].into());
                    return Ok(Ok(false));
                }
            }
            match slice.last {
                Some(last) => self.after = Some(last),
                None => return Ok(Ok(true)),
            }
        }
        if bytes < self.piece_bytes / 2 {
            self.wanted = self.wanted.saturating_mul(2);
        }
        Ok(Ok(false))
    }

    /// The keys of the range that were not sent.
    fn count_behind(&self, view: View<'_>) -> Result<i64, Error> {
        let range = KeyRange::new(&self.request.key, &self.request.range_end);
        let mut after = self.after.clone();
        let mut count = 0;
        loop {
            let slice = view.slice(&range, after.as_deref(), 0, RANGE_SLICE_KEYS)?;
            count += slice.count as i64;
            after = slice.last;
            if after.is_none() {
                return Ok(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::backend::{Backend, BackendOptions};
    use crate::limits::MAX_REQUEST_BYTES;
    use crate::mvcc::KeyRange;
    use crate::platform::MemoryDisk;

    fn store() -> Store {
        let disk = Arc::new(MemoryDisk::default());
        let backend = Arc::new(Backend::open(disk, BackendOptions::default()).expect("opens"));
        Store::open(backend).expect("opens").0
    }

    fn put(store: &Store, key: String, value: Bytes) {
        let mut txn = store.write();
        txn.put(key.into(), value, 0);
        txn.commit();
    }

    fn request(key: &'static str, end: &'static str) -> RangeRequest {
        RangeRequest { key: key.into(), range_end: end.into(), ..Default::default() }
    }

    fn pieces(store: &Store, request: &RangeRequest, bytes: usize) -> Vec<RangeResponse> {
        let mut cursor = RangeCursor::open(store, request.clone(), bytes).expect("opens");
        let next = || cursor.next(store).map(|piece| piece.expect("reads").expect("answers"));
        std::iter::from_fn(next).collect()
    }

    /// What a client makes of the pieces: protobuf's own merge.
    fn merged(pieces: &[RangeResponse]) -> RangeResponse {
        let mut merged = RangeResponse::default();
        for piece in pieces {
            merged.merge(&piece.encode_to_vec()[..]).expect("merges");
        }
        merged
    }

    #[test]
    fn rs_01_the_pieces_together_are_the_range() {
        let store = store();
        for n in 0..500 {
            let value = vec![b'v'; (n * 37) % 3_000];
            put(&store, format!("k{n:03}"), value.into());
        }
        for n in (0..500).step_by(3) {
            let mut txn = store.write();
            txn.delete_range(&KeyRange::Key(format!("k{n:03}").as_bytes()));
            txn.commit();
        }
        let ranges =
            [("k", "l"), ("k100", "k200"), ("k001", ""), ("k000", ""), ("x", "y"), ("b", "a")];
        for (key, end) in ranges.into_iter().chain([("\0", "\0"), ("k450", "\0")]) {
            for limit in [0, -1, 1, 9, 10, 11, 100, 1_000] {
                for revision in [0, 200, 600] {
                    for (keys_only, count_only) in [(false, false), (true, false), (false, true)] {
                        let request = RangeRequest {
                            limit,
                            revision,
                            keys_only,
                            count_only,
                            ..request(key, end)
                        };
                        let whole = store.range(&request).expect("reads").expect("answers");
                        let pieces = pieces(&store, &request, 4_096);
                        assert_eq!(merged(&pieces), whole, "{request:?}");
                        let (last, before) = pieces.split_last().expect("one piece at least");
                        assert!(last.header.is_some());
                        for piece in before {
                            assert!(piece.header.is_none() && piece.count == 0 && !piece.more);
                            assert!(!piece.kvs.is_empty());
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rs_01_pieces_grow_to_the_size_of_a_request_and_not_beyond_twice_that() {
        let store = store();
        for n in 0..3_000 {
            let bytes = if n < 2_000 { 100 } else { MAX_REQUEST_BYTES / 40 };
            put(&store, format!("k{n:04}"), vec![0; bytes].into());
        }
        let pieces = pieces(&store, &request("k", "l"), MAX_REQUEST_BYTES);
        let counts: Vec<usize> = pieces.iter().map(|piece| piece.kvs.len()).collect();
        assert_eq!(counts[..5], [10, 20, 40, 80, 160]);
        let sizes = pieces.iter().map(Message::encoded_len);
        assert!(sizes.clone().all(|size| size <= 2 * MAX_REQUEST_BYTES), "{:?}", sizes.max());
        let full = pieces.iter().filter(|piece| piece.encoded_len() >= MAX_REQUEST_BYTES / 2);
        assert!(full.count() >= 1_000 / 40, "{counts:?}");
    }

    #[test]
    fn rs_01_what_is_written_meanwhile_is_not_seen_and_a_compaction_ends_it() {
        let store = store();
        for n in 0..100 {
            put(&store, format!("k{n:02}"), Bytes::from_static(b"v"));
        }
        let before = store.current_revision();
        let mut cursor =
            RangeCursor::open(&store, request("k", "l"), MAX_REQUEST_BYTES).expect("opens");
        let mut next = || cursor.next(&store).map(|piece| piece.expect("reads"));
        assert_eq!(next().expect("a piece").expect("answers").kvs.len(), RANGE_STREAM_FIRST);
        put(&store, "k99a".into(), Bytes::new());
        put(&store, "k50".into(), Bytes::from_static(b"later"));
        let mut kvs = next().expect("a piece").expect("answers").kvs;
        kvs.extend(next().expect("a piece").expect("answers").kvs);
        let k50 = kvs.iter().find(|kv| kv.key == "k50").expect("it is there");
        assert_eq!(k50.value, "v");
        store.compact(before).expect("compacts");
        store.compact(before + 1).expect("compacts");
        assert_eq!(next(), Some(Err(Error::Compacted)));
        assert_eq!(next(), None);
        let future = RangeRequest { revision: before + 3, ..request("k", "l") };
        let opened = RangeCursor::open(&store, future, 1).map(|_| ());
        assert_eq!(opened, Err(Error::FutureRev));
    }
}
