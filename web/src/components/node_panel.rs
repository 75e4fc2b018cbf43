//! The panel of a node: what it knows, and what can be done to it.

use coracle_core::trace::Role;
use coracle_worker::protocol::{Action, Condition, NodeNumber, NodeView};
use yew::prelude::*;

use crate::hooks::{use_desk, use_slice};
use crate::state::Selection;
use crate::words;

#[derive(Properties, PartialEq)]
pub(crate) struct Props {
    pub(crate) node: NodeNumber,
}

#[component]
pub(crate) fn NodePanel(props: &Props) -> Html {
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
                        Condition::Up => words::role(view.role),
                        ref other => words::condition(other),
                    } }
                </span>
            </h2>
            <p>{ condition }</p>
            <Actions view={view.clone()} />
            <Facts {view} />
        </div>
    }
}

#[derive(Properties, PartialEq)]
struct ViewProps {
    view: NodeView,
}

#[component]
fn Actions(props: &ViewProps) -> Html {
    let desk = use_desk();
    let view = &props.view;
    let node = view.id;
    let button = |id: &'static str, label: &'static str, title: &'static str, action: Action| {
        let desk = desk.clone();
        let onclick = Callback::from(move |_| desk.act(action.clone()));
        html! { <button data-testid={format!("action-{id}")} {title} {onclick}>{ label }</button> }
    };
    let is_down = matches!(view.condition, Condition::Down | Condition::Stopped(_));
    let is_paused = view.condition == Condition::Paused;
    let clock = f64::from(view.clock_permille) / 1000.0;
    html! {
        <>
            <div class="actions">
                if is_down {
                    { button("restart", "Start again", "With the disk it has (c)",
                        Action::Restart(node)) }
                } else {
                    { button("crash", "Crash", "As kill -9 does (c)", Action::Crash(node)) }
                }
                if is_paused {
                    { button("resume", "Go on", "Where it was (p)", Action::Resume(node)) }
                } else if !is_down {
                    { button("pause", "Pause", "As a long garbage collection (p)",
                        Action::Pause(node)) }
                }
                { button("isolate", "Isolate", "Cuts all its links (i)", Action::Isolate(node)) }
                if !is_down && view.role != Role::Leader {
                    { button("elect", "Stand for election", "Now (e)", Action::Elect(node)) }
                    { button("transfer", "Make it the leader", "The leader hands over (l)",
                        Action::Transfer(node)) }
                }
            </div>
            <h3>{ "Disk and clock" }</h3>
            <div class="actions">
                { button("lose-disk", "Lose the disk", "It comes back as a new member (d)",
                    Action::LoseDisk(node)) }
                { button("tear-log", "Tear the log's end",
                    "Its last record is cut short, as by a power loss", Action::TearLog(node)) }
                { button("corrupt-log", "Flip a bit in the log", "In the middle",
                    Action::CorruptLog(node)) }
                { button("fill-disk", if view.disk_full { "Make room on the disk" } else {
                    "Fill the disk" }, "Writes fail (f)", Action::FillDisk(node, !view.disk_full)) }
                if view.disk_latency_us < 50_000 {
                    { button("slow-disk", "Slow the disk", "A sync takes 80 ms",
                        Action::SlowDisk(node, 80.0)) }
                } else {
                    { button("fast-disk", "Fast disk again", "A sync takes half a millisecond",
                        Action::SlowDisk(node, 0.5)) }
                }
                { button("clock-fast", "Clock too fast", "Half as fast again",
                    Action::SkewClock(node, 1.5)) }
                { button("clock-slow", "Clock too slow", "Half the speed",
                    Action::SkewClock(node, 0.5)) }
                if (clock - 1.0).abs() > 1e-6 {
                    { button("clock-right", "Set the clock right", "", Action::SkewClock(node, 1.0)) }
                }
            </div>
            <h3>{ "Membership" }</h3>
            <div class="actions">
                if view.role == Role::Learner {
                    { button("promote", "Give it a vote", "The learner becomes a voter (v)",
                        Action::Promote(node)) }
                }
                { button("remove", "Remove from the cluster", "By a change of membership (Delete)",
                    Action::RemoveNode(node)) }
            </div>
        </>
    }
}

#[component]
fn Facts(props: &ViewProps) -> Html {
    let desk = use_desk();
    let view = &props.view;
    let others = use_slice(view.id, |state, node| {
        state.ring().into_iter().filter(|other| other != node).collect::<Vec<_>>()
    });
    let row =
        |name: &'static str, value: String| html! { <><dt>{ name }</dt><dd>{ value }</dd></> };
    let nobody = || "nobody".to_string();
    let votes: Vec<_> = view.votes.iter().map(ToString::to_string).collect();
    let link = |other: &NodeNumber| {
        let (desk, a, b) = (desk.clone(), view.id.min(*other), view.id.max(*other));
        let onclick = Callback::from(move |_| desk.select(Some(Selection::Link(a, b))));
        html! { <button {onclick}>{ format!("to {other}") }</button> }
    };
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
                { row("member", format!("{:x}", view.member)) }
            </dl>
            <h3>{ "Its links" }</h3>
            <div class="actions">{ for others.iter().map(link) }</div>
        </>
    }
}
