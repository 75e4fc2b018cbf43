//! The raft log and the vote, on the [WAL](crate::wal).
//!
//! openraft's core appends, votes, truncates and purges; its readers replicate and apply. Each
//! request does three things: it changes what readers see, at once and under one lock; it joins one
//! queue, in the same order; and it makes sure that a drain job is under way on the
//! [`Worker`]. The job takes all that has queued meanwhile, writes it as one batch, syncs once, and
//! then completes each request: group commit, without a timer.
//!
//! ```text
//!   append, vote ... ──▶ State { index, cache, vote, queue }      readers ◀── cache, segments
//!                               │ all that queued                  ▲
//!                               ▼                                  │ positions, then callbacks
//!                        drain: encode ▶ Wal::write ▶ Wal::sync ───┘
//! ```
//!
//! Invariants:
//!
//! * What is completed is durable, with all that was asked before it.
//! * The log has no hole: after entry `n`, or a purge up to it, only entry `n + 1` is accepted.
//! * An entry is in the cache until it is durable; what falls out of the cache is read, and its
//!   checksum checked, from its segment.
//! * A segment is removed only when the purge of its entries is durable in a later one.
//! * After the first error nothing is completed but with that error: openraft stops, and
//!   [`LogHost::on_fatal`] has told why. Nothing is tried again.
//!
//! The committed log id comes with every commit and is not worth a sync: the newest one goes with
//! the next batch. After a crash it may be old; openraft then applies up to it and learns the rest.

mod cache;
mod drain;
mod index;
mod metrics;
mod read;
mod record;
mod replay;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream::Stream;
use openraft::storage::{IOFlushed, LeaderBoundedStreamResult, LogState, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{OptionalSend, RaftLogReader};

use super::types::{AsyncRuntime, Entry, LeaderId, LogId, TypeConfig, Vote};
use crate::error::Fatal;
use crate::platform::{Disk, Worker};
use crate::trace::{Event, Trace};
use crate::wal::{Segments, WalOptions};
use cache::Cache;
use index::Index;
use metrics::Counters;
pub use metrics::LogMetrics;
use record::entry_bytes;
use writer::{Request, Writer};

/// Sizes, in bytes.
#[derive(Clone, Debug)]
pub struct LogOptions {
    pub wal: WalOptions,
    /// Entries kept in memory, beyond those that are not durable yet.
    pub cache_bytes: usize,
    /// A batch takes no further request once it is this large.
    pub batch_bytes: usize,
    /// A reader that may get part of what it asked for gets about this much.
    pub read_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions {
            wal: WalOptions::default(),
            cache_bytes: 64 * 1024 * 1024,
            batch_bytes: 8 * 1024 * 1024,
            read_bytes: 1024 * 1024,
        }
    }
}

/// What the log needs of its host.
#[derive(Clone)]
pub struct LogHost {
    pub disk: Arc<dyn Disk>,
    /// Where writes and syncs run.
    pub worker: Arc<dyn Worker>,
    /// Time since an arbitrary start; only measures syncs.
    pub clock: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// Told once, when the log can no longer be trusted: the member must stop.
    pub on_fatal: Arc<dyn Fn(Fatal) + Send + Sync>,
    pub trace: Trace,
}

/// openraft's log store. Clones share one log; each serves as a reader too.
pub struct LogStore<R: AsyncRuntime> {
    shared: Arc<Shared<R>>,
}

impl<R: AsyncRuntime> Clone for LogStore<R> {
    fn clone(&self) -> Self {
        LogStore { shared: self.shared.clone() }
    }
}

struct Shared<R: AsyncRuntime> {
    state: Mutex<State<R>>,
    /// Held by the drain job alone.
    writer: Mutex<Writer>,
    segments: Segments,
    counters: Counters,
    host: LogHost,
    options: LogOptions,
}

/// What readers see, and what the drain job has still to do for it.
struct State<R: AsyncRuntime> {
    index: Index,
    cache: Cache,
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// Whether `committed` is newer than what was written.
    committed_unwritten: bool,
    queue: VecDeque<Queued<R>>,
    /// A drain job is submitted or running.
    draining: bool,
    failure: Option<Failure>,
}

struct Queued<R: AsyncRuntime> {
    request: Request,
    bytes: usize,
    done: IOFlushed<TypeConfig<R>>,
}

/// The first error, for all that ask later.
#[derive(Clone)]
struct Failure {
    kind: io::ErrorKind,
    text: String,
}

impl Failure {
    fn new(fatal: &Fatal) -> Failure {
        let kind = match fatal {
            Fatal::Io { source, .. } => source.kind(),
            Fatal::Corrupt { .. } => io::ErrorKind::InvalidData,
            _ => io::ErrorKind::Other,
        };
        Failure { kind, text: fatal.to_string() }
    }

    fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.text.clone())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: AsyncRuntime> LogStore<R> {
    /// Opens the log on the host's disk, or begins one; blocks while it reads all of it.
    ///
    /// Fails with [`Fatal::Corrupt`] if anything is damaged or missing that may have been
    /// acknowledged. A torn tail that cannot have been is dropped, with a warning in the log.
    pub fn open(host: LogHost, options: LogOptions) -> Result<LogStore<R>, Fatal> {
        let (wal, replay) = replay::open(host.disk.clone(), options.wal.clone())?;
        let replay::Replay { base, index, highest, .. } = replay;
        let segments = wal.segments();
        let mut writer = Writer::new(wal, base, highest);
        // A crash may have come between a purge and the removal of what it freed.
        writer.remove_purged()?;
        let state = State {
            index,
            cache: Cache::default(),
            vote: base.vote,
            committed: base.committed,
            committed_unwritten: false,
            queue: VecDeque::new(),
            draining: false,
            failure: None,
        };
        let shared = Shared {
            state: Mutex::new(state),
            writer: Mutex::new(writer),
            segments,
            counters: Counters::default(),
            host,
            options,
        };
        Ok(LogStore { shared: Arc::new(shared) })
    }

    /// Counters for `/metrics`.
    pub fn metrics(&self) -> LogMetrics {
        self.shared.counters.get()
    }

    /// How many segment files there are, and their bytes.
    pub fn size(&self) -> Result<(usize, u64), Fatal> {
        self.shared.segments.size()
    }

    /// Makes all that was asked before durable, the committed log id included. For a shutdown.
    ///
    /// The second record says that the first sync was done, as a mark does when the log is idle:
    /// without it, damage to what that sync made durable would look like a torn tail.
    pub async fn flush(&self) -> io::Result<()> {
        for _ in 0..2 {
            self.submit_and_wait(|_| Ok(Request::Flush)).await?;
        }
        Ok(())
    }

    async fn submit_and_wait(
        &self,
        change: impl FnOnce(&mut State<R>) -> io::Result<Request>,
    ) -> io::Result<()> {
        let (done, durable) = TypeConfig::<R>::oneshot();
        self.submit(IOFlushed::signal(done), change)?;
        durable.await.map_err(|_| io::Error::other("the log's worker is gone"))?
    }

    /// Changes what readers see, and queues the request that `change` gives. `done` is completed
    /// once that is durable. What fails here is returned, and completes `done` too.
    fn submit(
        &self,
        done: IOFlushed<TypeConfig<R>>,
        change: impl FnOnce(&mut State<R>) -> io::Result<Request>,
    ) -> io::Result<()> {
        let mut state = lock(&self.shared.state);
        let changed = match &state.failure {
            Some(failure) => Err(failure.error()),
            None => change(&mut state),
        };
        let request = match changed {
            Ok(request) => request,
            Err(error) => {
                drop(state);
                done.io_completed(Err(io::Error::new(error.kind(), error.to_string())));
                return Err(error);
            }
        };
        let bytes = match &request {
            Request::Append(entries) => entries.iter().map(entry_bytes).sum(),
            _ => 0,
        };
        state.queue.push_back(Queued { request, bytes, done });
        let idle = !std::mem::replace(&mut state.draining, true);
        drop(state);
        if idle {
            let shared = self.shared.clone();
            self.shared.host.worker.submit(Box::new(move || shared.drain()));
        }
        Ok(())
    }
}

impl<R: AsyncRuntime> State<R> {
    fn append(&mut self, entries: Vec<Entry>) -> io::Result<Request> {
        for entry in &entries {
            if !self.index.accepts(entry.log_id.index) {
                let text = format!("entry {} would leave a hole", entry.log_id.index);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            self.index.append(entry.log_id, None);
            self.cache.push(entry.clone());
        }
        Ok(Request::Append(entries))
    }

    fn truncate(&mut self, after: Option<LogId>) -> Request {
        self.index.truncate(after);
        self.cache.drop_from(self.index.next());
        Request::Truncate(after)
    }

    fn purge(&mut self, upto: LogId) -> Request {
        self.index.purge(upto);
        self.cache.drop_before(self.index.first());
        Request::Purge(upto)
    }
}

impl<R: AsyncRuntime> RaftLogReader<TypeConfig<R>> for LogStore<R> {
    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = LeaderBoundedStreamResult<TypeConfig<R>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        read::leader_bounded_stream(self.clone(), leader, range)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        read::entries_stream(self.clone(), range)
    }

    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.read(range, usize::MAX)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(lock(&self.shared.state).vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start..end, self.shared.options.read_bytes)
    }
}

impl<R: AsyncRuntime> RaftLogStorage<TypeConfig<R>> for LogStore<R> {
    type LogReader = LogStore<R>;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig<R>>> {
        let state = lock(&self.shared.state);
        Ok(LogState { last_purged_log_id: state.index.purged(), last_log_id: state.index.last() })
    }

    async fn get_log_reader(&mut self) -> LogStore<R> {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.shared.host.trace.emit(|| Event::Voted {
            term: vote.leader_id.term,
            candidate: vote.leader_id.voted_for,
            committed: vote.committed,
        });
        self.submit_and_wait(|state| {
            state.vote = Some(vote);
            Ok(Request::Vote(vote))
        })
        .await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let mut state = lock(&self.shared.state);
        if state.committed != committed && committed.is_some() {
            state.committed = committed;
            state.committed_unwritten = true;
            let index = committed.map_or(0, |log_id| log_id.index);
            self.shared.host.trace.emit(|| Event::Committed { index });
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(lock(&self.shared.state).committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig<R>>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        if let (Some(first), Some(last)) = (entries.first(), entries.last()) {
            self.shared.host.trace.emit(|| Event::Appended {
                first: first.log_id.index,
                last: last.log_id.index,
                term: last.log_id.leader_id.term,
            });
        }
        self.submit(callback, |state| state.append(entries))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let after = last_log_id.map_or(0, |log_id| log_id.index);
        self.shared.host.trace.emit(|| Event::Truncated { after });
        self.submit_and_wait(|state| Ok(state.truncate(last_log_id))).await
    }

    /// The purge is durable with the next batch; if a crash comes first, openraft purges again.
    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.shared.host.trace.emit(|| Event::Purged { upto: log_id.index });
        self.submit(IOFlushed::noop(), |state| Ok(state.purge(log_id)))
    }
}
