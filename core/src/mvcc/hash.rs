//! Hashes of the store, to compare members with each other and with etcd.

use std::sync::PoisonError;

use bytes::Bytes;

use super::key_range::KeyRange;
use super::store::{Store, change_of, decode};
use crate::backend::{BackendView, Bucket, Pages};
use crate::error::{Answer, Error, Fatal};
use crate::limits::RANGE_SLICE_KEYS;

/// Pages hashed in one step.
const STEP_PAGES: usize = 4;
/// Compactions whose hashes are remembered, as many as etcd does.
const REMEMBERED: usize = 10;

/// The hash of the key space up to a revision (MNT-06).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// The compact revision that the hash is of; -1 if there was none.
    pub compact_revision: i64,
    /// The revision that the hash is of.
    pub hash_revision: i64,
}

/// The making of a [`HashKv`] in steps: it reads everything, and others want the disk too.
pub struct HashKvSteps {
    /// The revision that was asked for; 0 is the newest.
    revision: i64,
    pass: Option<Pass>,
}

/// One way through the stored changes.
pub(super) struct Pass {
    compact_revision: i64,
    hash_revision: i64,
    /// Of what compaction may have removed, what is visible at this revision counts; nothing before
    /// the first step.
    visible_at: Option<i64>,
    hash: u32,
    pages: Pages,
}

impl HashKvSteps {
    /// Of the state as of `revision` (0: now, when the first step is made).
    pub fn new(revision: i64) -> HashKvSteps {
        HashKvSteps { revision, pass: None }
    }

    /// Goes on; nothing while there is more to read.
    pub fn step(&mut self, store: &Store) -> Result<Option<Result<HashKv, Error>>, Fatal> {
        // A compaction meanwhile took away some of what belongs into this hash: do it again.
        let current = |pass: &Pass| pass.compact_revision == store.compact_revision();
        let mut pass = match self.pass.take().filter(current) {
            Some(pass) => pass,
            None => match Pass::begin(store, self.revision) {
                Ok(pass) => pass,
                Err(refused) => return Ok(Some(Err(refused))),
            },
        };
        if pass.go_on(store)? && current(&pass) {
            return Ok(Some(Ok(pass.result())));
        }
        self.pass = Some(pass);
        Ok(None)
    }
}

impl Pass {
    fn begin(store: &Store, revision: i64) -> Result<Pass, Error> {
        let compact_revision = store.compact_revision();
        let current = store.current_revision();
        if revision > 0 && revision < compact_revision {
            return Err(Error::Compacted);
        }
        if revision > current {
            return Err(Error::FutureRev);
        }
        let hash_revision = if revision == 0 { current } else { revision };
        Ok(Pass::new(compact_revision, hash_revision))
    }

    pub(super) fn new(compact_revision: i64, hash_revision: i64) -> Pass {
        let hash = crc32c::crc32c(Bucket::Key.name().as_bytes());
        let pages = Pages::new(Bucket::Key, Bytes::new());
        Pass { compact_revision, hash_revision, visible_at: None, hash, pages }
    }

    /// What was hashed, when there is no more.
    pub(super) fn result(&self) -> HashKv {
        let Pass { hash, compact_revision, hash_revision, .. } = *self;
        HashKv { hash, compact_revision, hash_revision }
    }

    /// etcd hashes the changes visible at the revision, or, if nothing is, those it finds left:
    /// the ones visible at the compact revision.
    fn visible_at(&mut self, store: &Store) -> i64 {
        let (hash_revision, compact_revision) = (self.hash_revision, self.compact_revision);
        *self.visible_at.get_or_insert_with(|| {
            let lives = store.anything_lives_at(hash_revision);
            if lives { hash_revision } else { compact_revision }
        })
    }

