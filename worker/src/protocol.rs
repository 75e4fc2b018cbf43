//! What page, conductor and nodes say to each other.
//!
//! Page and conductor exchange lists of [`Request`]s and [`Report`]s, conductor and node exchange
//! [`StepInput`]s and [`StepOutput`]s: all as bytes ([`crate::encode`]), which move from worker to
//! worker without being copied. Virtual time is in nanoseconds since the start of the experiment.
//! An [`Action`]'s JSON form is the argument of `window.coracle.act`, and what a saved experiment
//! holds.

use coracle_core::trace::{Event, Role};
use serde::{Deserialize, Serialize};

/// Virtual time, in nanoseconds since the start.
pub type Nanos = u64;
pub const MILLISECOND: Nanos = 1_000_000;

/// A node of the laboratory: 1 to 9. 0 is the client (terminal, panels, operator).
pub type NodeNumber = u8;
pub const CLIENT: NodeNumber = 0;
pub const MAX_NODES: NodeNumber = 9;

/// Identifies a message on the virtual network, in the order of sending.
pub type PacketId = u64;

// ---------------------------------------------------------------- page to conductor

/// What the page asks. Those with an `id` are answered by a [`Report`] with the same one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Begins an experiment, ending the one that runs.
    Start {
        settings: Settings,
    },
    /// Takes the disks over from the other tab that holds them, and begins again on them.
    TakeOver,
    Act {
        id: u64,
        action: Action,
    },
    /// Runs a command line of etcdctl. With `advance`, paused time moves on until it has ended.
    /// `input` is the whole of its standard input, line by line; without it, lines may follow.
    Exec {
        id: u64,
        line: String,
        node: Option<NodeNumber>,
        input: Option<Vec<String>>,
        advance: bool,
    },
    /// A line for the standard input of a running command; `None` is the end of input.
    Input {
        id: u64,
        line: Option<String>,
    },
    /// Ctrl-C.
    Interrupt {
        id: u64,
    },
    /// Advances time by so many virtual milliseconds, as fast as it can, and leaves it paused.
    Run {
        id: u64,
        millis: f64,
    },
    Speed(Speed),
    /// Handles the next event, or all up to the next delivery of a message; leaves time paused.
    Step(Step),
    /// The tab was shown or hidden: a hidden one's time stands still.
    Visible(bool),
    State {
        id: u64,
    },
    TraceHash {
        id: u64,
    },
    Save {
        id: u64,
    },
    /// Begins again from a saved experiment, replays it and leaves time paused at its end.
    Load {
        id: u64,
        experiment: String,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Speed {
    #[default]
    Paused,
    /// Virtual seconds per real second: 0.001 to 4.
    Rate(f64),
    /// As fast as it can.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    Event,
    Message,
}

/// How an experiment begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Decimal in JSON: JavaScript's numbers end at 2^53.
    #[serde(with = "decimal")]
    pub seed: u64,
    pub nodes: NodeNumber,
    pub heartbeat_ms: u32,
    pub election_ms: u32,
    pub network: Network,
    pub disk_latency_us: u32,
    pub storage: StorageKind,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seed: 1,
            nodes: 3,
            heartbeat_ms: 100,
            election_ms: 600,
            network: Network::default(),
            disk_latency_us: 500,
            storage: StorageKind::Browser,
        }
    }
}

/// Where the nodes' disks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageKind {
    /// In the browser's own file system (OPFS): survives a reload.
    #[default]
    Browser,
    Memory,
}

/// How all links behave that have no behaviour of their own. Chances are in parts of a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    pub delay_us: u32,
    /// Up to so much is added to the delay; what overtakes is reordered.
    pub jitter_us: u32,
    pub loss_ppm: u32,
    pub duplicate_ppm: u32,
}

impl Default for Network {
    fn default() -> Network {
        Network { delay_us: 10_000, jitter_us: 4_000, loss_ppm: 0, duplicate_ppm: 0 }
    }
}

