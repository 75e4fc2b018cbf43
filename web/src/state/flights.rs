//! The messages that are drawn: those under way, and for a moment those that arrived or were lost.
//!
//! A dot's place follows from virtual time. Where a flight would be over before an eye can follow
//! it, the dot takes [`SHOWN_MS`] of real time instead, and so is still seen after it has arrived.

use std::collections::BTreeMap;

use coracle_worker::protocol::{Flight, Frame, MILLISECOND, MessageKind, Nanos, PacketId};

use super::geometry::{Geometry, Point};

/// The shortest time for which a flight is drawn, in real milliseconds.
pub(crate) const SHOWN_MS: f64 = 320.0;
/// How long a lost message's cross fades, in real milliseconds.
const FADE_MS: f64 = 900.0;
/// More dots than this say nothing and cost time.
const DOTS_MAX: usize = 400;
/// Messages that will be lost do not come further than the place where a cut is drawn.
const LOST_AT: f64 = 0.5;

/// The present: virtual time, real milliseconds, and virtual seconds per real second (0: paused,
/// infinite: as fast as it can).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moment {
    pub(crate) time: Nanos,
    pub(crate) real: f64,
    pub(crate) rate: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dot {
    pub(crate) flight: Flight,
    /// When the network lost it.
    lost: Option<Nanos>,
    /// When the page heard of it, and of its end, in real milliseconds.
    seen: f64,
    ended: Option<f64>,
}

/// Where and how a dot is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Placed {
    pub(crate) at: Point,
    pub(crate) alpha: f64,
    /// Draw the cross of a lost message.
    pub(crate) is_lost: bool,
}

impl Dot {
    fn progress(&self, time: Nanos) -> f64 {
        let Flight { sent, arrives, .. } = self.flight;
        let total = arrives.saturating_sub(sent).max(1) as f64;
        let part = (time.saturating_sub(sent) as f64 / total).clamp(0.0, 1.0);
        if self.flight.lost { part * LOST_AT } else { part }
    }

    fn is_under_way(&self, time: Nanos) -> bool {
        self.lost.is_none() && time < self.flight.arrives
    }

    /// Its place at this moment; none if it is not to be seen.
    pub(crate) fn place(&self, now: Moment, ring: &Geometry) -> Option<Placed> {
        let (start, end) = ring.lane(self.flight.from, self.flight.to)?;
        let duration_ms = self.flight.arrives.saturating_sub(self.flight.sent) as f64
            / MILLISECOND as f64
            / now.rate.max(1e-9);
        let stretched = ((now.real - self.seen) / SHOWN_MS).max(0.0);
        let is_stretched = duration_ms < SHOWN_MS;
        if let Some(lost) = self.lost.or_else(|| {
            let over = self.flight.lost && now.time >= self.flight.arrives;
            over.then_some(self.flight.arrives)
        }) {
            let part = self.progress(lost);
            if is_stretched && stretched < part {
                return Some(seen(start.towards(end, stretched)));
            }
            let since = now.real - self.ended.unwrap_or(now.real);
            let alpha = 1.0 - (since / FADE_MS).clamp(0.0, 1.0);
            return Some(Placed { at: start.towards(end, part), alpha, is_lost: true });
        }
        if is_stretched {
            return (stretched < 1.0).then(|| seen(start.towards(end, stretched)));
        }
        let shown = now.time >= self.flight.sent && now.time < self.flight.arrives;
        shown.then(|| seen(start.towards(end, self.progress(now.time))))
    }
}

