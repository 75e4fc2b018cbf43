//! etcdctl's commands and output formats over a [`client::Client`] trait.

#![forbid(unsafe_code)]

pub mod client;
pub mod environment;

use environment::Environment;

/// Runs one command line (`arguments` without the program's name) to its exit code.
pub async fn run(arguments: Vec<String>, environment: &dyn Environment) -> i32 {
    let _ = (arguments, environment);
    0
}
