//! The list of keys, over the page.

use yew::prelude::*;

use crate::dom;
use crate::hooks::{use_desk, use_slice};
use crate::state::{Msg, keys};

const DIALOG: &str = "help";

#[component]
pub(crate) fn Help() -> Html {
    let desk = use_desk();
    let is_open = use_slice((), |state, ()| state.is_help_open);
    use_effect_with(is_open, |is_open| {
        if *is_open {
            dom::focus(DIALOG);
        }
    });
    if !is_open {
        return html! {};
    }
    let close = Callback::from(move |_: MouseEvent| desk.dispatch(Msg::Help(false)));
    let stay = Callback::from(|event: MouseEvent| event.stop_propagation());
    let row = |(key, text): &(&'static str, &'static str)| {
        html! { <><dt><kbd>{ *key }</kbd></dt><dd>{ *text }</dd></> }
    };
    html! {
        <div class="veil" onclick={close.clone()}>
            <div id={DIALOG} class="help" role="dialog" aria-modal="true"
                aria-labelledby="help-title" data-testid="help" tabindex="-1" onclick={stay}>
                <div class="help-head">
                    <h2 id="help-title">{ "Keys" }</h2>
                    <button data-testid="help-close" onclick={close}>{ "Close" }</button>
                </div>
                <dl class="keys">{ for keys::HELP.iter().map(row) }</dl>
                <p class="faint">
                    { "With the pointer: click a node, a link or a message; drag from one node to \
                       another to cut them apart, or to mend them again." }
                </p>
            </div>
        </div>
    }
}
