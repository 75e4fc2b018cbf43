//! The one front door: every request of every host goes through [`Node`].
//!
//! A node owns the replicated state (key space, leases, members, alarms), its Raft group, and the
//! tasks that act by themselves. Its methods may be called from any thread; its tasks run on the
//! runtime on which [`Node::start`] was called. A write goes: [`Node::put`] validates, `propose`
//! encodes it once and has Raft replicate it, `raft::state_machine` applies it, and the outcome is
//! the value that the proposal awaited. A read goes: `read_index` confirms the leader, then the
//! store is read on the caller's own thread.

mod auth;
mod auto_compaction;
mod bootstrap;
mod cluster;
mod concurrency;
mod config;
mod corruption;
mod election;
mod info;
mod kv;
mod leadership;
mod lease;
mod lock;
mod maintenance;
mod peer;
mod propose;
mod range_stream;
mod read_index;
mod stop;
mod tasks;
mod version;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use auto_compaction::AutoCompaction;
pub(crate) use bootstrap::{identity_record, own_member};
pub use config::{InitialClusterState, NodeConfig};
pub use election::NodeObserver;
pub use info::{NodeInfo, NodeProgress, StartError, StopReason};
pub use maintenance::{ETCD_VERSION, MaintenanceSnapshot, STORAGE_VERSION};
pub use range_stream::NodeRangeStream;
pub use watch::NodeWatch;

use self::leadership::Leadership;
use self::peer::IncomingSnapshot;
use self::read_index::ReadIndexQueue;
use self::stop::StopSignal;
use crate::api::etcdserverpb::{AlarmType, Member, ResponseHeader};
use crate::apply::Applier;
use crate::auth::AuthStore;
use crate::backend::{Backend, BackendOptions};
use crate::cluster::{Alarms, ClusterVersion, Members};
use crate::error::Fatal;
use crate::lease::Lessor;
use crate::meters::{Histogram, Meters};
use crate::mvcc::Store;
use crate::notify::Notify;
use crate::platform::{Platform, Transport};
use crate::quota::Quota;
use crate::raft::log::{LogHost, LogMetrics, LogOptions};
use crate::raft::snapshot::load_applied;
use crate::raft::types::AsyncRuntime;
use crate::raft::{
    Consensus, ConsensusOptions, LogStore, NetworkFactory, SlowApplies, StateMachine,
    StateMachineShared, force_single_voter,
};
use crate::trace::{Event, Trace};
use crate::watch::Hub;

/// A running member.
pub struct Node<P: Platform> {
    platform: Arc<P>,
    config: NodeConfig,
    member_id: u64,
    cluster_id: u64,
    store: Arc<Store>,
    lessor: Arc<Lessor>,
    members: Arc<Members>,
    alarms: Arc<Alarms>,
    quota: Arc<Quota>,
    auth: Arc<AuthStore>,
    version: Arc<ClusterVersion>,
    backend: Arc<Backend>,
    hub: Arc<Hub>,
    transport: Arc<dyn Transport>,
    consensus: Consensus<P::Runtime>,
    log: LogStore<P::Runtime>,
    shared: Arc<StateMachineShared>,
    leadership: Leadership,
    /// When a quorum last answered the leader, as far as the leader has told, in milliseconds of
    /// the host's monotonic time.
    leader_heard_millis: AtomicU64,
    read_index: ReadIndexQueue,
    incoming: IncomingSnapshot,
    /// Notified after a change of the member table.
    reconcile: Notify,
    stop: Arc<StopSignal>,
    trace: Trace,
    counters: Counters,
    meters: Arc<Meters>,
    /// When, by [`Platform::monotonic`].
    started: Duration,
    command_ids: AtomicU64,
    /// While the members of a lost cluster are being forgotten (`--force-new-cluster`).
    forgetting: AtomicBool,
    /// The initial members of a lost cluster of whom its log had not told yet.
    lost_seeds: Vec<Member>,
}

#[derive(Default)]
struct Counters {
    ranges: AtomicU64,
    puts: AtomicU64,
    deletes: AtomicU64,
    txns: AtomicU64,
    proposals_pending: AtomicU64,
    proposals_failed: AtomicU64,
}

