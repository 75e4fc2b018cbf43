//! Time: pause, steps, speed, the virtual clock.

use coracle_worker::protocol::{Speed, Step};
use yew::prelude::*;

use super::icon::{Icon, IconView};
use crate::hooks::{use_desk, use_slice};
use crate::paint::CLOCK;
use crate::state::speed::SPEEDS;

#[component]
pub(crate) fn TimeBar() -> Html {
    let desk = use_desk();
    let (speed, resume) = use_slice((), |state, ()| (state.speed, state.resume));
    let is_paused = speed == Speed::Paused;
    let (icon, label) = match is_paused {
        true => (Icon::Play, "Go on (Space)"),
        false => (Icon::Pause, "Pause (Space)"),
    };
    let toggle = {
        let desk = desk.clone();
        Callback::from(move |_| desk.toggle_pause())
    };
    let step = |step: Step| {
        let desk = desk.clone();
        Callback::from(move |_| desk.step(step))
    };
    let choice = |(of, text, id): &(Speed, &'static str, &'static str)| {
        let (desk, of) = (desk.clone(), *of);
        let onclick = Callback::from(move |_| desk.speed(of));
        let is_chosen = if is_paused { resume == of } else { speed == of };
        html! {
            <button class={classes!("segment", is_chosen.then_some("is-chosen"))} {onclick}
                data-testid={format!("speed-{id}")} aria-pressed={is_chosen.to_string()}>
                { *text }
            </button>
        }
    };
    html! {
        <div class={classes!("time", is_paused.then_some("is-paused"))} role="group"
            aria-label="Time">
            <button class="primary" data-testid="pause" data-paused={is_paused.to_string()}
                onclick={toggle} title={label} aria-label={label}><IconView {icon} /></button>
            <button data-testid="step-event" onclick={step(Step::Event)} title="Next event (.)"
                aria-label="Next event"><IconView icon={Icon::StepEvent} /></button>
            <button data-testid="step-message" onclick={step(Step::Message)}
                title="Next message (,)" aria-label="Next message">
                <IconView icon={Icon::StepMessage} />
            </button>
            <div class="segments" role="group" aria-label="Speed">
                { for SPEEDS.iter().map(choice) }
            </div>
            <output class="clock" title="Virtual time: minutes, seconds, microseconds">
                <span id={CLOCK} data-testid="clock">{ "0:00.000 000" }</span>
            </output>
        </div>
    }
}
