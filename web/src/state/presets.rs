//! Little dramas: sequences of actions, played in virtual time.
//!
//! A preset looks at the laboratory at every frame and says what to do next, so that it follows
//! whoever leads just then. The engine records the actions like those of a visitor.

use coracle_core::trace::Role;
use coracle_worker::protocol::{Action, Condition, Lab, MILLISECOND, Nanos, NodeNumber};

/// How often the flapping leader is cut off.
const FLAPS: u32 = 4;
const CUT_OFF: Nanos = 2_500 * MILLISECOND;
const CONNECTED: Nanos = 2_000 * MILLISECOND;
/// How long a node is down in a rolling restart, and how long it may take to come back.
const DOWN: Nanos = 700 * MILLISECOND;
const RECOVERY: Nanos = 1_500 * MILLISECOND;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preset {
    /// The leader alone, or with too few: it cannot commit; the majority elects another.
    LeaderInMinority,
    /// The leader keeps the majority.
    LeaderInMajority,
    FlappingLeader,
    RollingRestart,
}

impl Preset {
    pub(crate) const ALL: [Preset; 4] = [
        Preset::LeaderInMinority,
        Preset::LeaderInMajority,
        Preset::FlappingLeader,
        Preset::RollingRestart,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Preset::LeaderInMinority => "Leader in a minority",
            Preset::LeaderInMajority => "Leader in the majority",
            Preset::FlappingLeader => "Flapping leader",
            Preset::RollingRestart => "Rolling restart",
        }
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Preset::LeaderInMinority => {
                "Cuts the leader off with too few: it goes on believing, the others elect anew."
            }
            Preset::LeaderInMajority => {
                "Cuts some followers off: writes go on without them, their reads become stale."
            }
            Preset::FlappingLeader => "Whoever leads is cut off and comes back, four times.",
            Preset::RollingRestart => "Restarts all nodes one by one, as an upgrade does.",
        }
    }

    /// A name for tests and identifiers.
    pub(crate) fn id(self) -> &'static str {
        match self {
            Preset::LeaderInMinority => "minority",
            Preset::LeaderInMajority => "majority",
            Preset::FlappingLeader => "flapping",
            Preset::RollingRestart => "rolling",
        }
    }
}

/// A preset that plays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Playing {
    pub(crate) preset: Preset,
    /// What happens next, and not before when.
    next: Next,
    at: Nanos,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Next {
    Partition,
    CutLeader { left: u32 },
    Reconnect { node: NodeNumber, left: u32 },
    Crash { left: Vec<NodeNumber> },
    Restart { node: NodeNumber, left: Vec<NodeNumber> },
    End,
}

impl Playing {
    pub(crate) fn new(preset: Preset, lab: &Lab) -> Playing {
        let next = match preset {
            Preset::LeaderInMinority | Preset::LeaderInMajority => Next::Partition,
            Preset::FlappingLeader => Next::CutLeader { left: FLAPS },
            // Followers first and the leader last: one change of leader instead of many.
            Preset::RollingRestart => {
                let leader = leader(lab);
                let mut left = up(lab);
                left.retain(|node| Some(*node) != leader);
                left.extend(leader);
                left.reverse();
                Next::Crash { left }
            }
        };
        Playing { preset, next, at: lab.time }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.next == Next::End
    }

    /// What is to be done now.
    pub(crate) fn advance(&mut self, lab: &Lab) -> Vec<Action> {
        if lab.time < self.at {
            return Vec::new();
        }
        match self.next.clone() {
            Next::Partition => {
                let Some(groups) = groups(lab, self.preset == Preset::LeaderInMajority) else {
                    return Vec::new();
                };
                self.next = Next::End;
                vec![Action::Partition(groups)]
            }
            Next::CutLeader { left: 0 } => {
                self.next = Next::End;
                Vec::new()
            }
            Next::CutLeader { left } => {
                let Some(node) = leader(lab) else { return Vec::new() };
                self.then(Next::Reconnect { node, left: left - 1 }, lab.time + CUT_OFF);
                vec![Action::Isolate(node)]
            }
            Next::Reconnect { node, left } => {
                self.then(Next::CutLeader { left }, lab.time + CONNECTED);
                let others = lab.nodes.iter().filter(|other| other.id != node);
                others.map(|other| Action::Mend(node, other.id)).collect()
            }
            Next::Crash { mut left } => {
                // Never a second one while somebody is still missing.
                let Some(node) = left.pop() else {
                    self.next = Next::End;
                    return Vec::new();
                };
                self.then(Next::Restart { node, left }, lab.time + DOWN);
                vec![Action::Crash(node)]
            }
            Next::Restart { node, left } => {
                self.then(Next::Crash { left }, lab.time + RECOVERY);
                vec![Action::Restart(node)]
            }
            Next::End => Vec::new(),
        }
    }

