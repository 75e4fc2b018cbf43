//! The panel about whatever is selected.

use yew::prelude::*;

use super::link_panel::LinkPanel;
use super::message_panel::MessagePanel;
use super::node_panel::NodePanel;
use crate::hooks::{use_desk, use_slice};
use crate::state::Selection;

#[component]
pub(crate) fn Inspector() -> Html {
    let selection = use_slice((), |state, ()| state.selection.clone());
    match selection {
        Some(Selection::Node(node)) => html! { <NodePanel {node} /> },
        Some(Selection::Link(a, b)) => html! { <LinkPanel {a} {b} /> },
        Some(Selection::Message(flight)) => html! { <MessagePanel {flight} /> },
        None => html! { <Overview /> },
    }
}

/// What there is to do, and who is there.
#[component]
fn Overview() -> Html {
    let desk = use_desk();
    let nodes = use_slice((), |state, ()| state.ring());
    let button = |node: &u8| {
        let (desk, node) = (desk.clone(), *node);
        let onclick = Callback::from(move |_| desk.select(Some(Selection::Node(node))));
        html! { <button {onclick}>{ format!("Node {node}") }</button> }
    };
    html! {
        <div class="inspect" data-testid="overview">
            <h2>{ "Break something" }</h2>
            <ul class="ideas">
                <li><b>{ "Click a node" }</b>{ " to crash it, pause it, take its disk." }</li>
                <li><b>{ "Click a link" }</b>{ " to cut it or to make it slow." }</li>
                <li><b>{ "Drag" }</b>{ " from one node to another to cut them apart." }</li>
                <li><b>{ "Slow time down" }</b>{ ", then click a message to drop it." }</li>
                <li><b>{ "Write" }</b>{ " with the client, and see where it goes." }</li>
            </ul>
            <div class="actions">{ for nodes.iter().map(button) }</div>
        </div>
    }
}
