//! The trace in plain words: one sentence for each record, for people who are learning.

use coracle_core::trace::{Change, Event, Role};
use coracle_worker::protocol::{
    Action, CLIENT, Condition, Lab, Loss, Message, MessageKind, NetworkChange, NodeNumber,
    NodeView, Record, What,
};

/// Which member is which node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names(Vec<(u64, NodeNumber)>);

impl Names {
    pub(crate) fn of(lab: &Lab) -> Names {
        Names(lab.nodes.iter().map(|node| (node.member, node.id)).collect())
    }

    /// Whether this member is that node.
    pub(crate) fn is(&self, member: u64, node: NodeNumber) -> bool {
        self.0.contains(&(member, node))
    }

    fn member(&self, member: u64) -> String {
        let known = self.0.iter().find(|(id, _)| *id == member);
        known.map_or_else(|| format!("member {member:x}"), |(_, number)| node(*number))
    }

    fn members(&self, members: &[u64]) -> String {
        let mut names: Vec<_> = members.iter().map(|member| self.member(*member)).collect();
        names.sort_unstable();
        list(&names)
    }
}

/// A node by its number, in the middle of a sentence.
pub(crate) fn node(number: NodeNumber) -> String {
    if number == CLIENT { "the client".into() } else { format!("node {number}") }
}

/// The same at the beginning of a sentence.
pub(crate) fn node_first(number: NodeNumber) -> String {
    if number == CLIENT { "The client".into() } else { format!("Node {number}") }
}