impl<P: Platform> Node<P> {
    /// Opens the member's data, or makes it, and starts its Raft group and tasks.
    pub async fn start(config: NodeConfig, platform: P) -> Result<Arc<Node<P>>, StartError> {
        let platform = Arc::new(platform);
        let stop = Arc::new(StopSignal::default());
        let backend = open_backend(&config, &platform)?;
        let members = Arc::new(Members::open(backend.clone())?);
        let start = bootstrap::bootstrap(&config, &*platform, &backend, &members).await?;
        let quota = Quota::new(config.quota_backend_bytes);
        let applier = Arc::new(open_applier(&config, &backend, &members, quota)?);
        let clock = platform.clone();
        let meters = Arc::new(Meters::new(Arc::new(move || clock.monotonic())));
        let shared = Arc::new(StateMachineShared {
            applied: Default::default(),
            forwarded: Default::default(),
            worker: platform.worker("backend"),
            on_fatal: fatal_handler(&stop),
            trace: platform.trace(),
            slow: slow_applies(&config, &platform),
            meters: meters.clone(),
        });
        let log = open_log(&config, &platform, &shared)?;
        let forced = config.force_new_cluster && force_new_cluster(&log, &start, &backend).await?;
        let lost_seeds =
            if forced { seed_alone(&config, start.identity, &members) } else { Vec::new() };
        let network = NetworkFactory {
            members: members.clone(),
            transport: platform.transport(),
            own_id: start.identity.member_id,
            on_removed: removed_handler(&stop),
            meters: meters.clone(),
            options: consensus_options(&config),
            quorum_silence: Arc::default(),
        };
        let state_machine = StateMachine::open(applier.clone(), shared.clone())?;
        let consensus = Consensus::start(network, log.clone(), state_machine)
            .await
            .map_err(StartError::Config)?;
        if !start.form.is_empty() {
            consensus.initialize(start.form.clone()).await.map_err(StartError::Config)?;
        }
        let node = Arc::new(Node {
            member_id: start.identity.member_id,
            cluster_id: start.identity.cluster_id,
            store: applier.store.clone(),
            lessor: applier.lessor.clone(),
            alarms: applier.alarms.clone(),
            quota: applier.quota.clone(),
            auth: applier.auth.clone(),
            version: applier.version.clone(),
            hub: applier.hub.clone(),
            transport: platform.transport(),
            command_ids: AtomicU64::new(platform.random()),
            started: platform.monotonic(),
            forgetting: AtomicBool::new(forced),
            lost_seeds,
            counters: Counters::default(),
            meters,
            leadership: Leadership::default(),
            leader_heard_millis: AtomicU64::new(0),
            incoming: IncomingSnapshot::default(),
            trace: platform.trace(),
            platform,
            config,
            members,
            backend,
            consensus,
            log,
            shared,
            read_index: ReadIndexQueue::new(),
            reconcile: Notify::default(),
            stop,
        });
        node.begin().await;
        Ok(node)
    }

    /// Sets what a started node does by itself going.
    async fn begin(self: &Arc<Self>) {
        self.trace.emit(|| Event::Started {
            member: self.member_id,
            applied: self.shared.applied.get(),
            revision: self.store.current_revision(),
        });
        if self.consensus.status().voters.iter().eq([&self.member_id]) {
            self.consensus.elect().await;
        }
        self.spawn_tasks();
    }

