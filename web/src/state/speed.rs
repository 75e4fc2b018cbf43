//! The speeds that can be chosen, from a thousandth to as fast as it can.

use coracle_worker::protocol::Speed;

/// Slowest first: what is shown, and a name for tests.
pub(crate) const SPEEDS: [(Speed, &str, &str); 8] = [
    (Speed::Rate(0.001), "0.001×", "0.001"),
    (Speed::Rate(0.01), "0.01×", "0.01"),
    (Speed::Rate(0.05), "0.05×", "0.05"),
    (Speed::Rate(0.25), "¼×", "0.25"),
    (Speed::Rate(1.0), "1×", "1"),
    (Speed::Rate(2.0), "2×", "2"),
    (Speed::Rate(4.0), "4×", "4"),
    (Speed::Full, "full", "full"),
];

/// The next speed upwards or downwards.
pub(crate) fn beside(speed: Speed, up: bool) -> Speed {
    let at = SPEEDS.iter().position(|(other, ..)| *other == speed).unwrap_or(4);
    let next = if up { (at + 1).min(SPEEDS.len() - 1) } else { at.saturating_sub(1) };
    SPEEDS[next].0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_end_at_the_ends() {
        assert_eq!(beside(Speed::Rate(1.0), true), Speed::Rate(2.0));
        assert_eq!(beside(Speed::Full, true), Speed::Full);
        assert_eq!(beside(Speed::Rate(0.001), false), Speed::Rate(0.001));
    }
}
