//! The values of the key bucket that were written last, kept in memory after their flush.
//!
//! Revisions only grow, so writing appends and forgetting takes from the front: a queue in key
//! order is all that is needed, and looking up is a binary search.

use std::collections::VecDeque;

use bytes::Bytes;

/// What an entry takes beside its bytes: two handles, a number and allocations, in bytes.
const ENTRY_OVERHEAD: usize = 144;

/// A cache of stored entries in key order. It may lack entries, but never holds a stale one.
pub(super) struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
    bound: usize,
}

struct Entry {
    /// The first bytes of `key`: most comparisons end here, without a look elsewhere in memory.
    prefix: u128,
    key: Bytes,
    /// `None` if it was removed.
    value: Option<Bytes>,
}

impl Recent {
    /// A cache of at most about `bound` bytes.
    pub(super) fn new(bound: usize) -> Recent {
        Recent { entries: VecDeque::new(), bytes: 0, bound }
    }

    /// Takes over a write that is, or will next be, in the database.
    pub(super) fn set(&mut self, key: &Bytes, value: &Option<Bytes>) {
        let length = |value: &Option<Bytes>| value.as_ref().map_or(0, Bytes::len);
        if self.entries.back().is_none_or(|last| last.key < *key) {
            // Of a removal behind the end there is nothing to hide.
            if value.is_some() {
                self.bytes += key.len() + length(value) + ENTRY_OVERHEAD;
                let (key, value) = (key.clone(), value.clone());
                self.entries.push_back(Entry { prefix: prefix(&key), key, value });
            }
        } else if let Ok(at) = self.position(key) {
            let old = std::mem::replace(&mut self.entries[at].value, value.clone());
            self.bytes = self.bytes + length(value) - length(&old);
        }
        while self.bytes > self.bound {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.key.len() + length(&oldest.value) + ENTRY_OVERHEAD;
        }
    }

    /// The entry of `key`, if the cache has it; `Some(None)` if it was removed.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        // Most keys that are not here are older than all that are.
        if self.entries.front().is_none_or(|first| first.key.as_ref() > key) {
            return None;
        }
        self.position(key).ok().map(|at| self.entries[at].value.clone())
    }

    fn position(&self, key: &[u8]) -> Result<usize, usize> {
        let prefix = prefix(key);
        self.entries.binary_search_by(|other| {
            other.prefix.cmp(&prefix).then_with(|| other.key.as_ref().cmp(key))
        })
    }
}

/// The first 16 bytes of `key` as a number that sorts as they do.
fn prefix(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    let length = key.len().min(bytes.len());
    bytes[..length].copy_from_slice(&key[..length]);
    u128::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u8, value: &'static str) -> (Bytes, Option<Bytes>) {
        (Bytes::from(vec![n]), Some(Bytes::from(value)))
    }

    #[test]
    fn it_holds_the_last_writes_and_nothing_stale() {
        let mut recent = Recent::new(4 * (ENTRY_OVERHEAD + 2));
        let mut set = |(key, value): (Bytes, Option<Bytes>)| recent.set(&key, &value);
        (1..=6).for_each(|n| set(entry(n, "a")));
        set(entry(4, "b"));
        set((Bytes::from(vec![5]), None));
        set((Bytes::from(vec![9]), None));
        // Never seen and out of order: left to the database.
        set(entry(2, "x"));
        let get = |n: u8| recent.get(&[n]);
        assert_eq!((1..=3).map(get).collect::<Vec<_>>(), [None, None, Some(entry(3, "a").1)]);
        assert_eq!((get(4), get(5)), (Some(entry(4, "b").1), Some(None)));
        assert_eq!((get(6), get(7)), (Some(entry(6, "a").1), None));
    }
}