    /// The header of a reply made now.
    fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision,
            raft_term: self.leadership.term(),
        }
    }

    pub fn member_id(&self) -> u64 {
        self.member_id
    }

    pub fn cluster_id(&self) -> u64 {
        self.cluster_id
    }

    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// This node as it sees itself.
    pub fn info(&self) -> NodeInfo {
        let role = self.leadership.role();
        let status = self.consensus.status();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let log = self.log.metrics();
        let watches = self.hub.stats();
        NodeInfo {
            member_id: self.member_id,
            cluster_id: self.cluster_id,
            leader: self.live_leader().unwrap_or(0),
            term: role.term,
            committed: status.committed,
            applied: self.shared.applied.get(),
            is_leader: role.is_leader,
            is_learner: self.is_learner(),
            alarms: self.alarms.list(AlarmType::None),
            db_size: self.backend.size(),
            db_size_in_use: self.backend.size_in_use(),
            db_quota: self.quota.bytes().unwrap_or(0),
            revision: self.store.current_revision(),
            auth_revision: self.auth.revision(),
            compact_revision: self.store.compact_revision(),
            keys: self.store.key_count(),
            leases: self.lessor.count() as u64,
            watchers: watches.watchers as u64,
            watch_streams: watches.streams as u64,
            leader_changes_seen: self.leadership.changes_seen(),
            proposals_pending: count(&self.counters.proposals_pending),
            proposals_failed: count(&self.counters.proposals_failed),
            puts: count(&self.counters.puts),
            ranges: count(&self.counters.ranges),
            deletes: count(&self.counters.deletes),
            txns: count(&self.counters.txns),
            slow_applies: self.shared.slow.count(),
            slow_watchers: watches.slow_watchers as u64,
            watch_events: watches.events,
            put_bytes: watches.put_bytes,
            compacted_keys: self.store.compacted_keys(),
            open_reads: self.backend.open_reads(),
            wal_fsync: doubling(log.fsync_buckets, log.fsyncs, log.fsync_time),
            wal_write: doubling(log.write_buckets, log.writes, log.write_time),
            wal_bytes_written: log.written_bytes,
        }
    }

    /// What is measured of this node.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Every member of the cluster but this one.
    pub fn others(&self) -> Vec<u64> {
        let members = self.members.list().into_iter().map(|member| member.id);
        members.filter(|id| *id != self.member_id).collect()
    }

    /// This node's place in Raft and in the store: what changes with every step, at little cost.
    pub fn progress(&self) -> NodeProgress {
        let role = self.leadership.role();
        let progress = self.consensus.progress();
        NodeProgress {
            role: role.state,
            term: role.term,
            leader: role.leader,
            last_log_index: progress.last_log_index,
            committed: progress.committed,
            applied: self.shared.applied.get(),
            revision: self.store.current_revision(),
        }
    }

    /// Stands for election now, whatever the timer says.
    pub async fn campaign(&self) {
        self.consensus.elect().await;
    }

    pub fn is_learner(&self) -> bool {
        self.members.get(self.member_id).is_some_and(|member| member.is_learner)
    }

    /// Ends when there was no leader for three election timeouts: streams that require one end
    /// then, as with etcd (W-06).
    pub async fn leader_lost(&self) {
        const LOOKS_PER_TIMEOUT: u32 = 10;
        let mut misses = 0;
        while misses < 3 * LOOKS_PER_TIMEOUT {
            P::Runtime::sleep(self.config.election_timeout / LOOKS_PER_TIMEOUT).await;
            misses = if self.live_leader().is_some() { 0 } else { misses + 1 };
        }
    }

    /// Whether there is a leader that can be trusted to lead: what [`NodeInfo::leader`] says, at
    /// little cost.
    pub fn has_leader(&self) -> bool {
        self.live_leader().is_some()
    }

    /// The leader, unless it or a quorum of its followers was silent for so long that it cannot be
    /// trusted to lead: Raft itself remembers the last one until it learns of another.
    fn live_leader(&self) -> Option<u64> {
        let role = self.leadership.role();
        let silence = if role.is_leader {
            self.consensus.quorum_silence()
        } else {
            let heard = Duration::from_millis(self.leader_heard_millis.load(Ordering::Relaxed));
            self.platform.monotonic().saturating_sub(heard)
        };
        role.leader.filter(|_| silence < self.config.election_timeout * 2)
    }

    /// Returns when the node has stopped, and why.
    pub async fn stopped(&self) -> StopReason {
        self.stop.wait().await
    }

    /// Hands leadership over if it leads, makes its state durable and stops.
    ///
    /// When this has returned, nothing of it writes to its disk: another may be started there.
    pub async fn shutdown(&self) {
        let status = self.consensus.status();
        let successor = status
            .matched
            .iter()
            .filter(|(id, _)| **id != self.member_id && status.voters.contains(id))
            .max_by_key(|(_, matched)| **matched);
        if let (true, Some((successor, _))) = (status.is_leader, successor) {
            let handed_over = self.transfer_leadership(*successor);
            let limit = self.config.election_timeout * 2;
            // Best effort: without it the others elect a leader after their timeout.
            let _ = P::Runtime::timeout(limit, handed_over).await;
        }
        self.stop.stop(StopReason::Shutdown);
        self.hub.close();
        self.consensus.shutdown().await;
        if let Err(error) = self.log.flush().await {
            tracing::error!(%error, "the log could not be flushed");
        }
        let backend = self.backend.clone();
        let closed =
            crate::raft::snapshot::on_worker(&self.shared.worker, move || backend.close()).await;
        if let Err(fatal) = closed {
            tracing::error!(%fatal, "the state could not be made durable; the WAL holds it");
        }
    }

    fn next_command_id(&self) -> u64 {
        self.command_ids.fetch_add(1, Ordering::Relaxed)
    }

    fn committed_index(&self) -> u64 {
        self.consensus.committed()
    }

    /// How long a request may take before it is answered with a timeout (etcd: `ReqTimeout`).
    fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + self.config.election_timeout * 2
    }
}

fn open_backend<P: Platform>(
    config: &NodeConfig,
    platform: &Arc<P>,
) -> Result<Arc<Backend>, Fatal> {
    let options =
        BackendOptions { cache_bytes: config.backend_cache_bytes, ..BackendOptions::default() };
    let backend = Backend::open(platform.disk(), options)?;
    if config.bootstrap_defrag_threshold > 0 {
        defragment_at_start(&backend, config.bootstrap_defrag_threshold)?;
    }
    Ok(Arc::new(backend))
}

