//! openraft's own tests of log stores, with a state machine that only remembers what it must.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use openraft::entry::RaftPayload;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{OptionalSend, RaftSnapshotBuilder, StorageError};
use openraft_rt_tokio::TokioRuntime;

use super::super::super::types::{LogId, StoredMembership, TypeConfig};
use super::super::{LogHost, LogOptions, LogStore};
use super::small;
use crate::apply::Reply;
use crate::platform::{MemoryDisk, Worker};

type Config = TypeConfig<TokioRuntime>;

/// Runs every job before `submit` returns.
struct InlineWorker;

impl Worker for InlineWorker {
    fn submit(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }
}

/// Runs every job on a thread of its own.
struct ThreadWorker;

#[expect(clippy::disallowed_methods, reason = "a test's host has threads")]
impl Worker for ThreadWorker {
    fn submit(&self, job: Box<dyn FnOnce() + Send>) {
        std::thread::spawn(job);
    }
}

#[derive(Clone, Default)]
struct Machine {
    applied: Option<LogId>,
    membership: StoredMembership,
    snapshot: Option<SnapshotMetaOf<Config>>,
}

impl RaftSnapshotBuilder<Config> for Machine {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<Config, ()>> {
        let (last_log_id, last_membership) = (self.applied, self.membership.clone());
        Ok(SnapshotOf::<Config, ()> {
            meta: SnapshotMetaOf::<Config> { last_log_id, last_membership },
            snapshot: (),
        })
    }
}

impl RaftStateMachine<Config> for Machine {
    type SnapshotData = ();
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Config>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let Some(membership) = entry.payload.get_membership() {
                self.membership = StoredMembership::new(self.applied, membership);
            }
            if let Some(responder) = responder {
                responder.send(Ok(Reply::Empty));
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        let (last_log_id, last_membership) = (self.applied, self.membership.clone());
        self.snapshot = Some(SnapshotMetaOf::<Config> { last_log_id, last_membership });
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Config>, _: ()) -> io::Result<()> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.snapshot = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<Config, ()>>> {
        Ok(self.snapshot.clone().map(|meta| SnapshotOf::<Config, ()> { meta, snapshot: () }))
    }
}

struct Builder {
    worker: Arc<dyn Worker>,
    options: LogOptions,
}

impl StoreBuilder<Config, LogStore<TokioRuntime>, Machine> for Builder {
    async fn build(&self) -> Result<((), LogStore<TokioRuntime>, Machine), StorageError<Config>> {
        let host = LogHost {
            disk: Arc::new(MemoryDisk::default()),
            worker: self.worker.clone(),
            clock: Arc::new(|| Duration::ZERO),
            on_fatal: Arc::new(|fatal| panic!("{fatal}")),
            trace: Default::default(),
        };
        let log = LogStore::open(host, self.options.clone()).expect("an empty disk");
        Ok(((), log, Machine::default()))
    }
}

fn run(worker: impl Worker, options: LogOptions) {
    use openraft::AsyncRuntime;
    let builder = Builder { worker: Arc::new(worker), options };
    let mut runtime = TokioRuntime::new(1);
    runtime.block_on(Suite::test_all(builder)).unwrap();
}

#[test]
fn openraft_suite_on_the_callers_thread() {
    run(InlineWorker, LogOptions::default());
}

#[test]
fn openraft_suite_with_small_segments_and_no_cache() {
    run(InlineWorker, small());
}

#[test]
fn openraft_suite_on_a_thread() {
    run(ThreadWorker, small());
}
