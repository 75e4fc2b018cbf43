//! What a visitor can do, as verbs: each turns into requests to the engine and changes of state.

use coracle_worker::protocol::{
    Action, Answer, Network, NodeNumber, Report, Request, Settings, Speed, Step, StorageKind,
};
use yew::platform::spawn_local;

use super::store::Store;
use crate::client::Engine;
use crate::dom;
use crate::state::keys::Command;
use crate::state::presets::{Playing, Preset};
use crate::state::{Msg, Selection, Tab, speed};

/// How long a notice stays.
const NOTICE_MS: i32 = 7_000;
const NO_DOWNLOAD: &str = "The browser does not let the page save a file.";

#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) store: Store,
    engine: Engine,
}

impl PartialEq for Desk {
    fn eq(&self, other: &Desk) -> bool {
        self.store.is(&other.store)
    }
}

impl Desk {
    /// Starts the engine.
    pub(crate) fn new() -> Desk {
        let store = Store::default();
        store.dispatch(Msg::Theme(dom::stored_theme()));
        // Heartbeats never rest: who asked for less motion may still ask for them.
        store.dispatch(Msg::Heartbeats(!dom::prefers_reduced_motion()));
        let reported = store.clone();
        let engine = Engine::start(move |reports| {
            let before = reported.read().notices.last().map(|notice| notice.number);
            for report in &reports {
                if let Report::File { name, data, .. } = report
                    && dom::download(name, data).is_err()
                {
                    reported.dispatch(Msg::Notice(NO_DOWNLOAD.into()));
                }
            }
            let now = dom::now();
            let messages = reports.into_iter().map(|report| Msg::Reported(report, now));
            reported.dispatch_all(messages);
            expire_notice(&reported, before);
        });
        crate::api::install(&engine);
        Desk { store, engine }
    }

    pub(crate) fn dispatch(&self, msg: Msg) {
        self.store.dispatch(msg);
    }

    pub(crate) fn act(&self, action: Action) {
        let id = self.engine.next_id();
        self.engine.send(Request::Act { id, action });
    }

    pub(crate) fn speed(&self, speed: Speed) {
        self.dispatch(Msg::Speed(speed));
        self.engine.send(Request::Speed(speed));
    }

    pub(crate) fn pause(&self) {
        if self.store.read().speed != Speed::Paused {
            self.speed(Speed::Paused);
        }
    }

    pub(crate) fn toggle_pause(&self) {
        let (present, resume) = {
            let state = self.store.read();
            (state.speed, state.resume)
        };
        self.speed(if present == Speed::Paused { resume } else { Speed::Paused });
    }

    pub(crate) fn step(&self, step: Step) {
        self.pause();
        self.engine.send(Request::Step(step));
    }

    pub(crate) fn take_over(&self) {
        self.dispatch(Msg::Restarted);
        self.engine.send(Request::TakeOver);
    }

    /// Runs a command line of etcdctl; `typed` is what stands on its standard input.
    pub(crate) fn exec(&self, line: &str, node: Option<NodeNumber>, typed: &[String]) -> u64 {
        let id = self.engine.next_id();
        let line = line.trim();
        let line = line.strip_prefix("etcdctl ").unwrap_or(line).to_string();
        self.dispatch(Msg::Began { id, line: line.clone(), node });
        self.engine.send(Request::Exec { id, line, node, input: None, advance: false });
        for line in typed {
            self.input(id, Some(line.clone()));
        }
        id
    }

    /// A line for a running command, or the end of its input.
    pub(crate) fn input(&self, id: u64, line: Option<String>) {
        let text = line.as_ref().map_or_else(|| "^D\n".into(), |line| format!("{line}\n"));
        self.dispatch(Msg::Typed { id, text });
        self.engine.send(Request::Input { id, line });
    }

    pub(crate) fn interrupt(&self, id: u64) {
        self.dispatch(Msg::Typed { id, text: "^C\n".into() });
        self.engine.send(Request::Interrupt { id });
    }

    /// Begins a new experiment with as many nodes, on this kind of disk; the network stays.
    pub(crate) fn restart(&self, seed: u64, nodes: NodeNumber, storage: StorageKind) {
        let network = {
            let state = self.store.read();
            if state.is_alive { state.lab.network } else { Network::default() }
        };
        dom::close_details();
        self.dispatch(Msg::Restarted);
        let settings = Settings { seed, nodes, network, storage, ..Settings::default() };
        self.engine.send(Request::Start { settings });
        let resume = self.store.read().resume;
        self.speed(resume);
    }

    pub(crate) fn save(&self) {
        let desk = self.clone();
        spawn_local(async move {
            let answer = desk.engine.ask(|id| Request::Save { id }).await;
            let seed = desk.store.read().lab.seed;
            match answer {
                Ok(Answer::Text(text)) => {
                    if dom::download(&format!("coracle-{seed}.json"), text.as_bytes()).is_err() {
                        desk.notice(NO_DOWNLOAD);
                    }
                }
                Ok(_) => {}
                Err(sentence) => desk.notice(&sentence),
            }
        });
    }