/// Gives unused space of the backend back, if it is `threshold` bytes or more.
fn defragment_at_start(backend: &Backend, threshold: u64) -> Result<(), Fatal> {
    let (size, in_use) = (backend.size(), backend.size_in_use());
    if size - in_use < threshold {
        tracing::info!(
            current_db_size_bytes = size,
            current_db_size_in_use_bytes = in_use,
            bootstrap_defrag_threshold_bytes = threshold,
            "Skipping defragmentation"
        );
        return Ok(());
    }
    backend.defragment()?;
    tracing::info!(
        current_db_size_bytes_diff = size - backend.size().min(size),
        current_db_size_bytes = backend.size(),
        "finished defragmentation"
    );
    Ok(())
}

/// What the backend holds, if this release may write to it.
fn open_applier(
    config: &NodeConfig,
    backend: &Arc<Backend>,
    members: &Arc<Members>,
    quota: Quota,
) -> Result<Applier, StartError> {
    let request_bytes = config.max_request_bytes;
    let applier = Applier::open(backend.clone(), members.clone(), quota, request_bytes)?;
    bootstrap::check_version(&applier.version)?;
    Ok(applier)
}

fn open_log<P: Platform>(
    config: &NodeConfig,
    platform: &Arc<P>,
    shared: &StateMachineShared,
) -> Result<LogStore<P::Runtime>, Fatal> {
    let clock = platform.clone();
    let host = LogHost {
        disk: platform.disk(),
        worker: platform.worker("wal"),
        clock: Arc::new(move || clock.monotonic()),
        on_fatal: shared.on_fatal.clone(),
        trace: platform.trace(),
    };
    LogStore::open(host, LogOptions { wal: config.wal.clone(), ..LogOptions::default() })
}

fn slow_applies<P: Platform>(config: &NodeConfig, platform: &Arc<P>) -> SlowApplies {
    let clock = platform.clone();
    SlowApplies::new(config.warning_apply_duration, Arc::new(move || clock.monotonic()))
}

/// Makes this member the only voter; answers whether there was anything to do it to.
async fn force_new_cluster<R: AsyncRuntime>(
    log: &LogStore<R>,
    start: &bootstrap::Bootstrap,
    backend: &Backend,
) -> Result<bool, StartError> {
    let member_id = start.identity.member_id;
    let (applied, _) = load_applied(backend)?;
    let forced = force_single_voter(&mut log.clone(), member_id, applied)
        .await
        .map_err(|source| Fatal::Io { action: "append to", file: "the log".to_owned(), source })?;
    if forced {
        tracing::warn!(
            local_member_id = format!("{member_id:x}"),
            "forced a new cluster of this member alone"
        );
    }
    Ok(forced)
}

/// Makes this member the only seed; returns the other initial members that no log has told of.
fn seed_alone(config: &NodeConfig, own: bootstrap::Identity, members: &Members) -> Vec<Member> {
    let mut lost = members.unrecorded_seeds();
    lost.retain(|member| member.id != own.member_id);
    members.seed(vec![bootstrap::member_alone(config, own, members)], true);
    lost
}

/// A histogram of the log's: bounds from 1 ms on that double, each bucket without those before it.
fn doubling(counts: [u64; LogMetrics::BUCKETS], count: u64, sum: Duration) -> Histogram {
    let mut seen = 0;
    let mut bound = 0.001;
    let mut buckets = Vec::with_capacity(counts.len());
    for count in counts {
        seen += count;
        buckets.push((bound, seen));
        bound *= 2.0;
    }
    Histogram { buckets, count, sum: sum.as_secs_f64() }
}

fn consensus_options(config: &NodeConfig) -> ConsensusOptions {
    ConsensusOptions {
        heartbeat_interval: config.heartbeat_interval,
        election_timeout: config.election_timeout,
        snapshot_count: config.snapshot_count,
        snapshot_catchup_entries: config.snapshot_catchup_entries,
        pre_vote: config.pre_vote,
    }
}

/// What to do with a failure that the member must not survive.
fn fatal_handler(stop: &Arc<StopSignal>) -> Arc<dyn Fn(Fatal) + Send + Sync> {
    let stop = stop.clone();
    Arc::new(move |fatal| {
        tracing::error!(%fatal, "the member stops");
        stop.stop(StopReason::Fatal(fatal.to_string()));
    })
}

fn removed_handler(stop: &Arc<StopSignal>) -> Arc<dyn Fn() + Send + Sync> {
    let stop = stop.clone();
    Arc::new(move || stop.stop(StopReason::Removed))
}

#[cfg(test)]
mod tests;