/// Changes of a [`Network`]: what is missing stays. As JavaScript writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkChange {
    pub delay_ms: Option<f64>,
    pub jitter_ms: Option<f64>,
    /// Chances, 0 to 1.
    pub loss: Option<f64>,
    pub duplicate: Option<f64>,
}

/// What a visitor does to the cluster; recorded, and replayed at the same virtual time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Kills the node (`kill -9`): what it wrote stays, what it knew is gone.
    Crash(NodeNumber),
    Restart(NodeNumber),
    /// The node stands still (`SIGSTOP`), and goes on where it was.
    Pause(NodeNumber),
    Resume(NodeNumber),
    /// Cuts all links of the node to other nodes, both ways.
    Isolate(NodeNumber),
    /// Crashes the node and empties its disk; it then rejoins as a new member.
    LoseDisk(NodeNumber),
    /// Crashes the node and cuts its log's last record short, as a power loss can.
    TearLog(NodeNumber),
    /// Crashes the node and flips a bit in the middle of its log.
    CorruptLog(NodeNumber),
    /// Writes fail from now on (or work again), as on a full disk.
    FillDisk(NodeNumber, bool),
    /// Milliseconds that a sync of the log takes.
    SlowDisk(NodeNumber, f64),
    /// How fast the node's clock runs: 1 is right.
    SkewClock(NodeNumber, f64),
    /// The node stands for election now.
    Elect(NodeNumber),
    /// The leader hands over to this node.
    Transfer(NodeNumber),
    /// Cuts the link between two nodes, both ways.
    Cut(NodeNumber, NodeNumber),
    /// Cuts the way from the first to the second.
    CutOneWay(NodeNumber, NodeNumber),
    /// Mends the link between two nodes and its behaviour, both ways.
    Mend(NodeNumber, NodeNumber),
    /// Gives the link between two nodes a behaviour of its own, both ways.
    Link(NodeNumber, NodeNumber, NetworkChange),
    /// Nodes of different groups do not hear each other; a node in no group hears nobody.
    Partition(Vec<Vec<NodeNumber>>),
    Network(NetworkChange),
    /// Mends links and disks, resumes and restarts nodes, sets clocks right.
    Heal(bool),
    /// A new node joins: as a learner, and is promoted when it has caught up.
    AddNode(bool),
    /// Adds a node that stays a learner until it is promoted.
    AddLearner(bool),
    Promote(NodeNumber),
    RemoveNode(NodeNumber),
    DropMessage(#[serde(with = "decimal")] PacketId),
    /// Delays a message that is under way by so many milliseconds.
    DelayMessage(#[serde(with = "decimal")] PacketId, f64),
    /// What a terminal did; recorded by the conductor, not accepted by `act`.
    Exec {
        id: u64,
        line: String,
        node: Option<NodeNumber>,
        /// The whole of its standard input, if that was known from the start.
        #[serde(default)]
        input: Option<Vec<String>>,
    },
    /// Commands that were given at once, and so begin together.
    Burst(Vec<Action>),
    Input {
        id: u64,
        line: Option<String>,
    },
    Interrupt {
        id: u64,
    },
    /// A real failure of the browser (its storage, its memory) killed the node.
    Failed {
        node: NodeNumber,
        reason: String,
    },
}

// ---------------------------------------------------------------- conductor to page

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// What happened since the last one: at most one per animation frame.
    Frame(Box<Frame>),
    /// Output of a command.
    Output {
        id: u64,
        stream: Stream,
        data: Vec<u8>,
    },
    /// A command wrote a file, which the page offers to save.
    File {
        id: u64,
        name: String,
        data: Vec<u8>,
    },
    /// The command ended.
    Exit {
        id: u64,
        code: i32,
    },
    Done {
        id: u64,
        result: Result<Answer, String>,
    },
    /// Where the disks are, and in one sentence what that means.
    Storage {
        kind: StorageKind,
        sentence: String,
        can_take_over: bool,
    },
    /// The engine cannot go on; the sentence says what to do.
    Fatal {
        sentence: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    Stdout,
    Stderr,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    Nothing,
    State(Box<Lab>),
    Text(String),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    pub lab: Lab,
    /// Messages sent since the last frame.
    pub sent: Vec<Flight>,
    /// Messages that were lost since, and when.
    pub lost: Vec<(PacketId, Nanos)>,
    /// Flights whose arrival a visitor changed.
    pub delayed: Vec<(PacketId, Nanos)>,
    /// The trace since the last frame, oldest first; of very many, the oldest that are neither the
    /// visitor's actions nor violations are left out.
    pub records: Vec<Record>,
    /// How many were left out.
    pub omitted: u64,
}

/// The laboratory at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lab {
    pub time: Nanos,
    pub speed: Speed,
    pub seed: u64,
    pub nodes: Vec<NodeView>,
    pub links: Vec<LinkView>,
    pub network: Network,
    /// Promises of Raft that were broken, in words. Empty, or we have a bug.
    pub violations: Vec<String>,
}

