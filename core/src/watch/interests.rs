//! Who is interested in a key: exact keys by hash, intervals by tree, each holder counted.
//!
//! The hub asks it for streams, a stream for its watchers.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::intervals::IntervalTree;
use super::key_range::KeyRange;

/// Holders of type `T` by the key ranges that they want, as often as they were added.
pub(super) struct Interests<T> {
    keys: HashMap<Bytes, Holders<T>>,
    intervals: IntervalTree<Holders<T>>,
}

/// Each holder and how often it was added.
type Holders<T> = BTreeMap<T, usize>;

impl<T> Default for Interests<T> {
    fn default() -> Interests<T> {
        Interests { keys: HashMap::new(), intervals: IntervalTree::default() }
    }
}

impl<T: Ord + Clone> Interests<T> {
    pub(super) fn add(&mut self, range: &KeyRange, holder: &T) {
        let mut add = |holders: &mut Holders<T>| *holders.entry(holder.clone()).or_default() += 1;
        match range {
            KeyRange::Key(key) => add(self.keys.entry(key.clone()).or_default()),
            KeyRange::Interval { start, end } => {
                self.intervals.update(start, end.as_ref(), &mut add);
            }
        }
    }

    pub(super) fn remove(&mut self, range: &KeyRange, holder: &T) {
        let mut remove = |holders: &mut Holders<T>| {
            if let Some(count) = holders.get_mut(holder) {
                *count -= 1;
                if *count == 0 {
                    holders.remove(holder);
                }
            }
            holders.is_empty()
        };
        match range {
            KeyRange::Key(key) => {
                if self.keys.get_mut(key).is_some_and(&mut remove) {
                    self.keys.remove(key);
                }
            }
            KeyRange::Interval { start, end } => {
                self.intervals.remove_if(start, end.as_ref(), &mut remove);
            }
        }
    }

    /// Calls `visitor` for every holder that wants `key`; more than once if through several ranges.
    pub(super) fn visit(&self, key: &[u8], visitor: &mut dyn FnMut(&T)) {
        if let Some(holders) = self.keys.get(key) {
            holders.keys().for_each(&mut *visitor);
        }
        self.intervals.visit(key, &mut |holders| holders.keys().for_each(&mut *visitor));
    }
}
