//! The choice of one node, or of none in particular.

use coracle_worker::protocol::NodeNumber;
use yew::prelude::*;

use crate::dom;

pub(crate) struct Choice<'a> {
    /// The hook for tests.
    pub(crate) id: &'static str,
    pub(crate) label: &'static str,
    /// What no node is called here.
    pub(crate) none: &'static str,
    pub(crate) nodes: &'a [NodeNumber],
    pub(crate) node: Option<NodeNumber>,
    pub(crate) onchange: Callback<Option<NodeNumber>>,
}

pub(crate) fn node_select(choice: Choice) -> Html {
    let Choice { id, label, none, nodes, node, onchange } = choice;
    let onchange = onchange.reform(|event: Event| dom::value(&event).parse().ok());
    let option = |number: &NodeNumber| {
        let (value, selected) = (number.to_string(), node == Some(*number));
        html! { <option {value} {selected}>{ format!("node {number}") }</option> }
    };
    html! {
        <select data-testid={id} aria-label={label} {onchange}>
            <option value="" selected={node.is_none()}>{ none }</option>
            { for nodes.iter().map(option) }
        </select>
    }
}