/// `a`, `a and b`, `a, b and c`.
fn list(names: &[String]) -> String {
    match names {
        [] => "nobody".into(),
        [only] => only.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

pub(crate) fn condition(condition: &Condition) -> &'static str {
    match condition {
        Condition::Starting => "starting",
        Condition::Up => "up",
        Condition::Paused => "paused",
        Condition::Down => "down",
        Condition::Stopped(_) => "stopped",
        Condition::Removed => "removed",
    }
}

/// A kind of message, and what it is for.
pub(crate) fn kind(kind: MessageKind) -> (&'static str, &'static str) {
    match kind {
        MessageKind::Heartbeat => ("Heartbeat", "The leader shows that it is alive."),
        MessageKind::Append => ("Append", "The leader sends log entries."),
        MessageKind::PreVote => {
            ("Pre-vote", "Would you vote for me? Asked before an election, to disturb nobody.")
        }
        MessageKind::Vote => ("Vote", "A candidate asks for a vote in a new term."),
        MessageKind::Snapshot => ("Snapshot", "The whole state, for one too far behind the log."),
        MessageKind::TransferLeader => ("Handover", "The leader asks another to take over."),
        MessageKind::Propose => ("Proposal", "A follower passes a client's write to the leader."),
        MessageKind::ReadIndex => {
            ("Read index", "A follower asks how far it must have applied before it may answer.")
        }
        MessageKind::Other => ("Other", "Everything else between members."),
        MessageKind::Client => ("Client", "A client's request, or the answer to it."),
    }
}

/// A message in a few words: `Vote`, `answer to Vote`.
pub(crate) fn message(message: &Message) -> String {
    let (name, _) = kind(message.kind);
    if message.answer { format!("{name} answer") } else { name.into() }
}

/// A member of a change of the trace, as a whole sentence.
pub(crate) fn sentence(record: &Record, names: &Names) -> String {
    match &record.what {
        What::Node(event) => event_words(&node_first(record.node), event, names),
        What::Sent { to, message: sent, .. } => {
            let (from, to) = (node_first(record.node), node(*to));
            let fields: Vec<_> =
                sent.fields.iter().take(4).map(|(name, value)| format!("{name} {value}")).collect();
            let fields =
                if fields.is_empty() { "".into() } else { format!(": {}", fields.join(", ")) };
            format!("{from} sends {to} {}{fields}.", article(&message(sent)))
        }
        What::Delivered { from, .. } => {
            format!("A message from {} reaches {}.", node(*from), node(record.node))
        }
        What::Lost { to, why, .. } => {
            let why = match why {
                Loss::Chance => "is lost on the way",
                Loss::Cut => "is lost: the link is cut",
                Loss::Down => "is lost: nobody listens there",
                Loss::Visitor => "was dropped by you",
            };
            format!("A message from {} to {} {why}.", node(record.node), node(*to))
        }
        What::Acted(action) => action_words(action),
        What::Failed(sentence) => format!("That did not work: {sentence}"),
        What::Violation(sentence) => format!("A promise of Raft is broken: {sentence}"),
    }
}

fn article(noun: &str) -> String {
    let vowel = noun.starts_with(['A', 'O', 'E', 'I', 'U']);
    let (first, rest) = noun.split_at(1);
    format!("{} {}{rest}", if vowel { "an" } else { "a" }, first.to_ascii_lowercase())
}

fn event_words(who: &str, event: &Event, names: &Names) -> String {
    match event {
        Event::Started { applied: 0, .. } => format!("{who} starts with an empty disk."),
        Event::Started { applied, revision, .. } => format!(
            "{who} starts; its disk holds revision {revision}, applied up to entry {applied}."
        ),
        Event::Stopped { reason } => format!("{who} stops by itself: {reason}"),
        Event::Role { role, term, leader } => role_words(who, *role, *term, *leader, names),
        Event::ElectionTimeout { millis } => {
            format!("{who} will stand for election after {millis} ms of silence.")
        }
        Event::Voted { term, candidate, committed: false } => {
            format!("{who} votes for {} in term {term}.", names.member(*candidate))
        }
        Event::Voted { term, candidate, committed: true } => {
            format!("{who} accepts {} as the leader of term {term}.", names.member(*candidate))
        }
        Event::Appended { first, last, term } if first == last => {
            format!("{who} adds entry {first} of term {term} to its log.")
        }
        Event::Appended { first, last, term } => {
            format!("{who} adds entries {first} to {last} of term {term} to its log.")
        }
        Event::Truncated { after } => {
            format!("{who} drops its entries after {after}: the leader has others there.")
        }
        Event::Purged { upto } => {
            format!("{who} forgets log entries up to {upto}: a snapshot holds what they did.")
        }
        Event::LogSynced { bytes, .. } => format!("{who} has {bytes} bytes of log safe on disk."),
        Event::Committed { index } => {
            format!("{who} knows that entry {index} is committed: a majority has it.")
        }
        Event::Applied { index, revision, change, .. } => {
            format!("{who} applies entry {index}: {}.", change_words(change, *revision, names))
        }
        Event::ReadIndex { index } => {
            format!("{who} heard from a majority: reads as of entry {index} are up to date.")
        }
        Event::Read { serializable: true, revision } => {
            format!("{who} answers a serializable read at revision {revision}, asking nobody.")
        }
        Event::Read { serializable: false, revision } => {
            format!("{who} answers a linearizable read at revision {revision}.")
        }
        _ => lease_and_watch_words(who, event),
    }
}

fn lease_and_watch_words(who: &str, event: &Event) -> String {
    match event {
        Event::LeaseExpired { id } => format!("{who} finds lease {id:x} expired."),
        Event::LeaseKeptAlive { id, ttl } => format!("{who} prolongs lease {id:x} by {ttl} s."),
        Event::WatchCreated { revision, .. } => {
            format!("{who} has a new watcher; its store is at revision {revision}.")
        }
        Event::WatchCanceled { compact_revision: 0, .. } => format!("{who} ends a watch."),
        Event::WatchCanceled { compact_revision, .. } => format!(
            "{who} ends a watch: it began before revision {compact_revision}, which is compacted."
        ),
        Event::WatchSent { events, revision, .. } => {
            format!("{who} tells a watcher {} up to revision {revision}.", plural(*events, "event"))
        }
        Event::StateFlushed { applied } => {
            format!("{who} has its state durable up to entry {applied}.")
        }
        Event::SnapshotBuilt { index } => {
            format!("{who} takes a snapshot up to entry {index}, to send it.")
        }
        Event::SnapshotInstalled { index } => {
            format!("{who} replaces its state by a snapshot up to entry {index}.")
        }
        _ => format!("{who} does something that has no words yet."),
    }
}

fn role_words(who: &str, role: Role, term: u64, leader: Option<u64>, names: &Names) -> String {
    match (role, leader) {
        (Role::Leader, _) => format!("{who} is elected leader of term {term}."),
        (Role::Candidate, _) => format!("{who} stands for election in term {term}."),
        (Role::Follower, Some(leader)) => {
            format!("{who} follows {} in term {term}.", names.member(leader))
        }
        (Role::Follower, None) => {
            format!("{who} is in term {term} now, and waits to hear who leads it.")
        }
        (Role::Learner, Some(leader)) => {
            format!("{who} learns from {} in term {term}, without a vote.", names.member(leader))
        }
        (Role::Learner, None) if term == 0 => format!("{who} knows of no cluster yet."),
        (Role::Learner, None) => format!("{who} is a learner and hears from no leader."),
    }
}

fn change_words(change: &Change, revision: i64, names: &Names) -> String {
    let at = format!("revision {revision}");
    match change {
        Change::Blank => "the empty entry of a new leader".into(),
        Change::Membership { voters, learners } if learners.is_empty() => {
            format!("the voters are {}", names.members(voters))
        }
        Change::Membership { voters, learners } => format!(
            "the voters are {}, the learners {}",
            names.members(voters),
            names.members(learners)
        ),
        Change::Put { key, lease: 0 } => format!("put {} makes {at}", bytes(key)),
        Change::Put { key, lease } => format!("put {} with lease {lease:x} makes {at}", bytes(key)),
        Change::DeleteRange { key, range_end } if range_end.is_empty() => {
            format!("delete {}, {at}", bytes(key))
        }
        Change::DeleteRange { key, range_end } => {
            format!("delete from {} to {}, {at}", bytes(key), bytes(range_end))
        }
        Change::Txn { operations } => {
            format!("a transaction with {}, {at}", plural(*operations, "operation"))
        }
        Change::Compaction { revision } => format!("history before revision {revision} is dropped"),
        Change::LeaseGrant { id, ttl } => format!("lease {id:x} of {ttl} s is granted"),
        Change::LeaseRevoke { id } => format!("lease {id:x} ends, and its keys with it, {at}"),
        Change::LeaseCheckpoint { leases } => {
            format!("what is left of {} is noted", plural(*leases, "lease"))
        }
        Change::Alarm => "an alarm is raised or cleared".into(),
        Change::MemberAdd { id, learner: true } => {
            format!("{} joins as a learner", names.member(*id))
        }
        Change::MemberAdd { id, .. } => format!("{} joins", names.member(*id)),
        Change::MemberRemove { id } => format!("{} is removed", names.member(*id)),
        Change::MemberUpdate { id } => format!("{} has a new address", names.member(*id)),
        Change::MemberPromote { id } => format!("{} may vote from now on", names.member(*id)),
        Change::MemberPublish { id } => format!("{} tells its name", names.member(*id)),
        Change::Auth => "changes who may do what".into(),
        Change::ClusterVersionSet { version } => {
            format!("the cluster works as version {version}")
        }
        Change::Downgrade { target: Some(version) } => {
            format!("the cluster prepares to go back to version {version}")
        }
        Change::Downgrade { target: None } => "the cluster's downgrade is called off".into(),
        Change::Other => "something else".into(),
    }
}

/// A key, shortened if it is long.
fn bytes(key: &[u8]) -> String {
    const SHORT: usize = 40;
    let text = String::from_utf8_lossy(key);
    let mut quoted = String::from('"');
    for character in text.chars().take(SHORT) {
        match character.is_control() || matches!(character, '"' | '\\') {
            true => quoted.extend(character.escape_default()),
            false => quoted.push(character),
        }
    }
    quoted.push_str(if text.chars().nth(SHORT).is_some() { "…\"" } else { "\"" });
    quoted
}

/// What a visitor did.
pub(crate) fn action_words(action: &Action) -> String {
    match action {
        Action::Crash(n) => {
            format!("You crash node {n}: what it wrote stays, what it knew is gone.")
        }
        Action::Restart(n) => format!("You start node {n} again."),
        Action::Pause(n) => format!("You stop node {n} in the middle of what it does."),
        Action::Resume(n) => format!("You let node {n} go on where it was."),
        Action::Isolate(n) => format!("You cut all links of node {n}."),
        Action::LoseDisk(n) => format!("You take node {n}'s disk away."),
        Action::TearLog(n) => format!("You crash node {n} and tear off the end of its log."),
        Action::CorruptLog(n) => format!("You crash node {n} and flip a bit in its log."),
        Action::FillDisk(n, true) => format!("You fill node {n}'s disk: it cannot write any more."),
        Action::FillDisk(n, false) => format!("You make room on node {n}'s disk."),
        Action::SlowDisk(n, ms) => format!("A sync of node {n}'s disk takes {ms} ms now."),
        Action::SkewClock(n, rate) => {
            format!("Node {n}'s clock runs at {rate} times the true speed.")
        }
        Action::Elect(n) => format!("You tell node {n} to stand for election."),
        Action::Transfer(n) => format!("You ask the leader to hand over to node {n}."),
        Action::Cut(a, b) => format!("You cut the link between nodes {a} and {b}."),
        Action::CutOneWay(a, b) => format!("You cut the way from node {a} to node {b}."),
        Action::Mend(a, b) => format!("You mend the link between nodes {a} and {b}."),
        Action::Link(a, b, change) => {
            format!("The link between nodes {a} and {b} has {} now.", network_words(change))
        }
        Action::Partition(groups) => format!("You divide the network: {}.", groups_words(groups)),
        Action::Network(change) => format!("The network has {} now.", network_words(change)),
        Action::Heal(_) => "You heal everything.".into(),
        Action::AddNode(_) => "You add a node: a learner first, then a voter.".into(),
        Action::AddLearner(_) => "You add a learner: it follows, but has no vote.".into(),
        Action::Promote(n) => format!("You give node {n} a vote."),
        Action::RemoveNode(n) => format!("You remove node {n} from the cluster."),
        Action::DropMessage(_) => "You drop a message.".into(),
        Action::DelayMessage(_, ms) => format!("You delay a message by {ms} ms."),
        Action::Burst(commands) => format!("You run {} commands at once.", commands.len()),
        Action::Exec { line, node: None, .. } => format!("You run: {line}"),
        Action::Exec { line, node: Some(n), .. } => format!("You run on node {n}: {line}"),
        Action::Input { line: Some(line), .. } if line.is_empty() => {
            "You type an empty line.".into()
        }
        Action::Input { line: Some(line), .. } => format!("You type: {line}"),
        Action::Input { line: None, .. } => "You end the input.".into(),
        Action::Interrupt { .. } => "You interrupt a command.".into(),
        Action::Failed { node, reason } => format!("Your browser failed node {node}: {reason}"),
    }
}

fn network_words(change: &NetworkChange) -> String {
    let percent = |chance: f64| format!("{} %", (chance * 1000.0).round() / 10.0);
    let parts = [
        change.delay_ms.map(|ms| format!("a delay of {ms} ms")),
        change.jitter_ms.map(|ms| format!("a jitter of {ms} ms")),
        change.loss.map(|chance| format!("{} of loss", percent(chance))),
        change.duplicate.map(|chance| format!("{} of duplicates", percent(chance))),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "its usual behaviour".into() } else { list(&parts) }
}

fn groups_words(groups: &[Vec<NodeNumber>]) -> String {
    let group = |group: &Vec<NodeNumber>| {
        let names: Vec<_> = group.iter().map(ToString::to_string).collect();
        list(&names)
    };
    groups.iter().map(group).collect::<Vec<_>>().join(" | ")
}

/// What a leader of an older term believes, if there is one; else what the leader does.
fn deposed(lab: &Lab, leader: &NodeView) -> String {
    let older = |node: &&NodeView| {
        let leads = node.role == Role::Leader && node.condition == Condition::Up;
        leads && node.term < leader.term
    };
    match lab.nodes.iter().find(older) {
        Some(node) => format!(
            "Node {} still believes that it leads term {}, but cannot commit anything.",
            node.id, node.term
        ),
        None => "Its heartbeats keep the others from standing for election.".into(),
    }
}

/// What the cluster as a whole is at, in one or two sentences: the caption of the ring.
pub(crate) fn situation(lab: &Lab) -> String {
    let up = |wanted: fn(Role) -> bool| {
        let mut up = lab.nodes.iter().filter(|node| node.condition == Condition::Up);
        up.by_ref().filter(|node| wanted(node.role)).max_by_key(|node| node.term)
    };
    let voters = lab
        .nodes
        .iter()
        .filter(|node| node.condition != Condition::Removed && node.role != Role::Learner);
    let alive = voters.clone().filter(|node| node.condition == Condition::Up).count();
    let (voters, majority) = (voters.count(), lab.nodes.len() / 2 + 1);
    if lab.nodes.iter().all(|node| node.condition == Condition::Starting) {
        return "The nodes are starting. Each waits for a time drawn by lot; the first to wake asks \
                for votes."
            .into();
    }
    let majority = majority.min(voters / 2 + 1);
    if alive < majority {
        return format!(
            "Only {alive} of {voters} voters are up. Without a majority of {majority} nothing can \
             be decided, and nothing that was decided is lost."
        );
    }
    if let Some(leader) = up(|role| role == Role::Leader) {
        let followed = lab.nodes.iter().filter(|node| node.leader == Some(leader.id)).count();
        if followed >= majority {
            return format!(
                "Node {} leads term {}. {}",
                leader.id,
                leader.term,
                deposed(lab, leader)
            );
        }
        return format!(
            "Node {} believes that it leads term {}, but a majority does not follow it: it cannot \
             commit anything.",
            leader.id, leader.term
        );
    }
    if let Some(candidate) = up(|role| role == Role::Candidate) {
        return format!("Node {} stands for election and asks for votes.", candidate.id);
    }
    "No leader. Each node waits for a time drawn by lot; the first whose arc closes asks for votes."
        .into()
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;
