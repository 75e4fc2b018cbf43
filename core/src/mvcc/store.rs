//! The store: index, backend and the two revisions that bound its history.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use prost::Message;

use super::compaction::{self, Compaction};
use super::hash::HashKv;
use super::index::Index;
use super::key_index::Life;
use super::range::View;
use super::revision::Change;
use super::txn::WriteTxn;
use crate::api::etcdserverpb::{RangeRequest, RangeResponse};
use crate::api::mvccpb::KeyValue;
use crate::backend::{Backend, Bucket, Contents, Pages};
use crate::error::{Answer, Error, Fatal, hex};
use crate::notify::Notify;

/// The revision of a store in which nothing was ever written (REV-01).
const FIRST_REVISION: i64 = 1;
/// The compact revision of a store that was never compacted.
const NEVER_COMPACTED: i64 = -1;
/// How often a read of the newest state begins again because a compaction overtook it.
const READ_ATTEMPTS: usize = 8;

/// The key space of one member. Shared between threads; one writes at a time.
pub struct Store {
    pub(super) backend: Arc<Backend>,
    pub(super) index: RwLock<Index>,
    /// The newest committed revision. The index may hold changes above it, of a transaction that
    /// is under way; readers never ask for them.
    pub(super) current: AtomicI64,
    /// History below this revision is forgotten, whether or not it is removed already.
    pub(super) compacted: AtomicI64,
    pub(super) writer: Mutex<()>,
    /// The compaction being carried out.
    pub(super) compaction: Mutex<Option<Compaction>>,
    /// Wakes whoever carries compactions out.
    pub(super) compaction_due: Notify,
    /// Hashes of the last compactions, each taken before anything was removed.
    pub(super) compaction_hashes: Mutex<VecDeque<HashKv>>,
    /// Stored revisions that compactions have removed since the store was opened.
    pub(super) compacted_keys: AtomicU64,
}

/// What a store keeps in memory of a stored state.
pub struct Loaded {
    index: Index,
    current: i64,
    compacted: i64,
    compaction: Option<Compaction>,
}

impl Store {
    /// Opens the key space in `backend` by reading all of it once.
    ///
    /// Also returns which keys are attached to which leases, in key order.
    pub fn open(backend: Arc<Backend>) -> Result<(Store, Vec<(i64, Bytes)>), Fatal> {
        let loaded = Loaded::of(&*backend)?;
        let attachments = loaded.attachments();
        let store = Store {
            backend,
            index: RwLock::new(loaded.index),
            current: AtomicI64::new(loaded.current),
            compacted: AtomicI64::new(loaded.compacted),
            writer: Mutex::new(()),
            compaction: Mutex::new(loaded.compaction),
            compaction_due: Notify::default(),
            compaction_hashes: Mutex::default(),
            compacted_keys: AtomicU64::new(0),
        };
        Ok((store, attachments))
    }

    /// Makes `loaded` the state: `swap` puts what it was loaded from in place of the backend's
    /// content, in the same moment, and everything else that must not be seen beside the other
    /// state.
    ///
    /// Whoever reads meanwhile finds the old state, or the new one, or that its revision is
    /// compacted.
    pub fn replace<T>(&self, loaded: Loaded, swap: impl FnOnce() -> T) -> T {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken before the index, as a compaction step takes them.
        let mut compaction = self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        let mut index = self.index_mut();
        // First: who misses something in the new content asks for this next.
        self.compacted.store(loaded.compacted, Ordering::Release);
        let swapped = swap();
        self.current.store(loaded.current, Ordering::Release);
        let former = std::mem::replace(&mut *index, loaded.index);
        *compaction = loaded.compaction;
        drop((index, compaction));
        self.compaction_due.notify();
        // Outside the locks: there are many entries to free.
        drop(former);
        swapped
    }

    /// The newest committed revision; 1 in a fresh store.
    pub fn current_revision(&self) -> i64 {
        self.current.load(Ordering::Acquire)
    }

    /// The revision of the last compaction; -1 if there was none.
    pub fn compact_revision(&self) -> i64 {
        self.compacted.load(Ordering::Acquire)
    }

    /// Stored revisions that compactions have removed since the store was opened.
    pub fn compacted_keys(&self) -> u64 {
        self.compacted_keys.load(Ordering::Relaxed)
    }

    /// Keys that live now.
    pub fn key_count(&self) -> u64 {
        self.index().live() as u64
    }

