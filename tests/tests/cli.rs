//! The commands against real `etcdctl`, each with both servers: see [`coracle_tests::cli`].
//!
//! | variable | effect |
//! |---|---|
//! | `CORACLE_LONG=1` | more random command lines |
//! | `CORACLE_SEED=n` | the random lines of this seed |

use std::env;

use coracle_tests::cli::{compare, generate, matrix};

/// The seed that every run repeats.
const FIXED_SEED: u64 = 20_260_801;
const LINES: usize = 120;
const LONG_LINES: usize = 3_000;

#[test]
fn ctl_03_every_command_in_every_format() {
    if let Err(error) = compare(&matrix::lines()) {
        panic!("{error:#}");
    }
}

#[test]
fn ctl_05_random_command_lines() {
    let long = env::var("CORACLE_LONG").is_ok_and(|value| value != "0");
    let seed = env::var("CORACLE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or(FIXED_SEED);
    println!("seed {seed}");
    if let Err(error) = compare(&generate::lines(seed, if long { LONG_LINES } else { LINES })) {
        panic!("seed {seed}: {error:#}");
    }
}
