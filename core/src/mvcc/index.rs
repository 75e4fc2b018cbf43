//! The ordered map from key to its changes.

use std::collections::BTreeMap;
use std::ops::Bound;

use super::key_index::{Compacted, KeyIndex, Life};
use super::key_range::KeyRange;
use super::revision::Change;

/// All keys that have changes.
#[derive(Default)]
pub(super) struct Index {
    /// Keys are copies of their own: a slice of a request would keep the whole request alive.
    keys: BTreeMap<Box<[u8]>, KeyIndex>,
    /// How many of them live.
    live: usize,
}

/// A stretch of a range, read under one lock.
#[derive(Default)]
pub(super) struct Slice {
    /// The visible changes, in key order, with their life if the index knows it.
    pub(super) found: Vec<(Change, Option<Life>)>,
    /// Visible keys, found ones and those beyond what was asked for.
    pub(super) count: usize,
    /// The last key looked at, if the range may go on behind it.
    pub(super) last: Option<Box<[u8]>>,
}

/// A key whose life was ended: the change that ended it, and the lease it had.
pub(super) type Ended = (Box<[u8]>, Change, i64);

impl Index {
    /// How many keys live.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&KeyIndex> {
        self.keys.get(key)
    }

    /// Adds a change of `key`, newer than all before.
    pub(super) fn push(&mut self, key: &[u8], change: Change, life: Life) {
        let mut lived = false;
        match self.keys.get_mut(key) {
            Some(index) => {
                lived = index.alive().is_some();
                index.push(change, life);
            }
            None => {
                self.keys.insert(key.into(), KeyIndex::new(change, life));
            }
        }
        self.live += usize::from(!change.is_tombstone());
        self.live -= usize::from(lived);
    }

    /// Records a put of `key`; returns its life, and the lease it had before.
    pub(super) fn put(&mut self, key: &[u8], change: Change, lease: i64) -> (Life, i64) {
        if let Some(index) = self.keys.get_mut(key) {
            let previous = index.alive();
            let life = KeyIndex::life_after_put(Some(index), change.main, lease);
            index.push(change, life);
            self.live += usize::from(previous.is_none());
            return (life, previous.map_or(0, |(_, life)| life.lease));
        }
        self.live += 1;
        let life = KeyIndex::life_after_put(None, change.main, lease);
        self.keys.insert(key.into(), KeyIndex::new(change, life));
        (life, 0)
    }

    /// The changes visible at `revision` in the part of `range` behind `after`: at most `wanted`
    /// of them, looking at no more than `looks` keys.
    pub(super) fn slice(
        &self,
        range: &KeyRange<'_>,
        after: Option<&[u8]>,
        revision: i64,
        wanted: usize,
        looks: usize,
    ) -> Slice {
        let mut slice = Slice::default();
        if let KeyRange::Key(key) = range
            && after.is_none()
        {
            let found = self.get(key).and_then(|index| index.at(revision));
            slice.count = usize::from(found.is_some());
            slice.found.extend(found.filter(|_| wanted > 0));
            return slice;
        }
        let Some(bounds) = range.bounds(after) else {
            return slice;
        };
        for (looked, (key, index)) in self.keys.range::<[u8], _>(bounds).enumerate() {
            if let Some(found) = index.at(revision) {
                slice.count += 1;
                if slice.found.len() < wanted {
                    slice.found.push(found);
                }
            }
            if looked + 1 >= looks {
                slice.last = Some(key.clone());
                break;
            }
        }
        slice
    }

    /// Ends the life of the keys in the part of `range` behind `after`, looking at no more than
    /// `looks` of them; the change is `tombstone(n)` for the `n`th. Returns each key with its
    /// change and the lease it had, and the last key looked at if the range may go on.
    pub(super) fn delete(
        &mut self,
        range: &KeyRange<'_>,
        after: Option<&[u8]>,
        looks: usize,
        tombstone: impl Fn(usize) -> Change,
    ) -> (Vec<Ended>, Option<Box<[u8]>>) {
        let mut deleted = Vec::new();
        let Some(bounds) = range.bounds(after) else {
            return (deleted, None);
        };
        for (looked, (key, index)) in self.keys.range_mut::<[u8], _>(bounds).enumerate() {
            if let Some((_, life)) = index.alive() {
                let change = tombstone(deleted.len());
                index.push(change, Life::default());
                self.live -= 1;
                deleted.push((key.clone(), change, life.lease));
            }
            if looked + 1 >= looks {
                return (deleted, Some(key.clone()));
            }
        }
        (deleted, None)
    }

    /// Drops what a compaction at `revision` forgets of the keys behind `after`, looking at no
    /// more than `looks` keys and dropping no more than about `limit` changes. Returns the
    /// dropped changes and where to go on, if there is more.
    pub(super) fn compact(
        &mut self,
        after: Option<&[u8]>,
        revision: i64,
        looks: usize,
        limit: usize,
    ) -> (Vec<Change>, Option<CompactFrom>) {
        let mut dropped = Vec::new();
        let mut gone = Vec::new();
        let mut next = None;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.keys.range_mut::<[u8], _>((from, Bound::Unbounded));
        let mut previous: Option<&Box<[u8]>> = None;
        for (looked, (key, index)) in behind.enumerate() {
            let left = limit - dropped.len().min(limit);
            if looked >= looks || left == 0 {
                next = Some(previous.cloned());
                break;
            }
            match index.compact(revision, left, &mut dropped) {
                Compacted::Partly => {
                    next = Some(previous.cloned());
                    break;
                }
                Compacted::Fully => {}
                Compacted::Gone => gone.push(key.clone()),
            }
            previous = Some(key);
        }
        let next = next.map(|previous| previous.or_else(|| after.map(Box::from)));
        for key in gone {
            self.keys.remove(&key);
        }
        (dropped, next)
    }

    /// The live keys with their leases, where they have one.
    pub(super) fn attachments(&self) -> impl Iterator<Item = (i64, &[u8])> {
        self.keys.iter().filter_map(|(key, index)| match index.alive() {
            Some((_, life)) if life.lease != 0 => Some((life.lease, key.as_ref())),
            _ => None,
        })
    }
}