    pub(crate) fn load(&self, experiment: String) {
        dom::close_details();
        self.dispatch(Msg::Restarted);
        self.dispatch(Msg::Speed(Speed::Paused));
        let id = self.engine.next_id();
        self.engine.send(Request::Load { id, experiment });
    }

    pub(crate) fn notice(&self, sentence: &str) {
        let before = self.store.read().notices.last().map(|notice| notice.number);
        self.dispatch(Msg::Notice(sentence.into()));
        expire_notice(&self.store, before);
    }

    pub(crate) fn play(&self, preset: Option<Preset>) {
        let playing = preset.map(|preset| Playing::new(preset, &self.store.read().lab));
        self.dispatch(Msg::Playing(playing));
    }

    /// Lets a preset that plays go on; called before each repaint.
    pub(crate) fn advance_preset(&self) {
        let (playing, actions) = {
            let state = self.store.read();
            let Some(mut playing) = state.playing.clone() else { return };
            let actions = playing.advance(&state.lab);
            (playing, actions)
        };
        if self.store.read().playing.as_ref() == Some(&playing) {
            return;
        }
        let is_over = playing.is_over();
        self.dispatch(Msg::Playing(Some(playing).filter(|_| !is_over)));
        for action in actions {
            self.act(action);
        }
    }

    pub(crate) fn select(&self, selection: Option<Selection>) {
        self.dispatch(Msg::Select(selection));
    }

    /// Selects a message; time has to stand still for that.
    pub(crate) fn select_message(&self, id: u64) {
        self.pause();
        self.dispatch(Msg::SelectMessage(id));
    }

    /// A key was pressed. Returns whether it means something.
    pub(crate) fn key(&self, key: &str) -> bool {
        let command = {
            let state = self.store.read();
            let node = match state.selection {
                Some(Selection::Node(node)) => state.node(node),
                _ => None,
            };
            crate::state::keys::command(key, node)
        };
        let Some(command) = command else { return false };
        self.command(command);
        true
    }

    fn command(&self, command: Command) {
        let present = self.store.read().speed;
        match command {
            Command::TogglePause => self.toggle_pause(),
            Command::StepEvent => self.step(Step::Event),
            Command::StepMessage => self.step(Step::Message),
            Command::Faster => self.speed(speed::beside(present, true)),
            Command::Slower => self.speed(speed::beside(present, false)),
            Command::Help => self.dispatch(Msg::Help(true)),
            Command::Escape => self.escape(),
            Command::Heartbeats => {
                let shown = self.store.read().heartbeats;
                self.dispatch(Msg::Heartbeats(!shown));
            }
            Command::Heal => self.act(Action::Heal(true)),
            Command::AddNode => self.act(Action::AddNode(true)),
            Command::NextMessage => self.next_message(),
            Command::Panel => {
                self.dispatch(Msg::Tab(Tab::Inspect));
                dom::after(30, || dom::focus("panel-inspect"));
            }
            Command::Terminal => {
                self.dispatch(Msg::Tab(Tab::Terminal));
                // Where the tab was hidden it is shown first.
                dom::after(30, || dom::focus("terminal-input"));
            }
            Command::Client => {
                self.dispatch(Msg::Tab(Tab::Client));
                dom::after(30, || dom::focus("put-key"));
            }
            Command::SelectNode(node) => {
                if self.store.read().node(node).is_some() {
                    self.select(Some(Selection::Node(node)));
                }
            }
            Command::Act(action) => self.act(action),
            Command::NoNode => self.notice("Select a node first: click it, or press its number."),
        }
    }

    fn escape(&self) {
        dom::blur();
        dom::close_details();
        if self.store.read().is_help_open {
            self.dispatch(Msg::Help(false));
        } else {
            self.select(None);
        }
    }

    /// Selects the message under way after the selected one.
    fn next_message(&self) {
        self.pause();
        let next = {
            let state = self.store.read();
            let flights = state.flights.under_way(state.lab.time, state.heartbeats);
            let at = match &state.selection {
                Some(Selection::Message(picked)) => {
                    flights.iter().position(|flight| flight.id == picked.id)
                }
                _ => None,
            };
            let index = at.map_or(0, |at| (at + 1) % flights.len());
            flights.get(index).map(|flight| flight.id)
        };
        match next {
            Some(id) => self.dispatch(Msg::SelectMessage(id)),
            None => self.notice("No message is under way. Press . for the next event."),
        }
    }
}

/// Takes the newest notice away after a while, if there is one that was not there before.
fn expire_notice(store: &Store, before: Option<u64>) {
    let newest = store.read().notices.last().map(|notice| notice.number);
    if let Some(number) = newest.filter(|_| newest != before) {
        let store = store.clone();
        dom::after(NOTICE_MS, move || store.dispatch(Msg::Unnotice(number)));
    }
}

/// The seed that somebody wrote: a number, or any text, which stands for one.
pub(crate) fn seed_of(text: &str) -> u64 {
    let hash = |text: &str| {
        // FNV-1a: the same for everybody, everywhere.
        text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    };
    text.trim().parse().unwrap_or_else(|_| hash(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_number_or_a_word() {
        assert_eq!(seed_of(" 42 "), 42);
        assert_eq!(seed_of("coracle"), seed_of("coracle "));
        assert_ne!(seed_of("coracle"), seed_of("Coracle"));
    }
}
