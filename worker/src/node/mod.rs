//! A node of the laboratory: the store's own [`Node`] on the step executor, as a pure function from
//! what comes in to what goes out.
//!
//! [`NodeProcess::step`] feeds inputs at their virtual times, lets the node run, fires its timers
//! in between, and hands back packets, trace events and the next moment at which it wants to run.
//! It knows no browser: the same process runs in a Web Worker and in a native test.

mod clock;
mod disk;
mod platform;
mod rpc;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coracle_core::api::coraclepb::{PeerRequest, PeerResponse};
use coracle_core::api::etcdserverpb::{HashKvRequest, MoveLeaderRequest};
use coracle_core::auth::Caller;
use coracle_core::node::{InitialClusterState, Node, NodeConfig, StopReason};
use coracle_core::platform::Disk;
use coracle_core::platform::step::{Executor, Tag};
use coracle_core::small_map::SmallMap;
use coracle_core::trace::{Event, Role};
use coracle_core::wal::WalOptions;
use futures_channel::oneshot;
use prost::Message;

use self::clock::Clock;
pub(crate) use self::clock::TRUE_RATE;
use self::disk::{LabDisk, tamper};
use self::platform::Lab;
pub(crate) use self::platform::member_url;
use self::rpc::Calls;
use crate::protocol::{
    Body, CLIENT, DiskFaults, Input, Nanos, NodeNumber, NodeSetup, NodeStatus, Packet, StepInput,
    StepOutput, Stopped,
};

/// The node that runs in a process.
pub(crate) type LabNode = Node<Lab>;

/// A process has one node; its tasks are dropped together.
const TAG: Tag = 1;
/// A page of a browser is no place for etcd's 64 MiB segments.
const WAL: WalOptions = WalOptions { segment_bytes: 1024 * 1024, preallocate_bytes: 64 * 1024 };
/// Page cache of the state backend, in bytes.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// Raft snapshots come early enough to be seen.
const SNAPSHOT_COUNT: u64 = 1_000;
const SNAPSHOT_CATCHUP_ENTRIES: u64 = 200;

/// One process: a disk, and at most one node that runs on it.
pub struct NodeProcess {
    disk: Arc<LabDisk>,
    shared: Arc<Shared>,
    executor: Executor,
    clock: Clock,
    setup: Option<NodeSetup>,
    calls: Calls,
}

/// What the node's tasks share with the process.
#[derive(Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Virtual time of the world, not of the node's own clock.
    pub(crate) now: Nanos,
    pub(crate) packets: Vec<Packet>,
    pub(crate) events: Vec<(Nanos, Event)>,
    pub(crate) disk: DiskFaults,
    /// Calls to other members that wait for an answer.
    pub(crate) waiting: SmallMap<u64, oneshot::Sender<PeerResponse>>,
    pub(crate) next_call: u64,
    pub(crate) node: Option<Arc<LabNode>>,
    stopped: Option<Stopped>,
    store_hash: Option<u32>,
    /// When the leader was last heard, or a vote was granted.
    heard: Option<Heard>,
    election_timeout_ms: u64,
}

#[derive(Clone, Copy)]
struct Heard {
    at: Nanos,
    /// Whether from a leader, whose lease then runs.
    leader: bool,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn send(&self, to: NodeNumber, body: Body) {
        let mut state = self.lock();
        let at = state.now;
        state.packets.push(Packet { at, to, body });
    }
}

impl coracle_core::trace::Listener for Shared {
    fn event(&self, event: Event) {
        let mut state = self.lock();
        let now = state.now;
        state.events.push((now, event));
    }
}

impl NodeProcess {
    /// A process that has not started yet: its first input is [`Input::Start`].
    pub fn new(disk: Arc<dyn Disk>) -> NodeProcess {
        let shared = Arc::new(Shared::default());
        NodeProcess {
            disk: Arc::new(LabDisk::new(disk, shared.clone())),
            shared,
            executor: Executor::new(0),
            clock: Clock::default(),
            setup: None,
            calls: Calls::default(),
        }
    }

    /// Runs up to `input.until`, and all that is due at it.
    pub fn step(&mut self, input: StepInput) -> StepOutput {
        let mut inputs = input.inputs.into_iter().peekable();
        loop {
            let next = [inputs.peek().map(|(at, _)| *at), self.next_timer()];
            let Some(at) = next.into_iter().flatten().min().filter(|at| *at <= input.until) else {
                break;
            };
            self.run_at(at);
            // What comes at one moment is taken in as a whole, as a server reads all that has come:
            // writes of one moment share a sync of the log and a message to each follower.
            let mut any = false;
            while let Some((_, input)) = inputs.next_if(|(time, _)| *time <= at) {
                self.take(at, input);
                any = true;
            }
            if any {
                self.run_at(at);
            }
        }
        self.set_time(input.until);
        self.output()
    }

