//! The head of the page: its name, where the disks are, the theme, the help.

use coracle_worker::protocol::StorageKind;
use yew::prelude::*;

use super::icon::{Icon, IconView};
use crate::dom;
use crate::hooks::{use_desk, use_slice};
use crate::state::{Msg, Theme};

#[component]
pub(crate) fn Header() -> Html {
    let desk = use_desk();
    let help = Callback::from(move |_| desk.dispatch(Msg::Help(true)));
    html! {
        <header class="header">
            <svg class="logo" viewBox="0 0 32 32" aria-hidden="true">
                <path class="logo-boat" d="M3 12h26a13 11 0 0 1-26 0z" />
                <path class="logo-rib" d="M11 12q1 7 5 11M21 12q-1 7-5 11" />
                <path class="logo-wave" d="M2 28q3.5-3 7 0t7 0 7 0 7 0" />
            </svg>
            <h1>{ "Coracle" }</h1>
            <p class="tagline">{ "a real etcd cluster, in this tab, to be broken" }</p>
            <StorageChip />
            <ThemeButton />
            <button class="quiet" data-testid="help-button" onclick={help} title="Keys (?)"
                aria-label="List of keys">{ "?" }</button>
        </header>
    }
}

/// What the disks are, in a word; the sentence is its title.
#[component]
fn StorageChip() -> Html {
    let note = use_slice((), |state, ()| state.storage.clone());
    let Some(note) = note else { return html! {} };
    let (id, text) = match note.kind {
        StorageKind::Browser => ("browser", "Disks: browser"),
        StorageKind::Memory => ("memory", "Disks: memory"),
    };
    html! {
        <details class="chip" data-testid="storage" data-kind={id}>
            <summary>{ text }</summary>
            <p class="chip-text">{ note.sentence }</p>
        </details>
    }
}

#[component]
fn ThemeButton() -> Html {
    let desk = use_desk();
    let theme = use_slice((), |state, ()| state.theme);
    use_effect_with(theme, |theme| dom::apply_theme(*theme));
    let (next, icon, label) = match theme {
        Theme::Auto => (Theme::Light, Icon::Auto, "Theme: as the system"),
        Theme::Light => (Theme::Dark, Icon::Sun, "Theme: light"),
        Theme::Dark => (Theme::Auto, Icon::Moon, "Theme: dark"),
    };
    let onclick = Callback::from(move |_| desk.dispatch(Msg::Theme(next)));
    html! {
        <button class="quiet" data-testid="theme" {onclick} title={label} aria-label={label}>
            <IconView {icon} />
        </button>
    }
}
