//! The event feed: the newest lines of the trace in plain words.
//!
//! Lines that come by the thousand (messages, log, disk) are kept apart from those that tell the
//! story (elections, faults, clients), so that they cannot push them out. Heartbeats are folded
//! into one line that counts.

use std::collections::VecDeque;
use std::rc::Rc;

use coracle_core::trace::{Change, Event, Role};
use coracle_worker::protocol::{Action, Frame, MessageKind, Nanos, NodeNumber, Record, What};

use crate::words::{self, Names};

const STORY_MAX: usize = 600;
const NOISE_MAX: usize = 400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    Election,
    Fault,
    Log,
    Client,
    Disk,
    Message,
    Heartbeat,
}

impl Topic {
    pub(crate) const ALL: [Topic; 7] = [
        Topic::Election,
        Topic::Fault,
        Topic::Log,
        Topic::Client,
        Topic::Disk,
        Topic::Message,
        Topic::Heartbeat,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Topic::Election => "Elections",
            Topic::Fault => "Faults",
            Topic::Log => "Log",
            Topic::Client => "Clients",
            Topic::Disk => "Disk",
            Topic::Message => "Messages",
            Topic::Heartbeat => "Heartbeats",
        }
    }

    fn is_noise(self) -> bool {
        matches!(self, Topic::Log | Topic::Disk | Topic::Message | Topic::Heartbeat)
    }

    /// Where a record belongs; none for what is said by another record already.
    fn of(what: &What) -> Option<Topic> {
        Some(match what {
            What::Sent { message, .. } if message.kind == MessageKind::Heartbeat => {
                Topic::Heartbeat
            }
            What::Sent { .. } | What::Lost { .. } => Topic::Message,
            What::Delivered { .. } => return None,
            What::Acted(
                Action::Exec { .. }
                | Action::Burst(_)
                | Action::Input { .. }
                | Action::Interrupt { .. },
            ) => Topic::Client,
            What::Acted(_) | What::Failed(_) | What::Violation(_) => Topic::Fault,
            What::Node(event) => match event {
                // Not of any cluster yet; and what its role says in better words.
                Event::Role { role: Role::Learner, leader: None, .. }
                | Event::Voted { committed: true, .. } => Topic::Log,
                Event::Started { .. }
                | Event::Stopped { .. }
                | Event::Role { .. }
                | Event::Voted { .. } => Topic::Election,
                Event::Appended { .. }
                | Event::Truncated { .. }
                | Event::Purged { .. }
                | Event::Committed { .. }
                | Event::SnapshotBuilt { .. }
                | Event::SnapshotInstalled { .. } => Topic::Log,
                Event::Applied { change, .. } => Topic::of_change(change),
                Event::ReadIndex { .. } => Topic::Log,
                Event::Read { .. }
                | Event::LeaseExpired { .. }
                | Event::LeaseKeptAlive { .. }
                | Event::WatchCreated { .. }
                | Event::WatchCanceled { .. }
                | Event::WatchSent { .. } => Topic::Client,
                Event::LogSynced { .. } | Event::StateFlushed { .. } => Topic::Disk,
                // Drawn as an arc at every heartbeat: words would drown the rest.
                Event::ElectionTimeout { .. } => return None,
            },
        })
    }

    /// What a client or an operator asked for is told apart from Raft's own entries.
    fn of_change(change: &Change) -> Topic {
        match change {
            Change::Blank
            | Change::Membership { .. }
            | Change::LeaseCheckpoint { .. }
            | Change::MemberAdd { .. }
            | Change::MemberUpdate { .. }
            | Change::MemberPublish { .. }
            | Change::Auth
            | Change::ClusterVersionSet { .. }
            | Change::Other => Topic::Log,
            Change::MemberRemove { .. } | Change::MemberPromote { .. } => Topic::Election,
            Change::Put { .. }
            | Change::DeleteRange { .. }
            | Change::Txn { .. }
            | Change::Compaction { .. }
            | Change::LeaseGrant { .. }
            | Change::LeaseRevoke { .. }
            | Change::Alarm
            | Change::Downgrade { .. } => Topic::Client,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Grows with every line.
    pub(crate) number: u64,
    pub(crate) at: Nanos,
    pub(crate) node: NodeNumber,
    pub(crate) topic: Topic,
    pub(crate) text: String,
    /// How many times in a row, for heartbeats.
    pub(crate) count: u32,
}

/// Which lines are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) topics: Vec<Topic>,
    pub(crate) node: Option<NodeNumber>,
}

