//! The choice of one node, or of none in particular.

use coracle_worker::protocol::NodeNumber;
use yew::prelude::*;

use crate::dom;
use crate::hooks::use_slice;

#[derive(Properties, PartialEq)]
pub(crate) struct Props {
    /// The hook for tests.
    pub(crate) id: &'static str,
    pub(crate) label: &'static str,
    /// What no node is called here.
    pub(crate) none: &'static str,
    pub(crate) node: Option<NodeNumber>,
    pub(crate) onchange: Callback<Option<NodeNumber>>,
}

#[component]
pub(crate) fn NodeSelect(props: &Props) -> Html {
    let Props { id, label, none, node, ref onchange } = *props;
    let nodes = use_slice((), |state, ()| state.ring());
    let onchange = onchange.reform(|event: Event| dom::value(&event).parse().ok());
    let option = |number: NodeNumber| {
        let (value, selected) = (number.to_string(), node == Some(number));
        html! { <option {value} {selected}>{ format!("node {number}") }</option> }
    };
    html! {
        <select data-testid={id} aria-label={label} {onchange}>
            <option value="" selected={node.is_none()}>{ none }</option>
            { for nodes.into_iter().map(option) }
        </select>
    }
}
