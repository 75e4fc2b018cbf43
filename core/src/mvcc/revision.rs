//! Changes, and the form of their keys in the backend.

use std::fmt;

use bytes::Bytes;

/// Length of a revision in the backend: main, `_`, sub.
const REVISION_BYTES: usize = 17;
/// What follows the revision of a tombstone.
const TOMBSTONE_MARK: u8 = b't';

/// One change of one key. Ordered by revision: main, then sub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The revision of the store that the change belongs to.
    pub main: i64,
    /// Twice the sub-revision, plus one for a tombstone: a million indexed keys feel each byte.
    sub_and_kind: u32,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {}, {}", self.main, self.sub())
    }
}

impl Change {
    /// The `sub`th change of revision `main`: a put.
    pub fn put(main: i64, sub: u32) -> Change {
        assert!(sub < 1 << 31, "more than 2^31 changes in one revision");
        Change { main, sub_and_kind: sub << 1 }
    }

    /// The `sub`th change of revision `main`: a delete.
    pub fn tombstone(main: i64, sub: u32) -> Change {
        assert!(sub < 1 << 31, "more than 2^31 changes in one revision");
        Change { main, sub_and_kind: sub << 1 | 1 }
    }

    /// The number of the change inside its revision, from 0.
    pub fn sub(self) -> u32 {
        self.sub_and_kind >> 1
    }

    pub fn is_tombstone(self) -> bool {
        self.sub_and_kind & 1 == 1
    }

    /// The change's key in the backend.
    pub fn stored_key(self) -> StoredKey {
        let mut bytes = [TOMBSTONE_MARK; REVISION_BYTES + 1];
        bytes[..8].copy_from_slice(&self.main.to_be_bytes());
        bytes[8] = b'_';
        bytes[9..REVISION_BYTES].copy_from_slice(&u64::from(self.sub()).to_be_bytes());
        StoredKey { bytes, tombstone: self.is_tombstone() }
    }

    /// The change whose key in the backend is `stored`; `None` if that is no such key.
    pub fn from_stored_key(stored: &[u8]) -> Option<Change> {
        let (main, rest) = stored.split_first_chunk::<8>()?;
        let (sub, mark) = rest.strip_prefix(b"_")?.split_first_chunk::<8>()?;
        let sub = u32::try_from(u64::from_be_bytes(*sub)).ok().filter(|sub| *sub < 1 << 31)?;
        match mark {
            [] => Some(Change::put(i64::from_be_bytes(*main), sub)),
            [TOMBSTONE_MARK] => Some(Change::tombstone(i64::from_be_bytes(*main), sub)),
            _ => None,
        }
    }
}

/// A change's key in the backend, without an allocation.
#[derive(Clone, Copy)]
pub struct StoredKey {
    bytes: [u8; REVISION_BYTES + 1],
    tombstone: bool,
}

impl AsRef<[u8]> for StoredKey {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..REVISION_BYTES + usize::from(self.tombstone)]
    }
}

impl From<StoredKey> for Bytes {
    fn from(key: StoredKey) -> Bytes {
        Bytes::copy_from_slice(key.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rev_01_stored_keys_are_etcds() {
        let put = Change::put(0x0102, 3).stored_key();
        assert_eq!(put.as_ref(), b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03");
        let tombstone = Change::tombstone(5, 0).stored_key();
        assert_eq!(tombstone.as_ref(), b"\0\0\0\0\0\0\0\x05_\0\0\0\0\0\0\0\0t");
    }

    #[test]
    fn stored_keys_come_back_and_sort_as_changes_do() {
        let changes =
            [Change::put(1, 0), Change::put(2, 0), Change::tombstone(2, 1), Change::put(300, 7)];
        for pair in changes.windows(2) {
            assert!(pair[0] < pair[1]);
            assert!(pair[0].stored_key().as_ref() < pair[1].stored_key().as_ref());
        }
        for change in changes {
            assert_eq!(Change::from_stored_key(change.stored_key().as_ref()), Some(change));
        }
        for bad in [&b""[..], b"\0\0\0\0\0\0\0\x05", b"\0\0\0\0\0\0\0\x05_\0\0\0\0\0\0\0\0x"] {
            assert_eq!(Change::from_stored_key(bad), None);
        }
    }
}
