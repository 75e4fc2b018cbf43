//! What has to be seen: broken promises, an engine that cannot go on, disks that are elsewhere,
//! and what did not work.

use yew::prelude::*;

use super::icon::{Icon, icon};
use crate::hooks::{Desk, use_desk, use_slice};
use crate::state::{Msg, Notice, StorageNote};

#[component]
pub(crate) fn Banners() -> Html {
    let desk = use_desk();
    let (violations, fatal, note, notices) = use_slice((), |state, ()| {
        let violations = state.lab.violations.clone();
        (violations, state.fatal.clone(), state.storage.clone(), state.notices.clone())
    });
    let note = note.filter(|note| note.can_take_over);
    html! {
        <>
            if !violations.is_empty() {
                <div class="banner is-bad" role="alert" data-testid="violations">
                    <strong>{ "A promise of Raft is broken. This is a bug of Coracle:" }</strong>
                    <ul>{ for violations.iter().map(|text| html! { <li>{ text }</li> }) }</ul>
                    <p>{ "Please save the experiment and send it to us." }</p>
                </div>
            }
            if let Some(sentence) = fatal {
                <div class="banner is-bad" role="alert" data-testid="fatal">
                    <p>{ sentence }</p>
                    <p>{ "What stands here can still be read; a reload begins again." }</p>
                </div>
            }
            if let Some(note) = note { { take_over(&desk, note) } }
            <div class="notices" role="status">
                { for notices.iter().map(|notice| notice_view(&desk, notice)) }
            </div>
        </>
    }
}

/// Offered where another tab holds the disks.
fn take_over(desk: &Desk, note: StorageNote) -> Html {
    let desk = desk.clone();
    let onclick = Callback::from(move |_| desk.take_over());
    html! {
        <div class="banner" data-testid="take-over-banner">
            <p>{ note.sentence }</p>
            <button data-testid="take-over" {onclick}>{ "Take over" }</button>
        </div>
    }
}

fn notice_view(desk: &Desk, notice: &Notice) -> Html {
    let (desk, number) = (desk.clone(), notice.number);
    let onclick = Callback::from(move |_| desk.dispatch(Msg::Unnotice(number)));
    html! {
        <div class="notice" key={number} data-testid="notice">
            <p>{ notice.text.clone() }</p>
            <button class="quiet" {onclick} aria-label="Close">{ icon(Icon::Close) }</button>
        </div>
    }
}
