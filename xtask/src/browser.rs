//! The browser tests of `tests/browser`: Node scripts that use the page as a visitor does.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::run::run;
use crate::{paths, setup, site};

/// Runs the tests whose names match, or all, against the site in `dist`.
pub(crate) fn test(dist: &Path, pattern: Option<&str>) -> Result<()> {
    let browser = setup::browser()?;
    let address = site::serve(dist, 0)?;
    let mut command = Command::new("node");
    command
        .current_dir(paths::root())
        .env("CORACLE_URL", format!("http://{address}/"))
        // One browser at a time: a cluster in a page keeps all cores busy.
        .args(["--test", "--test-concurrency=1", "--test-reporter=spec"]);
    if let Some(pattern) = pattern {
        command.arg(format!("--test-name-pattern={pattern}"));
    }
    browser.set_environment(&mut command);
    run(command.arg("tests/browser/"))
}
