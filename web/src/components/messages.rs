//! The messages under way as a list of buttons, while time stands still: for those who cannot hit
//! a dot with a pointer.

use coracle_worker::protocol::{Flight, Speed};
use yew::prelude::*;

use super::legend::glyph;
use crate::hooks::{use_desk, use_slice};
use crate::state::Selection;
use crate::{shapes, words};

/// More would be no list to choose from.
const SHOWN_MAX: usize = 24;

#[component]
pub(crate) fn Messages() -> Html {
    let desk = use_desk();
    let (flights, picked) = use_slice((), |state, ()| {
        let is_still = state.speed == Speed::Paused || state.lab.is_paused();
        let flights = match is_still {
            true => state.flights.under_way(state.lab.time, state.heartbeats),
            false => Vec::new(),
        };
        let picked = match &state.selection {
            Some(Selection::Message(flight)) => Some(flight.id),
            _ => None,
        };
        (flights, picked)
    });
    if flights.is_empty() {
        return html! {};
    }
    let more = flights.len().saturating_sub(SHOWN_MAX);
    let button = |flight: &Flight| {
        let (desk, id) = (desk.clone(), flight.id);
        let onclick = Callback::from(move |_| desk.select_message(id));
        let Flight { from, to, message, .. } = flight;
        let name = words::message(message);
        let class = classes!("message", (picked == Some(id)).then_some("is-chosen"));
        html! {
            <button key={id} {class} data-testid="message" data-id={id.to_string()}
                data-kind={shapes::kind_id(message.kind)} data-answer={message.answer.to_string()}
                data-from={from.to_string()} data-to={to.to_string()} {onclick}
                aria-label={format!("{name} from {} to {}", words::node(*from), words::node(*to))}>
                { glyph(message.kind, message.answer) }
                { short(*from) }{ "→" }{ short(*to) }
            </button>
        }
    };
    html! {
        <div class="messages" role="group" aria-label="Messages under way">
            <span class="faint">{ "Under way:" }</span>
            { for flights.iter().take(SHOWN_MAX).map(button) }
            if more > 0 { <span class="faint">{ format!("and {more} more") }</span> }
        </div>
    }
}

fn short(node: u8) -> String {
    if node == 0 { "client".into() } else { node.to_string() }
}
