//! Feeds committed entries to `apply`, in index order, and tells everybody who waits for them.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{AsyncRuntime, EntryPayload, OptionalSend, RaftSnapshotBuilder};

use super::SlowApplies;
use super::applied::AppliedIndex;
use super::snapshot::{self, RaftSnapshot};
use super::types::{LogId, Payload, StoredMembership, TypeConfig};
use crate::apply::{Applier, Outcome, Reply};
use crate::error::Fatal;
use crate::limits::MAX_PENDING_BYTES;
use crate::meters::Meters;
use crate::platform::Worker;
use crate::trace::{Change, Event, Trace};

/// Entries applied under one lock of the backend, and answered together.
const APPLY_GROUP: usize = 256;

type Meta = SnapshotMeta<super::types::CommittedLeaderId, u64, openraft::impls::EmptyNode>;
type OutgoingSnapshot =
    Snapshot<super::types::CommittedLeaderId, u64, openraft::impls::EmptyNode, RaftSnapshot>;

/// openraft's state machine over [`Applier`].
pub struct StateMachine {
    applier: Arc<Applier>,
    applied: Option<LogId>,
    membership: StoredMembership,
    /// Applied bytes in memory above which a flush is waited for.
    max_pending_bytes: usize,
    shared: Arc<StateMachineShared>,
}

/// What the node shares with its state machine.
pub struct StateMachineShared {
    pub applied: AppliedIndex,
    pub forwarded: Forwarded,
    pub worker: Arc<dyn Worker>,
    pub on_fatal: Arc<dyn Fn(Fatal) + Send + Sync>,
    pub trace: Trace,
    pub slow: SlowApplies,
    pub meters: Arc<Meters>,
}

/// Proposals of this member that the leader appended for it. Their outcome is that of the entry's
/// apply *here*, so that a client reads its own write on the member that it wrote through.
#[derive(Default)]
pub struct Forwarded {
    count: AtomicUsize,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Outcome>>>,
}

impl Forwarded {
    /// Registers the proposal with this command id; do so before it is sent.
    pub fn register(&self, command_id: u64) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.insert(command_id, sender);
        self.count.store(waiting.len(), Ordering::Release);
        receiver
    }

    /// Forgets a proposal whose caller gave up.
    pub fn forget(&self, command_id: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.remove(&command_id);
        self.count.store(waiting.len(), Ordering::Release);
    }

    fn complete(&self, command_id: u64, outcome: &Outcome) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = waiting.remove(&command_id) {
            // The caller may have given up a moment ago.
            let _ = sender.send(outcome.clone());
        }
        self.count.store(waiting.len(), Ordering::Release);
    }
}

impl StateMachine {
    /// The state machine over a backend that may already hold state.
    pub fn open(
        applier: Arc<Applier>,
        shared: Arc<StateMachineShared>,
    ) -> Result<StateMachine, Fatal> {
        let (applied, membership) = snapshot::load_applied(&applier.backend)?;
        shared.applied.advance(applied.map_or(0, |id| id.index));
        let max_pending_bytes = MAX_PENDING_BYTES;
        Ok(StateMachine { applier, applied, membership, max_pending_bytes, shared })
    }

    /// Waits for a flush if too much is in memory only, because the worker was busy or the disk is
    /// slow. What is proposed meanwhile waits in the log, and is refused once there is too much.
    async fn make_room(&self) -> Result<(), Fatal> {
        if self.applier.backend.pending_bytes() < self.max_pending_bytes {
            return Ok(());
        }
        let backend = self.applier.backend.clone();
        snapshot::on_worker(&self.shared.worker, move || backend.flush()).await
    }