impl Default for Filter {
    fn default() -> Filter {
        let topics = vec![Topic::Election, Topic::Fault, Topic::Client];
        Filter { topics, node: None }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Feed {
    /// Changes whenever a line is added or changes.
    pub(crate) version: u64,
    story: VecDeque<Rc<Line>>,
    noise: VecDeque<Rc<Line>>,
}

impl Feed {
    pub(crate) fn absorb(&mut self, frame: &Frame) {
        let names = Names::of(&frame.lab);
        if frame.omitted > 0 {
            let at = frame.records.first().map_or(frame.lab.time, |record| record.at);
            let text = format!("So much happened that {} events are left out.", frame.omitted);
            self.push(Line { number: 0, at, node: 0, topic: Topic::Log, text, count: 1 });
        }
        for record in &frame.records {
            self.record(record, &names);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Feed { version: self.version + 1, ..Feed::default() };
    }

    fn record(&mut self, record: &Record, names: &Names) {
        let Some(topic) = Topic::of(&record.what) else { return };
        // Who stands for election votes for itself: one line of the two is enough.
        let is_own_vote = matches!(record.what, What::Node(Event::Voted { candidate, .. })
            if names.is(candidate, record.node));
        let topic = if is_own_vote { Topic::Log } else { topic };
        if topic == Topic::Heartbeat {
            return self.heartbeat(record);
        }
        let text = words::sentence(record, names);
        self.push(Line { number: 0, at: record.at, node: record.node, topic, text, count: 1 });
    }

    /// A heartbeat after a heartbeat makes no line of its own.
    fn heartbeat(&mut self, record: &Record) {
        let is_last = self.noise.back().is_some_and(|line| line.topic == Topic::Heartbeat);
        let version = self.version + 1;
        if let Some(last) = self.noise.back_mut().filter(|_| is_last) {
            let last = Rc::make_mut(last);
            last.count += 1;
            last.text = format!("{} heartbeats and answers.", last.count);
            self.version = version;
            return;
        }
        let text = format!("{} sends a heartbeat.", words::node_first(record.node));
        let topic = Topic::Heartbeat;
        self.push(Line { number: 0, at: record.at, node: record.node, topic, text, count: 1 });
    }

    fn push(&mut self, line: Line) {
        self.version += 1;
        let (lines, max) = match line.topic.is_noise() {
            true => (&mut self.noise, NOISE_MAX),
            false => (&mut self.story, STORY_MAX),
        };
        lines.push_back(Rc::new(Line { number: self.version, ..line }));
        if lines.len() > max {
            lines.pop_front();
        }
    }

    /// The lines that pass the filter, oldest first.
    pub(crate) fn lines(&self, filter: &Filter) -> Vec<Rc<Line>> {
        let wanted = |line: &&Rc<Line>| {
            filter.topics.contains(&line.topic) && filter.node.is_none_or(|node| line.node == node)
        };
        let mut lines: Vec<_> =
            self.story.iter().chain(&self.noise).filter(wanted).cloned().collect();
        lines.sort_unstable_by_key(|line| line.number);
        lines
    }
}

#[cfg(test)]
mod tests {
    use coracle_worker::protocol::{Lab, Message, NodeView};

    use super::*;

    fn record(node: NodeNumber, what: What) -> Record {
        Record { at: 5, node, what }
    }

    fn sent(kind: MessageKind) -> What {
        What::Sent { id: 1, to: 2, message: Message { kind, answer: false, fields: vec![] } }
    }

    fn elected(node: NodeNumber) -> Record {
        record(node, What::Node(Event::Role { role: Role::Leader, term: 1, leader: None }))
    }

    fn absorb(feed: &mut Feed, records: Vec<Record>) {
        feed.absorb(&Frame { records, ..Frame::default() });
    }

    #[test]
    fn heartbeats_are_folded_and_hidden() {
        let mut feed = Feed::default();
        absorb(&mut feed, (0..5).map(|_| record(1, sent(MessageKind::Heartbeat))).collect());
        assert!(feed.lines(&Filter::default()).is_empty());
        let all = Filter { topics: Topic::ALL.to_vec(), node: None };
        let lines = feed.lines(&all);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].text, "5 heartbeats and answers.");
    }

    #[test]
    fn messages_do_not_push_the_story_out() {
        let mut feed = Feed::default();
        absorb(&mut feed, vec![elected(3)]);
        absorb(&mut feed, (0..5000).map(|_| record(1, sent(MessageKind::Append))).collect());
        assert_eq!(feed.lines(&Filter::default()).len(), 1);
        let all = Filter { topics: Topic::ALL.to_vec(), node: None };
        assert_eq!(feed.lines(&all).len(), NOISE_MAX + 1);
    }

    #[test]
    fn an_election_is_told_once() {
        let lab = Lab {
            nodes: vec![NodeView { id: 1, member: 7, ..NodeView::default() }],
            ..Lab::default()
        };
        let node = |event| record(1, What::Node(event));
        let role = |role, leader| node(Event::Role { role, term: 2, leader });
        let voted = |committed| node(Event::Voted { term: 2, candidate: 7, committed });
        let records = vec![
            role(Role::Learner, None),
            voted(false),
            role(Role::Candidate, None),
            voted(true),
            role(Role::Leader, Some(7)),
        ];
        let mut feed = Feed::default();
        feed.absorb(&Frame { lab, records, ..Frame::default() });
        let told: Vec<_> =
            feed.lines(&Filter::default()).iter().map(|line| line.text.clone()).collect();
        let story =
            ["Node 1 stands for election in term 2.", "Node 1 is elected leader of term 2."];
        assert_eq!(told, story);
    }

    #[test]
    fn lines_can_be_those_of_one_node() {
        let mut feed = Feed::default();
        absorb(&mut feed, vec![elected(1), elected(2)]);
        let only = Filter { node: Some(2), ..Filter::default() };
        assert_eq!(feed.lines(&only).len(), 1);
    }
}