    /// Hashes some pages; `true` if those were the last.
    pub(super) fn go_on(&mut self, store: &Store) -> Result<bool, Fatal> {
        let visible_at = self.visible_at(store);
        for _ in 0..STEP_PAGES {
            let page = self.pages.next(&*store.backend)?;
            if page.is_empty() {
                return Ok(true);
            }
            let index = store.index();
            for (key, stored) in page {
                let change = change_of(&key)?;
                if change.main > self.hash_revision {
                    return Ok(true);
                }
                if change.main <= self.compact_revision {
                    let kv = decode(change, stored.clone())?;
                    let visible = index.get(&kv.key).and_then(|key| key.at(visible_at));
                    if visible.is_none_or(|(visible, _)| visible != change) {
                        continue;
                    }
                }
                self.hash = crc32c::crc32c_append(crc32c::crc32c_append(self.hash, &key), &stored);
            }
        }
        Ok(false)
    }
}

/// The making of the hash of [`Store::hash`] in steps.
pub struct HashSteps {
    view: BackendView,
    bucket: usize,
    /// The way through the bucket, once it has begun.
    pages: Option<Pages>,
    hash: u32,
}

impl HashSteps {
    /// Of everything durable in `view`.
    pub fn new(view: BackendView) -> HashSteps {
        HashSteps { view, bucket: 0, pages: None, hash: 0 }
    }

    /// Goes on; nothing while there is more to read.
    pub fn step(&mut self) -> Result<Option<u32>, Fatal> {
        for _ in 0..STEP_PAGES {
            let Some(bucket) = Bucket::ALL.get(self.bucket) else { return Ok(Some(self.hash)) };
            if *bucket == Bucket::Meta {
                self.bucket += 1;
                continue;
            }
            let pages = self.pages.get_or_insert_with(|| {
                self.hash = crc32c::crc32c_append(self.hash, bucket.name().as_bytes());
                Pages::new(*bucket, Bytes::new())
            });
            let page = pages.next(&self.view)?;
            if page.is_empty() {
                (self.bucket, self.pages) = (self.bucket + 1, None);
            }
            for (key, value) in page {
                self.hash = crc32c::crc32c_append(crc32c::crc32c_append(self.hash, &key), &value);
            }
        }
        Ok(None)
    }
}

impl Store {
    /// The CRC-32C that etcd computes over the stored changes up to `revision` (0: now), the same
    /// on every member with the same compact revision, however far its compaction has come.
    ///
    /// Blocks for as long as it takes to read everything; [`HashKvSteps`] does not.
    pub fn hash_kv(&self, revision: i64) -> Answer<HashKv> {
        let mut steps = HashKvSteps::new(revision);
        loop {
            if let Some(hash) = steps.step(self)? {
                return Ok(hash);
            }
        }
    }

    /// The hash that `revision` had before the compaction at it, if that is one of the last and
    /// was begun since this member was started. What etcd answers since 3.5.7; it says nothing of
    /// what is there now.
    pub fn hash_before_compaction(&self, revision: i64) -> Option<HashKv> {
        let hashes = self.compaction_hashes.lock().unwrap_or_else(PoisonError::into_inner);
        // A store can be compacted at 0, but who asks for 0 asks for now.
        let asked_for = |hash: &&HashKv| revision > 0 && hash.hash_revision == revision;
        hashes.iter().find(asked_for).copied()
    }

    /// Keeps the hash of what a compaction is about to remove: nobody can compute it afterwards.
    pub(super) fn remember(&self, hash: HashKv) {
        let mut hashes = self.compaction_hashes.lock().unwrap_or_else(PoisonError::into_inner);
        hashes.push_back(hash);
        if hashes.len() > REMEMBERED {
            hashes.pop_front();
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
    /// between members. Flushes first; blocks, which [`HashSteps`] does not.
    pub fn hash(&self) -> Result<u32, Fatal> {
        let mut steps = HashSteps::new(self.backend.view()?);
        loop {
            if let Some(hash) = steps.step()? {
                return Ok(hash);
            }
        }
    }
}
