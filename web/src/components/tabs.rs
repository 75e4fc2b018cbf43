//! The tabs: all of them on a narrow page, those beside the ring on a wide one.

use yew::prelude::*;

use crate::hooks::{use_desk, use_slice};
use crate::state::{Msg, Tab};

#[component]
pub(crate) fn Tabs() -> Html {
    let desk = use_desk();
    let (tab, side) = use_slice((), |state, ()| (state.tab, state.side));
    let button = |of: Tab| {
        let desk = desk.clone();
        let onclick = Callback::from(move |_| desk.dispatch(Msg::Tab(of)));
        let mut class = classes!("tab");
        class.extend(of.has_own_place().then_some("is-elsewhere"));
        class.extend((tab == of).then_some("is-tab"));
        class.extend((side == of).then_some("is-side"));
        html! {
            <button {class} data-testid={format!("tab-{}", of.id())} {onclick}
                aria-pressed={(tab == of).to_string()}>{ of.name() }</button>
        }
    };
    html! { <nav class="tabs" aria-label="Panels">{ for Tab::ALL.into_iter().map(button) }</nav> }
}
