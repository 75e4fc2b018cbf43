//! What the page knows, and how it changes: one [`State`], one [`Msg`] type, one pure `reduce`.
//!
//! | module | holds |
//! |---|---|
//! | [`flights`] | the messages that are drawn |
//! | [`geometry`] | where nodes and links are drawn |
//! | [`feed`] | the lines of the event feed |
//! | [`runs`] | commands and what they printed |
//! | [`command`] | command lines: composed and completed |
//! | [`presets`] | sequences of actions |
//! | [`keys`] | which key does what |
//! | [`speed`] | the speeds that can be chosen |

pub(crate) mod command;
pub(crate) mod feed;
pub(crate) mod flights;
pub(crate) mod geometry;
pub(crate) mod keys;
pub(crate) mod presets;
pub(crate) mod runs;
pub(crate) mod speed;

use coracle_worker::protocol::{
    Answer, Condition, Flight, Frame, Lab, LinkView, NodeNumber, NodeView, PacketId, Report,
    Settings, Speed, StorageKind,
};

use feed::Feed;
use flights::{Flights, Moment};
use geometry::Geometry;
use presets::Playing;
use runs::{Runs, Source};

/// The page draws at most so far ahead of the last frame, in real milliseconds.
const AHEAD_MS: f64 = 17.0;
/// After so many frames that say otherwise, the engine is right about the speed of time.
const DISAGREEMENTS_MAX: u32 = 20;
const NOTICES_MAX: usize = 3;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Selection {
    Node(NodeNumber),
    /// The smaller number first.
    Link(NodeNumber, NodeNumber),
    /// With what it said, since it may arrive while somebody reads.
    Message(Flight),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tab {
    #[default]
    Inspect,
    Client,
    Faults,
    Terminal,
    Feed,
}

impl Tab {
    pub(crate) const ALL: [Tab; 5] =
        [Tab::Inspect, Tab::Client, Tab::Faults, Tab::Terminal, Tab::Feed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Tab::Inspect => "Inspect",
            Tab::Client => "Client",
            Tab::Faults => "Network",
            Tab::Terminal => "Terminal",
            Tab::Feed => "Events",
        }
    }

    pub(crate) fn id(self) -> &'static str {
        match self {
            Tab::Inspect => "inspect",
            Tab::Client => "client",
            Tab::Faults => "faults",
            Tab::Terminal => "terminal",
            Tab::Feed => "feed",
        }
    }

    /// Whether a wide page shows it always, beside the others.
    pub(crate) fn has_own_place(self) -> bool {
        matches!(self, Tab::Terminal | Tab::Feed)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Theme {
    /// As the system says.
    #[default]
    Auto,
    Light,
    Dark,
}

/// Where the disks are, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageNote {
    pub(crate) kind: StorageKind,
    pub(crate) sentence: String,
    pub(crate) can_take_over: bool,
}

/// A sentence that goes away by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) number: u64,
    pub(crate) text: String,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) lab: Lab,
    /// Whether the engine has shown anything yet.
    pub(crate) is_alive: bool,
    /// When the last frame came, in real milliseconds.
    frame_at: f64,
    pub(crate) speed: Speed,
    /// The speed before the pause.
    pub(crate) resume: Speed,
    disagreements: u32,
    pub(crate) flights: Flights,
    pub(crate) feed: Feed,
    pub(crate) runs: Runs,
    pub(crate) selection: Option<Selection>,
    pub(crate) tab: Tab,
    /// The tab that a wide page shows beside the ring.
    pub(crate) side: Tab,
    pub(crate) storage: Option<StorageNote>,
    pub(crate) fatal: Option<String>,
    pub(crate) notices: Vec<Notice>,
    notice_number: u64,
    pub(crate) size: (f64, f64),
    pub(crate) heartbeats: bool,
    pub(crate) is_help_open: bool,
    pub(crate) theme: Theme,
    pub(crate) playing: Option<Playing>,
    /// Whether the visitor has selected a node once: then the invitation has done its work.
    pub(crate) is_greeted: bool,
}

impl Default for State {
    fn default() -> State {
        State {
            lab: expected(),
            is_alive: false,
            frame_at: 0.0,
            speed: Speed::Rate(1.0),
            resume: Speed::Rate(1.0),
            disagreements: 0,
            flights: Flights::default(),
            feed: Feed::default(),
            runs: Runs::default(),
            selection: None,
            tab: Tab::default(),
            side: Tab::default(),
            storage: None,
            fatal: None,
            notices: Vec::new(),
            notice_number: 0,
            size: (0.0, 0.0),
            heartbeats: true,
            is_help_open: false,
            theme: Theme::default(),
            playing: None,
            is_greeted: false,
        }
    }
}

