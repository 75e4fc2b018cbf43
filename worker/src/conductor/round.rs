//! Rounds: which window of time comes next, who is stepped in it, and what came out.

use coracle_core::small_map::SmallMap;
use coracle_core::trace::Event;

use super::describe::{describe, grants_vote};
use super::{Conductor, Task};
use crate::client::{Ended, REFUSED};
use crate::protocol::{
    Action, Body, CLIENT, Condition, Flight, Input, Loss, Message, MessageKind, Nanos, NodeNumber,
    PacketId, Record, Report, Speed, Step, StepInput, StepOutput, Stopped, What,
};

/// gRPC's code for a member that cannot be reached.
const UNAVAILABLE: u32 = 14;
/// Messages that a frame shows at most, the latest.
const FLIGHTS_PER_FRAME: usize = 300;
/// Entries of the table of calls whose answers are awaited, for describing them.
const REMEMBERED_CALLS: usize = 10_000;

/// A packet on its way.
pub(super) struct Parcel {
    from: NodeNumber,
    to: NodeNumber,
    body: Body,
    /// Lost on the way, by chance.
    lost: bool,
    /// The receiver's process when it was sent: a connection ends with it.
    incarnation: u32,
}

/// A window of time that is being worked on.
pub(super) struct Round {
    until: Nanos,
    waiting: usize,
    outputs: SmallMap<NodeNumber, StepOutput>,
    died: Vec<(NodeNumber, String)>,
    records: Vec<Record>,
    /// Packets of the client, and refusals in the name of nodes that do not run.
    packets: Vec<(Nanos, NodeNumber, NodeNumber, Body)>,
    ended: Vec<Ended>,
    delivered: bool,
}

impl Conductor {
    /// What has to be done next. Steps of different nodes may be done in parallel; when all of a
    /// round's are reported, ask again. Nothing means: wait for the next tick or request.
    pub fn next_tasks(&mut self) -> Vec<Task> {
        loop {
            if self.round.is_some() {
                return Vec::new();
            }
            if !self.tasks.is_empty() {
                return self.tasks.drain(..).collect();
            }
            // What is due at this very moment comes before what a visitor does in it; and what
            // follows at once from one action before the next one.
            let quiet = self.due().is_none_or(|due| due > self.now);
            if quiet && (self.carry_out_a_request() || self.replay_an_action()) {
                continue;
            }
            let steps = match self.next_window() {
                Some(until) => self.begin_round(until),
                None if self.reach_limit() => continue,
                None => return Vec::new(),
            };
            if !steps.is_empty() {
                return steps;
            }
            self.finish_round();
        }
    }

    /// When something happens next.
    fn due(&self) -> Option<Nanos> {
        let packet = self.parcels.keys().next().map(|(at, _)| *at);
        let nodes = self.nodes.values().filter_map(|node| node.due());
        nodes.chain(packet).chain(self.client.next(self.now)).min()
    }

    fn limit(&self) -> Nanos {
        match &self.replay {
            Some(replay) => replay.actions.front().map_or(replay.until, |(at, _)| *at),
            None => self.pace.limit(self.now),
        }
    }

    /// The end of the next window, if there is something to do in it.
    fn next_window(&self) -> Option<Nanos> {
        let limit = self.limit();
        let first = self.due().filter(|due| *due <= limit)?.max(self.now);
        if self.pace.step.is_some() {
            return Some(first);
        }
        let lookahead = self.links.lookahead();
        Some(first.saturating_add(lookahead.saturating_sub(1)).min(limit).max(first))
    }

    /// Nothing is left to do up to the limit: time goes there. Whether something follows from it.
    fn reach_limit(&mut self) -> bool {
        let limit = self.limit();
        if limit != Nanos::MAX {
            self.now = self.now.max(limit);
        }
        if let Some(replay) = &self.replay {
            if !replay.actions.is_empty() {
                return self.now >= limit;
            }
            self.end_replay();
            return true;
        }
        if let Some((id, _)) = self.pace.run.take() {
            self.answer(id, Ok(crate::protocol::Answer::Nothing));
            return true;
        }
        // With nothing left to happen at all a step or a command would wait for ever.
        self.pace.step = None;
        false
    }

