//! One form for each operation, described by its fields.

use coracle_worker::protocol::NodeNumber;
use yew::prelude::*;

use super::output::output;
use crate::dom;
use crate::hooks::{use_desk, use_slice};
use crate::state::command::{Line, quote_always};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Get,
    Delete,
    Txn,
    Lease,
    KeepAlive,
    Revoke,
    Watch,
}

/// What has been typed, with the name of the field; of a box that is ticked, anything.
#[derive(Clone, PartialEq)]
struct Values(Vec<(&'static str, String)>);

impl Values {
    fn of(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(field, _)| *field == name);
        found.map_or("", |(_, value)| value)
    }

    /// The same with another value in one field.
    fn with(&self, name: &'static str, value: &str) -> Values {
        let change = |(field, old): &(&'static str, String)| {
            (*field, if *field == name { value.into() } else { old.clone() })
        };
        Values(self.0.iter().map(change).collect())
    }
}

enum Kind {
    Text,
    Tick,
    Choice(&'static [(&'static str, &'static str)]),
}

struct Field {
    name: &'static str,
    label: &'static str,
    preset: &'static str,
    kind: Kind,
}

const fn text(name: &'static str, label: &'static str, preset: &'static str) -> Field {
    Field { name, label, preset, kind: Kind::Text }
}

const fn tick(name: &'static str, label: &'static str) -> Field {
    Field { name, label, preset: "", kind: Kind::Tick }
}

const PUT: [Field; 4] = [
    text("key", "Key", "greeting"),
    text("value", "Value", "hello"),
    text("lease", "Lease", ""),
    tick("prev", "Show what was there before"),
];
const GET: [Field; 4] = [
    text("key", "Key", "greeting"),
    Field {
        name: "consistency",
        label: "Consistency",
        preset: "",
        kind: Kind::Choice(&[
            ("", "linearizable: asks a majority"),
            ("s", "serializable: answers by itself"),
        ]),
    },
    text("rev", "At revision", ""),
    tick("prefix", "All keys that begin so"),
];
const DELETE: [Field; 3] = [
    text("key", "Key", "greeting"),
    tick("prefix", "All keys that begin so"),
    tick("prev", "Show what was there before"),
];
const TXN: [Field; 6] = [
    text("key", "If", "greeting"),
    Field {
        name: "target",
        label: "has",
        preset: "",
        kind: Kind::Choice(&[
            ("", "the value"),
            ("version", "the version (0: does not exist)"),
            ("mod", "the revision"),
        ]),
    },
    text("value", "equal to", "hello"),
    text("then-key", "then put", "greeting"),
    text("then-value", "with the value", "goodbye"),
    text("else-key", "else get", "greeting"),
];
const LEASE: [Field; 1] = [text("ttl", "Seconds to live", "10")];
const KEEP_ALIVE: [Field; 2] = [text("lease", "Lease", ""), tick("once", "Once only")];
const REVOKE: [Field; 1] = [text("lease", "Lease", "")];
const WATCH: [Field; 4] = [
    text("key", "Key", "greeting"),
    text("rev", "From revision", ""),
    tick("prefix", "All keys that begin so"),
    tick("prev", "Show what was there before"),
];

impl Operation {
    pub(crate) const ALL: [Operation; 8] = [
        Operation::Put,
        Operation::Get,
        Operation::Delete,
        Operation::Txn,
        Operation::Watch,
        Operation::Lease,
        Operation::KeepAlive,
        Operation::Revoke,
    ];

    pub(crate) fn id(self) -> &'static str {
        match self {
            Operation::Put => "put",
            Operation::Get => "get",
            Operation::Delete => "delete",
            Operation::Txn => "txn",
            Operation::Lease => "grant",
            Operation::KeepAlive => "keep-alive",
            Operation::Revoke => "revoke",
            Operation::Watch => "watch",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Operation::Put => "Put",
            Operation::Get => "Get",
            Operation::Delete => "Delete",
            Operation::Txn => "Txn",
            Operation::Lease => "Grant lease",
            Operation::KeepAlive => "Keep alive",
            Operation::Revoke => "Revoke",
            Operation::Watch => "Watch",
        }
    }

    fn fields(self) -> &'static [Field] {
        match self {
            Operation::Put => &PUT,
            Operation::Get => &GET,
            Operation::Delete => &DELETE,
            Operation::Txn => &TXN,
            Operation::Lease => &LEASE,
            Operation::KeepAlive => &KEEP_ALIVE,
            Operation::Revoke => &REVOKE,
            Operation::Watch => &WATCH,
        }
    }

    /// The command line, and what is typed into the command.
    fn compose(self, values: &Values) -> (String, Vec<String>) {
        let of = |name: &str| values.of(name);
        let is = |name: &str| !of(name).is_empty();
        let line = match self {
            Operation::Put => Line::new("put")
                .switch("prev-kv", is("prev"))
                .flag("lease", of("lease"))
                .argument(of("key"))
                .argument(of("value")),
            Operation::Get => Line::new("get")
                .flag("consistency", of("consistency"))
                .flag("rev", of("rev"))
                .switch("prefix", is("prefix"))
                .argument(of("key")),
            Operation::Delete => Line::new("del")
                .switch("prefix", is("prefix"))
                .switch("prev-kv", is("prev"))
                .argument(of("key")),
            Operation::Watch => Line::new("watch")
                .flag("rev", of("rev"))
                .switch("prefix", is("prefix"))
                .switch("prev-kv", is("prev"))
                .argument(of("key")),
            Operation::Lease => Line::new("lease grant").argument(of("ttl")),
            Operation::KeepAlive => {
                Line::new("lease keep-alive").switch("once", is("once")).argument(of("lease"))
            }
            Operation::Revoke => Line::new("lease revoke").argument(of("lease")),
            Operation::Txn => Line::new("txn"),
        };
        let typed = if self == Operation::Txn { txn_input(values) } else { Vec::new() };
        (line.finish(), typed)
    }
}

