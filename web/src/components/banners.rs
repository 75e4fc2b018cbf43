//! What has to be seen: broken promises, an engine that cannot go on, disks that are elsewhere,
//! and what did not work.

use yew::prelude::*;

use super::icon::{Icon, IconView};
use crate::hooks::{use_desk, use_slice};
use crate::state::Msg;

#[component]
pub(crate) fn Banners() -> Html {
    html! {
        <>
            <Violations />
            <Fatal />
            <TakeOver />
            <Notices />
        </>
    }
}

#[component]
fn Violations() -> Html {
    let violations = use_slice((), |state, ()| state.lab.violations.clone());
    if violations.is_empty() {
        return html! {};
    }
    html! {
        <div class="banner is-bad" role="alert" data-testid="violations">
            <strong>{ "A promise of Raft is broken. This is a bug of Coracle:" }</strong>
            <ul>{ for violations.iter().map(|text| html! { <li>{ text }</li> }) }</ul>
            <p>{ "Please save the experiment and send it to us." }</p>
        </div>
    }
}

#[component]
fn Fatal() -> Html {
    let Some(sentence) = use_slice((), |state, ()| state.fatal.clone()) else { return html! {} };
    html! {
        <div class="banner is-bad" role="alert" data-testid="fatal">
            <p>{ sentence }</p>
            <p>{ "What you see here can still be read; reloading the page begins again." }</p>
        </div>
    }
}

/// Offered where another tab holds the disks.
#[component]
fn TakeOver() -> Html {
    let desk = use_desk();
    let note = use_slice((), |state, ()| state.storage.clone());
    let Some(note) = note.filter(|note| note.can_take_over) else { return html! {} };
    let onclick = Callback::from(move |_| desk.take_over());
    html! {
        <div class="banner" data-testid="take-over-banner">
            <p>{ note.sentence }</p>
            <button data-testid="take-over" {onclick}>{ "Take over" }</button>
        </div>
    }
}

#[component]
fn Notices() -> Html {
    let desk = use_desk();
    let notices = use_slice((), |state, ()| state.notices.clone());
    let one = |notice: &crate::state::Notice| {
        let (desk, number) = (desk.clone(), notice.number);
        let onclick = Callback::from(move |_| desk.dispatch(Msg::Unnotice(number)));
        html! {
            <div class="notice" key={number} data-testid="notice">
                <p>{ notice.text.clone() }</p>
                <button class="quiet" {onclick} aria-label="Close">
                    <IconView icon={Icon::Close} />
                </button>
            </div>
        }
    };
    html! { <div class="notices" role="status">{ for notices.iter().map(one) }</div> }
}
