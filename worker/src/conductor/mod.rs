//! The conductor: virtual time, the network between the nodes, the visitor's actions.
//!
//! It does nothing by itself: its host (a Web Worker, or a native test) asks for [`Task`]s, carries
//! them out, and reports what the nodes' steps gave. A *round* is a window of virtual time in which
//! no node can hear of what another does in it, since every message takes longer (conservative
//! lookahead); all nodes that have something to do in it are stepped in parallel. Their outputs are
//! then put in one order, (time, node, order within the node), whatever the windows were and
//! whoever was faster: so the same seed and the same actions give the same trace.
//!
//! Actions happen between rounds, at the end of everything that is due at their moment.

mod actions;
mod check;
mod describe;
mod experiment;
mod network;
mod nodes;
mod pace;
mod round;
mod trace;
mod view;

use std::collections::{BTreeMap, VecDeque};

use coracle_core::platform::SplitMix64;
use coracle_core::small_map::SmallMap;
use serde::{Deserialize, Serialize};

use self::check::Checker;
use self::experiment::{Experiment, Memory, RememberedNode};
use self::network::Links;
use self::nodes::NodeState;
use self::pace::Pace;
use self::round::Parcel;
use self::trace::Trace;
use crate::client::ClientProcess;
use crate::protocol::{
    Action, Answer, Condition, Flight, Input, MAX_NODES, MessageKind, Nanos, NodeNumber, NodeSetup,
    PacketId, Record, Report, Request, Settings, Speed, StepInput, What,
};

/// The files of a disk, by name.
pub type DiskImage = SmallMap<String, Vec<u8>>;

/// What an experiment begins with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Boot {
    pub settings: Settings,
    /// What the last [`Task::Remember`] said, if there are disks from before.
    pub memory: Option<String>,
    pub disks: SmallMap<NodeNumber, DiskImage>,
}

/// Something for the host to do, in order.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Make a fresh process for the node. Its disk shall hold exactly `image`; without one, what it
    /// held.
    Spawn { node: NodeNumber, image: Option<DiskImage> },
    /// End the node's process at once; its disk stays.
    Kill { node: NodeNumber },
    /// Forget the node's disk.
    Discard { node: NodeNumber },
    /// Step the node's process; report with [`Conductor::stepped`] or [`Conductor::died`].
    Step { node: NodeNumber, input: StepInput },
    /// Keep this text beside the disks.
    Remember(String),
}

/// The experiment that runs.
pub struct Conductor {
    boot: Boot,
    boots: u64,
    /// Everything up to this moment has happened.
    now: Nanos,
    pace: Pace,
    nodes: SmallMap<NodeNumber, NodeState>,
    /// The members of the cluster when it was formed.
    initial: Vec<NodeNumber>,
    client: ClientProcess,
    links: Links,
    /// Packets under way, by arrival and number.
    parcels: BTreeMap<(Nanos, PacketId), Parcel>,
    /// When each packet under way arrives.
    flights: BTreeMap<PacketId, Nanos>,
    next_packet: PacketId,
    /// Kinds of the calls between members that wait for an answer: (asking, asked, call).
    calls: BTreeMap<(NodeNumber, NodeNumber, u64), MessageKind>,
    round: Option<round::Round>,
    tasks: VecDeque<Task>,
    requests: VecDeque<Request>,
    actions: Vec<(Nanos, Action)>,
    /// Actions still to be replayed, and who waits for their end.
    replay: Option<Replay>,
    trace: Trace,
    checker: Checker,
    reports: Vec<Report>,
    sent: VecDeque<Flight>,
    lost: Vec<(PacketId, Nanos)>,
    delayed: Vec<(PacketId, Nanos)>,
    /// Nodes whose hash is awaited, and the requests that wait for them.
    hashes: SmallMap<NodeNumber, ()>,
    hash_requests: Vec<u64>,
    /// The terminal's commands by the page's numbers and by ours.
    commands: BTreeMap<u64, u64>,
    next_command: u64,
}

struct Replay {
    request: u64,
    actions: VecDeque<(Nanos, Action)>,
    until: Nanos,
    trace_hash: String,
}

