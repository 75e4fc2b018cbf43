//! The browser tests: what uses the laboratory's page as a visitor does.
//!
//! Those of `tests/browser` are Node scripts that click, type and look; `tests/tests/page.rs`
//! replays etcdctl's transcripts in the page. Both learn from the environment where the site and
//! the browser are.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::run::run;
use crate::setup::Browser;
use crate::{paths, setup, site};

/// Where `tests/tests/laboratory.rs` leaves an experiment that ran without a browser.
const EXPERIMENT: &str = "tmp/native-experiment.json";

/// The built site, served, and a browser to visit it.
pub(crate) struct Visit {
    address: SocketAddr,
    browser: Browser,
}

impl Visit {
    /// Serves the site in `dist`, and installs a browser if there is none.
    pub(crate) fn prepare(dist: &Path) -> Result<Visit> {
        Ok(Visit { browser: setup::browser()?, address: site::serve(dist, 0)? })
    }

    /// Sets the variables by which tests find both.
    pub(crate) fn set_environment(&self, command: &mut Command) {
        self.browser.set_environment(command);
        command.env("CORACLE_URL", format!("http://{}/", self.address));
        command.env("CORACLE_EXPERIMENT", paths::target().join(EXPERIMENT));
    }

    /// Runs the tests of `tests/browser` whose names match, or all.
    pub(crate) fn test(&self, pattern: Option<&str>) -> Result<()> {
        let mut command = Command::new("node");
        command
            .current_dir(paths::root())
            // One browser at a time: a cluster in a page keeps all cores busy.
            .args(["--test", "--test-concurrency=1", "--test-reporter=spec"]);
        if let Some(pattern) = pattern {
            command.arg(format!("--test-name-pattern={pattern}"));
        }
        self.set_environment(&mut command);
        run(command.args(scripts()?))
    }
}

/// The test scripts; how Node finds them in a folder depends on its version.
fn scripts() -> Result<Vec<PathBuf>> {
    let mut scripts = Vec::new();
    for entry in fs::read_dir(paths::root().join("tests/browser"))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".test.mjs") {
            scripts.push(path);
        }
    }
    scripts.sort();
    Ok(scripts)
}
