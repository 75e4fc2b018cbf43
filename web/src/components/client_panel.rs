//! The client's forms: each puts a command line of etcdctl together, shows it, and runs it.

use coracle_worker::protocol::NodeNumber;
use yew::prelude::*;

use super::forms::{Form, Operation};
use super::node_select::NodeSelect;

#[component]
pub(crate) fn ClientPanel() -> Html {
    let operation = use_state_eq(|| Operation::Put);
    let node = use_state_eq(|| None::<NodeNumber>);
    let choice = |of: Operation| {
        let chosen = operation.clone();
        let onclick = Callback::from(move |_| chosen.set(of));
        let is_chosen = *operation == of;
        html! {
            <button class={classes!("pill", is_chosen.then_some("is-chosen"))} {onclick}
                data-testid={format!("form-{}", of.id())} aria-pressed={is_chosen.to_string()}>
                { of.name() }
            </button>
        }
    };
    let onchange = {
        let node = node.clone();
        Callback::from(move |chosen| node.set(chosen))
    };
    // All forms stay in the page, so that what was typed and printed stays too.
    let form = |of: Operation| {
        html! {
            <div key={of.id()} hidden={*operation != of}>
                <Form operation={of} node={*node} />
            </div>
        }
    };
    html! {
        <div class="inspect">
            <div class="pills" role="group" aria-label="Operation">
                { for Operation::ALL.into_iter().map(choice) }
            </div>
            <label class="field">
                <span>{ "Ask" }</span>
                <NodeSelect id="client-node" label="Which node is asked" none="any node"
                    node={*node} {onchange} />
            </label>
            { for Operation::ALL.into_iter().map(form) }
        </div>
    }
}
