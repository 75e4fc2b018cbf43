//! `cargo xtask test`: what every change must pass, from a fresh clone, in one command.
//!
//! First the set-up (see [`crate::setup`] and [`crate::wasm`]), then the quick checks, then the
//! tests; the first step that fails ends it. The tests learn from the environment where the
//! programs are that they drive:
//!
//! | variable | is |
//! |---|---|
//! | `CORACLE_BIN` | our binary, built as the tests are |
//! | `ETCD_BIN`, `ETCDCTL35_BIN` | a real etcd 3.5.1 and its etcdctl |
//! | `ETCDUTL_BIN` | its etcdutl |
//! | `ETCDCTL34_BIN`, `ETCD34_BIN` | the distribution's etcdctl and etcd (3.4) |
//! | `CORACLE_PYTHON` | a Python with the `etcd3` client |
//! | `CORACLE_NODE_MODULES` | a `node_modules` with the `etcd3` client and `playwright-core` |
//! | `PROTOC` | Google's protobuf compiler |
//! | `CORACLE_URL`, `CORACLE_CHROMIUM` | the laboratory, and the browser that visits it |
//! | `CORACLE_LONG` | set by `--long`: more seeds, longer runs |

use std::path::PathBuf;

use anyhow::Result;

use crate::browser::Visit;
use crate::run::{Steps, cargo, run};
use crate::{paths, setup, wasm, www};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run the long versions of the tests that have one: more seeds, longer chaos.
    #[arg(long)]
    long: bool,
}

/// Runs all checks; prints the steps and their durations whatever the outcome.
pub(crate) fn test(options: &Options) -> Result<()> {
    println!(
        "Checks everything: set-up, formatting, generated code, wasm, lints, tests, the laboratory."
    );
    let mut steps = Steps::default();
    let outcome = all(options, &mut steps);
    steps.print();
    outcome
}

fn all(options: &Options, steps: &mut Steps) -> Result<()> {
    steps.step("format", "the code looks as rustfmt.toml says", || {
        run(cargo().args(["fmt", "--all", "--check"]))
    })?;
    let tools = steps.step(
        "tools",
        "other people's etcd, etcdctl and clients, which the tests drive",
        setup::test_tools,
    )?;
    let toolchain = steps.step("wasm tools", "a compiler for the browser", wasm::ensure)?;
    steps.step("codegen", "the generated code is what core/proto says", || {
        run(cargo().args(["run", "--quiet", "-p", "coracle-codegen", "--", "--check"]))
    })?;
    steps.step("wasm", "core compiles where there are no threads, files or sockets", || {
        run(toolchain.cargo("check").args(["-p", "coracle-core"]))
    })?;
    // All with the same variables, since build scripts read some (`PROTOC`): a change would build
    // again what depends on them.
    let cargo = || {
        let mut command = cargo();
        tools.set_environment(&mut command);
        command
    };
    steps.step("clippy", "no warnings, in any target of any crate", || {
        run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    })?;
    // The whole workspace, or cargo would unify features differently and build twice.
    steps.step("build", "the binary that the tests start", || {
        run(cargo().args(["build", "--workspace", "--bins"]))
    })?;
    steps.step("test", "all tests of all crates", || {
        let mut command = cargo();
        command.args(["test", "--workspace"]).env("CORACLE_BIN", binary());
        if options.long {
            command.env("CORACLE_LONG", "1");
        }
        run(&mut command)
    })?;
    let site = steps.step("www", "the laboratory, as it is published", || {
        let site = www::build(false)?;
        www::check_size(&site)?;
        Ok(site)
    })?;
    steps.step("browser", "the laboratory, used as a visitor does", || {
        let visit = Visit::prepare(&site)?;
        visit.test(None)?;
        let mut command = cargo();
        visit.set_environment(&mut command);
        run(command.args(["test", "--workspace", "--test", "page"]))
    })
}

/// Our binary as `cargo build` without `--release` leaves it.
fn binary() -> PathBuf {
    paths::target().join("debug/coracle")
}