/// What the page shows until the engine says what there is.
fn expected() -> Lab {
    let nodes = 1..=Settings::default().nodes;
    let nodes = nodes.map(|id| NodeView { id, ..NodeView::default() }).collect();
    Lab { nodes, ..Lab::default() }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Msg {
    /// The engine said something, at this real time in milliseconds.
    Reported(Report, f64),
    /// The visitor chose a speed.
    Speed(Speed),
    Select(Option<Selection>),
    SelectMessage(PacketId),
    Tab(Tab),
    Resized(f64, f64),
    Heartbeats(bool),
    Help(bool),
    Theme(Theme),
    Began {
        id: u64,
        line: String,
        node: Option<NodeNumber>,
    },
    Typed {
        id: u64,
        text: String,
    },
    ClearRuns,
    Playing(Option<Playing>),
    /// A new experiment was asked for: what was is of no interest.
    Restarted,
    Notice(String),
    Unnotice(u64),
}

impl State {
    pub(crate) fn reduce(&mut self, msg: Msg) {
        match msg {
            Msg::Reported(report, real) => self.report(report, real),
            Msg::Speed(speed) => self.choose_speed(speed),
            Msg::Select(selection) => self.select(selection),
            Msg::SelectMessage(id) => {
                if let Some(flight) = self.flights.get(id).cloned() {
                    self.select(Some(Selection::Message(flight)));
                }
            }
            Msg::Tab(tab) => self.open(tab),
            Msg::Resized(width, height) => self.size = (width, height),
            Msg::Heartbeats(shown) => self.heartbeats = shown,
            Msg::Help(open) => self.is_help_open = open,
            Msg::Theme(theme) => self.theme = theme,
            Msg::Began { id, line, node } => self.runs.begin(id, line, node),
            Msg::Typed { id, text } => self.runs.push(id, Source::Typed, text.as_bytes()),
            Msg::ClearRuns => self.runs.clear(),
            Msg::Playing(playing) => self.playing = playing,
            Msg::Restarted => self.begin_anew(),
            Msg::Notice(text) => self.notice(text),
            Msg::Unnotice(number) => self.notices.retain(|notice| notice.number != number),
        }
    }

    fn report(&mut self, report: Report, real: f64) {
        match report {
            Report::Frame(frame) => self.frame(*frame, real),
            Report::Output { id, stream, data } => self.runs.push(id, stream.into(), &data),
            Report::Exit { id, code } => self.runs.end(id, code),
            Report::Done { result: Err(sentence), .. } => self.notice(sentence),
            Report::Done {
                result: Ok(Answer::Nothing | Answer::State(_) | Answer::Text(_)),
                ..
            } => {}
            Report::Storage { kind, sentence, can_take_over } => {
                self.storage = Some(StorageNote { kind, sentence, can_take_over });
            }
            Report::Fatal { sentence } => self.fatal = Some(sentence),
            // Saved by whoever hears of it; the command says so itself.
            Report::File { .. } => {}
        }
    }

    fn frame(&mut self, frame: Frame, real: f64) {
        let is_another = frame.lab.time < self.lab.time || frame.lab.seed != self.lab.seed;
        if self.is_alive && is_another {
            self.flights.clear();
            self.feed.clear();
        }
        self.is_alive = true;
        self.flights.absorb(&frame, real);
        self.feed.absorb(&frame);
        let agrees = frame.lab.speed == self.speed;
        self.disagreements = if agrees { 0 } else { self.disagreements + 1 };
        // The frame that says that time stands still may be the last one.
        let is_over = !agrees && frame.lab.is_paused();
        if is_over || self.disagreements > DISAGREEMENTS_MAX {
            self.choose_speed(frame.lab.speed);
        }
        self.lab = frame.lab;
        self.frame_at = real;
        if let Some(Selection::Node(node)) = self.selection
            && self.node(node).is_none()
        {
            self.selection = None;
        }
    }

    fn choose_speed(&mut self, speed: Speed) {
        self.disagreements = 0;
        self.speed = speed;
        if speed != Speed::Paused {
            self.resume = speed;
        }
    }

    fn select(&mut self, selection: Option<Selection>) {
        self.is_greeted |= matches!(selection, Some(Selection::Node(_)));
        if selection.is_some() {
            self.open(Tab::Inspect);
        }
        self.selection = selection;
    }

    fn open(&mut self, tab: Tab) {
        self.tab = tab;
        if !tab.has_own_place() {
            self.side = tab;
        }
    }

    fn begin_anew(&mut self) {
        self.flights.clear();
        self.feed.clear();
        self.runs.abandon();
        self.selection = None;
        self.playing = None;
        self.fatal = None;
    }

    fn notice(&mut self, text: String) {
        self.notice_number += 1;
        self.notices.push(Notice { number: self.notice_number, text });
        if self.notices.len() > NOTICES_MAX {
            self.notices.remove(0);
        }
    }

    /// The present, a little ahead of the last frame so that dots move smoothly between frames.
    pub(crate) fn now(&self, real: f64) -> Moment {
        let rate = match self.speed {
            Speed::Paused => 0.0,
            _ if self.lab.is_paused() => 0.0,
            Speed::Rate(rate) => rate,
            Speed::Full => f64::INFINITY,
        };
        let ahead_ms = (real - self.frame_at).clamp(0.0, AHEAD_MS);
        let ahead = if rate.is_finite() { ahead_ms * 1e6 * rate } else { 0.0 };
        Moment { time: self.lab.time + ahead as u64, real, rate }
    }

    pub(crate) fn node(&self, node: NodeNumber) -> Option<&NodeView> {
        self.lab.nodes.iter().find(|view| view.id == node)
    }

    /// The nodes that have a place on the ring.
    pub(crate) fn ring(&self) -> Vec<NodeNumber> {
        let present = self.lab.nodes.iter().filter(|node| node.condition != Condition::Removed);
        present.map(|node| node.id).collect()
    }

    pub(crate) fn geometry(&self) -> Geometry {
        Geometry::new(self.size, &self.ring())
    }

    /// One way of a link.
    pub(crate) fn way(&self, from: NodeNumber, to: NodeNumber) -> LinkView {
        let found = self.lab.links.iter().find(|link| link.from == from && link.to == to);
        found.copied().unwrap_or(LinkView { from, to, cut: false, own: None })
    }
}

#[cfg(test)]
mod tests {
    use coracle_worker::protocol::MILLISECOND;

    use super::*;

    fn frame(time: u64, speed: Speed) -> Msg {
        let nodes = vec![NodeView { id: 1, ..NodeView::default() }];
        let lab = Lab { time, speed, nodes, ..Lab::default() };
        Msg::Reported(Report::Frame(Box::new(Frame { lab, ..Frame::default() })), 100.0)
    }

    #[test]
    fn time_goes_on_between_frames_but_not_far() {
        let mut state = State::default();
        state.reduce(Msg::Speed(Speed::Rate(0.5)));
        state.reduce(frame(MILLISECOND, Speed::Rate(0.5)));
        assert_eq!(state.now(110.0).time, 6 * MILLISECOND);
        assert_eq!(state.now(9_999.0).time, MILLISECOND + 17 * MILLISECOND / 2);
        state.reduce(Msg::Speed(Speed::Paused));
        assert_eq!(state.now(110.0).time, MILLISECOND);
    }

    #[test]
    fn a_pause_remembers_the_speed() {
        let mut state = State::default();
        state.reduce(Msg::Speed(Speed::Rate(0.1)));
        state.reduce(Msg::Speed(Speed::Paused));
        assert_eq!(state.resume, Speed::Rate(0.1));
    }

    #[test]
    fn in_the_end_the_engine_is_right_about_the_speed() {
        let mut state = State::default();
        for time in 0..=u64::from(DISAGREEMENTS_MAX) {
            assert_eq!(state.speed, Speed::Rate(1.0));
            state.reduce(frame(time, Speed::Full));
        }
        assert_eq!(state.speed, Speed::Full);
        state.reduce(frame(100, Speed::Paused));
        assert_eq!((state.speed, state.resume), (Speed::Paused, Speed::Full));
    }

    #[test]
    fn a_selected_node_opens_its_panel_and_ends_the_invitation() {
        let mut state = State::default();
        state.reduce(frame(0, Speed::Rate(1.0)));
        state.reduce(Msg::Tab(Tab::Feed));
        state.reduce(Msg::Select(Some(Selection::Node(1))));
        assert!(state.is_greeted);
        assert_eq!((state.tab, state.side), (Tab::Inspect, Tab::Inspect));
        state.reduce(Msg::Tab(Tab::Terminal));
        assert_eq!((state.tab, state.side), (Tab::Terminal, Tab::Inspect));
    }

    #[test]
    fn what_fails_is_told() {
        let mut state = State::default();
        let result = Err("node 9 does not exist".to_string());
        state.reduce(Msg::Reported(Report::Done { id: 1, result }, 0.0));
        assert_eq!(state.notices[0].text, "node 9 does not exist");
        state.reduce(Msg::Unnotice(state.notices[0].number));
        assert!(state.notices.is_empty());
    }
}
