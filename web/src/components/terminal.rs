//! The terminal: etcdctl's commands, as many at once as one likes.
//!
//! A line goes to the command that waits for input if one does (`txn`, interactive `watch`), else
//! it begins a new command.

use std::rc::Rc;

use coracle_worker::protocol::NodeNumber;
use yew::prelude::*;

use super::node_select::NodeSelect;
use super::output::Output;
use crate::dom;
use crate::hooks::{Desk, use_desk, use_slice};
use crate::state::Msg;
use crate::state::command::complete;
use crate::state::runs::Run;

const SCROLL: &str = "terminal-output";
const INPUT: &str = "terminal-input";
/// Lines that the arrow keys remember.
const HISTORY_MAX: usize = 200;

#[component]
pub(crate) fn Terminal() -> Html {
    let runs = use_slice((), |state, ()| state.runs.all());
    let is_paused = use_slice((), |state, ()| {
        state.now(0.0).rate == 0.0 && state.runs.all().iter().any(|run| run.is_running())
    });
    let choices = use_state(Vec::<String>::new);
    let size: usize = runs.iter().flat_map(|run| &run.output).map(|(_, data)| data.len()).sum();
    let ended = runs.iter().filter(|run| !run.is_running()).count();
    // A list that was hidden has forgotten where it was.
    let tab = use_slice((), |state, ()| state.tab);
    use_effect_with((runs.len(), size, ended, choices.len(), is_paused, tab), |_| {
        if let Some(scroll) = dom::element(SCROLL) {
            dom::follow_end(&scroll);
        }
    });
    let focus = Callback::from(|_: MouseEvent| {
        if !dom::has_selection() {
            dom::focus(INPUT);
        }
    });
    html! {
        <div class="terminal">
            <div id={SCROLL} class="terminal-output" data-testid="terminal-output" role="log"
                aria-label="Terminal" tabindex="0" onclick={focus}>
                if runs.is_empty() {
                    <p class="faint">
                        { "etcdctl, with its own words: try " }<code>{ "put greeting hello" }</code>
                        { ", " }<code>{ "get greeting" }</code>{ ", " }
                        <code>{ "endpoint status --cluster -w table" }</code>
                        { ". Tab completes, ↑ remembers." }
                    </p>
                }
                { for runs.iter().map(|run| html! { <RunView key={run.id} run={run.clone()} /> }) }
                if !choices.is_empty() { <p class="faint">{ choices.join("  ") }</p> }
                if is_paused {
                    <p class="faint">
                        { "Time stands still, and the command with it: Space lets it go on." }
                    </p>
                }
            </div>
            <Prompt choices={choices.clone()} />
        </div>
    }
}

#[derive(Properties, PartialEq)]
struct RunProps {
    run: Rc<Run>,
}

#[component]
fn RunView(props: &RunProps) -> Html {
    let desk = use_desk();
    let run = &props.run;
    let id = run.id;
    let interrupt = Callback::from(move |_| desk.interrupt(id));
    let state = if run.is_running() { "running" } else { "ended" };
    let prompt = run.node.map_or_else(|| "any".into(), |node| node.to_string());
    html! {
        <div class="run" data-testid="run" data-id={id.to_string()} data-state={state}
            data-code={run.code.map(|code| code.to_string())}>
            <div class="run-line">
                <span class="prompt">{ prompt }{ " $" }</span>
                <span class="run-command">{ &run.line }</span>
                if run.is_running() {
                    <button class="quiet" data-testid="interrupt" onclick={interrupt}
                        title="Ctrl-C">{ "stop" }</button>
                }
            </div>
            <pre><Output run={run.clone()} /></pre>
        </div>
    }
}

#[derive(Properties, PartialEq)]
struct PromptProps {
    choices: UseStateHandle<Vec<String>>,
}

/// The lines of before, and where the arrow keys are among them.
#[derive(Default)]
struct History {
    lines: Vec<String>,
    at: usize,
}

