//! A layer of writes in memory: what is pending, or being flushed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use bytes::Bytes;

use super::Bucket;

/// What an entry costs beside its bytes: two handles and its place in the tree, in bytes.
const ENTRY_OVERHEAD: usize = 96;

/// Writes by bucket and key; the last write to a key counts. `None` is a removal.
#[derive(Default)]
pub(super) struct Layer {
    buckets: [BTreeMap<Bytes, Option<Bytes>>; Bucket::ALL.len()],
    bytes: usize,
}

impl Layer {
    pub(super) fn put(&mut self, bucket: Bucket, key: Bytes, value: Bytes) {
        self.set(bucket, key, Some(value));
    }

    pub(super) fn delete(&mut self, bucket: Bucket, key: Bytes) {
        self.set(bucket, key, None);
    }

    fn set(&mut self, bucket: Bucket, key: Bytes, value: Option<Bytes>) {
        let length = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        self.bytes += length(&value);
        match self.buckets[bucket as usize].entry(key) {
            Entry::Vacant(entry) => {
                self.bytes += entry.key().len() + ENTRY_OVERHEAD;
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => self.bytes -= length(&entry.insert(value)),
        }
    }

    /// The write to `key` if there is one; `Some(None)` if it was a removal.
    pub(super) fn get(&self, bucket: Bucket, key: &[u8]) -> Option<Option<Bytes>> {
        let entries = &self.buckets[bucket as usize];
        // Revisions only grow: most that are read are older than what is pending.
        if entries.first_key_value().is_none_or(|(first, _)| first.as_ref() > key) {
            return None;
        }
        entries.get(key).cloned()
    }

    /// All writes to `bucket` in key order.
    pub(super) fn entries(&self, bucket: Bucket) -> &BTreeMap<Bytes, Option<Bytes>> {
        &self.buckets[bucket as usize]
    }

    /// About how much memory the layer takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buckets.iter().all(BTreeMap::is_empty)
    }
}

/// The writes of some layers in one stretch of keys, ready to be laid over stored entries.
pub(super) struct Overlay {
    entries: BTreeMap<Bytes, Option<Bytes>>,
    /// The last key that the overlay speaks for; `None` if it speaks for all from its start on.
    horizon: Option<Bytes>,
}

impl Overlay {
    /// What `layers` (newest first) say of `bucket` from `from` on, looking at no more than
    /// `limit` entries of each: a lock is held meanwhile.
    pub(super) fn new<'a>(
        layers: impl Iterator<Item = &'a Layer>,
        bucket: Bucket,
        from: &[u8],
        limit: usize,
    ) -> Overlay {
        let mut entries = BTreeMap::new();
        let mut horizon: Option<Bytes> = None;
        for layer in layers {
            let stretch =
                layer.entries(bucket).range::<[u8], _>((Bound::Included(from), Bound::Unbounded));
            for (seen, (key, value)) in stretch.enumerate() {
                if horizon.as_ref().is_some_and(|horizon| key > horizon) {
                    break;
                }
                entries.entry(key.clone()).or_insert_with(|| value.clone());
                if seen + 1 >= limit {
                    horizon = Some(key.clone());
                    break;
                }
            }
        }
        Overlay { entries, horizon }
    }

    /// How many stored entries the overlay may hide.
    pub(super) fn removals(&self) -> usize {
        self.entries.values().filter(|value| value.is_none()).count()
    }

    /// Speaks for nothing behind `last`.
    pub(super) fn end_at(&mut self, last: &Bytes) {
        if self.horizon.as_ref().is_none_or(|horizon| last < horizon) {
            self.horizon = Some(last.clone());
        }
    }

    pub(super) fn horizon(&self) -> Option<Bytes> {
        self.horizon.clone()
    }

    /// Lays the overlay over `stored` and adds the entries up to the horizon to `page`, until it
    /// has `limit`.
    pub(super) fn merge(
        self,
        stored: Vec<(Bytes, Bytes)>,
        limit: usize,
        page: &mut Vec<(Bytes, Bytes)>,
    ) {
        let within = |key: &Bytes| self.horizon.as_ref().is_none_or(|horizon| key <= horizon);
        let mut newer = self.entries.into_iter().take_while(|(key, _)| within(key)).peekable();
        let mut older = stored.into_iter().take_while(|(key, _)| within(key)).peekable();
        while page.len() < limit {
            let newer_first = match (newer.peek(), older.peek()) {
                (Some((new, _)), Some((old, _))) => {
                    let hidden = new == old;
                    let newer_first = new <= old;
                    if hidden {
                        older.next();
                    }
                    newer_first
                }
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            if newer_first {
                if let Some((key, Some(value))) = newer.next() {
                    page.push((key, value));
                }
            } else {
                page.extend(older.next());
            }
        }
    }
}
