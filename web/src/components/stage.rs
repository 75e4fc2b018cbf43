//! The ring: nodes, links, and the canvas over them on which messages travel.
//!
//! Clicks and drags are decided here, for all of it: a dot lies over a link, and a drag ends on
//! another node than it began.

use coracle_worker::protocol::{Action, CLIENT, NodeNumber};
use yew::prelude::*;

use super::legend::Legend;
use super::link::LinkShape;
use super::messages::Messages;
use super::node::NodeShape;
use crate::dom;
use crate::hooks::{Desk, use_desk, use_slice};
use crate::paint::CANVAS;
use crate::state::geometry::{Geometry, Point};
use crate::state::presets;
use crate::state::{Msg, Selection};
use crate::words;

const AREA: &str = "stage-area";
const RUBBER: &str = "rubber";
/// A pointer that moves less than this has clicked, not dragged.
const DRAG_MIN: f64 = 12.0;
/// A ring that is as wide has room for a sentence in its middle.
const INVITATION_ROOM: f64 = 480.0;
/// How near to a dot a click has to be, with a pointer and with a finger.
const REACH: (f64, f64) = (12.0, 24.0);

/// A drag that began on a node.
#[derive(Clone, Copy, Default)]
struct Drag {
    from: Option<NodeNumber>,
    start: Point,
    is_moved: bool,
    is_touch: bool,
}

#[component]
pub(crate) fn Stage() -> Html {
    let desk = use_desk();
    let caption = use_slice((), |state, ()| match state.fatal.is_some() {
        true => "The cluster does not run.".into(),
        false => words::situation(&state.lab),
    });
    use_effect_with((), {
        let desk = desk.clone();
        move |()| {
            let tell = move |width, height| desk.dispatch(Msg::Resized(width, height));
            let watch = dom::SizeWatch::new(AREA, tell);
            move || drop(watch)
        }
    });
    let drag = use_mut_ref(Drag::default);
    let down = {
        let (desk, drag) = (desk.clone(), drag.clone());
        Callback::from(move |event: PointerEvent| *drag.borrow_mut() = begin(&desk, &event))
    };
    let moved = {
        let (desk, drag) = (desk.clone(), drag.clone());
        Callback::from(move |event: PointerEvent| follow(&desk, &mut drag.borrow_mut(), &event))
    };
    let up = {
        let (desk, drag) = (desk.clone(), drag.clone());
        Callback::from(move |event: PointerEvent| end(&desk, &mut drag.borrow_mut(), &event))
    };
    let click = {
        let (desk, drag) = (desk.clone(), drag.clone());
        Callback::from(move |event: MouseEvent| {
            let Drag { is_moved, is_touch, .. } = drag.take();
            if !is_moved {
                clicked(&desk, &event, is_touch);
            }
        })
    };
    html! {
        <section class="stage" aria-label="The cluster">
            <p class="situation" data-testid="situation" aria-live="polite">{ caption }</p>
            <div id={AREA} class="stage-area" onpointerdown={down} onpointermove={moved}
                onpointerup={up} onclick={click}>
                <Ring />
                <canvas id={CANVAS} data-testid="message-canvas" aria-hidden="true" />
                <Invitation />
            </div>
            <footer class="stage-foot"><Legend /><Messages /></footer>
        </section>
    }
}

fn begin(desk: &Desk, event: &PointerEvent) -> Drag {
    let (start, is_touch) = dom::pointer(event, AREA);
    let from = desk.store.read().geometry().node_at(start);
    if from.is_some() {
        dom::capture(event, AREA);
    }
    Drag { from, start, is_moved: false, is_touch }
}

fn follow(desk: &Desk, drag: &mut Drag, event: &PointerEvent) {
    let Some(from) = drag.from else { return };
    let (point, _) = dom::pointer(event, AREA);
    drag.is_moved |= point.distance(drag.start) > DRAG_MIN;
    let center = desk.store.read().geometry().place(from);
    if let Some((line, center)) = dom::element(RUBBER).zip(center).filter(|_| drag.is_moved) {
        let ends = [("x1", center.x), ("y1", center.y), ("x2", point.x), ("y2", point.y)];
        for (name, value) in ends {
            dom::set_attribute(&line, name, &value.to_string());
        }
        dom::set_attribute(&line, "class", "rubber is-drawn");
    }
}

