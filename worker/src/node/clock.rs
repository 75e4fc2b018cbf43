//! A node's own clock, which a visitor can make run fast or slow.

use std::time::Duration;

use crate::protocol::Nanos;

/// Thousandths at which a clock is right.
pub(crate) const TRUE_RATE: u32 = 1000;

/// Maps the world's virtual time to the time since the node started, and back.
pub(super) struct Clock {
    /// When the present rate began, in both times.
    since: Nanos,
    local_since: Nanos,
    permille: u64,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock::starting_at(0)
    }
}

impl Clock {
    pub(super) fn starting_at(now: Nanos) -> Clock {
        Clock { since: now, local_since: 0, permille: TRUE_RATE.into() }
    }

    /// Lets the clock run at `permille` thousandths of the true speed from `now` on.
    pub(super) fn set_rate(&mut self, now: Nanos, permille: u32) {
        self.local_since = self.local_nanos(now);
        self.since = now;
        self.permille = permille.max(1).into();
    }

    fn local_nanos(&self, now: Nanos) -> Nanos {
        self.local_since + scale(now.saturating_sub(self.since), self.permille, TRUE_RATE.into())
    }

    pub(super) fn local(&self, now: Nanos) -> Duration {
        Duration::from_nanos(self.local_nanos(now))
    }

    /// The first moment of the world at which the clock shows `local`.
    pub(super) fn global(&self, local: Duration) -> Nanos {
        let local = u64::try_from(local.as_nanos()).unwrap_or(Nanos::MAX);
        let ahead = local.saturating_sub(self.local_since);
        let mut at = self.since + scale(ahead, TRUE_RATE.into(), self.permille);
        if self.local_nanos(at) < local {
            at += 1;
        }
        at
    }
}

fn scale(nanos: Nanos, by: u64, over: u64) -> Nanos {
    u64::try_from(u128::from(nanos) * u128::from(by) / u128::from(over)).unwrap_or(Nanos::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skewed_clock_maps_there_and_back() {
        for permille in [1, 333, 500, 999, 1000, 1001, 1500, 3000] {
            let mut clock = Clock::starting_at(1_000);
            clock.set_rate(5_000_000, permille);
            for local in [4_999_000, 5_000_001, 77_777_777, 9_000_000_000] {
                let local = Duration::from_nanos(local);
                let at = clock.global(local);
                assert!(clock.local(at) >= local, "{permille}");
                assert!(at <= 5_000_000 || clock.local(at - 1) < local, "{permille}");
            }
        }
    }
}
