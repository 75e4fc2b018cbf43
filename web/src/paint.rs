//! What moves: message dots, the arcs of the election timers, the clock. Drawn before each repaint
//! and outside Yew, which would otherwise compare the whole page sixty times a second.

use coracle_worker::protocol::{MAX_NODES, MessageKind, NodeNumber, Speed};

use crate::dom::canvas::{Canvas, Ink, Shape};
use crate::hooks::Desk;
use crate::state::flights::Moment;
use crate::state::geometry::Geometry;
use crate::state::{Selection, State};
use crate::{dom, shapes};

pub(crate) const CANVAS: &str = "message-canvas";
pub(crate) const CLOCK: &str = "clock";
/// Where time races nothing can be followed: the picture is drawn at most once in so many
/// milliseconds, and the cluster has the processor.
const RACING_MS: f64 = 95.0;
/// The length of a whole arc, in its own units.
pub(crate) const ARC_LENGTH: f64 = 1000.0;

/// The id of the arc around a node.
pub(crate) fn arc_id(node: NodeNumber) -> String {
    format!("arc-{node}")
}

struct Painter {
    canvas: Option<Canvas>,
    /// In the order of [`shapes::KINDS`], as the colours are.
    shapes: Vec<Option<Shape>>,
    cross: Option<Shape>,
    colors: Vec<String>,
    paper: String,
    lost: String,
    is_dark: Option<bool>,
    last: Option<(u64, usize)>,
    /// How much of each node's arc is drawn, by its number.
    arcs: [u32; MAX_NODES as usize + 1],
    shown_clock: u64,
    /// When it was last painted, in real milliseconds.
    painted: f64,
}

/// Paints for as long as the page lives.
pub(crate) fn start(desk: Desk) {
    let mut painter = Painter {
        canvas: None,
        shapes: shapes::KINDS.map(|kind| Shape::new(shapes::message(kind))).into(),
        cross: Shape::new(shapes::CROSS),
        colors: Vec::new(),
        paper: String::new(),
        lost: String::new(),
        is_dark: None,
        last: None,
        arcs: [u32::MAX; MAX_NODES as usize + 1],
        shown_clock: u64::MAX,
        painted: 0.0,
    };
    dom::each_animation_frame(move |_| {
        desk.advance_preset();
        let (state, now) = (desk.store.read(), dom::now());
        if state.lab.speed != Speed::Full || now - painter.painted >= RACING_MS {
            painter.painted = now;
            painter.paint(&state, now);
        }
    });
}

impl Painter {
    fn paint(&mut self, state: &State, real: f64) {
        let now = state.now(real);
        self.clock(now);
        self.read_colors();
        self.arcs(state, now);
        if self.canvas.as_ref().is_none_or(|canvas| !canvas.is_shown()) {
            self.canvas = Canvas::find(CANVAS);
        }
        let ring = state.geometry();
        self.dots(state, now, &ring);
    }

    fn clock(&mut self, now: Moment) {
        let micros = now.time / 1000;
        if micros != self.shown_clock {
            self.shown_clock = micros;
            dom::set_text(CLOCK, &format_clock(micros));
        }
    }

    fn read_colors(&mut self) {
        let is_dark = dom::is_dark();
        if self.is_dark == Some(is_dark) {
            return;
        }
        self.is_dark = Some(is_dark);
        let color = |kind| dom::css_variable(shapes::color(kind));
        self.colors = shapes::KINDS.map(color).into();
        self.paper = dom::css_variable("--panel");
        self.lost = dom::css_variable("--bad");
        self.last = None;
    }

    fn arcs(&mut self, state: &State, now: Moment) {
        for node in &state.lab.nodes {
            let part = node.election.map_or(0.0, |(heard, deadline)| {
                let total = deadline.saturating_sub(heard).max(1) as f64;
                (now.time.saturating_sub(heard) as f64 / total).clamp(0.0, 1.0)
            });
            let drawn = (part * ARC_LENGTH) as u32;
            let Some(shown) = self.arcs.get_mut(usize::from(node.id)) else { continue };
            if *shown == drawn {
                continue;
            }
            if let Some(arc) = dom::element(&arc_id(node.id)) {
                let value = format!("{drawn} {ARC_LENGTH}");
                dom::set_attribute(&arc, "stroke-dasharray", &value);
                *shown = drawn;
            }
        }
    }

    fn dots(&mut self, state: &State, now: Moment, ring: &Geometry) {
        let Some(canvas) = &mut self.canvas else { return };
        let count = state.flights.dots(state.heartbeats).count();
        // Nothing moves in a paused picture without dots, or twice at the same moment.
        if count == 0 && self.last == Some((0, 0)) {
            return;
        }
        self.last = Some((if count == 0 { 0 } else { now.time }, count));
        canvas.begin((ring.width, ring.height));
        let picked = match &state.selection {
            Some(Selection::Message(flight)) => Some(flight.id),
            _ => None,
        };
        let size = (ring.radius / 7.5).clamp(4.0, 7.5);
        for dot in state.flights.dots(state.heartbeats) {
            let Some(placed) = dot.place(now, ring) else { continue };
            let message = &dot.flight.message;
            let kind = shapes::KINDS.iter().position(|kind| *kind == message.kind);
            let drawn = kind.and_then(|kind| self.shapes.get(kind).zip(self.colors.get(kind)));
            let Some((Some(shape), color)) = drawn else { continue };
            let is_heartbeat = message.kind == MessageKind::Heartbeat;
            let size = if is_heartbeat { size * 0.8 } else { size };
            let alpha = placed.alpha * if is_heartbeat { 0.75 } else { 1.0 };
            let ink = Ink { color, paper: &self.paper, is_filled: !message.answer, alpha };
            if placed.is_lost {
                let ink = Ink { color: &self.lost, ..ink };
                if let Some(cross) = &self.cross {
                    canvas.draw(cross, placed.at, size * 1.3, &ink);
                }
                continue;
            }
            let size = if picked == Some(dot.flight.id) { size * 1.7 } else { size };
            canvas.draw(shape, placed.at, size, &ink);
        }
    }
}

/// Virtual time for people: minutes, seconds, and thousands of them in groups.
pub(crate) fn format_clock(micros: u64) -> String {
    let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
    format!("{}:{:02}.{:03} {:03}", seconds / 60, seconds % 60, rest / 1000, rest % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_counts_microseconds() {
        assert_eq!(format_clock(0), "0:00.000 000");
        assert_eq!(format_clock(61_234_567), "1:01.234 567");
    }
}