#[component]
fn Prompt(props: &PromptProps) -> Html {
    let desk = use_desk();
    let line = use_state(String::new);
    let node = use_state(|| None::<NodeNumber>);
    let history = use_mut_ref(History::default);
    let reader = use_slice((), |state, ()| reader(&state.runs.all()));
    let oninput = {
        let line = line.clone();
        Callback::from(move |event: InputEvent| line.set(dom::value(&event)))
    };
    let onkeydown = {
        let (line, choices, node) = (line.clone(), props.choices.clone(), *node);
        Callback::from(move |event: KeyboardEvent| {
            let prompt = Typing { desk: &desk, line: &line, choices: &choices, node, reader };
            if let Some(next) = prompt.key(&event, &mut history.borrow_mut()) {
                event.prevent_default();
                line.set(next);
            }
        })
    };
    let onchange = {
        let node = node.clone();
        Callback::from(move |chosen| node.set(chosen))
    };
    html! {
        <div class="terminal-prompt">
            <NodeSelect id="terminal-node" label="Which node is asked" none="any node"
                node={*node} {onchange} />
            <span class="prompt" aria-hidden="true">
                { if reader.is_some() { "input>" } else { "etcdctl" } }
            </span>
            <input id={INPUT} data-testid="terminal-input" value={(*line).clone()} {oninput}
                {onkeydown} autocomplete="off" autocapitalize="off" spellcheck="false"
                aria-label="Command line" enterkeyhint="send" />
        </div>
    }
}

/// A line that is being typed.
struct Typing<'a> {
    desk: &'a Desk,
    line: &'a str,
    choices: &'a UseStateHandle<Vec<String>>,
    node: Option<NodeNumber>,
    /// The command that the line is meant for, if one waits for input.
    reader: Option<u64>,
}

impl Typing<'_> {
    /// What a key makes of the line; none if the key is the browser's own business.
    fn key(&self, event: &KeyboardEvent, history: &mut History) -> Option<String> {
        let is_control = event.ctrl_key();
        match event.key().as_str() {
            "Enter" => {
                enter(self.desk, self.line, self.node, self.reader);
                history.remember(self.line);
                self.choices.set(Vec::new());
                Some(String::new())
            }
            // On an empty line it goes on to the next field, as everywhere.
            "Tab" if !self.line.trim().is_empty() && !event.shift_key() => {
                let (completed, offered) = complete(self.line);
                self.choices.set(offered);
                Some(completed)
            }
            "ArrowUp" => history.walk(true),
            "ArrowDown" => history.walk(false),
            "c" if is_control && !dom::has_selection() => {
                interrupt_last(self.desk);
                Some(String::new())
            }
            "d" if is_control => self.reader.map(|id| {
                self.desk.input(id, None);
                String::new()
            }),
            "l" if is_control => {
                self.desk.dispatch(Msg::ClearRuns);
                Some(self.line.into())
            }
            _ => None,
        }
    }
}

impl History {
    fn remember(&mut self, line: &str) {
        if !line.trim().is_empty() && self.lines.last().map(String::as_str) != Some(line) {
            self.lines.push(line.into());
        }
        if self.lines.len() > HISTORY_MAX {
            self.lines.remove(0);
        }
        self.at = self.lines.len();
    }

    /// The line before or after the present one.
    fn walk(&mut self, back: bool) -> Option<String> {
        let next = if back { self.at.checked_sub(1)? } else { self.at + 1 };
        self.at = next.min(self.lines.len());
        Some(self.lines.get(self.at).cloned().unwrap_or_default())
    }
}

/// The newest running command that reads its standard input.
fn reader(runs: &[Rc<Run>]) -> Option<u64> {
    let reads = |run: &&Rc<Run>| {
        let mut words = run.line.split_whitespace();
        match words.next() {
            Some("txn") => true,
            Some("watch") => words.any(|word| word == "-i" || word == "--interactive"),
            _ => false,
        }
    };
    runs.iter().rev().filter(|run| run.is_running()).find(reads).map(|run| run.id)
}

fn enter(desk: &Desk, line: &str, node: Option<NodeNumber>, reader: Option<u64>) {
    match (reader, line.trim()) {
        (Some(id), _) => desk.input(id, Some(line.into())),
        (None, "") => {}
        (None, "clear") => desk.dispatch(Msg::ClearRuns),
        (None, line) => drop(desk.exec(line, node, &[])),
    }
}

fn interrupt_last(desk: &Desk) {
    let last = {
        let state = desk.store.read();
        state.runs.all().iter().rev().find(|run| run.is_running()).map(|run| run.id)
    };
    if let Some(id) = last {
        desk.interrupt(id);
    }
}
