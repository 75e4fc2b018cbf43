//! Defragmentation: the current file is copied in steps, and flushes go on in between.
//!
//! A flush repeats its writes in the copy as far as copying has come; what is behind that place
//! will be copied as the flush left it. So the copy holds what the file holds at any moment at
//! which all is copied, and takes its place then.

use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;

use super::database::Database;
use super::layer::Layer;
use super::{Backend, Bucket, Restorer, files};
use crate::error::Fatal;

/// Bytes copied in one step, about.
const STEP_BYTES: usize = 4 << 20;

/// A copy of the current file without its free pages, under way.
pub(super) struct FileCopy {
    restorer: Restorer,
    /// Everything in the buckets before this one is copied, and what comes before `from` in it.
    bucket: usize,
    from: Bytes,
}

impl Backend {
    /// Rewrites the database into a new file without the free pages of the old one.
    ///
    /// Blocks until that is done; [`Backend::defragment_step`] does not.
    pub fn defragment(&self) -> Result<(), Fatal> {
        while self.defragment_step()? {}
        Ok(())
    }

    /// Begins a defragmentation or goes on with it; `false` when it is done. Reads and writes go on
    /// all the time, flushes between the steps.
    ///
    /// Does nothing while a raft snapshot is being received, which will replace the file anyway;
    /// and one that is installed meanwhile ends it.
    pub fn defragment_step(&self) -> Result<bool, Fatal> {
        let mut writing = self.lock_writing();
        self.check_not_failed()?;
        let mut copy = match writing.take() {
            Some(copy) => copy,
            None => match self.begin_copy(&mut writing)? {
                Some(copy) => copy,
                None => return Ok(false),
            },
        };
        let database = self.state().database.clone();
        if copy.go_on(&database)? {
            *writing = Some(copy);
            return Ok(true);
        }
        drop(database);
        copy.restorer.complete()?;
        // It holds the same, but for what is pending.
        self.restored_while(writing)?.adopt_beside_pending().remove()?;
        Ok(false)
    }

    fn begin_copy(&self, writing: &mut Writing<'_>) -> Result<Option<FileCopy>, Fatal> {
        self.flush_while(writing)?;
        let _numbering = self.numbering.lock().unwrap_or_else(PoisonError::into_inner);
        if files::highest(&*self.disk)? > self.state().database.number() {
            return Ok(None);
        }
        let restorer = Restorer::create(self.disk.clone())?;
        Ok(Some(FileCopy { restorer, bucket: 0, from: Bytes::new() }))
    }
}

/// Held by whoever writes files, with the copy that is under way.
pub(super) type Writing<'a> = MutexGuard<'a, Option<FileCopy>>;

impl FileCopy {
    /// Copies a part of `database`; `false` if there was no more.
    fn go_on(&mut self, database: &Database) -> Result<bool, Fatal> {
        let mut copied = 0;
        while let Some(bucket) = Bucket::ALL.get(self.bucket) {
            if copied >= STEP_BYTES {
                return Ok(true);
            }
            let page = database.scan(*bucket, &self.from, usize::MAX, STEP_BYTES - copied)?;
            match page.last() {
                Some((last, _)) => self.from = [last, &[0][..]].concat().into(),
                None => (self.bucket, self.from) = (self.bucket + 1, Bytes::new()),
            }
            for (key, value) in page {
                copied += key.len() + value.len();
                self.restorer.record(*bucket, key, value)?;
            }
        }
        Ok(false)
    }

    /// Repeats what `layer` has changed of what is copied already.
    pub(super) fn follow(&mut self, layer: &Layer) -> Result<(), Fatal> {
        for (number, bucket) in Bucket::ALL.into_iter().enumerate().take(self.bucket + 1) {
            let is_copied = |key: &Bytes| number < self.bucket || key < &self.from;
            for (key, value) in layer.entries(bucket).iter().filter(|(key, _)| is_copied(key)) {
                match value {
                    Some(value) => self.restorer.record(bucket, key.clone(), value.clone())?,
                    None => self.restorer.remove(bucket, key.clone())?,
                }
            }
        }
        Ok(())
    }
}
