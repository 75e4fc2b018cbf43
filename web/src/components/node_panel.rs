//! The panel of a node: what it knows, and what can be done to it.

use coracle_core::trace::Role;
use coracle_worker::protocol::{Action, Condition, NodeNumber, NodeView};
use yew::prelude::*;

use crate::hooks::{Desk, use_desk, use_slice};
use crate::state::Selection;
use crate::words;

#[derive(Properties, PartialEq)]
pub(crate) struct Props {
    pub(crate) node: NodeNumber,
}

#[component]
pub(crate) fn NodePanel(props: &Props) -> Html {
    let desk = use_desk();
    let nodes = use_slice((), |state, ()| state.ring());
    let view = use_slice(props.node, |state, node| {
        // The timer is drawn as an arc, at every frame: here it would only flicker.
        state.node(*node).map(|view| NodeView { election: None, ..view.clone() })
    });
    let Some(view) = view else { return html! {} };
    let about = match view.role {
        Role::Leader => "Takes all writes, and sends them to the others.",
        Role::Candidate => "Asks the others for their votes.",
        Role::Follower => "Does what the leader says, as long as it hears from one.",
        Role::Learner => "Gets all entries, but has no vote yet.",
    };
    let condition = match &view.condition {
        Condition::Up => about.to_string(),
        Condition::Starting => "Its worker is being made.".into(),
        Condition::Paused => "It stands still, and does not know it.".into(),
        Condition::Down => "It is crashed: what it wrote stays, what it knew is gone.".into(),
        Condition::Stopped(reason) => format!("It stopped by itself: {reason}"),
        Condition::Removed => "It was removed from the cluster.".into(),
    };
    html! {
        <div class="inspect" data-testid="node-panel" data-node={view.id.to_string()}>
            <h2>{ words::node_first(view.id) }
                <span class={classes!("role", format!("is-{}", words::condition(&view.condition)))}>
                    { match view.condition {
                        Condition::Up => view.role.name(),
                        ref other => words::condition(other),
                    } }
                </span>
            </h2>
            <p>{ condition }</p>
            { actions(&desk, &view) }
            { facts(&view) }
            { disk_and_clock(&desk, &view) }
            { links(&desk, view.id, &nodes) }
        </div>
    }
}

/// A button for an action: its hook for tests, what it is called, and what that means.
fn button(
    desk: &Desk,
    (id, label, title): (&'static str, &'static str, &'static str),
    action: Action,
) -> Html {
    let desk = desk.clone();
    let onclick = Callback::from(move |_| desk.act(action.clone()));
    html! { <button data-testid={format!("action-{id}")} {title} {onclick}>{ label }</button> }
}

fn actions(desk: &Desk, view: &NodeView) -> Html {
    let node = view.id;
    let is_down = matches!(view.condition, Condition::Down | Condition::Stopped(_));
    let is_paused = view.condition == Condition::Paused;
    let one = |words, action| button(desk, words, action);
    html! {
        <div class="actions">
            if is_down {
                { one(("restart", "Start again", "With the disk it has (c)"),
                    Action::Restart(node)) }
            } else {
                { one(("crash", "Crash", "As kill -9 does (c)"), Action::Crash(node)) }
            }
            if is_paused {
                { one(("resume", "Go on", "Where it was (p)"), Action::Resume(node)) }
            } else if !is_down {
                { one(("pause", "Pause", "As a long garbage collection (p)"),
                    Action::Pause(node)) }
            }
            { one(("isolate", "Isolate", "Cuts all its links (i)"), Action::Isolate(node)) }
            if !is_down && view.role != Role::Leader {
                { one(("elect", "Stand for election", "Now (e)"), Action::Elect(node)) }
                { one(("transfer", "Make it the leader", "The leader hands over (l)"),
                    Action::Transfer(node)) }
            }
            if view.role == Role::Learner {
                { one(("promote", "Give it a vote", "The learner becomes a voter (v)"),
                    Action::Promote(node)) }
            }
            { one(("remove", "Remove from the cluster", "By a change of membership (Delete)"),
                Action::RemoveNode(node)) }
        </div>
    }
}

fn disk_and_clock(desk: &Desk, view: &NodeView) -> Html {
    let node = view.id;
    let one = |words, action| button(desk, words, action);
    let fill = if view.disk_full { "Make room on the disk" } else { "Fill the disk" };
    html! {
        <>
            <h3>{ "Disk and clock" }</h3>
            <div class="actions">
                { one(("lose-disk", "Lose the disk", "It comes back as a new member (d)"),
                    Action::LoseDisk(node)) }
                { one(("tear-log", "Tear the log's end",
                    "Its last record is cut short, as by a power loss"), Action::TearLog(node)) }
                { one(("corrupt-log", "Flip a bit in the log", "In the middle"),
                    Action::CorruptLog(node)) }
                { one(("fill-disk", fill, "Writes fail (f)"),
                    Action::FillDisk(node, !view.disk_full)) }
                if view.disk_latency_us < 50_000 {
                    { one(("slow-disk", "Slow the disk", "A sync takes 80 ms"),
                        Action::SlowDisk(node, 80.0)) }
                } else {
                    { one(("fast-disk", "Fast disk again", "A sync takes half a millisecond"),
                        Action::SlowDisk(node, 0.5)) }
                }
                { one(("clock-fast", "Clock too fast", "Half as fast again"),
                    Action::SkewClock(node, 1.5)) }
                { one(("clock-slow", "Clock too slow", "Half the speed"),
                    Action::SkewClock(node, 0.5)) }
                if view.clock_permille != 1000 {
                    { one(("clock-right", "Set the clock right", "To the true speed"),
                        Action::SkewClock(node, 1.0)) }
                }
            </div>
        </>
    }
}

fn facts(view: &NodeView) -> Html {
    let row =
        |name: &'static str, value: String| html! { <><dt>{ name }</dt><dd>{ value }</dd></> };
    let nobody = || "nobody".to_string();
    let votes: Vec<_> = view.votes.iter().map(ToString::to_string).collect();
    html! {
        <>
            <h3>{ "What it knows" }</h3>
            <dl class="facts">
                { row("term", view.term.to_string()) }
                { row("leader", view.leader.map_or_else(nobody, words::node)) }
                { row("voted for", view.voted_for.map_or_else(nobody, words::node)) }
                if !votes.is_empty() { { row("votes from", votes.join(", ")) } }
                { row("last entry", view.last_index.to_string()) }
                { row("committed", view.commit.to_string()) }
                { row("applied", view.applied.to_string()) }
                { row("revision", view.revision.to_string()) }
                <dt class="is-long">{ "member" }</dt>
                <dd class="is-long">{ format!("{:x}", view.member) }</dd>
            </dl>
        </>
    }
}

/// The way to its links for those without a pointer.
fn links(desk: &Desk, node: NodeNumber, nodes: &[NodeNumber]) -> Html {
    let others = nodes.iter().filter(|other| **other != node);
    let link = |other: &NodeNumber| {
        let (desk, a, b) = (desk.clone(), node.min(*other), node.max(*other));
        let onclick = Callback::from(move |_| desk.select(Some(Selection::Link(a, b))));
        html! { <button {onclick}>{ format!("to {other}") }</button> }
    };
    html! {
        <>
            <h3>{ "Its links" }</h3>
            <div class="actions">{ for others.map(link) }</div>
        </>
    }
}