    fn end_replay(&mut self) {
        let Some(replay) = self.replay.take() else { return };
        let hash = self.trace.hash();
        let result = match hash == replay.trace_hash {
            true => Ok(crate::protocol::Answer::Text(hash)),
            false => Err(format!(
                "the replay took another course: its trace hash is {hash}, the saved one is {}",
                replay.trace_hash
            )),
        };
        self.answer(replay.request, result);
    }

    /// Repeats the next recorded action, if its time has come.
    fn replay_an_action(&mut self) -> bool {
        let Some(replay) = &mut self.replay else { return false };
        if replay.actions.front().is_none_or(|(at, _)| *at > self.now) {
            return false;
        }
        let Some((_, action)) = replay.actions.pop_front() else { return false };
        let last = match &action {
            Action::Burst(actions) => actions.last(),
            other => Some(other),
        };
        if let Some(Action::Exec { id, .. }) = last {
            self.next_command = id + 1;
        }
        // It was possible when it was recorded.
        let _ = self.act(action);
        true
    }

    fn begin_round(&mut self, until: Nanos) -> Vec<Task> {
        let mut round = Round {
            until,
            waiting: 0,
            outputs: SmallMap::new(),
            died: Vec::new(),
            records: Vec::new(),
            packets: Vec::new(),
            ended: Vec::new(),
            delivered: false,
        };
        let mut mail = Vec::new();
        self.deliver(&mut round, &mut mail);
        self.run_client(&mut round, mail);
        let mut steps = Vec::new();
        for node in self.nodes.values_mut() {
            if node.due().is_some_and(|due| due <= until) {
                let mut inputs = node.take_inputs(until);
                inputs.sort_by_key(|(at, _)| *at);
                let input = StepInput { inputs, until };
                steps.push(Task::Step { node: node.number, input });
            }
        }
        round.waiting = steps.len();
        self.round = Some(round);
        steps
    }

    /// Hands over the packets that arrive in the window.
    fn deliver(&mut self, round: &mut Round, mail: &mut Vec<(Nanos, NodeNumber, Body)>) {
        let later = self.parcels.split_off(&(round.until.saturating_add(1), 0));
        for ((at, id), parcel) in std::mem::replace(&mut self.parcels, later) {
            self.flights.remove(&id);
            let Parcel { from, to, body, lost, incarnation, .. } = parcel;
            let receiver = self.nodes.get(&to);
            let there =
                receiver.is_some_and(|node| node.has_process() && node.incarnation == incarnation);
            let loss = match () {
                () if lost => Some(Loss::Chance),
                () if self.links.is_cut(from, to) => Some(Loss::Cut),
                () if to != CLIENT && !there => Some(Loss::Down),
                () => None,
            };
            if let Some(why) = loss {
                round.records.push(Record { at, node: from, what: What::Lost { id, to, why } });
                self.note_lost(id, at);
                self.refuse(round, at, to, &body, why);
                continue;
            }
            round.delivered = true;
            round.records.push(Record { at, node: to, what: What::Delivered { id, from } });
            if to == CLIENT {
                mail.push((at, from, body));
                continue;
            }
            let granted = grants_vote(&body);
            if let Some(node) = self.nodes.get_mut(&to) {
                if granted {
                    node.note_vote_granted(from);
                }
                node.inputs.push((at, Input::Packet { from, body }));
            }
        }
    }

    /// Tells a client that nobody listens at the node.
    fn refuse(&mut self, round: &mut Round, at: Nanos, node: NodeNumber, body: &Body, why: Loss) {
        let (Body::Rpc { call, .. } | Body::RpcRequest { call, .. }) = body else { return };
        if why == Loss::Down {
            let error = Some((UNAVAILABLE, REFUSED.to_owned()));
            let body = Body::RpcEnd { call: *call, error };
            round.packets.push((at, node, CLIENT, body));
        }
    }

    /// Runs the client through the window.
    fn run_client(&mut self, round: &mut Round, mail: Vec<(Nanos, NodeNumber, Body)>) {
        let mut mail = mail.into_iter().peekable();
        let mut at = self.now;
        loop {
            let next = [mail.peek().map(|(at, ..)| *at), self.client.next(at)];
            let Some(next) = next.into_iter().flatten().min().filter(|at| *at <= round.until)
            else {
                return;
            };
            at = at.max(next);
            round.ended.extend(self.client.run(at));
            while let Some((_, from, body)) = mail.next_if(|(time, ..)| *time <= at) {
                self.client.receive(from, body);
                round.ended.extend(self.client.run(at));
            }
            let packets = self.client.packets();
            round.packets.extend(packets.into_iter().map(|(to, body)| (at, CLIENT, to, body)));
        }
    }