    /// The state as of the newest committed revision.
    pub fn view(&self) -> View<'_> {
        View { store: self, revision: self.current_revision() }
    }

    /// Answers a (validated) range request; the header holds the revision only.
    ///
    /// A long range works in slices at one revision and holds no lock for long. If a compaction
    /// overtakes it, a read of the newest state begins again and others fail with
    /// [`Error::Compacted`].
    pub fn range(&self, request: &RangeRequest) -> Answer<RangeResponse> {
        for _ in 1..READ_ATTEMPTS {
            match self.view().range(request)? {
                Err(Error::Compacted) if request.revision <= 0 => continue,
                answer => return Ok(answer),
            }
        }
        self.view().range(request)
    }

    /// Begins a write transaction; waits for the one before to end.
    pub fn write(&self) -> WriteTxn<'_> {
        WriteTxn::begin(self)
    }

    /// The key-value that `key` had at `revision`, if it lived and is not compacted.
    pub fn value_at(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, Fatal> {
        let view = View { store: self, revision };
        // A compacted value is none, as for etcd's watchers.
        Ok(view.get(key)?.ok().flatten())
    }

    /// The stored key-values of `changes`, in their order.
    ///
    /// Fails with [`Error::Compacted`] if history up to `revision`, at which they were found, was
    /// removed meanwhile.
    pub(super) fn values(
        &self,
        changes: &[(Change, Option<Life>)],
        revision: i64,
    ) -> Answer<Vec<KeyValue>> {
        let stored = match changes {
            // A point read: by far the most frequent one.
            [(change, _)] => vec![self.backend.get(Bucket::Key, change.stored_key().as_ref())?],
            _ => {
                let keys = changes.iter().map(|(change, _)| change.stored_key());
                self.backend.get_all(Bucket::Key, &keys.collect::<Vec<_>>())?
            }
        };
        let mut values = Vec::with_capacity(changes.len());
        for ((change, _), stored) in changes.iter().zip(stored) {
            match stored {
                Some(stored) => values.push(decode(*change, stored)?),
                None if self.compact_revision() > revision => return Ok(Err(Error::Compacted)),
                None => {
                    let detail = format!("the value of {change} is missing");
                    return Err(Fatal::Backend(detail));
                }
            }
        }
        Ok(Ok(values))
    }

    pub(super) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loaded {
    /// Reads all of the key space in `contents` once.
    pub fn of(contents: &dyn Contents) -> Result<Loaded, Fatal> {
        let (index, newest) = index_of(contents)?;
        let scheduled = compaction::scheduled(contents)?;
        let finished = compaction::finished(contents)?;
        let compacted = scheduled.max(finished).unwrap_or(NEVER_COMPACTED);
        let compaction = (scheduled > finished).then(|| Compaction::resumed(compacted));
        // Compaction may have removed the newest revisions: they were tombstones (REV-06).
        Ok(Loaded { index, current: newest.max(compacted), compacted, compaction })
    }

    /// Which keys are attached to which leases, in key order.
    pub fn attachments(&self) -> Vec<(i64, Bytes)> {
        let attachments = self.index.attachments();
        attachments.map(|(lease, key)| (lease, Bytes::copy_from_slice(key))).collect()
    }
}

/// Builds the index from the key bucket, in revision order; also returns the newest revision.
fn index_of(contents: &dyn Contents) -> Result<(Index, i64), Fatal> {
    let (mut index, mut newest) = (Index::default(), FIRST_REVISION);
    let mut pages = Pages::new(Bucket::Key, Bytes::new());
    loop {
        let page = pages.next(contents)?;
        if page.is_empty() {
            return Ok((index, newest));
        }
        for (key, value) in page {
            let change = change_of(&key)?;
            let kv = decode(change, value)?;
            let life = if change.is_tombstone() { Life::default() } else { Life::from(&kv) };
            index.push(&kv.key, change, life);
            newest = change.main;
        }
    }
}

/// The change stored at `key` of the key bucket.
pub(super) fn change_of(key: &[u8]) -> Result<Change, Fatal> {
    Change::from_stored_key(key)
        .ok_or_else(|| Fatal::Backend(format!("the key bucket holds {}, no revision", hex(key))))
}

/// The key-value in `stored`, the value of `change`.
pub(super) fn decode(change: Change, stored: Bytes) -> Result<KeyValue, Fatal> {
    KeyValue::decode(stored)
        .map_err(|error| Fatal::Backend(format!("the value of {change} is damaged: {error}")))
}
