//! What a visitor's actions do.

use crate::client::Operation;
use crate::protocol::{
    Action, CLIENT, Condition, Input, MAX_NODES, MILLISECOND, Nanos, NodeNumber, Tamper, What,
};

use super::nodes::NodeState;
use super::{Conductor, Task};

impl Conductor {
    /// Carries an action out at the present moment, and records it.
    ///
    /// # Errors
    /// A sentence, if it cannot be done; nothing was done then.
    pub(super) fn act(&mut self, action: Action) -> Result<(), String> {
        self.check(&action)?;
        self.record(CLIENT, What::Acted(action.clone()));
        self.actions.push((self.now, action.clone()));
        self.carry_out(action)
    }

    /// Refuses what makes no sense.
    pub(super) fn check(&self, action: &Action) -> Result<(), String> {
        for number in nodes_of(action) {
            if !self.nodes.contains_key(&number) {
                return Err(format!("there is no node {number}"));
            }
        }
        let condition = |number| self.nodes.get(number).map(|node: &NodeState| &node.condition);
        match action {
            Action::Restart(number)
                if self.nodes.get(number).is_some_and(NodeState::has_process) =>
            {
                Err(format!("node {number} runs already"))
            }
            Action::Resume(number) if condition(number) != Some(&Condition::Paused) => {
                Err(format!("node {number} is not paused"))
            }
            Action::Pause(number) | Action::Elect(number) | Action::Transfer(number)
                if condition(number) != Some(&Condition::Up) =>
            {
                Err(format!("node {number} does not run"))
            }
            Action::Transfer(_) if self.leader().is_none() => {
                Err("there is no leader that could hand over".to_owned())
            }
            Action::AddNode(_) | Action::AddLearner(_) if self.free_number().is_none() => {
                Err(format!("there are {MAX_NODES} nodes already, the most that fit"))
            }
            Action::SkewClock(_, rate) if !(0.1..=10.0).contains(rate) => {
                Err(format!("a clock may run at 0.1 to 10 times the true speed, not {rate}"))
            }
            Action::SlowDisk(_, millis) if !(0.0..=60_000.0).contains(millis) => {
                Err(format!("a disk's latency must be 0 to 60000 milliseconds, not {millis}"))
            }
            Action::DropMessage(id) | Action::DelayMessage(id, _)
                if !self.flights.contains_key(id) =>
            {
                Err(format!("message {id} is not under way"))
            }
            Action::DelayMessage(_, millis) if !(0.0..=600_000.0).contains(millis) => {
                Err(format!("a delay must be 0 to 600000 milliseconds, not {millis}"))
            }
            _ => Ok(()),
        }
    }