    /// Takes the output of a node's step.
    pub fn stepped(&mut self, node: NodeNumber, output: StepOutput) {
        let Some(round) = &mut self.round else { return };
        round.outputs.insert(node, output);
        round.waiting -= 1;
        if round.waiting == 0 {
            self.finish_round();
        }
    }

    /// The node's process broke, for a reason outside of the experiment.
    pub fn died(&mut self, node: NodeNumber, reason: String) {
        let Some(round) = &mut self.round else { return };
        round.died.push((node, reason));
        round.waiting -= 1;
        if round.waiting == 0 {
            self.finish_round();
        }
    }

    /// Puts what came out in order: records into the trace, packets on their way.
    fn finish_round(&mut self) {
        let Some(round) = self.round.take() else { return };
        let Round { until, outputs, died, mut records, mut packets, ended, delivered, .. } = round;
        self.now = until;
        let mut stopped = Vec::new();
        for (node, output) in outputs {
            let StepOutput { packets: sent, events, next, status } = output;
            packets.extend(sent.into_iter().map(|p| (p.at, node, p.to, p.body)));
            for (at, event) in events {
                self.look_at(node, at, &event, &mut records);
                records.push(Record { at, node, what: What::Node(event) });
            }
            let Some(state) = self.nodes.get_mut(&node) else { continue };
            if !state.has_process() {
                continue;
            }
            state.next = next;
            if status.store_hash.is_some() || state.condition == Condition::Starting {
                self.hashes.remove(&node);
            }
            stopped.extend(state.take_status(status).map(|reason| (node, reason)));
        }
        packets.sort_by_key(|(at, from, ..)| (*at, *from));
        for (at, from, to, body) in packets {
            self.send(at, from, to, body, &mut records);
        }
        records.sort_by_key(|record| (record.at, record.node));
        records.into_iter().for_each(|record| self.trace.push(record));
        for (node, reason) in stopped {
            self.node_stopped(node, reason);
        }
        for (node, reason) in died {
            self.hashes.remove(&node);
            // It has just been stepped, so it exists.
            let _ = self.act(Action::Failed { node, reason });
        }
        self.client_ended(ended);
        self.answer_hashes();
        match self.pace.step {
            Some(Step::Event) => self.pace.step = None,
            Some(Step::Message) if delivered => self.pace.step = None,
            _ => {}
        }
    }

    fn look_at(&mut self, node: NodeNumber, at: Nanos, event: &Event, records: &mut Vec<Record>) {
        if let (Event::Voted { term, candidate, .. }, Some(state)) =
            (event, self.nodes.get_mut(&node))
        {
            state.note_voted(*term, *candidate);
        }
        if let Some(violation) = self.checker.look(node, event) {
            records.push(Record { at, node, what: What::Violation(violation) });
        }
    }

    /// Puts a packet on its way.
    fn send(
        &mut self,
        at: Nanos,
        from: NodeNumber,
        to: NodeNumber,
        body: Body,
        records: &mut Vec<Record>,
    ) {
        let fate = self.links.fate(from, to);
        let asked = self.kind_of_call(from, to, &body);
        let message = describe(&body, asked);
        self.remember_call(from, to, &body, message.kind);
        let arrives = at + fate.delay;
        if let (Some(second), true) = (fate.duplicate, may_be_duplicated(&body)) {
            let id = self.launch(at, at + second, from, to, body.clone(), fate.lost, &message);
            let what = What::Sent { id, to, message: message.clone() };
            records.push(Record { at, node: from, what });
        }
        let id = self.launch(at, arrives, from, to, body, fate.lost, &message);
        records.push(Record { at, node: from, what: What::Sent { id, to, message } });
    }