impl Conductor {
    /// An experiment at virtual time zero, at the speed of real time.
    pub fn new(boot: Boot) -> Conductor {
        Conductor::begin(boot, Speed::Rate(1.0))
    }

    fn begin(boot: Boot, speed: Speed) -> Conductor {
        let memory = boot.memory.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let memory: Memory = memory.unwrap_or_else(|| {
            let initial: Vec<NodeNumber> = (1..=boot.settings.nodes.clamp(1, MAX_NODES)).collect();
            let node = |number: &NodeNumber| RememberedNode {
                number: *number,
                existing: false,
                disk_lost: false,
                promote: false,
            };
            let nodes = initial.iter().map(node).collect();
            Memory { settings: boot.settings.clone(), boots: 0, nodes, initial }
        });
        let seed = mix(boot.settings.seed, memory.boots);
        let mut conductor = Conductor {
            now: 0,
            pace: Pace::new(speed),
            nodes: SmallMap::new(),
            initial: memory.initial,
            client: ClientProcess::new(seed),
            links: Links::new(seed, boot.settings.network),
            boots: memory.boots,
            boot,
            parcels: BTreeMap::new(),
            flights: BTreeMap::new(),
            next_packet: 1,
            calls: BTreeMap::new(),
            round: None,
            tasks: VecDeque::new(),
            requests: VecDeque::new(),
            actions: Vec::new(),
            replay: None,
            trace: Trace::default(),
            checker: Checker::default(),
            reports: Vec::new(),
            sent: VecDeque::new(),
            lost: Vec::new(),
            delayed: Vec::new(),
            hashes: SmallMap::new(),
            hash_requests: Vec::new(),
            commands: BTreeMap::new(),
            next_command: 1,
        };
        for node in memory.nodes {
            let latency = conductor.boot.settings.disk_latency_us;
            let mut state = NodeState::new(node.number, node.existing, latency);
            state.disk_lost = node.disk_lost;
            state.promote = node.promote;
            conductor.nodes.insert(node.number, state);
        }
        let numbers: Vec<NodeNumber> = conductor.nodes.keys().copied().collect();
        for number in numbers {
            let image = conductor.boot.disks.get(&number).cloned().unwrap_or_default();
            conductor.spawn(number, Some(image));
        }
        conductor
    }

