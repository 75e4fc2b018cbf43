//! Which keys a watcher wants: one, or an interval of them.

use bytes::Bytes;

/// A non-empty set of keys, as `key` and `range_end` of a request name it (ETCD.md WATCH-02).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KeyRange {
    Key(Bytes),
    /// From `start` to before `end`, or to the last key where there is no end.
    Interval {
        start: Bytes,
        end: Option<Bytes>,
    },
}

impl KeyRange {
    /// The range of a request; `None` if it is empty.
    pub(super) fn parse(key: Bytes, range_end: Bytes) -> Option<KeyRange> {
        const FIRST_KEY: Bytes = Bytes::from_static(b"\0");
        let start = if key.is_empty() { FIRST_KEY } else { key };
        if range_end.is_empty() {
            Some(KeyRange::Key(start))
        } else if range_end == FIRST_KEY {
            Some(KeyRange::Interval { start, end: None })
        } else if range_end > start {
            Some(KeyRange::Interval { start, end: Some(range_end) })
        } else {
            None
        }
    }

    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::Key(only) => only == key,
            KeyRange::Interval { start, end } => start <= key && ends_after(end.as_ref(), key),
        }
    }
}

/// Whether an interval with this end (exclusive, none is open) reaches beyond `key`.
pub(super) fn ends_after(end: Option<&Bytes>, key: &[u8]) -> bool {
    end.is_none_or(|end| end > key)
}
