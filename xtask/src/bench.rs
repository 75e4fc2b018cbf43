//! `cargo xtask bench`: builds our binary and the load generator, finds a real etcd, runs both.
//!
//! The measuring itself is `coracle-bench` (see `bench/`); this only hands it the programs. With
//! `--www` it is a browser's, of the laboratory.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::browser::Visit;
use crate::run::{Steps, cargo, run};
use crate::{paths, setup, www};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Compare server CPU per operation under h2load instead of running our own loads.
    #[arg(long)]
    h2load: bool,
    /// Measure the laboratory in a browser instead, and write docs/laboratory-benchmarks.md.
    #[arg(long, conflicts_with = "h2load")]
    www: bool,
    /// Passed on to the benchmark: see `cargo xtask bench -- --help`.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Sets up and hands over to `coracle-bench`.
pub(crate) fn bench(options: &Options) -> Result<()> {
    if options.www {
        return laboratory();
    }
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
    let mut command = Command::new(release.join("coracle-bench"));
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

/// Measures the page in a browser (see `tests/browser/bench.mjs`).
fn laboratory() -> Result<()> {
    println!("The laboratory, as it is published, in a browser on this machine.");
    let mut steps = Steps::default();
    let site = steps.step("www", "page and workers", || www::build(false))?;
    let sizes: Vec<String> = www::sizes(&site)?
        .into_iter()
        .map(|(name, raw, brotli)| format!("{raw} {brotli} {name}"))
        .collect();
    steps.step("measure", "the page, with a fresh profile for each figure", || {
        let visit = Visit::prepare(&site)?;
        let mut command = Command::new("node");
        visit.set_environment(&mut command);
        command
            .current_dir(paths::root())
            .env("CORACLE_SIZES", sizes.join("\n"))
            .env("CORACLE_REPORT", "docs/laboratory-benchmarks.md");
        run(command.arg("tests/browser/bench.mjs"))
    })?;
    steps.print();
    Ok(())
}

/// The members' data: beside the build, so on the same disk for both.
fn scratch() -> PathBuf {
    paths::target().join("bench")
}