fn seen(at: Point) -> Placed {
    Placed { at, alpha: 1.0, is_lost: false }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Flights(BTreeMap<PacketId, Dot>);

impl Flights {
    /// Takes a frame in that came at `real` milliseconds.
    pub(crate) fn absorb(&mut self, frame: &Frame, real: f64) {
        for flight in &frame.sent {
            let dot = Dot { flight: flight.clone(), lost: None, seen: real, ended: None };
            self.0.insert(flight.id, dot);
        }
        for (id, arrives) in &frame.delayed {
            if let Some(dot) = self.0.get_mut(id) {
                dot.flight.arrives = *arrives;
            }
        }
        for (id, at) in &frame.lost {
            if let Some(dot) = self.0.get_mut(id) {
                dot.lost = Some(*at);
            }
        }
        for dot in self.0.values_mut() {
            if dot.ended.is_none() && !dot.is_under_way(frame.lab.time) {
                dot.ended = Some(real);
            }
        }
        self.0.retain(|_, dot| dot.ended.is_none_or(|ended| real - ended < FADE_MS));
        while self.0.len() > DOTS_MAX {
            self.0.pop_first();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn get(&self, id: PacketId) -> Option<&Flight> {
        self.0.get(&id).map(|dot| &dot.flight)
    }

    /// All dots, without heartbeats if they are hidden.
    pub(crate) fn dots(&self, heartbeats: bool) -> impl Iterator<Item = &Dot> {
        let wanted = move |dot: &&Dot| heartbeats || !is_heartbeat(&dot.flight);
        self.0.values().filter(wanted)
    }

    /// Those that have not arrived, the next to arrive first.
    pub(crate) fn under_way(&self, time: Nanos, heartbeats: bool) -> Vec<Flight> {
        let flying = self.dots(heartbeats).filter(|dot| dot.is_under_way(time));
        let mut flights: Vec<_> = flying.map(|dot| dot.flight.clone()).collect();
        flights.sort_unstable_by_key(|flight| (flight.arrives, flight.id));
        flights
    }

    /// The message whose dot is nearest to a point, within reach of a finger or a pointer.
    pub(crate) fn at(
        &self,
        point: Point,
        reach: f64,
        now: Moment,
        ring: &Geometry,
        heartbeats: bool,
    ) -> Option<PacketId> {
        let near = self.dots(heartbeats).filter_map(|dot| {
            let placed = dot.place(now, ring).filter(|placed| !placed.is_lost)?;
            Some((dot.flight.id, placed.at.distance(point)))
        });
        let nearest = near.min_by(|one, other| one.1.total_cmp(&other.1));
        nearest.filter(|(_, distance)| *distance <= reach).map(|(id, _)| id)
    }
}

fn is_heartbeat(flight: &Flight) -> bool {
    flight.message.kind == MessageKind::Heartbeat
}

#[cfg(test)]
mod tests {
    use coracle_worker::protocol::{Lab, Message};

    use super::*;

    fn flight(id: PacketId, kind: MessageKind, lost: bool) -> Flight {
        let message = Message { kind, answer: false, fields: Vec::new() };
        let arrives = 10 * MILLISECOND;
        Flight { id, from: 1, to: 2, sent: 0, arrives, message, lost }
    }

    fn frame(time: Nanos, sent: Vec<Flight>) -> Frame {
        Frame { lab: Lab { time, ..Lab::default() }, sent, ..Frame::default() }
    }

    fn ring() -> Geometry {
        Geometry::new((800.0, 600.0), &[1, 2])
    }

    #[test]
    fn a_dot_is_where_virtual_time_says_when_it_is_slow() {
        let mut flights = Flights::default();
        flights.absorb(&frame(0, vec![flight(1, MessageKind::Vote, false)]), 0.0);
        let now = Moment { time: 5 * MILLISECOND, real: 500.0, rate: 0.01 };
        let placed = flights.dots(true).next().unwrap().place(now, &ring()).unwrap();
        let (start, end) = ring().lane(1, 2).unwrap();
        assert!((placed.at.x - (start.x + end.x) / 2.0).abs() < 1e-6);
        assert_eq!(flights.at(placed.at, 5.0, now, &ring(), true), Some(1));
    }

    #[test]
    fn a_fast_dot_is_seen_after_it_has_arrived_but_not_for_ever() {
        let mut flights = Flights::default();
        flights.absorb(&frame(0, vec![flight(1, MessageKind::Vote, false)]), 0.0);
        let time = 100 * MILLISECOND;
        let dot = flights.dots(true).next().unwrap();
        assert!(dot.place(Moment { time, real: 100.0, rate: 1.0 }, &ring()).is_some());
        assert!(dot.place(Moment { time, real: 400.0, rate: 1.0 }, &ring()).is_none());
        flights.absorb(&frame(time, vec![]), 100.0);
        flights.absorb(&frame(time, vec![]), 2000.0);
        assert_eq!(flights, Flights::default());
    }

    #[test]
    fn a_lost_one_ends_in_a_cross_half_way() {
        let mut flights = Flights::default();
        flights.absorb(&frame(0, vec![flight(1, MessageKind::Append, true)]), 0.0);
        flights.absorb(&frame(10 * MILLISECOND, vec![]), 1000.0);
        let now = Moment { time: 10 * MILLISECOND, real: 1100.0, rate: 0.01 };
        let placed = flights.dots(true).next().unwrap().place(now, &ring()).unwrap();
        assert!(placed.is_lost && placed.alpha < 1.0 && placed.alpha > 0.5);
        assert!((placed.at.x - 400.0).abs() < 1.0);
    }

    #[test]
    fn under_way_are_those_that_have_not_arrived() {
        let mut flights = Flights::default();
        let sent =
            vec![flight(1, MessageKind::Heartbeat, false), flight(2, MessageKind::Vote, false)];
        flights.absorb(&frame(0, sent), 0.0);
        assert_eq!(flights.under_way(0, true).len(), 2);
        assert_eq!(flights.under_way(0, false)[0].id, 2);
        let delayed = vec![(2, 30 * MILLISECOND)];
        let later = Frame { delayed, ..frame(20 * MILLISECOND, vec![]) };
        flights.absorb(&later, 10.0);
        assert_eq!(flights.under_way(20 * MILLISECOND, true)[0].id, 2);
        let lost = Frame { lost: vec![(2, 0)], ..frame(21 * MILLISECOND, vec![]) };
        flights.absorb(&lost, 11.0);
        assert!(flights.under_way(21 * MILLISECOND, true).is_empty());
    }
}
