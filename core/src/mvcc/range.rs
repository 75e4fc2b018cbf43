//! Reading at one revision: range requests, and what compares need.

use std::cmp::Ordering;
use std::mem::take;

use bytes::Bytes;

use super::index::Slice;
use super::key_index::Life;
use super::key_range::KeyRange;
use super::revision::Change;
use super::store::Store;
use crate::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::api::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::api::mvccpb::KeyValue;
use crate::error::{Answer, Error};
use crate::limits::{RANGE_SLICE_KEYS, RANGE_SLICE_VALUES};

/// The store as of one revision. It costs nothing to hold; a compaction above its revision ends
/// what it can answer.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub(super) store: &'a Store,
    pub(super) revision: i64,
}

impl View<'_> {
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// History below this revision is gone; -1 if there was no compaction.
    pub fn compact_revision(&self) -> i64 {
        self.store.compact_revision()
    }

    /// Answers a (validated) range request at its own revision, or at the view's if it names none.
    pub fn range(&self, request: &RangeRequest) -> Answer<RangeResponse> {
        let at = if request.revision <= 0 { self.revision } else { request.revision };
        if at > self.revision {
            return Ok(Err(Error::FutureRev));
        }
        let view = View { revision: at, ..*self };
        let mut collected = match view.collect(request)? {
            Ok(collected) => collected,
            Err(error) => return Ok(Err(error)),
        };
        collected.sort(request);
        let mut kvs = collected.kvs;
        let limit = usize::try_from(request.limit).unwrap_or(0);
        let more = limit > 0 && kvs.len() > limit;
        if more {
            kvs.truncate(limit);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(drop_value);
        }
        // The revision of the store, not the one that was asked for (HDR-01).
        let header = ResponseHeader { revision: self.revision, ..Default::default() };
        Ok(Ok(RangeResponse { header: Some(header), kvs, more, count: collected.count }))
    }

    /// The key-values and the count that answer `request`, before sorting and cutting.
    fn collect(&self, request: &RangeRequest) -> Answer<Collected> {
        let range = KeyRange::new(&request.key, &request.range_end);
        let filters = has_filters(request);
        let mut wanted = wanted(request);
        let mut collected = Collected::default();
        let mut after: Option<Box<[u8]>> = None;
        loop {
            // Filters look at stored key-values, so any number may be needed to find enough.
            let candidates = if filters && wanted > 0 { usize::MAX } else { wanted };
            let slice = match self.slice(&range, after.as_deref(), candidates, RANGE_SLICE_KEYS) {
                Ok(slice) => slice,
                Err(error) => return Ok(Err(error)),
            };
            collected.count += slice.count as i64;
            for found in slice.found.chunks(RANGE_SLICE_VALUES) {
                if wanted == 0 {
                    break;
                }
                let mut values = match self.store.values(found, self.revision)? {
                    Ok(values) => values,
                    Err(error) => return Ok(Err(error)),
                };
                values.retain(|kv| passes(request, kv));
                if request.keys_only && target(request) != SortTarget::Value {
                    values.iter_mut().for_each(drop_value);
                }
                wanted = wanted.saturating_sub(values.len());
                collected.kvs.append(&mut values);
            }
            after = slice.last;
            if after.is_none() {
                return Ok(Ok(collected));
            }
        }
    }

    /// The key-value of `key`, or none if it does not live.
    pub fn get(&self, key: &[u8]) -> Answer<Option<KeyValue>> {
        let slice = match self.slice(&KeyRange::Key(key), None, 1, 1) {
            Ok(slice) => slice,
            Err(error) => return Ok(Err(error)),
        };
        Ok(self.store.values(&slice.found, self.revision)?.map(|mut values| values.pop()))
    }

    /// Calls `visit` with each live key-value of `range`, in key order, until it returns `false`.
    ///
    /// Without `values` the key and value are left empty where the index alone can answer, which
    /// it can for what lives unchanged until now.
    pub fn visit(
        &self,
        range: &KeyRange<'_>,
        values: bool,
        mut visit: impl FnMut(&KeyValue) -> bool,
    ) -> Answer<()> {
        let mut after: Option<Box<[u8]>> = None;
        loop {
            let slice = match self.slice(range, after.as_deref(), usize::MAX, RANGE_SLICE_KEYS) {
                Ok(slice) => slice,
                Err(error) => return Ok(Err(error)),
            };
            for found in slice.found.chunks(RANGE_SLICE_VALUES) {
                let indexed: Option<Vec<KeyValue>> =
                    if values { None } else { found.iter().map(of_index).collect() };
                let kvs = match indexed {
                    Some(kvs) => kvs,
                    None => match self.store.values(found, self.revision)? {
                        Ok(kvs) => kvs,
                        Err(error) => return Ok(Err(error)),
                    },
                };
                if !kvs.iter().all(&mut visit) {
                    return Ok(Ok(()));
                }
            }
            after = slice.last;
            if after.is_none() {
                return Ok(Ok(()));
            }
        }
    }

    /// The next stretch of `range` behind `after`, with at most `wanted` changes, looking at no
    /// more than `looks` keys.
    pub(super) fn slice(
        &self,
        range: &KeyRange<'_>,
        after: Option<&[u8]>,
        wanted: usize,
        looks: usize,
    ) -> Result<Slice, Error> {
        let index = self.store.index();
        let slice = index.slice(range, after, self.revision, wanted, looks);
        // Asked after looking, and with the index locked: a compaction first says so and then
        // takes from the index.
        if self.store.compact_revision() > self.revision {
            return Err(Error::Compacted);
        }
        Ok(slice)
    }
}

