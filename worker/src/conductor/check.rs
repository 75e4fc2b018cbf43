//! Raft's promises, checked on what the nodes do. A broken one is a bug of ours.

use std::collections::BTreeMap;

use coracle_core::trace::{Event, Role};

use crate::protocol::NodeNumber;

/// Applied entries that are remembered to compare nodes with each other.
const REMEMBERED: usize = 20_000;

/// What was seen so far.
#[derive(Default)]
pub(super) struct Checker {
    leaders: BTreeMap<u64, NodeNumber>,
    applied: BTreeMap<u64, (u64, i64)>,
    pub(super) violations: Vec<String>,
}

impl Checker {
    /// Looks at an event of `node`; returns the sentence of a promise that it breaks.
    pub(super) fn look(&mut self, node: NodeNumber, event: &Event) -> Option<String> {
        let broken = match event {
            Event::Role { role: Role::Leader, term, .. } => self.look_at_leader(node, *term),
            Event::Applied { index, term, revision, .. } => {
                self.look_at_applied(node, *index, (*term, *revision))
            }
            _ => None,
        }?;
        self.violations.push(broken.clone());
        Some(broken)
    }

    /// Election safety (Raft paper, figure 3): one leader in a term at most.
    fn look_at_leader(&mut self, node: NodeNumber, term: u64) -> Option<String> {
        let first = *self.leaders.entry(term).or_insert(node);
        (first != node).then(|| format!("nodes {first} and {node} both led in term {term}"))
    }

    /// State machine safety (Raft paper, figure 3): the same entry at an index on all nodes, and,
    /// since applying is deterministic, the same revision after it.
    fn look_at_applied(
        &mut self,
        node: NodeNumber,
        index: u64,
        entry: (u64, i64),
    ) -> Option<String> {
        let first = *self.applied.entry(index).or_insert(entry);
        while self.applied.len() > REMEMBERED {
            self.applied.pop_first();
        }
        (first != entry).then(|| {
            format!(
                "node {node} applied entry {index} of term {} to revision {}, another node of \
                 term {} to revision {}",
                entry.0, entry.1, first.0, first.1
            )
        })
    }
}