    /// Takes a request of the page; it is carried out between two rounds.
    pub fn request(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    /// Tells the real time, in milliseconds.
    pub fn tick(&mut self, real_ms: f64) {
        self.pace.tick(real_ms, self.now);
    }

    /// Whether time goes on without waiting for the real one.
    pub fn is_busy(&self) -> bool {
        self.replay.is_some() || self.pace.is_busy() || !self.requests.is_empty()
    }

    /// Whether time goes as fast as it can, with no end in sight.
    pub fn is_racing(&self) -> bool {
        self.pace.is_racing()
    }

    /// Virtual time.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Takes the next request, if there is one.
    fn carry_out_a_request(&mut self) -> bool {
        let Some(request) = self.requests.pop_front() else { return false };
        match request {
            Request::Start { settings } => {
                let speed = self.pace.speed;
                self.start_over(Boot { settings, ..Boot::default() }, speed);
            }
            Request::Act { id, action } => {
                let allowed = !matches!(
                    action,
                    Action::Exec { .. }
                        | Action::Burst(_)
                        | Action::Input { .. }
                        | Action::Interrupt { .. }
                        | Action::Failed { .. }
                );
                let result = match allowed {
                    true => self.act(action).map(|()| Answer::Nothing),
                    false => Err("this is no action for `act`".to_owned()),
                };
                self.answer(id, result);
            }
            first @ Request::Exec { .. } => self.exec_burst(first),
            Request::Input { id, line } => self.act_on_command(id, |id| Action::Input { id, line }),
            Request::Interrupt { id } => self.act_on_command(id, |id| Action::Interrupt { id }),
            Request::Run { id, millis } => self.run(id, millis),
            Request::Speed(speed) => self.pace.set_speed(speed, self.now),
            Request::Step(step) => {
                self.pace.set_speed(Speed::Paused, self.now);
                self.pace.step = Some(step);
            }
            Request::Visible(visible) => self.pace.set_visible(visible, self.now),
            Request::State { id } => self.ask_hashes(id),
            Request::TraceHash { id } => {
                let hash = self.trace.hash();
                self.answer(id, Ok(Answer::Text(hash)));
            }
            Request::Save { id } => {
                let hash = self.trace.hash();
                let saved = Experiment::new(&self.boot, &self.actions, self.now, hash);
                let text = saved.to_text().map(Answer::Text);
                self.answer(id, text);
            }
            Request::Load { id, experiment } => self.load(id, &experiment),
            // The host's own business.
            Request::TakeOver => {}
        }
        true
    }

    fn answer(&mut self, id: u64, result: Result<Answer, String>) {
        self.reports.push(Report::Done { id, result });
    }

    /// Begins the commands at the head of the requests, all at this moment: those that were given
    /// at once do not wait for each other.
    fn exec_burst(&mut self, first: Request) {
        self.requests.push_front(first);
        let mut burst = Vec::new();
        while let Some(Request::Exec { id: page_id, line, node, input, advance }) =
            self.requests.pop_front_if(|request| matches!(request, Request::Exec { .. }))
        {
            let id = self.next_command;
            let action = Action::Exec { id, line, node, input };
            if let Err(sentence) = self.check(&action) {
                self.refuse_command(page_id, &sentence);
                continue;
            }
            self.next_command += 1;
            self.commands.insert(id, page_id);
            if advance && self.pace.paused() {
                self.pace.advancing.insert(id, ());
            }
            burst.push(action);
        }
        let action = match burst.len() {
            0 => return,
            1 => burst.remove(0),
            _ => Action::Burst(burst),
        };
        // Each of them was checked.
        let _ = self.act(action);
    }

    fn refuse_command(&mut self, page_id: u64, sentence: &str) {
        let data = format!("Error: {sentence}\n").into_bytes();
        let stream = crate::protocol::Stream::Stderr;
        self.reports.push(Report::Output { id: page_id, stream, data });
        self.reports.push(Report::Exit { id: page_id, code: 128 });
    }

    fn act_on_command(&mut self, page_id: u64, make: impl FnOnce(u64) -> Action) {
        let own = self.commands.iter().find(|(_, page)| **page == page_id).map(|(own, _)| *own);
        if let Some(own) = own.filter(|own| self.client.is_running(*own)) {
            // It concerns no node, so it cannot be refused.
            let _ = self.act(make(own));
        }
    }

    fn run(&mut self, id: u64, millis: f64) {
        if !(0.0..=1e12).contains(&millis) {
            return self.answer(id, Err(format!("{millis} is no number of milliseconds to run")));
        }
        self.pace.set_speed(Speed::Paused, self.now);
        if let Some((former, _)) = self.pace.run.take() {
            self.answer(former, Err("another run took its place".to_owned()));
        }
        let end = self.now + (millis * crate::protocol::MILLISECOND as f64).round() as Nanos;
        self.pace.run = Some((id, end));
    }

    fn load(&mut self, id: u64, text: &str) {
        let parsed = Experiment::parse(text).and_then(|saved| Ok((saved.boot()?, saved)));
        match parsed {
            Err(sentence) => self.answer(id, Err(sentence)),
            Ok((boot, saved)) => {
                self.start_over(boot, Speed::Paused);
                self.replay = Some(Replay {
                    request: id,
                    actions: saved.actions.into(),
                    until: saved.until,
                    trace_hash: saved.trace_hash,
                });
            }
        }
    }

    /// Ends what runs and begins another experiment.
    fn start_over(&mut self, boot: Boot, speed: Speed) {
        let ended: Vec<NodeNumber> =
            self.nodes.values().filter(|n| n.has_process()).map(|n| n.number).collect();
        let gone: Vec<NodeNumber> = self.nodes.keys().copied().collect();
        let mut next = Conductor::begin(boot, speed);
        let begin = std::mem::take(&mut next.tasks);
        let unwanted = gone.into_iter().filter(|node| !next.nodes.contains_key(node));
        let kill = ended.into_iter().map(|node| Task::Kill { node });
        next.tasks = kill.chain(unwanted.map(|node| Task::Discard { node })).chain(begin).collect();
        next.requests = std::mem::take(&mut self.requests);
        next.reports = std::mem::take(&mut self.reports);
        // Whoever waits for an answer of the ended experiment is told.
        let over = || Err("another experiment began".to_owned());
        let waiting =
            self.pace.run.map(|(id, _)| id).into_iter().chain(self.hash_requests.drain(..));
        next.reports.extend(waiting.map(|id| Report::Done { id, result: over() }));
        let commands = self.commands.values();
        next.reports.extend(commands.map(|id| Report::Exit { id: *id, code: 130 }));
        *self = next;
    }

    fn node(&mut self, number: NodeNumber) -> &mut NodeState {
        let latency = self.boot.settings.disk_latency_us;
        self.nodes.get_or_insert_with(number, || NodeState::new(number, true, latency))
    }

    fn input(&mut self, node: NodeNumber, input: Input) {
        let now = self.now;
        let state = self.node(node);
        if state.has_process() {
            state.inputs.push((now, input));
        }
    }

    /// Starts the node's process.
    fn spawn(&mut self, node: NodeNumber, image: Option<DiskImage>) {
        self.tasks.push_back(Task::Spawn { node, image });
        let initial = self.initial_of(node);
        let settings = &self.boot.settings;
        let (heartbeat_ms, election_ms) = (settings.heartbeat_ms, settings.election_ms);
        let seed = mix(settings.seed, self.boots);
        let now = self.now;
        let state = self.node(node);
        state.incarnation += 1;
        state.condition = Condition::Starting;
        let setup = NodeSetup {
            number: node,
            seed: mix(seed, (u64::from(node) << 32) + u64::from(state.incarnation)),
            incarnation: state.incarnation,
            initial,
            existing: state.existing,
            heartbeat_ms,
            election_ms,
            disk: state.disk,
            tamper: state.tamper.take(),
        };
        let permille = state.clock_permille;
        state.inputs.push((now, Input::Start(Box::new(setup))));
        if permille != crate::node::TRUE_RATE {
            state.inputs.push((now, Input::Clock { permille }));
        }
        self.remember();
    }

    /// The members that a node is told of when it starts.
    fn initial_of(&self, node: NodeNumber) -> Vec<NodeNumber> {
        match self.nodes.get(&node) {
            Some(state) if !state.existing => self.initial.clone(),
            _ => self.nodes.keys().copied().collect(),
        }
    }

    /// A node that was removed for good.
    fn forget(&mut self, node: NodeNumber) {
        self.nodes.remove(&node);
        self.tasks.push_back(Task::Discard { node });
        self.remember();
    }

    /// Writes down what a reloaded page has to know.
    fn remember(&mut self) {
        let node = |state: &NodeState| RememberedNode {
            number: state.number,
            existing: state.existing,
            disk_lost: state.disk_lost,
            promote: state.promote,
        };
        let memory = Memory {
            settings: self.boot.settings.clone(),
            boots: self.boots + 1,
            nodes: self.nodes.values().map(node).collect(),
            initial: self.initial.clone(),
        };
        if let Ok(text) = serde_json::to_string(&memory) {
            self.tasks.retain(|task| !matches!(task, Task::Remember(_)));
            self.tasks.push_back(Task::Remember(text));
        }
    }

    /// Nodes that can be asked, in order.
    fn running(&self) -> Vec<NodeNumber> {
        self.nodes.values().filter(|state| state.runs()).map(|state| state.number).collect()
    }

    /// Whom a command asks.
    fn asked(&self, node: Option<NodeNumber>) -> Vec<NodeNumber> {
        match node {
            Some(node) => vec![node],
            None if self.running().is_empty() => self.nodes.keys().copied().collect(),
            None => self.running(),
        }
    }

    fn record(&mut self, node: NodeNumber, what: What) {
        self.trace.push(Record { at: self.now, node, what });
    }
}

/// A seed for a part of the experiment.
fn mix(seed: u64, part: u64) -> u64 {
    SplitMix64(seed ^ part.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next_u64()
}