    fn then(&mut self, next: Next, at: Nanos) {
        self.next = next;
        self.at = at;
    }
}

/// The leader that the newest term has.
pub(crate) fn leader(lab: &Lab) -> Option<NodeNumber> {
    let up = lab.nodes.iter().filter(|node| node.condition == Condition::Up);
    let leaders = up.filter(|node| node.role == Role::Leader);
    leaders.max_by_key(|node| node.term).map(|node| node.id)
}

fn up(lab: &Lab) -> Vec<NodeNumber> {
    let up = lab.nodes.iter().filter(|node| node.condition == Condition::Up);
    up.map(|node| node.id).collect()
}

/// Two groups: the leader with a majority, or with as many as can be without being one.
fn groups(lab: &Lab, leader_in_majority: bool) -> Option<Vec<Vec<NodeNumber>>> {
    let leader = leader(lab)?;
    let present = lab.nodes.iter().filter(|node| node.condition != Condition::Removed);
    let others: Vec<_> = present.map(|node| node.id).filter(|node| *node != leader).collect();
    let majority = others.len().div_ceil(2) + 1;
    let companions = match leader_in_majority {
        true => majority - 1,
        false => (others.len() + 1).saturating_sub(majority).saturating_sub(1),
    };
    let (with, without) = others.split_at(companions.min(others.len()));
    Some(vec![[&[leader], with].concat(), without.to_vec()])
}

#[cfg(test)]
mod tests {
    use coracle_worker::protocol::NodeView;

    use super::*;

    fn lab(count: NodeNumber, leader: NodeNumber, time: Nanos) -> Lab {
        let node = |id| NodeView {
            id,
            condition: Condition::Up,
            role: if id == leader { Role::Leader } else { Role::Follower },
            ..NodeView::default()
        };
        Lab { time, nodes: (1..=count).map(node).collect(), ..Lab::default() }
    }

    #[test]
    fn partitions_follow_the_leader() {
        let five = lab(5, 4, 0);
        let acts = Playing::new(Preset::LeaderInMinority, &five).advance(&five);
        assert_eq!(acts, [Action::Partition(vec![vec![4, 1], vec![2, 3, 5]])]);
        let acts = Playing::new(Preset::LeaderInMajority, &five).advance(&five);
        assert_eq!(acts, [Action::Partition(vec![vec![4, 1, 2], vec![3, 5]])]);
    }

    #[test]
    fn a_partition_waits_for_a_leader() {
        let mut playing = Playing::new(Preset::LeaderInMinority, &lab(3, 0, 0));
        assert!(playing.advance(&lab(3, 0, 1)).is_empty() && !playing.is_over());
        assert_eq!(playing.advance(&lab(3, 1, 2)).len(), 1);
        assert!(playing.is_over());
    }

    #[test]
    fn the_flapping_leader_is_whoever_leads() {
        let mut playing = Playing::new(Preset::FlappingLeader, &lab(3, 1, 0));
        assert_eq!(playing.advance(&lab(3, 1, 0)), [Action::Isolate(1)]);
        assert!(playing.advance(&lab(3, 2, CUT_OFF / 2)).is_empty());
        let mended = playing.advance(&lab(3, 2, CUT_OFF));
        assert_eq!(mended, [Action::Mend(1, 2), Action::Mend(1, 3)]);
        assert_eq!(playing.advance(&lab(3, 2, CUT_OFF + CONNECTED)), [Action::Isolate(2)]);
    }

    #[test]
    fn a_rolling_restart_takes_the_leader_last() {
        let mut playing = Playing::new(Preset::RollingRestart, &lab(3, 2, 0));
        let mut acts = Vec::new();
        for step in 0..100 {
            acts.extend(playing.advance(&lab(3, 2, step * 300 * MILLISECOND)));
        }
        let order = [1, 1, 3, 3, 2, 2].iter().enumerate().map(|(index, node)| match index % 2 {
            0 => Action::Crash(*node),
            _ => Action::Restart(*node),
        });
        assert_eq!(acts, order.collect::<Vec<_>>());
        assert!(playing.is_over());
    }
}