/// Compares, then what is done if they hold, then what is done else; each ends with an empty line.
fn txn_input(values: &Values) -> Vec<String> {
    let of = |name: &str| values.of(name);
    let target = match of("target") {
        "" => "value",
        target => target,
    };
    let compare = format!("{target}({}) = {}", quote_always(of("key")), quote_always(of("value")));
    let mut lines = vec![compare, String::new()];
    if !of("then-key").is_empty() {
        let put = Line::new("put").argument(of("then-key")).argument(of("then-value"));
        lines.push(put.finish());
    }
    lines.push(String::new());
    if !of("else-key").is_empty() {
        lines.push(Line::new("get").argument(of("else-key")).finish());
    }
    lines.push(String::new());
    lines
}

#[derive(Properties, PartialEq)]
pub(crate) struct Props {
    pub(crate) operation: Operation,
    pub(crate) node: Option<NodeNumber>,
}

#[component]
pub(crate) fn Form(props: &Props) -> Html {
    let desk = use_desk();
    let Props { operation, node } = *props;
    let values = use_state(|| {
        let preset = |field: &Field| (field.name, field.preset.to_string());
        Values(operation.fields().iter().map(preset).collect())
    });
    let last = use_state(|| None::<u64>);
    let run = use_slice(*last, |state, last| last.and_then(|id| state.runs.get(id)));
    let (line, typed) = operation.compose(&values);
    let submit = {
        let (desk, line, typed, last) = (desk.clone(), line.clone(), typed.clone(), last.clone());
        Callback::from(move |event: SubmitEvent| {
            event.prevent_default();
            last.set(Some(desk.exec(&line, node, &typed)));
        })
    };
    let interrupt = {
        let (desk, last) = (desk.clone(), *last);
        Callback::from(move |_| {
            if let Some(id) = last {
                desk.interrupt(id);
            }
        })
    };
    let id = operation.id();
    let is_running = run.as_ref().is_some_and(|run| run.is_running());
    html! {
        <form class="form" onsubmit={submit} autocomplete="off">
            { for operation.fields().iter().map(|field| field_view(id, field, &values)) }
            <pre class="command" data-testid={format!("{id}-command")}>
                { "etcdctl " }{ &line }
                { for typed.iter().map(|line| format!("\n{line}")) }
            </pre>
            <div class="actions">
                <button class="primary" type="submit" data-testid={format!("{id}-run")}>
                    { "Run" }
                </button>
                if is_running {
                    <button type="button" data-testid={format!("{id}-stop")} onclick={interrupt}>
                        { "Stop (Ctrl-C)" }
                    </button>
                }
            </div>
            if let Some(run) = run {
                <pre class="output" data-testid={format!("{id}-output")}
                    data-state={if is_running { "running" } else { "ended" }}
                    data-code={run.code.map(|code| code.to_string())}>{ output(&run) }</pre>
            }
        </form>
    }
}

fn field_view(form: &'static str, field: &Field, values: &UseStateHandle<Values>) -> Html {
    let name = field.name;
    let id = format!("{form}-{name}");
    let value = values.of(name).to_string();
    let set = {
        let values = values.clone();
        move |value: &str| values.set(values.with(name, value))
    };
    match field.kind {
        Kind::Tick => {
            let onchange = Callback::from(move |event: Event| {
                set(if dom::is_checked(&event) { "yes" } else { "" });
            });
            html! {
                <label class="tick" key={name}>
                    <input type="checkbox" data-testid={id} {onchange}
                        checked={!value.is_empty()} />
                    { field.label }
                </label>
            }
        }
        Kind::Text => {
            let oninput = Callback::from(move |event: InputEvent| set(&dom::value(&event)));
            html! {
                <label class="field" key={name}>
                    <span>{ field.label }</span>
                    <input id={id.clone()} data-testid={id} {value} {oninput} spellcheck="false"
                        autocapitalize="off" />
                </label>
            }
        }
        Kind::Choice(choices) => {
            let onchange = Callback::from(move |event: Event| set(&dom::value(&event)));
            let option = |(of, label): &(&'static str, &'static str)| {
                html! { <option value={*of} selected={value == *of}>{ *label }</option> }
            };
            html! {
                <label class="field" key={name}>
                    <span>{ field.label }</span>
                    <select data-testid={id} {onchange}>{ for choices.iter().map(option) }</select>
                </label>
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: &[(&'static str, &str)]) -> Values {
        Values(pairs.iter().map(|(name, value)| (*name, value.to_string())).collect())
    }

    #[test]
    fn forms_write_etcdctl() {
        let get = values(&[("key", "a b"), ("consistency", "s"), ("rev", "3"), ("prefix", "yes")]);
        let (line, typed) = Operation::Get.compose(&get);
        assert_eq!(line, "get --consistency=s --rev=3 --prefix \"a b\"");
        assert!(typed.is_empty());
        let put = values(&[("key", "k"), ("value", "v"), ("lease", "7587")]);
        assert_eq!(Operation::Put.compose(&put).0, "put --lease=7587 k v");
        let alive = values(&[("lease", "7587")]);
        assert_eq!(Operation::KeepAlive.compose(&alive).0, "lease keep-alive 7587");
    }

    #[test]
    fn a_transaction_is_typed_in() {
        let txn = values(&[("key", "k"), ("value", "a"), ("then-key", "k"), ("then-value", "b")]);
        let (line, typed) = Operation::Txn.compose(&txn);
        assert_eq!(line, "txn");
        assert_eq!(typed, ["value(\"k\") = \"a\"", "", "put k b", "", ""]);
    }
}
