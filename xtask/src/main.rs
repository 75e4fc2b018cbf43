//! `cargo xtask`: the commands of a developer of Coracle, and no other script beside it.
//!
//! | command | does |
//! |---|---|
//! | `cargo xtask demo` | a cluster of three members on this machine, until Ctrl-C |
//! | `cargo xtask test` | everything a change must pass, with all the set-up it needs |
//! | `cargo xtask bench` | Coracle and a real etcd under the same load, side by side |
//! | `cargo xtask www` | the laboratory: a folder for any web server, in `www/dist` |
//! | `cargo xtask dist` | what an operator gets, in `target/dist`: static binary, image, manual |
//! | `cargo xtask codegen` | writes the generated code again from `core/proto` |
//!
//! It is compiled before everything else, so it depends on next to nothing, and on no other crate
//! of the workspace: what needs them (the load generator, the code generator) is a program of its
//! own that xtask builds and runs. What it downloads lands in `.cache`, what it builds in `target`;
//! both are ignored by git and may be deleted at any time.

mod bench;
mod browser;
mod check;
mod demo;
mod dist;
mod health;
mod paths;
mod run;
mod setup;
mod site;
mod wasm;
mod www;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The developer commands of Coracle.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a cluster of three members on this machine until Ctrl-C.
    Demo(demo::Options),
    /// Check and test everything, installing first what is missing.
    Test(check::Options),
    /// Measure Coracle and a real etcd under the same load and write docs/benchmarks.md.
    Bench(bench::Options),
    /// Build the laboratory into www/dist, a folder for any web server.
    Www(www::Options),
    /// Build the static binary and what goes with it into target/dist.
    Dist(dist::Options),
    /// Write the generated code again from core/proto.
    Codegen,
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<()> {
    match command {
        Command::Demo(options) => demo::demo(&options),
        Command::Test(options) => check::test(&options),
        Command::Bench(options) => bench::bench(&options),
        Command::Www(options) => www::www(&options),
        Command::Dist(options) => dist::dist(&options),
        Command::Codegen => run::run(run::cargo().args(["run", "-p", "coracle-codegen"])),
    }
}
