//! The ranges of keys that requests name, and sets of them.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// The keys that a request names with `key` and `range_end` (KV-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRange<'a> {
    /// No `range_end`: the one key.
    Key(&'a [u8]),
    /// From the first to before the second; empty if they are not in order.
    Between(&'a [u8], &'a [u8]),
    /// `range_end` is one zero byte: from the key on.
    From(&'a [u8]),
}

/// Where a range begins and ends in a map.
pub(super) type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

impl<'a> KeyRange<'a> {
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> KeyRange<'a> {
        match range_end {
            [] => KeyRange::Key(key),
            [0] => KeyRange::From(key),
            end => KeyRange::Between(key, end),
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::Key(only) => key == *only,
            KeyRange::Between(from, end) => (*from..*end).contains(&key),
            KeyRange::From(from) => key >= *from,
        }
    }

    /// The part of the range behind `after`, as bounds of a map; `None` if nothing is there.
    pub(super) fn bounds(&self, after: Option<&'a [u8]>) -> Option<Bounds<'a>> {
        let from = |key| after.map_or(Bound::Included(key), Bound::Excluded);
        match *self {
            // A map's range panics where the start lies behind the end.
            KeyRange::Key(key) => {
                after.is_none().then_some((Bound::Included(key), Bound::Included(key)))
            }
            KeyRange::Between(key, end) => {
                (after.unwrap_or(key) < end).then_some((from(key), Bound::Excluded(end)))
            }
            KeyRange::From(key) => Some((from(key), Bound::Unbounded)),
        }
    }
}

/// A set of keys given as ranges. Kept disjoint, so that looking up stays cheap however many
/// ranges a client names. `K` is a key, borrowed from a request or owned.
#[derive(Debug)]
pub struct KeySet<K> {
    /// Where each range begins and before which key it ends.
    ranges: BTreeMap<K, End<K>>,
    keys: BTreeSet<K>,
}

/// The end of a range, exclusive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End<K> {
    Before(K),
    Never,
}

impl<K: Ord> Default for KeySet<K> {
    fn default() -> KeySet<K> {
        KeySet { ranges: BTreeMap::new(), keys: BTreeSet::new() }
    }
}

impl<'a> KeySet<&'a [u8]> {
    pub fn insert(&mut self, range: KeyRange<'a>) {
        match range {
            KeyRange::Key(key) => {
                self.keys.insert(key);
            }
            KeyRange::Between(from, end) if from < end => self.join(from, End::Before(end)),
            KeyRange::Between(..) => {}
            KeyRange::From(from) => self.join(from, End::Never),
        }
    }
}

impl<K: Borrow<[u8]> + Ord + Clone> KeySet<K> {
    /// Adds the keys from `from` to before `end`, which is behind it, or to the last.
    pub fn insert_interval(&mut self, from: K, end: Option<K>) {
        self.join(from, end.map_or(End::Never, End::Before));
    }

    /// Adds a range and swallows those that touch it.
    fn join(&mut self, mut from: K, mut end: End<K>) {
        while let Some((other, other_end)) = self.last_range_up_to(&end) {
            if other_end < End::Before(from.clone()) {
                break;
            }
            self.ranges.remove(other.borrow());
            from = from.min(other);
            end = end.max(other_end);
        }
        self.ranges.insert(from, end);
    }

    /// The last range that begins at `end` or before it.
    fn last_range_up_to(&self, end: &End<K>) -> Option<(K, End<K>)> {
        let last = match end {
            End::Before(key) => Bound::Included(key.borrow()),
            End::Never => Bound::Unbounded,
        };
        let mut up_to = self.ranges.range::<[u8], _>((Bound::Unbounded, last));
        up_to.next_back().map(|(from, end)| (from.clone(), end.clone()))
    }

    /// Adds all keys of `other`.
    pub fn extend(&mut self, other: KeySet<K>) {
        self.keys.extend(other.keys);
        for (from, end) in other.ranges {
            self.join(from, end);
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        self.range_with(key).is_some() || self.keys.contains(key)
    }

    /// The range that `key` is in.
    fn range_with(&self, key: &[u8]) -> Option<(&K, &End<K>)> {
        let mut up_to = self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(key)));
        up_to.next_back().filter(|(_, end)| end.is_behind(key))
    }

    /// Whether all keys of `range` that there could ever be are in one range of the set; of single
    /// keys nothing is known here. A range that ends before it begins is covered where both its
    /// ends are.
    pub fn covers(&self, range: &KeyRange<'_>) -> bool {
        match *range {
            KeyRange::Key(key) => self.contains(key),
            KeyRange::Between(from, before) => self.range_with(from).is_some_and(|(start, end)| {
                start.borrow() < before && (end.is_behind(before) || end.is_at(before))
            }),
            KeyRange::From(from) => {
                self.range_with(from).is_some_and(|(_, end)| *end == End::Never)
            }
        }
    }
}

impl<K: Borrow<[u8]>> End<K> {
    fn is_behind(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => end.borrow() > key,
            End::Never => true,
        }
    }

    fn is_at(&self, key: &[u8]) -> bool {
        matches!(self, End::Before(end) if end.borrow() == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 6] = ["a", "aa", "b", "c", "d", "e"];

    fn all_ranges() -> Vec<KeyRange<'static>> {
        let ends = ["", "\0"].into_iter().chain(KEYS);
        ends.flat_map(|end| KEYS.map(|key| KeyRange::new(key.as_bytes(), end.as_bytes()))).collect()
    }

    #[test]
    fn kv_01_what_a_range_contains() {
        for (range, inside) in [
            (KeyRange::Key(b"a"), [true, false, false]),
            (KeyRange::Between(b"a", b"ab"), [true, true, false]),
            (KeyRange::Between(b"b", b"a"), [false, false, false]),
            (KeyRange::From(b"a\0"), [false, true, true]),
        ] {
            let contained = ["a", "a\0", "ab"].map(|key| range.contains(key.as_bytes()));
            assert_eq!(contained, inside, "{range:?}");
        }
    }

    #[test]
    fn a_set_holds_the_keys_of_its_ranges_in_any_order_of_insertion() {
        let ranges = all_ranges();
        for (n, first) in ranges.iter().enumerate() {
            for second in &ranges[n / 2..] {
                for third in [ranges[n * 7 % ranges.len()], ranges[n * 11 % ranges.len()]] {
                    let named = [*first, *second, third];
                    let (mut set, mut other) = (KeySet::default(), KeySet::default());
                    set.insert(*first);
                    other.insert(*second);
                    other.insert(third);
                    set.extend(other);
                    for key in KEYS.map(str::as_bytes) {
                        let expected = named.iter().any(|range| range.contains(key));
                        assert_eq!(set.contains(key), expected, "{key:?} in {named:?}");
                    }
                }
            }
        }
    }
}
