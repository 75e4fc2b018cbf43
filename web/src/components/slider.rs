//! A number to be chosen by dragging. It acts when it is let go, not at every step of the way.

use yew::prelude::*;

use crate::dom;

#[derive(Properties, PartialEq)]
pub(crate) struct Props {
    pub(crate) label: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) id: &'static str,
    pub(crate) value: f64,
    pub(crate) max: f64,
    pub(crate) onchange: Callback<f64>,
}

#[component]
pub(crate) fn Slider(props: &Props) -> Html {
    let Props { label, unit, id, value, max, ref onchange } = *props;
    let dragged = use_state(|| None::<f64>);
    let oninput = {
        let dragged = dragged.clone();
        Callback::from(move |event: InputEvent| dragged.set(dom::number(&event)))
    };
    let onchange = {
        let (dragged, onchange) = (dragged.clone(), onchange.clone());
        Callback::from(move |event: Event| {
            if let Some(value) = dom::number(&event) {
                onchange.emit(value);
            }
            dragged.set(None);
        })
    };
    let shown = (*dragged).unwrap_or(value);
    html! {
        <label class="slider">
            <span>{ label }</span>
            <input type="range" min="0" max={max.to_string()} step={(max / 100.0).to_string()}
                value={shown.to_string()} data-testid={id} {oninput} {onchange} />
            <output>{ format!("{} {unit}", (shown * 10.0).round() / 10.0) }</output>
        </label>
    }
}
