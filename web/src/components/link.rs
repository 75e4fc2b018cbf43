//! A link between two nodes: whole, cut both ways or one way, or with a behaviour of its own.

use coracle_worker::protocol::{LinkView, NodeNumber};
use yew::prelude::*;

use crate::hooks::{use_desk, use_slice};
use crate::shapes;
use crate::state::Selection;
use crate::state::geometry::Point;

#[derive(Properties, PartialEq)]
pub(crate) struct Props {
    /// The smaller number.
    pub(crate) a: NodeNumber,
    pub(crate) b: NodeNumber,
    pub(crate) start: Point,
    pub(crate) end: Point,
}

#[component]
pub(crate) fn LinkShape(props: &Props) -> Html {
    let desk = use_desk();
    let Props { a, b, start, end } = *props;
    let (there, back, is_selected) = use_slice((a, b), |state, (a, b)| {
        let is_selected = state.selection == Some(Selection::Link(*a, *b));
        (state.way(*a, *b), state.way(*b, *a), is_selected)
    });
    let condition = condition(there, back);
    let own = there.own.or(back.own);
    let mut class = classes!("link", format!("is-{condition}"));
    class.extend(own.map(|_| "is-own"));
    class.extend(is_selected.then_some("is-selected"));
    let onkeydown = Callback::from(move |event: KeyboardEvent| {
        if event.key() == "Enter" {
            desk.select(Some(Selection::Link(a, b)));
        }
    });
    let middle = start.towards(end, 0.5);
    let line = |class: &'static str, from: Point, to: Point| {
        let [x1, y1, x2, y2] = [from.x, from.y, to.x, to.y].map(|value| value.to_string());
        html! { <line {class} {x1} {y1} {x2} {y2} /> }
    };
    let label = format!("Link between nodes {a} and {b}, {condition}");
    html! {
        <g {class} role="button" tabindex="0" aria-label={label} data-link={format!("{a}-{b}")}
            data-testid={format!("link-{a}-{b}")} data-condition={condition} {onkeydown}>
            { line("link-hit", start, end) }
            if there.cut && back.cut {
                { line("link-line", start, start.towards(end, 0.44)) }
                { line("link-line", end, end.towards(start, 0.44)) }
            } else {
                { line("link-line", start, end) }
            }
            { mark(there, back, start, end) }
            if own.is_some() {
                <circle class="link-own" r="5" cx={middle.x.to_string()}
                    cy={middle.y.to_string()} />
            }
        </g>
    }
}

/// In a word; also the hook for tests.
pub(crate) fn condition(there: LinkView, back: LinkView) -> &'static str {
    match (there.cut, back.cut) {
        (true, true) => "cut",
        (true, false) | (false, true) => "one-way",
        (false, false) => "whole",
    }
}

/// A cross in the middle of what is cut; an arrowhead where one direction still works.
fn mark(there: LinkView, back: LinkView, start: Point, end: Point) -> Html {
    let middle = start.towards(end, 0.5);
    let turn = (end.y - start.y).atan2(end.x - start.x).to_degrees();
    let place = |turn: f64, size: f64| {
        format!("translate({} {}) rotate({turn}) scale({size})", middle.x, middle.y)
    };
    match (there.cut, back.cut) {
        (true, true) => {
            html! { <path class="link-cross" d={shapes::CROSS} transform={place(turn, 8.0)} /> }
        }
        (false, false) => html! {},
        (is_back_only, _) => {
            let turn = if is_back_only { turn + 180.0 } else { turn };
            let arrow = "M-.8 -.9L1 0L-.8 .9";
            html! { <path class="link-arrow" d={arrow} transform={place(turn, 9.0)} /> }
        }
    }
}