    fn carry_out(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Crash(node) => self.crash(node, Condition::Down),
            Action::Restart(node) => self.restart(node),
            Action::Pause(node) => self.node(node).condition = Condition::Paused,
            Action::Resume(node) => self.resume(node),
            Action::Isolate(node) => self.isolate(node),
            Action::LoseDisk(node) => self.lose_disk(node),
            Action::TearLog(node) => self.tamper(node, Tamper::TearLog),
            Action::CorruptLog(node) => self.tamper(node, Tamper::CorruptLog),
            Action::FillDisk(node, full) => {
                self.node(node).disk.full = full;
                self.send_disk(node);
            }
            Action::SlowDisk(node, millis) => {
                self.node(node).disk.latency_us = (millis * 1000.0).round() as u32;
                self.send_disk(node);
            }
            Action::SkewClock(node, rate) => self.set_clock(node, (rate * 1000.0).round() as u32),
            Action::Elect(node) => self.input(node, Input::Elect),
            Action::Transfer(to) => {
                if let Some(leader) = self.leader() {
                    self.input(leader, Input::Transfer { to });
                }
            }
            Action::Cut(one, other) => {
                self.links.cut(one, other);
                self.links.cut(other, one);
            }
            Action::CutOneWay(from, to) => self.links.cut(from, to),
            Action::Mend(one, other) => self.links.mend(one, other),
            Action::Link(one, other, change) => self.links.change_link(one, other, &change)?,
            Action::Partition(groups) => {
                let nodes: Vec<NodeNumber> = self.nodes.keys().copied().collect();
                self.links.partition(&groups, &nodes);
            }
            Action::Network(change) => self.links.change_all(&change)?,
            Action::Heal(_) => self.heal(),
            Action::AddNode(_) => self.add_node(true),
            Action::AddLearner(_) => self.add_node(false),
            Action::Promote(node) => self.operate(Operation::Promote { node }, CLIENT),
            Action::RemoveNode(node) => self.operate(Operation::Remove { node }, node),
            Action::DropMessage(id) => self.drop_message(id),
            Action::DelayMessage(id, millis) => {
                self.delay_message(id, (millis * MILLISECOND as f64) as Nanos);
            }
            Action::Exec { id, line, node, input } => {
                let nodes = self.asked(node);
                self.client.exec(id, &line, nodes, input);
            }
            Action::Burst(actions) => {
                for action in actions {
                    self.carry_out(action)?;
                }
            }
            Action::Input { id, line } => self.client.input(id, line),
            Action::Interrupt { id } => self.client.interrupt(id),
            Action::Failed { node, reason } => self.crash(node, Condition::Stopped(reason)),
        }
        Ok(())
    }

    /// Ends the node's process, as `kill -9` does.
    pub(super) fn crash(&mut self, node: NodeNumber, condition: Condition) {
        if self.node(node).has_process() {
            self.tasks.push_back(Task::Kill { node });
            self.client.disconnect(node);
        }
        self.node(node).end(condition);
        self.hashes.remove(&node);
    }

    fn restart(&mut self, node: NodeNumber) {
        match self.node(node).disk_lost {
            true => self.replace(node),
            false => self.spawn(node, None),
        }
    }

    fn resume(&mut self, node: NodeNumber) {
        let now = self.now;
        let state = self.node(node);
        state.condition = Condition::Up;
        // What came meanwhile, and what its timers missed, is handled now.
        for (at, _) in &mut state.inputs {
            *at = now;
        }
        state.next = state.next.map(|at| at.max(now));
    }

    fn isolate(&mut self, node: NodeNumber) {
        let others: Vec<NodeNumber> = self.nodes.keys().copied().collect();
        for other in others {
            self.links.cut(node, other);
            self.links.cut(other, node);
        }
    }

    fn lose_disk(&mut self, node: NodeNumber) {
        self.crash(node, Condition::Down);
        let state = self.node(node);
        state.disk_lost = true;
        state.tamper = None;
        self.remember();
        self.replace(node);
    }

    /// Lets the cluster forget the member that lost its disk; a new one then takes its place. The
    /// only member takes everything with it, and begins anew.
    fn replace(&mut self, node: NodeNumber) {
        if self.nodes.len() == 1 {
            let state = self.node(node);
            state.disk_lost = false;
            state.existing = false;
            self.initial = vec![node];
            self.spawn(node, Some(super::DiskImage::new()));
            return;
        }
        self.node(node).promote = true;
        self.operate(Operation::Replace { node }, node);
    }

    fn tamper(&mut self, node: NodeNumber, kind: Tamper) {
        self.crash(node, Condition::Down);
        self.node(node).tamper = Some(kind);
    }

    fn send_disk(&mut self, node: NodeNumber) {
        let faults = self.node(node).disk;
        self.input(node, Input::Disk(faults));
    }

    fn set_clock(&mut self, node: NodeNumber, permille: u32) {
        self.node(node).clock_permille = permille;
        self.input(node, Input::Clock { permille });
    }

    fn heal(&mut self) {
        self.links.heal();
        let numbers: Vec<NodeNumber> = self.nodes.keys().copied().collect();
        for node in numbers {
            let latency_us = self.boot.settings.disk_latency_us;
            let state = self.node(node);
            if state.disk.full || state.disk.latency_us != latency_us {
                state.disk.full = false;
                state.disk.latency_us = latency_us;
                self.send_disk(node);
            }
            if self.node(node).clock_permille != crate::node::TRUE_RATE {
                self.set_clock(node, crate::node::TRUE_RATE);
            }
            match self.node(node).condition {
                Condition::Paused => self.resume(node),
                Condition::Down | Condition::Stopped(_) => self.restart(node),
                _ => {}
            }
        }
    }

    /// The lowest number that no node has.
    fn free_number(&self) -> Option<NodeNumber> {
        (1..=MAX_NODES).find(|number| !self.nodes.contains_key(number))
    }

    fn add_node(&mut self, promote: bool) {
        let Some(number) = self.free_number() else { return };
        let latency = self.boot.settings.disk_latency_us;
        let mut state = NodeState::new(number, true, latency);
        state.promote = promote;
        self.nodes.insert(number, state);
        self.operate(Operation::Add { node: number }, number);
    }

    /// Begins a change of membership, asking every node that runs but `but`.
    fn operate(&mut self, operation: Operation, but: NodeNumber) {
        let mut nodes = self.running();
        // Who leads knows best, and a minority knows nothing.
        let leader = self.leader();
        nodes.sort_by_key(|node| Some(*node) != leader);
        if nodes.len() > 1 {
            nodes.retain(|number| *number != but);
        }
        if nodes.is_empty() {
            // Nobody to be asked: the operator tries them all until one answers.
            nodes = self.nodes.keys().copied().filter(|number| *number != but).collect();
        }
        if nodes.is_empty() {
            nodes.push(but);
        }
        self.client.operate(operation, nodes);
    }

    /// What follows when a change of membership has been recorded, or not.
    pub(super) fn operated(&mut self, operation: Operation, result: Result<(), String>) {
        let (Operation::Add { node }
        | Operation::Promote { node }
        | Operation::Remove { node }
        | Operation::Replace { node }) = operation;
        if let Err(reason) = result {
            self.record(node, What::Failed(reason));
            if matches!(operation, Operation::Add { .. }) {
                self.nodes.remove(&node);
            }
            return;
        }
        match operation {
            Operation::Add { .. } | Operation::Replace { .. } => {
                if !self.nodes.contains_key(&node) || self.node(node).has_process() {
                    return;
                }
                let state = self.node(node);
                state.existing = true;
                state.disk_lost = false;
                let promote = state.promote;
                self.spawn(node, Some(super::DiskImage::new()));
                if promote {
                    self.operate(Operation::Promote { node }, node);
                }
            }
            Operation::Promote { .. } => {
                if let Some(state) = self.nodes.get_mut(&node) {
                    state.promote = false;
                }
                self.remember();
            }
            // One that runs learns of it, and stops by itself.
            Operation::Remove { .. } => {
                if self.nodes.get(&node).is_some_and(|state| !state.has_process()) {
                    self.forget(node);
                }
            }
        }
    }
}

/// The nodes that an action needs.
fn nodes_of(action: &Action) -> Vec<NodeNumber> {
    match action {
        Action::Crash(node)
        | Action::Restart(node)
        | Action::Pause(node)
        | Action::Resume(node)
        | Action::Isolate(node)
        | Action::LoseDisk(node)
        | Action::TearLog(node)
        | Action::CorruptLog(node)
        | Action::FillDisk(node, _)
        | Action::SlowDisk(node, _)
        | Action::SkewClock(node, _)
        | Action::Elect(node)
        | Action::Transfer(node)
        | Action::Promote(node)
        | Action::RemoveNode(node)
        | Action::Failed { node, .. } => vec![*node],
        Action::Cut(one, other)
        | Action::CutOneWay(one, other)
        | Action::Mend(one, other)
        | Action::Link(one, other, _) => vec![*one, *other],
        Action::Partition(groups) => groups.iter().flatten().copied().collect(),
        Action::Exec { node, .. } => node.iter().copied().collect(),
        _ => Vec::new(),
    }
}
