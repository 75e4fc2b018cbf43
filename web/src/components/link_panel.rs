//! The panel of a link: cut it, make it slow or lossy, mend it.

use coracle_worker::protocol::{Action, LinkView, NetworkChange, NodeNumber};
use yew::prelude::*;

use super::link::condition;
use crate::hooks::{use_desk, use_slice};

#[derive(Properties, PartialEq)]
pub(crate) struct Props {
    pub(crate) a: NodeNumber,
    pub(crate) b: NodeNumber,
}

#[component]
pub(crate) fn LinkPanel(props: &Props) -> Html {
    let desk = use_desk();
    let Props { a, b } = *props;
    let (there, back) = use_slice((a, b), |state, (a, b)| (state.way(*a, *b), state.way(*b, *a)));
    let button = |id: &'static str, label: String, action: Action| {
        let desk = desk.clone();
        let onclick = Callback::from(move |_| desk.act(action.clone()));
        html! { <button data-testid={format!("action-{id}")} {onclick}>{ label }</button> }
    };
    let slow = NetworkChange { delay_ms: Some(200.0), ..NetworkChange::default() };
    let lossy = NetworkChange { loss: Some(0.3), ..NetworkChange::default() };
    let is_changed = there.cut || back.cut || there.own.is_some() || back.own.is_some();
    html! {
        <div class="inspect" data-testid="link-panel">
            <h2>{ format!("Link {a} – {b}") }
                <span class="role">{ condition(there, back) }</span>
            </h2>
            <p>{ way_words(there) }</p>
            <p>{ way_words(back) }</p>
            <div class="actions">
                { button("cut", "Cut".into(), Action::Cut(a, b)) }
                { button("cut-there", format!("Cut {a} → {b} only"), Action::CutOneWay(a, b)) }
                { button("cut-back", format!("Cut {b} → {a} only"), Action::CutOneWay(b, a)) }
                { button("slow-link", "Slow (200 ms)".into(), Action::Link(a, b, slow)) }
                { button("lossy-link", "Lossy (30 %)".into(), Action::Link(a, b, lossy)) }
                if is_changed { { button("mend", "Mend".into(), Action::Mend(a, b)) } }
            </div>
        </div>
    }
}

fn way_words(way: LinkView) -> String {
    let LinkView { from, to, cut, own } = way;
    if cut {
        return format!("From {from} to {to} nothing gets through.");
    }
    let Some(own) = own else {
        return format!("From {from} to {to} it is as all links are.");
    };
    format!(
        "From {from} to {to}: {} ms of delay, {} ms of jitter, {} % lost, {} % doubled.",
        f64::from(own.delay_us) / 1000.0,
        f64::from(own.jitter_us) / 1000.0,
        f64::from(own.loss_ppm) / 10_000.0,
        f64::from(own.duplicate_ppm) / 10_000.0
    )
}
