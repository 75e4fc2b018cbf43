//! The drain job: everything that queued becomes durable with one sync.

use std::io;
use std::sync::Arc;

use super::super::types::{AsyncRuntime, LogId};
use super::writer::{Request, Writer};
use super::{Failure, Queued, Shared, State, lock};
use crate::error::Fatal;
use crate::trace::Event;
use crate::wal::Position;

/// What to do next.
enum Work<R: AsyncRuntime> {
    Batch(Vec<Queued<R>>, Option<LogId>),
    /// Nothing is queued, and that is new.
    Mark(Option<LogId>),
}

impl<R: AsyncRuntime> Shared<R> {
    /// Works until nothing is queued. Runs on the worker; there is never more than one.
    pub(super) fn drain(self: Arc<Self>) {
        let mut writer = lock(&self.writer);
        let mut marked = false;
        while let Some(work) = self.take(marked) {
            // After a flush nothing is written but what is asked for: who waited for it may have
            // handed the disk on.
            marked = match &work {
                Work::Batch(batch, _) => {
                    batch.iter().any(|queued| matches!(queued.request, Request::Flush))
                }
                Work::Mark(_) => true,
            };
            let done = match work {
                Work::Batch(batch, committed) => self.write(&mut writer, batch, committed),
                Work::Mark(committed) => writer.mark(committed),
            };
            if let Err(fatal) = done {
                self.fail(fatal);
            }
        }
    }

    fn write(
        &self,
        writer: &mut Writer,
        batch: Vec<Queued<R>>,
        committed: Option<LogId>,
    ) -> Result<(), Fatal> {
        let count = batch.len() as u64;
        let bytes = batch.iter().map(|queued| queued.bytes as u64).sum();
        let requests = batch.iter().map(|queued| &queued.request);
        let written = writer.write(requests, committed, &*self.host.clock, &self.counters);
        match written {
            Ok(placed) => {
                self.place(placed);
                self.host.trace.emit(|| Event::LogSynced { bytes, requests: count });
            }
            Err(fatal) => drop(self.fail(fatal)),
        }
        // With the failure, if there is one by now.
        let failure = lock(&self.state).failure.clone();
        for queued in batch {
            let result = failure.as_ref().map_or(Ok(()), |failure| Err(failure.error()));
            queued.done.io_completed(result);
        }
        // Nobody waits for this.
        if failure.is_some() { Ok(()) } else { writer.remove_purged() }
    }

    /// Notes where entries are that became durable; the cache may drop them now.
    fn place(&self, placed: Vec<(LogId, Position)>) {
        let mut state = lock(&self.state);
        for (id, position) in placed {
            state.index.place(id, position);
        }
        let State { index, cache, .. } = &mut *state;
        let durable = |at| index.get(at).is_some_and(|slot| slot.position.is_some());
        cache.shrink(self.options.cache_bytes, durable);
    }

    /// Notes that the log can no longer be trusted, and tells the host, the first time. Returns
    /// the error for whoever met it.
    pub(super) fn fail(&self, fatal: Fatal) -> io::Error {
        let failure = Failure::new(&fatal);
        let error = failure.error();
        let first = {
            let mut state = lock(&self.state);
            let first = state.failure.is_none();
            state.failure.get_or_insert(failure);
            first
        };
        if first {
            (self.host.on_fatal)(fatal);
        }
        error
    }

    /// Takes what is queued. None ends the job, in the same moment in which the queue is empty.
    fn take(&self, marked: bool) -> Option<Work<R>> {
        let mut state = lock(&self.state);
        if state.queue.is_empty() && (marked || state.failure.is_some()) {
            state.draining = false;
            return None;
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        while bytes < self.options.batch_bytes
            && let Some(queued) = state.queue.pop_front()
        {
            bytes += queued.bytes;
            batch.push(queued);
        }
        // It may be an entry that is still queued: not before that one is written.
        let unwritten = state.queue.is_empty() && state.committed_unwritten;
        let committed = state.committed.filter(|_| unwritten);
        state.committed_unwritten &= !unwritten;
        match batch.is_empty() {
            true => Some(Work::Mark(committed)),
            false => Some(Work::Batch(batch, committed)),
        }
    }
}
