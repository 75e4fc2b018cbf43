//! The panel of a message: its fields, and what can be done to it while it is under way.

use coracle_worker::protocol::{Action, Flight, MILLISECOND};
use yew::prelude::*;

use super::legend::Glyph;
use crate::hooks::{use_desk, use_slice};
use crate::words;

#[derive(Properties, PartialEq)]
pub(crate) struct Props {
    pub(crate) flight: Flight,
}

#[component]
pub(crate) fn MessagePanel(props: &Props) -> Html {
    let desk = use_desk();
    let Flight { id, from, to, ref message, .. } = props.flight;
    // How much longer it travels, in hundredths of a millisecond; none: it has arrived or is lost.
    let left = use_slice(id, |state, id| {
        let flights = state.flights.under_way(state.lab.time, true);
        let flight = flights.into_iter().find(|flight| flight.id == *id)?;
        Some((flight.arrives - state.lab.time) / (MILLISECOND / 100))
    });
    let (_, about) = words::kind(message.kind);
    let button = |id: &'static str, label: &'static str, action: Action| {
        let desk = desk.clone();
        let onclick = Callback::from(move |_| desk.act(action.clone()));
        html! { <button data-testid={id} {onclick}>{ label }</button> }
    };
    let resume = {
        let desk = desk.clone();
        Callback::from(move |_| desk.toggle_pause())
    };
    let is_paused = use_slice((), |state, ()| state.now(0.0).rate == 0.0);
    let field =
        |(name, value): &(String, String)| html! { <><dt>{ name }</dt><dd>{ value }</dd></> };
    html! {
        <div class="inspect" data-testid="message-panel" data-id={id.to_string()}>
            <h2>
                <Glyph kind={message.kind} answer={message.answer} />{ words::message(message) }
            </h2>
            <p>{ about }</p>
            <p>{ format!("From {} to {}", words::node(from), words::node(to)) }
                { match left {
                    Some(left) => format!(", {} ms away.", left as f64 / 100.0),
                    None => ". It is no longer under way.".into(),
                } }
            </p>
            if left.is_some() {
                <div class="actions">
                    { button("message-drop", "Drop", Action::DropMessage(id)) }
                    { button("message-delay", "Delay by 100 ms", Action::DelayMessage(id, 100.0)) }
                    { button("message-delay-long", "By 1 s", Action::DelayMessage(id, 1000.0)) }
                </div>
            }
            if is_paused {
                <p class="faint">{ "Time stands still. " }
                    <button class="link-button" onclick={resume}>{ "Go on" }</button>
                </p>
            }
            <dl class="facts">{ for message.fields.iter().map(field) }</dl>
        </div>
    }
}
