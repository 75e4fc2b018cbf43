//! Compaction: forgetting history, at once for readers, in slices on disk.
//!
//! A compaction is first *scheduled*: its revision is written to the backend with the entry that
//! asks for it, and from then on requests below it fail. Steps then hash what there is up to the
//! revision, for those who compare members later (MNT-06), walk the index and remove what is
//! forgotten from index and backend, and the last one records that the compaction is *finished*.
//! After a crash the walk starts over: removing twice does no harm. There is no hash then.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::hash::Pass;
use super::index::CompactFrom;
use super::revision::Change;
use super::store::{Store, change_of};
use crate::backend::{Bucket, Contents};
use crate::error::{Error, Fatal};
use crate::limits::RANGE_SLICE_KEYS;

/// etcd's names in the bucket `meta`.
pub(crate) const SCHEDULED_COMPACTION: &[u8] = b"scheduledCompactRev";
pub(crate) const FINISHED_COMPACTION: &[u8] = b"finishedCompactRev";

/// A compaction that is being carried out.
pub(super) struct Compaction {
    revision: i64,
    /// The hash that is being made before anything is removed.
    hashing: Option<Pass>,
    after: CompactFrom,
}

impl Compaction {
    fn new(revision: i64, former: i64) -> Compaction {
        Compaction { revision, hashing: Some(Pass::new(former, revision)), after: None }
    }

    /// One that had begun before a restart.
    pub(super) fn resumed(revision: i64) -> Compaction {
        Compaction { revision, hashing: None, after: None }
    }
}

/// The last scheduled compaction's revision.
pub(super) fn scheduled(contents: &dyn Contents) -> Result<Option<i64>, Fatal> {
    revision_at(contents, SCHEDULED_COMPACTION)
}

/// The last finished compaction's revision.
pub(super) fn finished(contents: &dyn Contents) -> Result<Option<i64>, Fatal> {
    revision_at(contents, FINISHED_COMPACTION)
}

fn revision_at(contents: &dyn Contents, name: &[u8]) -> Result<Option<i64>, Fatal> {
    let stored = contents.get(Bucket::Meta, name)?;
    stored.map(|stored| Ok(change_of(&stored)?.main)).transpose()
}

impl Store {
    /// Forgets history below `revision`, at once and on all members alike; what is on disk is
    /// removed by [`Store::compact_step`].
    ///
    /// Fails with [`Error::Compacted`] if `revision` is not above the last one, with
    /// [`Error::FutureRev`] if it is above the current one (CMP-01).
    pub fn compact(&self, revision: i64) -> Result<(), Error> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let former = self.compact_revision();
        if revision <= former {
            return Err(Error::Compacted);
        }
        if revision > self.current_revision() {
            return Err(Error::FutureRev);
        }
        self.record(SCHEDULED_COMPACTION, revision);
        let mut compaction = self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        self.compacted.store(revision, Ordering::Release);
        // One that is under way ends here: the new one removes all that it would have.
        *compaction = Some(Compaction::new(revision, former));
        drop(compaction);
        self.compaction_due.notify();
        Ok(())
    }

    /// Removes what compactions have forgotten, about `batch` changes of it; `false` if nothing is
    /// left.
    pub fn compact_step(&self, batch: usize) -> Result<bool, Fatal> {
        let mut compaction = self.compaction.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(current) = compaction.as_mut() else {
            return Ok(false);
        };
        if let Some(hashing) = &mut current.hashing {
            if hashing.go_on(self)? {
                self.remember(hashing.result());
                current.hashing = None;
            }
            return Ok(true);
        }
        let (dropped, next) = self.index_mut().compact(
            current.after.as_deref(),
            current.revision,
            RANGE_SLICE_KEYS,
            batch,
        );
        self.compacted_keys.fetch_add(dropped.len() as u64, Ordering::Relaxed);
        let keys = dropped.iter().map(|change| change.stored_key().into()).collect();
        self.backend.delete_all(Bucket::Key, keys);
        match next {
            Some(after) => {
                current.after = after;
                Ok(true)
            }
            None => {
                self.record(FINISHED_COMPACTION, current.revision);
                *compaction = None;
                Ok(false)
            }
        }
    }

    /// Returns when there may be work for [`Store::compact_step`] again. Only one may wait.
    pub(crate) async fn compaction_due(&self) {
        self.compaction_due.notified().await;
    }

    /// Whether [`Store::compact_step`] has work to do.
    pub fn compaction_pending(&self) -> bool {
        self.compaction.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn record(&self, name: &'static [u8], revision: i64) {
        let value = Change::put(revision, 0).stored_key();
        self.backend.put(Bucket::Meta, Bytes::from_static(name), value.into());
    }
}
