//! What the conductor knows of each node.

use coracle_core::trace::Role;

use crate::node::TRUE_RATE;
use crate::protocol::{
    Condition, DiskFaults, Input, Nanos, NodeNumber, NodeStatus, NodeView, Stopped, Tamper,
};

/// One node: its process, if there is one, and what waits for it.
pub(super) struct NodeState {
    pub(super) number: NodeNumber,
    pub(super) condition: Condition,
    /// How often it was started.
    pub(super) incarnation: u32,
    /// Whether it was, or will be, started into a running cluster.
    pub(super) existing: bool,
    pub(super) disk: DiskFaults,
    pub(super) clock_permille: u32,
    /// Done to its disk at the next start.
    pub(super) tamper: Option<Tamper>,
    /// The disk is gone: the member has to be replaced before a start.
    pub(super) disk_lost: bool,
    /// Whether it becomes a voter as soon as it has caught up.
    pub(super) promote: bool,
    /// When its process wants to run next.
    pub(super) next: Option<Nanos>,
    /// Inputs that are not packets, in order of time; those of a paused node are packets too.
    pub(super) inputs: Vec<(Nanos, Input)>,
    /// The last status that it told.
    pub(super) status: NodeStatus,
    /// Who granted it a vote, and in which term.
    votes: (u64, Vec<NodeNumber>),
    /// For whom it voted, and in which term.
    voted_for: (u64, Option<u64>),
}

impl NodeState {
    pub(super) fn new(number: NodeNumber, existing: bool, disk_latency_us: u32) -> NodeState {
        NodeState {
            number,
            condition: Condition::Down,
            incarnation: 0,
            existing,
            disk: DiskFaults { latency_us: disk_latency_us, full: false },
            clock_permille: TRUE_RATE,
            tamper: None,
            disk_lost: false,
            promote: false,
            next: None,
            inputs: Vec::new(),
            status: NodeStatus::default(),
            votes: (0, Vec::new()),
            voted_for: (0, None),
        }
    }

    /// Whether it has a process, paused or not.
    pub(super) fn has_process(&self) -> bool {
        matches!(self.condition, Condition::Starting | Condition::Up | Condition::Paused)
    }

    /// Whether it takes what arrives.
    pub(super) fn runs(&self) -> bool {
        matches!(self.condition, Condition::Starting | Condition::Up)
    }

    /// When it has something to do, by itself or by an input.
    pub(super) fn due(&self) -> Option<Nanos> {
        if !self.runs() {
            return None;
        }
        let input = self.inputs.first().map(|(at, _)| *at);
        [self.next, input].into_iter().flatten().min()
    }

    /// Takes the inputs up to `until`.
    pub(super) fn take_inputs(&mut self, until: Nanos) -> Vec<(Nanos, Input)> {
        let count = self.inputs.iter().take_while(|(at, _)| *at <= until).count();
        self.inputs.drain(..count).collect()
    }

    /// Forgets the process.
    pub(super) fn end(&mut self, condition: Condition) {
        self.condition = condition;
        self.next = None;
        self.inputs.clear();
        self.status.election = None;
        self.status.role = Role::Follower;
        self.status.leader = None;
    }

    /// Takes the status at the end of a step; returns why the process ended, if it did.
    pub(super) fn take_status(&mut self, status: NodeStatus) -> Option<Stopped> {
        let stopped = status.stopped.clone();
        // A process whose node does not run any more, or not yet, has nothing to tell.
        if status.member != 0 {
            if self.condition == Condition::Starting {
                self.condition = Condition::Up;
            }
            self.status = status;
        }
        stopped
    }

    pub(super) fn note_vote_granted(&mut self, by: NodeNumber) {
        let term = self.status.term;
        if self.votes.0 != term {
            self.votes = (term, Vec::new());
        }
        if !self.votes.1.contains(&by) {
            self.votes.1.push(by);
        }
    }

    pub(super) fn note_voted(&mut self, term: u64, member: u64) {
        self.voted_for = (term, Some(member));
        if member == self.status.member {
            self.status.term = self.status.term.max(term);
            self.note_vote_granted(self.number);
        }
    }

    /// As the page shows it. `number_of` finds the node of a member.
    pub(super) fn view(&self, number_of: impl Fn(u64) -> Option<NodeNumber>) -> NodeView {
        let status = &self.status;
        let of_this_term = |term: u64| term == status.term;
        NodeView {
            id: self.number,
            member: status.member,
            condition: self.condition.clone(),
            role: status.role,
            term: status.term,
            leader: status.leader.and_then(&number_of),
            last_index: status.last_index,
            commit: status.commit,
            applied: status.applied,
            revision: status.revision,
            election: status.election,
            votes: match of_this_term(self.votes.0) {
                true => self.votes.1.clone(),
                false => Vec::new(),
            },
            voted_for: match of_this_term(self.voted_for.0) {
                true => self.voted_for.1.and_then(number_of),
                false => None,
            },
            disk_full: self.disk.full,
            disk_latency_us: self.disk.latency_us,
            clock_permille: self.clock_permille,
            store_hash: status.store_hash,
        }
    }
}
