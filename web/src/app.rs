//! The frame of the page: what stands where, and the listeners of the whole window.

use yew::prelude::*;

use crate::components::banners::Banners;
use crate::components::client_panel::ClientPanel;
use crate::components::experiment::Experiment;
use crate::components::faults::Faults;
use crate::components::feed::FeedPanel;
use crate::components::header::Header;
use crate::components::help::Help;
use crate::components::inspector::Inspector;
use crate::components::stage::Stage;
use crate::components::tabs::tabs;
use crate::components::terminal::Terminal;
use crate::components::time_bar::TimeBar;
use crate::hooks::{Desk, use_desk, use_slice};
use crate::state::Tab;
use crate::{dom, paint};

const ROOT: &str = "app";

/// Puts the page in the place of what `index.html` shows before it comes.
pub(crate) fn start() {
    match dom::element(ROOT) {
        Some(root) => yew::Renderer::<App>::with_root(root).render(),
        None => yew::Renderer::<App>::new().render(),
    };
}

#[component]
fn App() -> Html {
    let desk = use_state(Desk::new);
    use_effect_with((), {
        let desk = (*desk).clone();
        move |()| {
            paint::start(desk.clone());
            let keys = dom::on_key(move |key| desk.key(key));
            move || drop(keys)
        }
    });
    html! {
        <ContextProvider<Desk> context={(*desk).clone()}>
            <Page />
        </ContextProvider<Desk>>
    }
}

#[component]
fn Page() -> Html {
    let desk = use_desk();
    let (tab, side) = use_slice((), |state, ()| (state.tab, state.side));
    let panel = |of: Tab, content: Html| {
        let mut class = classes!("panel", format!("panel-{}", of.id()));
        class.extend((tab == of).then_some("is-tab"));
        class.extend((side == of).then_some("is-side"));
        let id = format!("panel-{}", of.id());
        html! { <section {id} {class} tabindex="-1" aria-label={of.name()}>{content}</section> }
    };
    let skip = {
        let desk = desk.clone();
        Callback::from(move |event: MouseEvent| {
            event.prevent_default();
            desk.key("t");
        })
    };
    html! {
        <div class="page">
            <a class="skip" href="#terminal-input" onclick={skip}>{ "Skip to the terminal" }</a>
            <Header />
            <Banners />
            <main class="bench">
                <div class="bench-time">
                    <TimeBar />
                    <Experiment />
                </div>
                <Stage />
                { tabs(&desk, tab, side) }
                { panel(Tab::Inspect, html! { <Inspector /> }) }
                { panel(Tab::Client, html! { <ClientPanel /> }) }
                { panel(Tab::Faults, html! { <Faults /> }) }
                { panel(Tab::Terminal, html! { <Terminal /> }) }
                { panel(Tab::Feed, html! { <FeedPanel /> }) }
            </main>
            <Help />
        </div>
    }
}