    fn set_time(&mut self, at: Nanos) {
        let mut state = self.shared.lock();
        state.now = state.now.max(at);
        let now = state.now;
        drop(state);
        self.executor.advance_to(self.clock.local(now));
    }

    fn run_at(&mut self, at: Nanos) {
        self.set_time(at);
        self.executor.run_until_idle();
        self.note_draw(at);
        self.end_if_stopped();
    }

    fn next_timer(&self) -> Option<Nanos> {
        let local = self.executor.next_timer()?;
        // A timer that is overdue, since the process was paused, is due now.
        Some(self.clock.global(local).max(self.shared.lock().now))
    }

    fn take(&mut self, at: Nanos, input: Input) {
        match input {
            Input::Start(setup) => self.start(at, *setup),
            Input::Packet { from, body } => self.receive(from, body),
            Input::Disk(faults) => self.shared.lock().disk = faults,
            Input::Clock { permille } => self.clock.set_rate(at, permille),
            Input::Elect => self.with_node(|node| async move { node.campaign().await }),
            Input::Transfer { to } => self.with_node(move |node| async move {
                if let Some(target_id) = member_named(&node, to).await {
                    // Whether it took place shows in the roles.
                    let _ =
                        node.move_leader(&Caller::Internal, MoveLeaderRequest { target_id }).await;
                }
            }),
            Input::Hash => {
                let shared = self.shared.clone();
                self.with_node(move |node| async move {
                    let answer =
                        node.hash_kv(&Caller::Internal, HashKvRequest { revision: 0 }).await;
                    shared.lock().store_hash = answer.ok().map(|answer| answer.hash);
                });
            }
        }
    }

