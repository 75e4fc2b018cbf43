//! The network as a whole: how it behaves, presets, growth of the cluster, and healing.

use coracle_worker::protocol::{Action, MAX_NODES, NetworkChange};
use yew::prelude::*;

use super::icon::{Icon, IconView};
use super::slider::Slider;
use crate::hooks::{use_desk, use_slice};
use crate::state::presets::Preset;

#[component]
pub(crate) fn Faults() -> Html {
    html! {
        <div class="inspect">
            <Members />
            <Presets />
            <Sliders />
        </div>
    }
}

#[component]
fn Members() -> Html {
    let desk = use_desk();
    let count = use_slice((), |state, ()| state.ring().len());
    let is_full = count >= usize::from(MAX_NODES);
    let act = |action: Action| {
        let desk = desk.clone();
        Callback::from(move |_| desk.act(action.clone()))
    };
    html! {
        <div class="actions">
            <button class="primary" data-testid="heal" onclick={act(Action::Heal(true))}
                title="Mends links and disks, resumes and restarts nodes (h)">
                <IconView icon={Icon::Heal} />{ "Heal everything" }
            </button>
            <button data-testid="add-node" disabled={is_full} onclick={act(Action::AddNode(true))}
                title="It joins as a learner and is then given a vote (n)">
                <IconView icon={Icon::Plus} />{ "Add a node" }
            </button>
            <button data-testid="add-learner" disabled={is_full}
                onclick={act(Action::AddLearner(true))} title="It stays without a vote">
                <IconView icon={Icon::Plus} />{ "Add a learner" }
            </button>
        </div>
    }
}

#[component]
fn Presets() -> Html {
    let desk = use_desk();
    let playing = use_slice((), |state, ()| state.playing.as_ref().map(|playing| playing.preset));
    let button = |preset: Preset| {
        let (desk, is_playing) = (desk.clone(), playing == Some(preset));
        let next = (!is_playing).then_some(preset);
        let onclick = Callback::from(move |_| desk.play(next));
        html! {
            <li>
                <button data-testid={format!("preset-{}", preset.id())} {onclick}
                    class={classes!(is_playing.then_some("is-chosen"))}
                    aria-pressed={is_playing.to_string()}>
                    <IconView icon={if is_playing { Icon::Pause } else { Icon::Play }} />
                    { if is_playing { "Stop" } else { preset.name() } }
                </button>
                <span class="faint">{ preset.about() }</span>
            </li>
        }
    };
    html! {
        <>
            <h3>{ "Little dramas" }</h3>
            <ul class="presets">{ for Preset::ALL.into_iter().map(button) }</ul>
        </>
    }
}

#[component]
fn Sliders() -> Html {
    let desk = use_desk();
    let network = use_slice((), |state, ()| state.lab.network);
    let change = |make: fn(f64) -> NetworkChange| {
        let desk = desk.clone();
        Callback::from(move |value| desk.act(Action::Network(make(value))))
    };
    let millis = |micros: u32| f64::from(micros) / 1000.0;
    let percent = |ppm: u32| f64::from(ppm) / 10_000.0;
    html! {
        <>
            <h3>{ "All links" }</h3>
            <Slider label="Delay" unit="ms" id="network-delay" max={200.0}
                value={millis(network.delay_us)} onchange={change(|value| NetworkChange {
                    delay_ms: Some(value), ..NetworkChange::default() })} />
            <Slider label="Jitter" unit="ms" id="network-jitter" max={200.0}
                value={millis(network.jitter_us)} onchange={change(|value| NetworkChange {
                    jitter_ms: Some(value), ..NetworkChange::default() })} />
            <Slider label="Loss" unit="%" id="network-loss" max={100.0}
                value={percent(network.loss_ppm)} onchange={change(|value| NetworkChange {
                    loss: Some(value / 100.0), ..NetworkChange::default() })} />
            <Slider label="Doubled" unit="%" id="network-duplicate" max={100.0}
                value={percent(network.duplicate_ppm)} onchange={change(|value| NetworkChange {
                    duplicate: Some(value / 100.0), ..NetworkChange::default() })} />
        </>
    }
}