/// Dragging from node to node cuts the link between them, or mends it.
fn end(desk: &Desk, drag: &mut Drag, event: &PointerEvent) {
    let Some(from) = drag.from.take() else { return };
    if let Some(line) = dom::element(RUBBER) {
        dom::set_attribute(&line, "class", "rubber");
    }
    if !drag.is_moved {
        return;
    }
    let (point, _) = dom::pointer(event, AREA);
    let action = {
        let state = desk.store.read();
        let to = state.geometry().node_at(point).filter(|to| *to != from);
        to.map(|to| match state.way(from, to).cut || state.way(to, from).cut {
            true => Action::Mend(from, to),
            false => Action::Cut(from, to),
        })
    };
    if let Some(action) = action {
        desk.act(action);
    }
}

fn clicked(desk: &Desk, event: &MouseEvent, is_touch: bool) {
    let point = dom::mouse(event, AREA);
    let reach = if is_touch { REACH.1 } else { REACH.0 };
    let (node, message) = {
        let state = desk.store.read();
        let ring = state.geometry();
        let now = state.now(dom::now());
        (ring.node_at(point), state.flights.at(point, reach, now, &ring, state.heartbeats))
    };
    let labelled = || dom::marked(event, "data-node").and_then(|node| node.parse().ok());
    if let Some(node) = node {
        desk.select(Some(Selection::Node(node)));
    } else if let Some(message) = message {
        desk.select_message(message);
    } else if let Some(node) = labelled() {
        desk.select(Some(Selection::Node(node)));
    } else if let Some(link) = dom::marked(event, "data-link").and_then(|link| parse_link(&link)) {
        desk.select(Some(link));
    } else {
        desk.select(None);
    }
}

fn parse_link(text: &str) -> Option<Selection> {
    let (a, b) = text.split_once('-')?;
    Some(Selection::Link(a.parse().ok()?, b.parse().ok()?))
}

#[component]
fn Ring() -> Html {
    let (ring, nodes) = use_slice((), |state, ()| (state.geometry(), state.ring()));
    let Geometry { width, height, .. } = ring;
    let pairs = nodes
        .iter()
        .enumerate()
        .flat_map(|(index, a)| nodes[index + 1..].iter().map(move |b| (*a.min(b), *a.max(b))));
    let links = pairs.filter_map(|(a, b)| {
        let (start, end) = (ring.place(a)?, ring.place(b)?);
        let rim = (ring.radius + 8.0) / start.distance(end).max(1.0);
        let (start, end) = (start.towards(end, rim), end.towards(start, rim));
        Some(html! { <LinkShape key={format!("{a}-{b}")} {a} {b} {start} {end} /> })
    });
    let shapes = nodes.iter().filter_map(|node| {
        let at = ring.place(*node)?;
        let Geometry { radius, is_dense, is_crowded, .. } = ring;
        let node = *node;
        Some(html! { <NodeShape key={node} {node} {at} {radius} {is_dense} {is_crowded} /> })
    });
    let client = ring.place(CLIENT).unwrap_or_default();
    html! {
        <svg class="ring" viewBox={format!("0 0 {} {}", width.max(1.0), height.max(1.0))}>
            <g class="links">{ for links }</g>
            <line id={RUBBER} class="rubber" />
            <g class="client" transform={format!("translate({} {})", client.x, client.y)}>
                <rect x="-15" y="-11" width="30" height="22" rx="4" />
                <path d="M-9 -5l5 4.5-5 4.500M0 5h8" />
                <text y="25">{ "client" }</text>
            </g>
            { for shapes }
        </svg>
    }
}

/// What a first visitor can do.
#[component]
fn Invitation() -> Html {
    let (leader, is_center_free) = use_slice((), |state, ()| {
        let leader = (!state.is_greeted).then(|| presets::leader(&state.lab)).flatten();
        let is_wide = state.size.0 >= INVITATION_ROOM;
        (leader, is_wide && state.ring().len() == 3)
    });
    let Some(leader) = leader else { return html! {} };
    let class = classes!("invitation", (!is_center_free).then_some("is-corner"));
    html! {
        <p {class} data-testid="leader-hint" data-node={leader.to_string()}>
            { "Node " }{ leader }{ " won the election." }<br /><b>{ "Click the leader." }</b>
        </p>
    }
}
