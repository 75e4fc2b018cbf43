//! Hashes of the store, to compare members with each other and with etcd.

use bytes::Bytes;

use super::key_range::KeyRange;
use super::store::{Store, change_of, decode};
use crate::backend::Bucket;
use crate::error::{Answer, Error, Fatal};
use crate::limits::RANGE_SLICE_KEYS;

/// Stored entries read at a time.
const PAGE: usize = 256;

/// The hash of the key space up to a revision (MNT-06).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// The compact revision that the hash is of; -1 if there was none.
    pub compact_revision: i64,
    /// The revision that the hash is of.
    pub hash_revision: i64,
}

impl Store {
    /// The CRC-32C that etcd computes over the stored changes up to `revision` (0: now), the same
    /// on every member with the same compact revision, however far its compaction has come.
    ///
    /// Blocks for as long as it takes to read everything.
    pub fn hash_kv(&self, revision: i64) -> Answer<HashKv> {
        loop {
            let compact_revision = self.compact_revision();
            let current = self.current_revision();
            if revision > 0 && revision < compact_revision {
                return Ok(Err(Error::Compacted));
            }
            if revision > current {
                return Ok(Err(Error::FutureRev));
            }
            let hash_revision = if revision == 0 { current } else { revision };
            let hash = self.hash_up_to(hash_revision, compact_revision)?;
            // A compaction meanwhile took away some of what belongs into this hash: do it again.
            if compact_revision == self.compact_revision() {
                return Ok(Ok(HashKv { hash, compact_revision, hash_revision }));
            }
        }
    }

    fn hash_up_to(&self, revision: i64, compacted: i64) -> Result<u32, Fatal> {
        // Of what compaction may have removed, etcd hashes the changes visible at `revision`, or,
        // if nothing is, those it finds left: the ones visible at the compact revision.
        let visible_at = if self.anything_lives_at(revision) { revision } else { compacted };
        let mut hash = crc32c::crc32c(Bucket::Key.name().as_bytes());
        let mut next = Bytes::new();
        loop {
            let page = self.backend.scan(Bucket::Key, &next, PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(hash);
            };
            next = [last, &[0][..]].concat().into();
            let index = self.index();
            for (key, stored) in page {
                let change = change_of(&key)?;
                if change.main > revision {
                    return Ok(hash);
                }
                if change.main <= compacted {
                    let kv = decode(change, stored.clone())?;
                    let visible = index.get(&kv.key).and_then(|key| key.at(visible_at));
                    if visible.is_none_or(|(visible, _)| visible != change) {
                        continue;
                    }
                }
                hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, &key), &stored);
            }
        }
    }

    fn anything_lives_at(&self, revision: i64) -> bool {
        let mut after: Option<Box<[u8]>> = None;
        loop {
            let all = KeyRange::From(b"");
            let slice = self.index().slice(&all, after.as_deref(), revision, 0, RANGE_SLICE_KEYS);
            if slice.count > 0 {
                return true;
            }
            after = slice.last;
            if after.is_none() {
                return false;
            }
        }
    }

    /// A CRC-32C over everything durable but the bucket `meta`, whose log positions differ
    /// between members. Flushes first; blocks.
    pub fn hash(&self) -> Result<u32, Fatal> {
        let view = self.backend.view()?;
        let mut hash = 0;
        for bucket in Bucket::ALL.into_iter().filter(|bucket| *bucket != Bucket::Meta) {
            hash = crc32c::crc32c_append(hash, bucket.name().as_bytes());
            let mut next = Bytes::new();
            loop {
                let page = view.scan(bucket, &next, PAGE)?;
                let Some((last, _)) = page.last() else { break };
                next = [last, &[0][..]].concat().into();
                for (key, value) in page {
                    hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, &key), &value);
                }
            }
        }
        Ok(hash)
    }
}
