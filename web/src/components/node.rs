//! A node on the ring: its shape is its role, its colour the term, around it the election timer.
//!
//! The arc's length is drawn by [`crate::paint`]; all else changes seldom.

use coracle_core::trace::Role;
use coracle_worker::protocol::{Condition, NodeNumber};
use yew::prelude::*;

use crate::hooks::{use_desk, use_slice};
use crate::paint::{ARC_LENGTH, arc_id};
use crate::state::geometry::Point;
use crate::state::{Selection, State};
use crate::{shapes, words};

/// Colours of terms, after which they begin again.
const TERM_COLORS: u64 = 7;

#[derive(Properties, PartialEq)]
pub(crate) struct Props {
    pub(crate) node: NodeNumber,
    pub(crate) at: Point,
    pub(crate) radius: f64,
    pub(crate) is_dense: bool,
    pub(crate) is_crowded: bool,
}

/// What is shown of a node: all but the timer, which changes at every frame.
#[derive(Clone, PartialEq, Default)]
struct Face {
    condition: Condition,
    role: Role,
    term: u64,
    commit: u64,
    applied: u64,
    revision: i64,
    votes: Vec<NodeNumber>,
    voters: Vec<NodeNumber>,
    troubles: String,
    is_selected: bool,
    is_inviting: bool,
}

fn face(state: &State, node: &NodeNumber) -> Face {
    let Some(view) = state.node(*node) else { return Face::default() };
    let mut troubles = Vec::new();
    if view.disk_full {
        troubles.push("disk full".to_string());
    }
    if view.disk_latency_us >= 5_000 {
        troubles.push(format!("disk {} ms", view.disk_latency_us / 1000));
    }
    if view.clock_permille != 1000 && view.clock_permille != 0 {
        troubles.push(format!("clock ×{}", f64::from(view.clock_permille) / 1000.0));
    }
    let voters = state
        .lab
        .nodes
        .iter()
        .filter(|other| other.role != Role::Learner && other.condition != Condition::Removed);
    Face {
        condition: view.condition.clone(),
        role: view.role,
        term: view.term,
        commit: view.commit,
        applied: view.applied,
        revision: view.revision,
        votes: view.votes.clone(),
        voters: voters.map(|other| other.id).collect(),
        troubles: troubles.join(" · "),
        is_selected: state.selection == Some(Selection::Node(*node)),
        is_inviting: !state.is_greeted,
    }
}

#[component]
pub(crate) fn NodeShape(props: &Props) -> Html {
    let desk = use_desk();
    let Props { node, at, radius, .. } = *props;
    let face = use_slice(node, face);
    let role = face.role.name();
    let condition = words::condition(&face.condition);
    let mut class = classes!(
        "node",
        format!("is-{role}"),
        format!("is-{condition}"),
        format!("term-{}", face.term % TERM_COLORS),
    );
    class.extend(face.is_selected.then_some("is-selected"));
    class.extend(face.is_inviting.then_some("is-inviting"));
    let onkeydown = Callback::from(move |event: KeyboardEvent| {
        if event.key() == "Enter" {
            desk.select(Some(Selection::Node(node)));
        }
    });
    let label = format!(
        "Node {node}, {condition}, {role} in term {}, commit index {}, revision {}",
        face.term, face.commit, face.revision
    );
    let ring = (radius + 7.0).to_string();
    html! {
        <g {class} transform={format!("translate({} {})", at.x, at.y)} role="button" tabindex="0"
            aria-label={label} aria-pressed={face.is_selected.to_string()} {onkeydown}
            data-testid={format!("node-{node}")} data-node={node.to_string()} data-role={role}
            data-condition={condition} data-term={face.term.to_string()}>
            <circle class="node-halo" r={(radius + 13.0).to_string()} />
            <circle class="node-track" r={ring.clone()} />
            <circle class="node-arc" id={arc_id(node)} r={ring} transform="rotate(-90)"
                pathLength={ARC_LENGTH.to_string()} stroke-dasharray={format!("0 {ARC_LENGTH}")} />
            <path class="node-body" d={shapes::role(face.role)}
                transform={format!("scale({radius})")} />
            if face.role == Role::Leader && face.condition == Condition::Up {
                <path class="node-crown" d={shapes::CROWN}
                    transform={format!("translate(0 {}) scale({})", -radius - 15.0, 10.0)} />
            }
            <text class="node-number" y={(-radius * 0.1).to_string()}
                font-size={(radius * 0.62).to_string()}>{ node }</text>
            <text class="node-term" y={(radius * 0.5).to_string()}
                font-size={(radius * 0.29).clamp(8.5, 18.0).to_string()}>
                { format!("term {}", face.term) }
            </text>
            { pips(&face, radius) }
            { badge(&face.condition, radius) }
            { labels(&face, props) }
        </g>
    }
}

/// A candidate's votes: one pip for each voter, full for those who gave theirs.
fn pips(face: &Face, radius: f64) -> Html {
    let is_counting = face.role == Role::Candidate
        || (face.role == Role::Leader && face.voters.iter().any(|node| !face.votes.contains(node)));
    if !is_counting || face.votes.is_empty() || face.condition != Condition::Up {
        return html! {};
    }
    let gap = (radius * 1.25 / face.voters.len().max(4) as f64).min(11.0);
    let first = -gap * (face.voters.len() as f64 - 1.0) / 2.0;
    let pip = |(index, voter): (usize, &NodeNumber)| {
        let class = classes!("pip", face.votes.contains(voter).then_some("is-given"));
        let cx = (first + gap * index as f64).to_string();
        let (cy, r) = ((-radius * 0.66).to_string(), (gap * 0.32).to_string());
        html! { <circle {class} {cx} {cy} {r} /> }
    };
    html! { <g class="pips">{ for face.voters.iter().enumerate().map(pip) }</g> }
}

/// A sign at the shoulder of a node that is not up.
fn badge(condition: &Condition, radius: f64) -> Html {
    let sign = match condition {
        Condition::Up | Condition::Removed => return html! {},
        Condition::Down => shapes::CROSS,
        Condition::Paused => "M-.5 -.8V.8M.5 -.8V.8",
        Condition::Stopped(_) => "M0 -.9V.25M0 .8V.85",
        Condition::Starting => "M.7 -.5A.85 .85 0 1 0 .85 .2",
    };
    let place = format!("translate({} {})", radius * 0.78, -radius * 0.78);
    html! {
        <g class="node-badge" transform={place}>
            <circle r="11" /><path d={sign} transform="scale(5.5)" />
        </g>
    }
}

fn labels(face: &Face, props: &Props) -> Html {
    let name = match &face.condition {
        Condition::Up => face.role.name(),
        condition => words::condition(condition),
    };
    let facts = match (props.is_dense, face.applied == face.commit) {
        (true, _) => format!("rev {}", face.revision),
        (false, true) => format!("commit {} · rev {}", face.commit, face.revision),
        (false, false) => {
            format!("commit {} · applied {} · rev {}", face.commit, face.applied, face.revision)
        }
    };
    let y = props.radius + 24.0;
    let below = if props.is_crowded { 13.0 } else { 27.0 };
    html! {
        <>
            <text class="node-role" y={y.to_string()}>{ name }</text>
            if !props.is_crowded {
                <text class="node-facts" y={(y + 14.0).to_string()}>{ facts }</text>
            }
            if !face.troubles.is_empty() {
                <text class="node-troubles" y={(y + below).to_string()}>{ &face.troubles }</text>
            }
        </>
    }
}