    /// Spawns what `task` makes of the node, if there is one.
    fn with_node<F>(&self, task: impl FnOnce(Arc<LabNode>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let node = self.shared.lock().node.clone();
        if let Some(node) = node {
            self.executor.spawn(TAG, task(node));
        }
    }

    fn start(&mut self, at: Nanos, setup: NodeSetup) {
        self.executor = Executor::new(setup.seed);
        self.clock = Clock::starting_at(at);
        {
            let mut state = self.shared.lock();
            state.disk = setup.disk;
            state.next_call = u64::from(setup.incarnation) << 32;
        }
        if let Some(kind) = setup.tamper
            && let Err(error) = tamper(&*self.disk, kind)
        {
            let reason = format!("the disk could not be tampered with: {error}");
            self.shared.lock().stopped = Some(Stopped::Failed(reason));
            return;
        }
        let lab = Lab::new(&setup, self.executor.clone(), self.disk.clone(), self.shared.clone());
        let config = config(&setup);
        self.setup = Some(setup);
        let shared = self.shared.clone();
        self.executor.spawn(TAG, async move {
            let reason = match Node::start(config, lab).await {
                Ok(node) => {
                    shared.lock().node = Some(node.clone());
                    match node.stopped().await {
                        StopReason::Removed => Stopped::Removed,
                        StopReason::Fatal(reason) => Stopped::Failed(reason),
                        StopReason::Shutdown => Stopped::Failed("it was shut down".to_owned()),
                    }
                }
                Err(error) => Stopped::Failed(error.to_string()),
            };
            shared.lock().stopped = Some(reason);
        });
    }

    /// A node that stopped by itself takes all its tasks with it, as a process that exits.
    fn end_if_stopped(&mut self) {
        let reason = match &self.shared.lock().stopped {
            Some(Stopped::Removed) => "it was removed from the cluster".to_owned(),
            Some(Stopped::Failed(reason)) => reason.clone(),
            None => return,
        };
        if self.setup.take().is_some() {
            self.calls.refuse_all(&self.shared);
            // Dropped when the lock is free again: what it holds may want it.
            let node = self.shared.lock().node.take();
            drop(node);
            self.executor.crash(TAG);
            self.executor = Executor::new(0);
            coracle_core::trace::Listener::event(&*self.shared, Event::Stopped { reason });
        }
    }

    fn receive(&mut self, from: NodeNumber, body: Body) {
        let node = self.shared.lock().node.clone();
        match body {
            Body::PeerRequest { call, member, data } => {
                if let Some(node) = node {
                    self.answer_peer(node, from, call, member, data);
                }
            }
            Body::PeerAnswer { call, data } => {
                let waiting = self.shared.lock().waiting.remove(&call);
                if let (Some(waiting), Ok(answer)) =
                    (waiting, PeerResponse::decode(Bytes::from(data)))
                {
                    // Whoever asked may have given up.
                    let _ = waiting.send(answer);
                }
            }
            body if from == CLIENT => {
                self.calls.receive(&self.executor, TAG, &self.shared, node.as_ref(), body);
            }
            // Members do not make client calls.
            _ => {}
        }
    }

    fn answer_peer(
        &self,
        node: Arc<LabNode>,
        from: NodeNumber,
        call: u64,
        member: u64,
        data: Vec<u8>,
    ) {
        let Ok(request) = PeerRequest::decode(Bytes::from(data)) else { return };
        let heard = platform::hears(&request);
        let shared = self.shared.clone();
        self.executor.spawn(TAG, async move {
            let answer = node.handle_peer(member, request).await;
            if let Some(leader) = heard
                && platform::accepted(&answer)
            {
                let mut state = shared.lock();
                state.heard = Some(Heard { at: state.now, leader });
            }
            shared.send(from, Body::PeerAnswer { call, data: answer.encode_to_vec() });
        });
    }

    /// Tells a new election timeout, which openraft made of a random number.
    fn note_draw(&mut self, at: Nanos) {
        let Some(setup) = &self.setup else { return };
        let Some(draw) = self.executor.take_election_draw(TAG) else { return };
        let election = u64::from(setup.election_ms);
        let millis = draw.timeout(election / 2, election);
        let mut state = self.shared.lock();
        state.election_timeout_ms = millis;
        state.events.push((at, Event::ElectionTimeout { millis }));
    }

    fn output(&mut self) -> StepOutput {
        let status = self.status();
        let next = self.next_timer();
        let mut state = self.shared.lock();
        StepOutput {
            packets: std::mem::take(&mut state.packets),
            events: std::mem::take(&mut state.events),
            next,
            status,
        }
    }

    fn status(&self) -> NodeStatus {
        let mut state = self.shared.lock();
        let stopped = state.stopped.clone();
        let store_hash = state.store_hash.take();
        let Some(node) = &state.node else {
            return NodeStatus { stopped, ..NodeStatus::default() };
        };
        let progress = node.progress();
        NodeStatus {
            member: node.member_id(),
            role: progress.role,
            term: progress.term,
            leader: progress.leader,
            last_index: progress.last_log_index,
            commit: progress.committed,
            applied: progress.applied,
            revision: progress.revision,
            election: self.election(&state, progress.role),
            stopped,
            store_hash,
        }
    }

    /// Since when the member waits for its leader, and until when.
    fn election(&self, state: &State, role: Role) -> Option<(Nanos, Nanos)> {
        let setup = self.setup.as_ref()?;
        if matches!(role, Role::Leader | Role::Learner) {
            return None;
        }
        let heard = state.heard?;
        let lease = if heard.leader { u64::from(setup.election_ms) } else { 0 };
        let wait = Duration::from_millis(lease + state.election_timeout_ms);
        let deadline = self.clock.global(self.clock.local(heard.at) + wait);
        Some((heard.at, deadline))
    }
}

/// [`NodeProcess::step`] for hosts that pass bytes: postcard in and out.
///
/// # Errors
/// If `input` is not a [`StepInput`].
pub fn step_bytes(process: &mut NodeProcess, input: &[u8]) -> Result<Vec<u8>, String> {
    crate::encode(&process.step(crate::decode(input)?))
}

fn config(setup: &NodeSetup) -> NodeConfig {
    let name = node_name(setup.number);
    let initial = setup.initial.iter().map(|number| (node_name(*number), member_url(*number)));
    NodeConfig {
        initial_cluster: initial.collect(),
        initial_cluster_state: match setup.existing {
            true => InitialClusterState::Existing,
            false => InitialClusterState::New,
        },
        advertise_client_urls: vec![format!("http://{name}:2379")],
        heartbeat_interval: Duration::from_millis(setup.heartbeat_ms.into()),
        election_timeout: Duration::from_millis(setup.election_ms.into()),
        snapshot_count: SNAPSHOT_COUNT,
        snapshot_catchup_entries: SNAPSHOT_CATCHUP_ENTRIES,
        max_learners: 9,
        wal: WAL,
        backend_cache_bytes: CACHE_BYTES,
        ..NodeConfig::single(&name, &member_url(setup.number))
    }
}

/// The member's name.
pub fn node_name(number: NodeNumber) -> String {
    format!("node{number}")
}

async fn member_named(node: &Arc<LabNode>, number: NodeNumber) -> Option<u64> {
    let request = coracle_core::api::etcdserverpb::MemberListRequest { linearizable: false };
    let members = node.member_list(&Caller::Internal, request).await.ok()?.members;
    members.iter().find(|member| member.name == node_name(number)).map(|member| member.id)
}
