//! The experiment: its seed, its size, its disks; begin again, save, load.

use coracle_worker::protocol::{MAX_NODES, StorageKind};
use yew::platform::spawn_local;
use yew::prelude::*;

use super::icon::{Icon, icon};
use crate::dom;
use crate::hooks::{Desk, seed_of, use_desk, use_slice};

#[component]
pub(crate) fn Experiment() -> Html {
    let desk = use_desk();
    let (seed, count, kind, is_alive) = use_slice((), |state, ()| {
        let kind = state.storage.as_ref().map(|note| note.kind);
        (state.lab.seed, state.ring().len() as u8, kind, state.is_alive)
    });
    // What the visitor chose for the next experiment; none: as now.
    let nodes = use_state(|| None::<u8>);
    let typed = use_state(|| None::<String>);
    let storage = use_state(|| None::<StorageKind>);
    let begin = {
        let (nodes, storage) = ((*nodes).unwrap_or(count.max(1)), *storage);
        let storage = storage.or(kind).unwrap_or_default();
        move |desk: &Desk, seed: u64| desk.restart(seed, nodes, storage)
    };
    let same = {
        let (desk, begin, typed) = (desk.clone(), begin, typed.clone());
        Callback::from(move |_| {
            begin(&desk, typed.as_ref().map_or(seed, |text| seed_of(text)));
            typed.set(None);
        })
    };
    let fresh = {
        let (desk, typed) = (desk.clone(), typed.clone());
        Callback::from(move |_| {
            begin(&desk, dom::random_seed());
            typed.set(None);
        })
    };
    let type_seed = {
        let typed = typed.clone();
        Callback::from(move |event: InputEvent| typed.set(Some(dom::value(&event))))
    };
    let choose_nodes = {
        let nodes = nodes.clone();
        Callback::from(move |event: Event| nodes.set(dom::value(&event).parse().ok()))
    };
    let choose_storage = {
        let storage = storage.clone();
        Callback::from(move |event: Event| storage.set(storage_of(&dom::value(&event))))
    };
    let chosen_nodes = (*nodes).unwrap_or(count.max(1));
    let in_memory = (*storage).or(kind) == Some(StorageKind::Memory);
    let seed_text = (*typed).clone().unwrap_or_else(|| seed.to_string());
    html! {
        <details class="experiment">
            <summary data-testid="experiment">
                { "Experiment " }
                if is_alive { <b data-testid="seed">{ seed }</b> }
            </summary>
            <div class="experiment-fields">
                <label>{ "Seed" }
                    <input data-testid="seed-input" value={seed_text} oninput={type_seed} />
                </label>
                <label>{ "Nodes" }
                    <select data-testid="node-count" onchange={choose_nodes}>
                        { for (1..=MAX_NODES).map(|n| option(n.to_string(), chosen_nodes == n)) }
                    </select>
                </label>
                <label>{ "Disks" }
                    <select data-testid="storage-kind" onchange={choose_storage}>
                        { option("browser".into(), !in_memory) }
                        { option("memory".into(), in_memory) }
                    </select>
                </label>
                { beginnings(same, fresh) }
                { files(&desk) }
            </div>
        </details>
    }
}

fn storage_of(value: &str) -> Option<StorageKind> {
    Some(if value == "memory" { StorageKind::Memory } else { StorageKind::Browser })
}

/// The two ways to begin again.
fn beginnings(same: Callback<MouseEvent>, fresh: Callback<MouseEvent>) -> Html {
    html! {
        <>
            <button data-testid="restart-same" onclick={same}
                title="Begin again: the same seed, the same story">
                { icon(Icon::Again) }{ "Begin again" }
            </button>
            <button data-testid="restart-new" onclick={fresh}
                title="Begin again with other dice">
                { icon(Icon::Dice) }{ "New seed" }
            </button>
        </>
    }
}

fn option(value: String, selected: bool) -> Html {
    html! { <option value={value.clone()} {selected}>{ value }</option> }
}

/// Saving and loading an experiment.
fn files(desk: &Desk) -> Html {
    let save = {
        let desk = desk.clone();
        Callback::from(move |_| desk.save())
    };
    let desk = desk.clone();
    let load = Callback::from(move |event: Event| {
        let desk = desk.clone();
        spawn_local(async move {
            match dom::chosen_file(event).await {
                Some(text) => desk.load(text),
                None => desk.notice("The file could not be read."),
            }
        });
    });
    html! {
        <>
            <button data-testid="save" onclick={save} title="Save the experiment to a file">
                { icon(Icon::Save) }{ "Save" }
            </button>
            <label class="button" title="Load an experiment from a file">
                { icon(Icon::Open) }{ "Load" }
                <input class="hidden" type="file" accept=".json,application/json"
                    data-testid="load" onchange={load} />
            </label>
        </>
    }
}
