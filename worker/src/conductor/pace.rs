//! How far virtual time may go.

use coracle_core::small_map::SmallMap;

use crate::protocol::{MILLISECOND, Nanos, Speed, Step};

/// At full speed time may go so far ahead before the page is asked again.
const FULL_STRIDE: Nanos = 100 * MILLISECOND;
/// A tab that could not keep up catches up by so much real time at most, in milliseconds.
const MOST_LAG_MS: f64 = 100.0;
const SLOWEST: f64 = 0.001;
const FASTEST: f64 = 4.0;

/// Who lets time go on, and up to when.
pub(super) struct Pace {
    pub(super) speed: Speed,
    hidden: bool,
    last_tick_ms: Option<f64>,
    /// The limit that real time sets.
    real: Nanos,
    /// A run that was asked for: its request, and when it ends.
    pub(super) run: Option<(u64, Nanos)>,
    /// Commands for which paused time goes on.
    pub(super) advancing: SmallMap<u64, ()>,
    pub(super) step: Option<Step>,
}

impl Pace {
    pub(super) fn new(speed: Speed) -> Pace {
        Pace {
            speed,
            hidden: false,
            last_tick_ms: None,
            real: 0,
            run: None,
            advancing: SmallMap::new(),
            step: None,
        }
    }

    pub(super) fn set_speed(&mut self, speed: Speed, now: Nanos) {
        self.speed = match speed {
            Speed::Rate(rate) => Speed::Rate(rate.clamp(SLOWEST, FASTEST)),
            other => other,
        };
        self.real = now;
        self.last_tick_ms = None;
        self.step = None;
    }

    pub(super) fn set_visible(&mut self, visible: bool, now: Nanos) {
        self.hidden = !visible;
        self.real = now;
        self.last_tick_ms = None;
    }

    /// Lets virtual time follow real time, as far as the nodes keep up.
    pub(super) fn tick(&mut self, real_ms: f64, now: Nanos) {
        let passed = self.last_tick_ms.map_or(0.0, |last| (real_ms - last).max(0.0));
        self.last_tick_ms = Some(real_ms);
        let Speed::Rate(rate) = self.speed else { return };
        let stride = |millis: f64| (millis * rate * MILLISECOND as f64) as Nanos;
        self.real = (self.real.max(now) + stride(passed)).min(now + stride(MOST_LAG_MS));
    }

    pub(super) fn paused(&self) -> bool {
        self.speed == Speed::Paused
    }

    /// Up to when time may go from `now`.
    pub(super) fn limit(&self, now: Nanos) -> Nanos {
        if let Some((_, end)) = self.run {
            return end;
        }
        if self.step.is_some() || !self.advancing.is_empty() {
            return Nanos::MAX;
        }
        match self.speed {
            _ if self.hidden => now,
            Speed::Paused => now,
            Speed::Rate(_) => self.real.max(now),
            Speed::Full => now + FULL_STRIDE,
        }
    }

    /// Whether time goes on without waiting for the real one.
    pub(super) fn is_busy(&self) -> bool {
        self.is_asked() || (self.speed == Speed::Full && !self.hidden)
    }

    /// Whether it does so with no end in sight.
    pub(super) fn is_racing(&self) -> bool {
        self.speed == Speed::Full && !self.is_asked()
    }

    fn is_asked(&self) -> bool {
        self.run.is_some() || self.step.is_some() || !self.advancing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_follows_the_clock_at_the_rate() {
        let mut pace = Pace::new(Speed::Rate(0.5));
        pace.tick(1000.0, 0);
        assert_eq!(pace.limit(0), 0);
        pace.tick(1010.0, 0);
        assert_eq!(pace.limit(0), 5 * MILLISECOND);
        pace.tick(9000.0, 0);
        assert_eq!(pace.limit(0), 50 * MILLISECOND, "a tab that slept does not race");
    }

    #[test]
    fn a_hidden_tab_stands_still_but_finishes_what_was_asked() {
        let mut pace = Pace::new(Speed::Full);
        pace.set_visible(false, 7);
        assert_eq!((pace.limit(7), pace.is_busy()), (7, false));
        pace.run = Some((1, 99));
        assert_eq!((pace.limit(7), pace.is_busy()), (99, true));
    }

    #[test]
    fn speeds_have_bounds() {
        let mut pace = Pace::new(Speed::Paused);
        pace.set_speed(Speed::Rate(1000.0), 0);
        assert_eq!(pace.speed, Speed::Rate(4.0));
    }
}
