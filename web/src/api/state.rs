//! The answer of `state`. Its names are promised to scripts: they change with a reason only.

use coracle_worker::protocol::{Condition, Lab, LinkView, MILLISECOND, NodeNumber, NodeView};
use serde::Serialize;

use crate::words;

#[derive(Serialize)]
pub(super) struct State {
    time_ms: f64,
    paused: bool,
    nodes: Vec<Node>,
    links: Vec<Link>,
    violations: Vec<String>,
}

/// JavaScript's numbers end at 2^53: what may be larger is a decimal string.
#[derive(Serialize)]
struct Node {
    id: NodeNumber,
    up: bool,
    condition: &'static str,
    role: &'static str,
    term: String,
    leader: Option<NodeNumber>,
    last_index: String,
    commit: String,
    applied: String,
    revision: String,
    store_hash: Option<u32>,
    disk_full: bool,
    disk_latency_ms: f64,
    clock_rate: f64,
}

#[derive(Serialize)]
struct Link {
    from: NodeNumber,
    to: NodeNumber,
    cut: bool,
    /// What is its own and not the network's.
    network: Option<Network>,
}

#[derive(Serialize)]
struct Network {
    delay_ms: f64,
    jitter_ms: f64,
    loss: f64,
    duplicate: f64,
}

impl State {
    pub(super) fn of(lab: &Lab) -> State {
        State {
            time_ms: lab.time as f64 / MILLISECOND as f64,
            paused: lab.is_paused(),
            nodes: lab.nodes.iter().map(Node::of).collect(),
            links: lab.links.iter().map(Link::of).collect(),
            violations: lab.violations.clone(),
        }
    }
}

impl Node {
    fn of(node: &NodeView) -> Node {
        Node {
            id: node.id,
            up: node.condition == Condition::Up,
            condition: words::condition(&node.condition),
            role: node.role.name(),
            term: node.term.to_string(),
            leader: node.leader,
            last_index: node.last_index.to_string(),
            commit: node.commit.to_string(),
            applied: node.applied.to_string(),
            revision: node.revision.to_string(),
            store_hash: node.store_hash,
            disk_full: node.disk_full,
            disk_latency_ms: f64::from(node.disk_latency_us) / 1e3,
            clock_rate: f64::from(node.clock_permille) / 1e3,
        }
    }
}

impl Link {
    fn of(link: &LinkView) -> Link {
        let network = link.own.map(|own| Network {
            delay_ms: f64::from(own.delay_us) / 1e3,
            jitter_ms: f64::from(own.jitter_us) / 1e3,
            loss: f64::from(own.loss_ppm) / 1e6,
            duplicate: f64::from(own.duplicate_ppm) / 1e6,
        });
        Link { from: link.from, to: link.to, cut: link.cut, network }
    }
}

#[cfg(test)]
mod tests {
    use coracle_core::trace::Role;

    use super::*;

    #[test]
    fn names_and_types_are_those_of_the_documentation() {
        let node = NodeView {
            id: 1,
            condition: Condition::Up,
            role: Role::Leader,
            term: u64::MAX,
            leader: Some(1),
            store_hash: Some(7),
            disk_latency_us: 500,
            clock_permille: 1500,
            ..NodeView::default()
        };
        let own = Some(coracle_worker::protocol::Network::default());
        let links = vec![LinkView { from: 1, to: 2, cut: true, own }];
        let lab = Lab { time: 1_500_000, nodes: vec![node], links, ..Lab::default() };
        let text = serde_json::to_string(&State::of(&lab)).unwrap();
        assert_eq!(
            text,
            r#"{"time_ms":1.5,"paused":true,"nodes":[{"id":1,"up":true,"condition":"up","#
                .to_owned()
                + r#""role":"leader","term":"18446744073709551615","leader":1,"last_index":"0","#
                + r#""commit":"0","applied":"0","revision":"0","store_hash":7,"disk_full":false,"#
                + r#""disk_latency_ms":0.5,"clock_rate":1.5}],"links":[{"from":1,"to":2,"#
                + r#""cut":true,"network":{"delay_ms":10.0,"jitter_ms":4.0,"loss":0.0,"#
                + r#""duplicate":0.0}}],"violations":[]}"#
        );
    }
}