    #[allow(clippy::too_many_arguments)] // A packet is what it is.
    fn launch(
        &mut self,
        sent: Nanos,
        arrives: Nanos,
        from: NodeNumber,
        to: NodeNumber,
        body: Body,
        lost: bool,
        message: &Message,
    ) -> PacketId {
        let id = self.next_packet;
        self.next_packet += 1;
        let incarnation = self.nodes.get(&to).map_or(0, |node| node.incarnation);
        let parcel = Parcel { from, to, body, lost, incarnation };
        self.parcels.insert((arrives, id), parcel);
        self.flights.insert(id, arrives);
        if self.sent.len() == FLIGHTS_PER_FRAME {
            self.sent.pop_front();
        }
        let lost = lost || self.links.is_cut(from, to);
        self.sent.push_back(Flight { id, from, to, sent, arrives, message: message.clone(), lost });
        id
    }

    /// Tells the page of a loss, unless there are more than it can show.
    fn note_lost(&mut self, id: PacketId, at: Nanos) {
        if self.lost.len() < FLIGHTS_PER_FRAME {
            self.lost.push((id, at));
        }
    }

    pub(super) fn drop_message(&mut self, id: PacketId) {
        let Some(arrives) = self.flights.remove(&id) else { return };
        if let Some(parcel) = self.parcels.remove(&(arrives, id)) {
            self.note_lost(id, self.now);
            let what = What::Lost { id, to: parcel.to, why: Loss::Visitor };
            self.record(parcel.from, what);
        }
    }

    pub(super) fn delay_message(&mut self, id: PacketId, by: Nanos) {
        let Some(arrives) = self.flights.get_mut(&id) else { return };
        if let Some(parcel) = self.parcels.remove(&(*arrives, id)) {
            *arrives += by;
            self.delayed.push((id, *arrives));
            self.parcels.insert((*arrives, id), parcel);
        }
    }

    /// A node's process ended by itself.
    fn node_stopped(&mut self, node: NodeNumber, reason: Stopped) {
        match reason {
            Stopped::Removed => {
                self.crash(node, Condition::Removed);
                self.forget(node);
            }
            Stopped::Failed(reason) => self.crash(node, Condition::Stopped(reason)),
        }
    }

    fn client_ended(&mut self, ended: Vec<Ended>) {
        for report in self.client.reports() {
            let page = |id: &u64| self.commands.get(id).copied();
            let translated = match report {
                Report::Output { id, stream, data } => {
                    page(&id).map(|id| Report::Output { id, stream, data })
                }
                Report::File { id, name, data } => {
                    page(&id).map(|id| Report::File { id, name, data })
                }
                Report::Exit { id, code } => page(&id).map(|id| Report::Exit { id, code }),
                other => Some(other),
            };
            self.reports.extend(translated);
        }
        for end in ended {
            match end {
                Ended::Command { id } => {
                    self.commands.remove(&id);
                    self.pace.advancing.remove(&id);
                    if self.pace.advancing.is_empty() && self.pace.paused() {
                        self.pace.set_speed(Speed::Paused, self.now);
                    }
                }
                Ended::Operation(operation, result) => self.operated(operation, result),
            }
        }
    }

    /// The kind of the request that `body` answers.
    fn kind_of_call(&self, from: NodeNumber, to: NodeNumber, body: &Body) -> Option<MessageKind> {
        let Body::PeerAnswer { call, .. } = body else { return None };
        self.calls.get(&(to, from, *call)).copied()
    }

    fn remember_call(&mut self, from: NodeNumber, to: NodeNumber, body: &Body, kind: MessageKind) {
        match body {
            Body::PeerRequest { call, .. } => {
                self.calls.insert((from, to, *call), kind);
                while self.calls.len() > REMEMBERED_CALLS {
                    self.calls.pop_first();
                }
            }
            Body::PeerAnswer { call, .. } => {
                self.calls.remove(&(to, from, *call));
            }
            _ => {}
        }
    }
}

/// Raft's own messages may come twice. Others go over connections, which deliver once: a proposal
/// that came twice would be carried out twice.
fn may_be_duplicated(body: &Body) -> bool {
    let kind = match body {
        Body::PeerRequest { .. } => describe(body, None).kind,
        _ => return false,
    };
    matches!(
        kind,
        MessageKind::Heartbeat | MessageKind::Append | MessageKind::Vote | MessageKind::PreVote
    )
}
