//! What the shapes on the canvas mean.

use coracle_worker::protocol::MessageKind;
use yew::prelude::*;

use crate::hooks::{use_desk, use_slice};
use crate::state::Msg;
use crate::{dom, shapes, words};

#[derive(Properties, PartialEq)]
pub(crate) struct GlyphProps {
    pub(crate) kind: MessageKind,
    #[prop_or_default]
    pub(crate) answer: bool,
}

/// The shape of a kind of message, as the canvas draws it.
#[component]
pub(crate) fn Glyph(props: &GlyphProps) -> Html {
    let color = format!("var({})", shapes::color(props.kind));
    let fill = if props.answer { "none".into() } else { color.clone() };
    html! {
        <svg class="glyph" viewBox="-2 -2 4 4" aria-hidden="true">
            <path d={shapes::message(props.kind)} {fill} stroke={color} stroke-width=".3" />
        </svg>
    }
}

#[component]
pub(crate) fn Legend() -> Html {
    let desk = use_desk();
    let heartbeats = use_slice((), |state, ()| state.heartbeats);
    let onchange =
        Callback::from(move |event: Event| desk.dispatch(Msg::Heartbeats(dom::is_checked(&event))));
    let entry = |kind: MessageKind| {
        let (name, about) = words::kind(kind);
        html! { <li title={about}><Glyph {kind} />{ name }</li> }
    };
    html! {
        <div class="legend">
            <label class="tick">
                <input type="checkbox" data-testid="heartbeats" checked={heartbeats} {onchange} />
                { "Heartbeats" }
            </label>
            <details>
                <summary>{ "What the shapes mean" }</summary>
                <div class="legend-text">
                    <ul class="legend-kinds">{ for shapes::KINDS.into_iter().map(entry) }</ul>
                    <p class="faint">
                        { "Full: a request. Hollow: the answer. A cross: lost. A node's colour is its \
                           term; the arc around it fills until it stands for election. Messages that \
                           would be too fast to see are shown a little longer than they travel." }
                    </p>
                </div>
            </details>
        </div>
    }
}
