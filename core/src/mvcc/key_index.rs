//! One key's changes, and the life it is in (etcd: `keyIndex` and its generations).
//!
//! etcd keeps a list of generations, each from its first put to its tombstone. The tombstones in
//! one flat list of changes say the same, so that is what is kept here; beside it only what a
//! write to the key, or a compare with it, needs of the newest one.

use super::revision::Change;
use crate::api::mvccpb::KeyValue;

/// The changes of one key since the last compaction; never empty.
pub(super) struct KeyIndex {
    /// Oldest first. Most keys have none: an empty vector owns no memory.
    older: Vec<Change>,
    newest: Change,
    /// Of the newest change if that is a put, else zeroes.
    life: Life,
}

/// What the index knows of a live key besides its changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Life {
    /// Revision of the put that began it.
    pub(super) created: i64,
    /// Puts since then, from 1.
    pub(super) version: i64,
    pub(super) lease: i64,
}

/// What [`KeyIndex::compact`] leaves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Compacted {
    /// More than was allowed at a time could be dropped.
    Partly,
    Fully,
    /// Nothing is left of the key.
    Gone,
}

impl KeyIndex {
    /// A key whose first known change is `change`.
    pub(super) fn new(change: Change, life: Life) -> KeyIndex {
        KeyIndex { older: Vec::new(), newest: change, life }
    }

    /// Adds a change, newer than all before.
    pub(super) fn push(&mut self, change: Change, life: Life) {
        assert!(change > self.newest, "changes of a key come in order: {change}");
        self.older.push(self.newest);
        self.newest = change;
        self.life = life;
    }

    /// The life that a put at revision `main` leads to.
    pub(super) fn life_after_put(before: Option<&KeyIndex>, main: i64, lease: i64) -> Life {
        match before.and_then(KeyIndex::alive) {
            Some((_, life)) => Life { version: life.version + 1, lease, ..life },
            None => Life { created: main, version: 1, lease },
        }
    }

    /// The newest change and its life, if the key lives.
    pub(super) fn alive(&self) -> Option<(Change, Life)> {
        (!self.newest.is_tombstone()).then_some((self.newest, self.life))
    }

    /// The change that is visible at `revision`, and its life if the index still knows it.
    pub(super) fn at(&self, revision: i64) -> Option<(Change, Option<Life>)> {
        if self.newest.main <= revision {
            return self.alive().map(|(change, life)| (change, Some(life)));
        }
        let after = self.older.partition_point(|change| change.main <= revision);
        let change = self.older[..after].last()?;
        (!change.is_tombstone()).then_some((*change, None))
    }

    /// Drops what a compaction at `revision` forgets into `dropped`, at most about `limit`
    /// changes at a time, the oldest first.
    ///
    /// Of the changes up to `revision` the newest stays, unless it is a tombstone older than
    /// `revision`: a watcher from `revision` on still wants a delete that happened there.
    pub(super) fn compact(
        &mut self,
        revision: i64,
        limit: usize,
        dropped: &mut Vec<Change>,
    ) -> Compacted {
        let forgotten = |change: Change| change.is_tombstone() && change.main < revision;
        if self.newest.main <= revision {
            if self.older.len() > limit {
                dropped.extend(self.older.drain(..limit));
                return Compacted::Partly;
            }
            dropped.append(&mut self.older);
            self.older.shrink_to_fit();
            if forgotten(self.newest) {
                dropped.push(self.newest);
                return Compacted::Gone;
            }
            return Compacted::Fully;
        }
        let up_to = self.older.partition_point(|change| change.main <= revision);
        let Some(last) = up_to.checked_sub(1) else {
            return Compacted::Fully;
        };
        let count = if forgotten(self.older[last]) { up_to } else { last };
        dropped.extend(self.older.drain(..count.min(limit)));
        if self.older.is_empty() {
            self.older = Vec::new();
        }
        if count > limit { Compacted::Partly } else { Compacted::Fully }
    }
}

impl From<&KeyValue> for Life {
    fn from(kv: &KeyValue) -> Life {
        Life { created: kv.create_revision, version: kv.version, lease: kv.lease }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key with the given changes: `3` is a put at 3.0, `-4` a tombstone at 4.0.
    fn key(changes: &[i64]) -> KeyIndex {
        let mut key: Option<KeyIndex> = None;
        for &at in changes {
            let (change, life) = if at > 0 {
                (Change::put(at, 0), KeyIndex::life_after_put(key.as_ref(), at, 0))
            } else {
                (Change::tombstone(-at, 0), Life::default())
            };
            match &mut key {
                Some(key) => key.push(change, life),
                None => key = Some(KeyIndex::new(change, life)),
            }
        }
        key.unwrap()
    }

    fn numbers(changes: &[Change]) -> Vec<i64> {
        changes.iter().map(|c| if c.is_tombstone() { -c.main } else { c.main }).collect()
    }

    fn left(key: &KeyIndex) -> Vec<i64> {
        numbers(&[&key.older[..], &[key.newest]].concat())
    }

    #[test]
    fn rev_02_versions_count_from_the_first_put_of_a_life() {
        let life = |changes: &[i64]| key(changes).alive().map(|(_, life)| life);
        assert_eq!(life(&[2, 5]), Some(Life { created: 2, version: 2, lease: 0 }));
        assert_eq!(life(&[2, -3]), None);
        assert_eq!(life(&[2, -3, 7]), Some(Life { created: 7, version: 1, lease: 0 }));
    }

    #[test]
    fn kv_02_reads_find_the_newest_change_up_to_the_revision() {
        let key = key(&[2, 4, -6, 8]);
        let at = |revision| key.at(revision).map(|(change, _)| change.main);
        let expected = [None, Some(2), Some(2), Some(4), Some(4), None, None, Some(8), Some(8)];
        assert_eq!((1..10).map(at).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn cmp_03_what_a_compaction_keeps() {
        let cases: [(&[i64], i64, &[i64]); 7] = [
            (&[2, 4, 6], 1, &[2, 4, 6]),
            (&[2, 4, 6], 4, &[4, 6]),
            (&[2, 4, 6], 5, &[4, 6]),
            (&[2, 4, 6], 9, &[6]),
            (&[2, -4, 6], 4, &[-4, 6]),
            (&[2, -4, 6], 5, &[6]),
            (&[2, -4], 4, &[-4]),
        ];
        for (changes, revision, kept) in cases {
            let mut key = key(changes);
            let mut dropped = Vec::new();
            assert_eq!(key.compact(revision, 100, &mut dropped), Compacted::Fully);
            assert_eq!(left(&key), kept, "{changes:?} at {revision}");
            assert_eq!([numbers(&dropped), left(&key)].concat(), changes);
        }
        let mut dropped = Vec::new();
        assert_eq!(key(&[2, -4]).compact(5, 100, &mut dropped), Compacted::Gone);
        assert_eq!(numbers(&dropped), [2, -4]);
    }

    #[test]
    fn a_long_history_is_dropped_piece_by_piece() {
        let mut key = key(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let mut dropped = Vec::new();
        assert_eq!(key.compact(6, 2, &mut dropped), Compacted::Partly);
        assert_eq!(key.compact(6, 2, &mut dropped), Compacted::Partly);
        assert_eq!(key.compact(6, 2, &mut dropped), Compacted::Fully);
        assert_eq!((numbers(&dropped), left(&key)), (vec![1, 2, 3, 4, 5], vec![6, 7, 8]));
    }
}