    /// Applies entries that are next to each other in the log, then answers all of them.
    fn apply_group<R: AsyncRuntime>(
        &mut self,
        group: &mut Vec<EntryResponder<TypeConfig<R>>>,
    ) -> Result<(), Fatal> {
        let mut answers = Vec::with_capacity(group.len());
        {
            // An error in the middle leaves it open, and then none of it becomes durable.
            let batch = self.applier.backend.batch();
            for (entry, responder) in group.drain(..) {
                let log_id = entry.log_id();
                let expected = self.applied.map_or(0, |applied| applied.index + 1);
                if self.applied.is_some() && log_id.index != expected {
                    return Err(Fatal::Invariant(format!(
                        "entry {} came to apply where {expected} was next",
                        log_id.index
                    )));
                }
                self.applied = Some(log_id);
                let change = self.shared.trace.listens().then(|| describe(&entry.payload));
                let outcome = match entry.payload {
                    EntryPayload::Blank => Ok(Reply::Empty),
                    EntryPayload::Membership(membership) => {
                        self.membership = StoredMembership::new(Some(log_id), membership);
                        Ok(Reply::Empty)
                    }
                    EntryPayload::Normal(command) => {
                        let begin = self.shared.slow.now();
                        let start = self.shared.meters.now();
                        let (id, operation, outcome) =
                            self.applier.apply(log_id.index, command.0.clone())?;
                        self.measure(operation, &outcome, start);
                        self.shared.slow.judge(begin, &command.0, &outcome);
                        self.shared.forwarded.complete(id, &outcome);
                        outcome
                    }
                };
                if let Some(change) = change {
                    self.tell_applied(log_id, change);
                }
                answers.push((responder, outcome));
            }
            snapshot::store_applied(&self.applier.backend, self.applied, &self.membership);
            batch.end();
        }
        self.shared.applied.advance(self.applied.map_or(0, |id| id.index));
        for (responder, outcome) in answers {
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    fn measure(&self, operation: &'static str, outcome: &Outcome, start: Duration) {
        let meters = &self.shared.meters;
        meters.applied(operation, outcome.is_ok(), start);
        match outcome {
            Ok(Reply::LeaseGrant(lease)) => {
                meters.leases_granted.add(1);
                meters.lease_ttl.observe(lease.ttl as f64);
            }
            Ok(Reply::LeaseRevoke(_)) => meters.leases_revoked.add(1),
            _ => {}
        }
    }

    fn tell_applied(&self, log_id: LogId, change: Change) {
        self.shared.trace.emit(|| Event::Applied {
            index: log_id.index,
            term: log_id.leader_id.term,
            revision: self.applier.store.current_revision(),
            change,
        });
    }

    /// Reports what stops the member and gives openraft the error that stops Raft.
    fn stop(&self, fatal: Fatal) -> io::Error {
        let error = io::Error::other(fatal.to_string());
        (self.shared.on_fatal)(fatal);
        error
    }
}

impl<R: AsyncRuntime> RaftStateMachine<TypeConfig<R>> for StateMachine {
    type SnapshotData = RaftSnapshot;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm:
            Stream<Item = Result<EntryResponder<TypeConfig<R>>, io::Error>> + Unpin + OptionalSend,
    {
        let mut group = Vec::new();
        loop {
            let next = entries.try_next().await?;
            let done = next.is_none();
            group.extend(next);
            if group.len() >= APPLY_GROUP || (done && !group.is_empty()) {
                self.make_room().await.map_err(|fatal| self.stop(fatal))?;
                self.apply_group(&mut group).map_err(|fatal| self.stop(fatal))?;
            }
            if done {
                return Ok(());
            }
        }
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { applier: self.applier.clone(), shared: self.shared.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &Meta,
        received: RaftSnapshot,
    ) -> Result<(), io::Error> {
        let RaftSnapshot::Received(restorer) = received else {
            return Err(io::Error::other("a view of this member's own state cannot be installed"));
        };
        let applier = self.applier.clone();
        let replace = move || {
            restorer.finish()?;
            applier.replace_with_restored()
        };
        let meters = self.shared.meters.clone();
        let start = meters.now();
        meters.snapshot_apply_in_progress.set(1);
        let replaced = snapshot::on_worker(&self.shared.worker, replace).await;
        meters.snapshot_apply_in_progress.set(0);
        meters.snapshot_db_save.took(meters.since(start));
        replaced.map_err(|fatal| self.stop(fatal))?;
        let (applied, membership) =
            snapshot::load_applied(&self.applier.backend).map_err(|fatal| self.stop(fatal))?;
        let index_of = |id: Option<LogId>| id.map_or(0, |id| id.index);
        if applied != meta.last_log_id {
            return Err(self.stop(Fatal::Invariant(format!(
                "the received snapshot holds the state of entry {}, not of {}",
                index_of(applied),
                index_of(meta.last_log_id)
            ))));
        }
        self.applied = applied;
        self.membership = membership;
        let index = index_of(applied);
        self.shared.applied.advance(index);
        self.shared.trace.emit(|| Event::SnapshotInstalled { index });
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<OutgoingSnapshot>, io::Error> {
        if self.applied.is_none() {
            return Ok(None);
        }
        build(&self.applier, &self.shared).await.map(Some)
    }
}

/// What an entry does, for who listens.
fn describe(payload: &Payload) -> Change {
    match payload {
        EntryPayload::Blank => Change::Blank,
        EntryPayload::Normal(command) => Change::of_command(command.0.clone()),
        EntryPayload::Membership(membership) => {
            let voters: Vec<u64> = membership.voter_ids().collect();
            let all = membership.nodes().map(|(id, _)| *id);
            let learners = all.filter(|id| !voters.contains(id)).collect();
            Change::Membership { voters, learners }
        }
    }
}

/// Makes what is applied durable, which is all that a snapshot is here.
pub struct SnapshotBuilder {
    applier: Arc<Applier>,
    shared: Arc<StateMachineShared>,
}

impl<R: AsyncRuntime> RaftSnapshotBuilder<TypeConfig<R>> for SnapshotBuilder {
    type SnapshotData = RaftSnapshot;

    async fn build_snapshot(&mut self) -> Result<OutgoingSnapshot, io::Error> {
        build(&self.applier, &self.shared).await
    }
}

async fn build(
    applier: &Arc<Applier>,
    shared: &Arc<StateMachineShared>,
) -> Result<OutgoingSnapshot, io::Error> {
    let backend = applier.backend.clone();
    let built = snapshot::on_worker(&shared.worker, move || {
        let view = backend.view()?;
        let (last_log_id, last_membership) = snapshot::view_applied(&view)?;
        Ok((Meta { last_log_id, last_membership }, view))
    })
    .await;
    match built {
        Ok((meta, view)) => {
            let index = meta.last_log_id.map_or(0, |id| id.index);
            shared.trace.emit(|| Event::SnapshotBuilt { index });
            Ok(Snapshot { meta, snapshot: RaftSnapshot::View(Box::new(view)) })
        }
        Err(fatal) => {
            let error = io::Error::other(fatal.to_string());
            (shared.on_fatal)(fatal);
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::FutureExt;
    use prost::Message;

    use super::super::types::{CommittedLeaderId, Entry, ProposedCommand};
    use super::*;
    use crate::api::coraclepb::Command;
    use crate::api::coraclepb::command::Request;
    use crate::api::etcdserverpb::PutRequest;
    use crate::backend::{Backend, BackendOptions};
    use crate::cluster::Members;
    use crate::platform::MemoryDisk;
    use crate::platform::step::StepRuntime;
    use crate::quota::Quota;

    /// A worker that does its jobs at once.
    struct AtOnce;

    impl Worker for AtOnce {
        fn submit(&self, job: Box<dyn FnOnce() + Send>) {
            job();
        }
    }

    fn open(disk: &MemoryDisk) -> StateMachine {
        let disk = Arc::new(disk.clone());
        let backend = Arc::new(Backend::open(disk, BackendOptions::default()).unwrap());
        let members = Arc::new(Members::open(backend.clone()).unwrap());
        let clock = || Duration::ZERO;
        let shared = StateMachineShared {
            applied: AppliedIndex::default(),
            forwarded: Forwarded::default(),
            worker: Arc::new(AtOnce),
            on_fatal: Arc::new(|_| ()),
            trace: Trace::default(),
            slow: SlowApplies::new(Duration::MAX, Arc::new(clock)),
            meters: Arc::new(Meters::new(Arc::new(clock))),
        };
        let applier = Applier::open(backend, members, Quota::new(0), 1 << 20).unwrap();
        StateMachine::open(Arc::new(applier), Arc::new(shared)).unwrap()
    }

    fn entry(index: u64, request: Option<Request>) -> EntryResponder<TypeConfig<StepRuntime>> {
        let command = Command { id: index, request, asker: None }.encode_to_vec();
        let payload = EntryPayload::Normal(ProposedCommand(command.into()));
        let log_id = LogId { leader_id: CommittedLeaderId::new(1), index };
        (Entry { log_id, payload }, None)
    }

    fn put(key: &'static str) -> Option<Request> {
        let key = Bytes::from_static(key.as_bytes());
        Some(Request::Put(PutRequest { key, ..Default::default() }))
    }

    #[test]
    fn no_more_is_applied_while_too_much_is_in_memory_only() {
        let mut machine = open(&MemoryDisk::default());
        let mut highest = [0, 0];
        for (round, highest) in highest.iter_mut().enumerate() {
            for index in 1..=100 {
                let one = entry(100 * round as u64 + index, put("a"));
                let entries = futures_util::stream::iter([Ok(one)]);
                let applied =
                    RaftStateMachine::<TypeConfig<StepRuntime>>::apply(&mut machine, entries);
                applied.now_or_never().expect("the worker works at once").unwrap();
                *highest = machine.applier.backend.pending_bytes().max(*highest);
            }
            machine.max_pending_bytes = 1_000;
        }
        let [unbounded, bounded] = highest;
        assert!(bounded < 2_000 && unbounded > 10_000, "{highest:?}");
    }

    #[test]
    fn a_group_that_breaks_off_is_applied_again_from_its_beginning() {
        let disk = MemoryDisk::default();
        let mut machine = open(&disk);
        machine.apply_group(&mut vec![entry(1, put("a"))]).unwrap();
        machine.applier.backend.flush().unwrap();
        // The second of these is of a kind that nobody knows.
        let broken = machine.apply_group(&mut vec![entry(2, put("b")), entry(3, None)]);
        assert!(broken.is_err());
        assert!(machine.applier.backend.flush().is_err(), "half of it must not become durable");
        drop(machine);
        let mut machine = open(&disk);
        assert_eq!(machine.applied.map(|log_id| log_id.index), Some(1));
        assert_eq!(machine.applier.store.current_revision(), 2);
        machine.apply_group(&mut vec![entry(2, put("b"))]).unwrap();
        assert_eq!(machine.applier.store.current_revision(), 3, "it took place once");
    }
}