/// The key behind which a compaction goes on; `None` is the beginning.
pub(super) type CompactFrom = Option<Box<[u8]>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn index(keys: &[&str]) -> Index {
        let mut index = Index::default();
        for (n, key) in keys.iter().enumerate() {
            index.put(key.as_bytes(), Change::put(2 + n as i64, 0), 0);
        }
        index
    }

    #[test]
    fn kv_01_ranges() {
        let index = index(&["a", "a\0", "ab", "b", "\u{ff}"]);
        let count = |key: &str, end: &str| {
            let range = KeyRange::new(key.as_bytes(), end.as_bytes());
            index.slice(&range, None, 100, 100, 100).count
        };
        assert_eq!(count("a", ""), 1);
        assert_eq!(count("c", ""), 0);
        assert_eq!(count("a", "b"), 3);
        assert_eq!(count("a\0", "\0"), 4);
        assert_eq!(count("\0", "\0"), 5);
        assert_eq!(count("b", "a"), 0);
        assert_eq!(count("a", "a"), 0);
    }

    #[test]
    fn a_range_read_in_slices_is_the_whole_range() {
        let index = index(&["a", "b", "c", "d", "e"]);
        let range = KeyRange::Between(b"a", b"e");
        for looks in 1..7 {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let slice = index.slice(&range, after.as_deref(), 100, 100, looks);
                found.extend(slice.found.iter().map(|(change, _)| change.main));
                after = slice.last;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, [2, 3, 4, 5]);
        }
    }

    #[test]
    fn a_compaction_in_slices_drops_each_change_once() {
        for (looks, limit) in [(1, 1), (2, 1), (1, 100), (3, 2), (100, 100)] {
            let mut index = index(&["a", "b", "c"]);
            for (n, key) in ["a", "a", "a", "b"].iter().enumerate() {
                index.put(key.as_bytes(), Change::put(10 + n as i64, 0), 0);
            }
            index.delete(&KeyRange::Key(b"c"), None, 1, |_| Change::tombstone(20, 0));
            let mut dropped = Vec::new();
            let mut after: CompactFrom = None;
            loop {
                let (more, next) = index.compact(after.as_deref(), 30, looks, limit);
                dropped.extend(more.iter().map(|change| change.main));
                match next {
                    Some(next) => after = next,
                    None => break,
                }
            }
            dropped.sort();
            assert_eq!(dropped, [2, 3, 4, 10, 11, 20]);
            assert!(index.get(b"c").is_none());
        }
    }
}
