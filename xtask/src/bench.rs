//! `cargo xtask bench`: builds our binary and the load generator, finds a real etcd, runs both.
//!
//! The measuring itself is `coracle-bench` (see `bench/`); this only hands it the programs.

use std::path::PathBuf;

use anyhow::Result;

use crate::run::{Steps, cargo, run};
use crate::{paths, setup};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Compare server CPU per operation under h2load instead of running our own loads.
    #[arg(long)]
    h2load: bool,
    /// Passed on to the benchmark: see `cargo xtask bench -- --help`.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Sets up and hands over to `coracle-bench`.
pub(crate) fn bench(options: &Options) -> Result<()> {
    println!("Coracle and a real etcd 3.5.1 under the same load, by turns, on this machine.");
    let mut steps = Steps::default();
    let etcd = steps.step("tools", "a real etcd to compare with", setup::etcd)?;
    let h2load = match options.h2load {
        true => Some(steps.step("h2load", "the HTTP/2 load generator", setup::h2load)?),
        false => None,
    };
    steps.step("build", "the release binary and the load generator", || {
        run(cargo().args(["build", "--release", "-p", "coracle-server", "-p", "coracle-bench"]))
    })?;
    let release = paths::target().join("release");
    let mut command = std::process::Command::new(release.join("coracle-bench"));
    command.current_dir(paths::root());
    command.arg(if h2load.is_some() { "h2load" } else { "compare" });
    command.arg("--etcd").arg(etcd).arg("--coracle").arg(release.join("coracle"));
    command.arg("--folder").arg(scratch());
    if let Some(program) = h2load {
        command.arg("--h2load").arg(program);
    }
    steps.step("measure", "both, interleaved, because disk and neighbours vary", || {
        run(command.args(&options.rest))
    })?;
    steps.print();
    Ok(())
}

/// The members' data: beside the build, so on the same disk for both.
fn scratch() -> PathBuf {
    paths::target().join("bench")
}