/// What the index alone knows of a found change.
fn of_index((change, life): &(Change, Option<Life>)) -> Option<KeyValue> {
    life.map(|life| KeyValue {
        create_revision: life.created,
        mod_revision: change.main,
        version: life.version,
        lease: life.lease,
        ..Default::default()
    })
}

/// What a range request has found.
#[derive(Default)]
struct Collected {
    kvs: Vec<KeyValue>,
    count: i64,
}

/// How many key-values have to be read: one more than the limit tells whether there are more.
fn wanted(request: &RangeRequest) -> usize {
    if request.count_only {
        return 0;
    }
    match usize::try_from(request.limit) {
        Ok(limit) if limit > 0 && !sorts_before_cutting(request) => limit.saturating_add(1),
        _ => usize::MAX,
    }
}

/// Whether the limit applies to the sorted result. A quirk of etcd: without a sort *order* the
/// limit is applied first, even if there is a sort target (KV-05). Keys ascending need no sort.
fn sorts_before_cutting(request: &RangeRequest) -> bool {
    let order = SortOrder::try_from(request.sort_order).unwrap_or(SortOrder::None);
    match order {
        SortOrder::None => target(request) != SortTarget::Key && has_filters(request),
        SortOrder::Ascend => target(request) != SortTarget::Key,
        SortOrder::Descend => true,
    }
}

fn target(request: &RangeRequest) -> SortTarget {
    SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key)
}

fn has_filters(request: &RangeRequest) -> bool {
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    bounds.iter().any(|bound| *bound != 0)
}

/// Whether `kv` passes the revision filters; a bound of 0 is none (KV-06).
fn passes(request: &RangeRequest, kv: &KeyValue) -> bool {
    let within =
        |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Leaves `kv` without a value, and its key free of the stored bytes that held both.
pub(super) fn drop_value(kv: &mut KeyValue) {
    kv.key = Bytes::copy_from_slice(&kv.key);
    drop(take(&mut kv.value));
}

impl Collected {
    /// Sorts as `request` asks. Stable, so that ties stay in key order, in both directions.
    fn sort(&mut self, request: &RangeRequest) {
        let descending = request.sort_order == SortOrder::Descend as i32;
        let by = |compare: fn(&KeyValue, &KeyValue) -> Ordering| {
            move |a: &KeyValue, b: &KeyValue| {
                if descending { compare(b, a) } else { compare(a, b) }
            }
        };
        match target(request) {
            SortTarget::Key if descending => self.kvs.reverse(),
            SortTarget::Key => {}
            SortTarget::Version => self.kvs.sort_by(by(|a, b| a.version.cmp(&b.version))),
            SortTarget::Create => {
                self.kvs.sort_by(by(|a, b| a.create_revision.cmp(&b.create_revision)))
            }
            SortTarget::Mod => self.kvs.sort_by(by(|a, b| a.mod_revision.cmp(&b.mod_revision))),
            SortTarget::Value => self.kvs.sort_by(by(|a, b| a.value.cmp(&b.value))),
        }
    }
}