impl Lab {
    /// Whether time stands still.
    pub fn is_paused(&self) -> bool {
        self.speed == Speed::Paused
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Its worker is being made.
    #[default]
    Starting,
    Up,
    Paused,
    /// Crashed.
    Down,
    /// It stopped by itself; the sentence says why.
    Stopped(String),
    /// It was removed from the cluster.
    Removed,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    pub id: NodeNumber,
    pub member: u64,
    pub condition: Condition,
    pub role: Role,
    pub term: u64,
    pub leader: Option<NodeNumber>,
    pub last_index: u64,
    pub commit: u64,
    pub applied: u64,
    pub revision: i64,
    /// When it heard its leader last (or its timer began), and when it will stand for election.
    pub election: Option<(Nanos, Nanos)>,
    /// Who granted it a vote in its present term.
    pub votes: Vec<NodeNumber>,
    /// For whom it voted in its present term.
    pub voted_for: Option<NodeNumber>,
    pub disk_full: bool,
    pub disk_latency_us: u32,
    /// 1000 is right.
    pub clock_permille: u32,
    /// HashKV at its revision; only in the answer to `State`.
    pub store_hash: Option<u32>,
}

/// One way of a link that is not as the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    pub from: NodeNumber,
    pub to: NodeNumber,
    pub cut: bool,
    pub own: Option<Network>,
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flight {
    pub id: PacketId,
    pub from: NodeNumber,
    pub to: NodeNumber,
    pub sent: Nanos,
    /// When it arrives, or when it is lost on the way.
    pub arrives: Nanos,
    pub message: Message,
    /// Whether the network will lose it.
    pub lost: bool,
}

/// What a message says, for people: the kind, and its fields in the order to be shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub kind: MessageKind,
    pub answer: bool,
    pub fields: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MessageKind {
    /// An append without entries.
    Heartbeat,
    Append,
    PreVote,
    Vote,
    Snapshot,
    TransferLeader,
    /// A follower passes a client's proposal on.
    Propose,
    ReadIndex,
    /// Everything else between members.
    Other,
    /// A client's request or its answer.
    Client,
}

/// One line of the trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub at: Nanos,
    /// Whose event; [`CLIENT`] for the network's and the visitor's own.
    pub node: NodeNumber,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum What {
    Node(Event),
    Sent {
        id: PacketId,
        to: NodeNumber,
        message: Message,
    },
    Delivered {
        id: PacketId,
        from: NodeNumber,
    },
    Lost {
        id: PacketId,
        to: NodeNumber,
        why: Loss,
    },
    Acted(Action),
    /// An action did not do what it should; the sentence says why.
    Failed(String),
    Violation(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loss {
    Chance,
    Cut,
    Down,
    Visitor,
}

// ---------------------------------------------------------------- conductor and node

/// What a node is started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeSetup {
    pub number: NodeNumber,
    pub seed: u64,
    /// How often the node was started before: answers to an earlier process are not this one's.
    pub incarnation: u32,
    /// Numbers of the members of the cluster as it knows them at the start.
    pub initial: Vec<NodeNumber>,
    /// Whether it joins a running cluster.
    pub existing: bool,
    pub heartbeat_ms: u32,
    pub election_ms: u32,
    pub disk: DiskFaults,
    /// Done to the disk before the node opens it.
    pub tamper: Option<Tamper>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFaults {
    pub latency_us: u32,
    pub full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tamper {
    Wipe,
    TearLog,
    CorruptLog,
}

/// Everything that happens to a process between two moments.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepInput {
    /// In order of time.
    pub inputs: Vec<(Nanos, Input)>,
    /// The process runs up to this moment, and all that is due at it.
    pub until: Nanos,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    Start(Box<NodeSetup>),
    Packet {
        from: NodeNumber,
        body: Body,
    },
    Disk(DiskFaults),
    /// Its clock runs at so many thousandths of the true speed from now on.
    Clock {
        permille: u32,
    },
    Elect,
    /// Hand over to the node with this number.
    Transfer {
        to: NodeNumber,
    },
    /// Report [`NodeView::store_hash`] with the output.
    Hash,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StepOutput {
    pub packets: Vec<Packet>,
    pub events: Vec<(Nanos, Event)>,
    /// When the process has to run again, unless something comes in before.
    pub next: Option<Nanos>,
    pub status: NodeStatus,
}

/// A node's numbers at the end of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub member: u64,
    pub role: Role,
    pub term: u64,
    /// A member id.
    pub leader: Option<u64>,
    pub last_index: u64,
    pub commit: u64,
    pub applied: u64,
    pub revision: i64,
    pub election: Option<(Nanos, Nanos)>,
    pub stopped: Option<Stopped>,
    pub store_hash: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stopped {
    Removed,
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Packet {
    pub at: Nanos,
    pub to: NodeNumber,
    pub body: Body,
}

/// The payload of a message: protobuf of the peer protocol, or of etcd's RPCs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    PeerRequest {
        call: u64,
        member: u64,
        data: Vec<u8>,
    },
    PeerAnswer {
        call: u64,
        data: Vec<u8>,
    },
    /// Opens an RPC with its first request.
    Rpc {
        call: u64,
        method: Method,
        data: Vec<u8>,
    },
    /// A further request of a stream.
    RpcRequest {
        call: u64,
        data: Vec<u8>,
    },
    /// The client will send no more.
    RpcHalfClose {
        call: u64,
    },
    /// The client gave up.
    RpcCancel {
        call: u64,
    },
    RpcReply {
        call: u64,
        data: Vec<u8>,
    },
    /// The end of an RPC: nothing, or gRPC code and text.
    RpcEnd {
        call: u64,
        error: Option<(u32, String)>,
    },
}

macro_rules! methods {
    ($($method:ident)*) => {
        /// The RPCs that the laboratory's clients use.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Method {
            $($method,)*
        }

        impl Method {
            pub fn name(self) -> &'static str {
                match self {
                    $(Method::$method => stringify!($method),)*
                }
            }
        }
    };
}

methods! {
    Range Put DeleteRange Txn Compact Watch
    LeaseGrant LeaseRevoke LeaseKeepAlive LeaseTimeToLive LeaseLeases
    MemberAdd MemberRemove MemberUpdate MemberList MemberPromote
    Alarm Status Defragment HashKv MoveLeader Snapshot
}

/// 64-bit numbers in JSON: decimal strings, or plain numbers where they are small enough.
mod decimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(value),
            false => serializer.serialize_u64(*value),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Number(u64),
            Float(f64),
        }
        if !from.is_human_readable() {
            return u64::deserialize(from);
        }
        match Either::deserialize(from)? {
            Either::Text(text) => text.parse().map_err(D::Error::custom),
            Either::Number(number) => Ok(number),
            Either::Float(float) if float >= 0.0 && float.fract() == 0.0 => Ok(float as u64),
            Either::Float(float) => Err(D::Error::custom(format!("not a whole number: {float}"))),
        }
    }
}
