//! `docs/errors.md` says for each error of the table (`core/src/error.rs`) which tests provoke it.
//!
//! A test provokes an error if it expects its text, or names it. This test fails when the page is
//! not what comes out, when an error is neither provoked nor known to be out of reach, and when one
//! is said to be out of reach that a test provokes. `UPDATE_ERRORS=1` writes the page.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use coracle_core::error::Error;
use regex::Regex;

/// Errors that no request leads to, and why.
const OUT_OF_REACH: [(&str, &str); 10] = [
    ("WatchCanceled", "the client has gone: it never leaves the server"),
    ("Canceled", "the client has gone: it never leaves the server"),
    ("DeadlineExceeded", "the client has gone: it never leaves the server"),
    ("ClusterIDMismatch", "etcd's own peer protocol has it, which Coracle does not speak"),
    ("NotCapable", "no release that Coracle replaces lacks a capability"),
    ("LeaderChanged", "a read that loses its leader asks the next one, within its time"),
    (
        "TimeoutDueToConnectionLost",
        "a forwarded write is not given up while its answer may come: it ends as a plain time-out",
    ),
    ("TimeoutLeaderTransfer", "a member that is asked to lead and does not: a fault at one moment"),
    ("MemberExist", "two members of the same URLs in one second: the URLs are taken first"),
    ("NoInflightDowngrade", "3.6 takes it for a success, and says it in the log"),
];

/// Tests that a page names of one error.
const SHOWN: usize = 3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Path and text of what tests expect.
fn expectations() -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["tests", "core/src", "server/src"].iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                folders.extend((name != "target").then_some(path));
                continue;
            }
            if !name.ends_with(".rs") && !name.ends_with(".txt") || name == "provoked.rs" {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            let shown = path.strip_prefix(root())?.display().to_string();
            let expects = match shown.starts_with("tests/") || name.contains("tests.rs") {
                true => Some(text.as_str()),
                false if shown.contains("/tests/") => Some(text.as_str()),
                false => text.split_once("#[cfg(test)]").map(|(_, tests)| tests),
            };
            found.extend(expects.map(|text| (shown, text.to_owned())));
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn every_error_is_provoked_or_out_of_reach() -> Result<()> {
    let expectations = expectations()?;
    let mut page = String::from(
        "# Errors\n\n\
         Every error of `core/src/error.rs`, and the tests that provoke it.\n\
         Written by a test, which fails when an error has neither a test nor a reason.\n\n\
         | error | code | text | provoked by |\n|---|---|---|---|\n",
    );
    let mut wrong = Vec::new();
    for (name, code, message) in Error::TABLE {
        // The whole text, as longer ones begin alike.
        let text = format!(r#"(?m){}(["'`\\}}]|$)"#, regex::escape(message));
        let provokes = Regex::new(&format!(r"{text}|\bError::{name}\b"))?;
        let all = expectations.iter().filter(|(_, text)| provokes.is_match(text));
        let all: Vec<&str> = all.map(|(path, _)| path.as_str()).collect();
        let reason = OUT_OF_REACH.iter().find(|(error, _)| error == name).map(|(_, reason)| reason);
        let proof = match (reason, &all[..]) {
            (None, []) => {
                wrong.push(format!("{name} is provoked by no test"));
                continue;
            }
            (Some(_), [path, ..]) => {
                wrong.push(format!("{name} is out of reach, and {path} provokes it"));
                continue;
            }
            (Some(reason), []) => format!("out of reach: {reason}"),
            (None, all) => {
                let shown: Vec<_> =
                    all.iter().take(SHOWN).map(|path| format!("`{path}`")).collect();
                let more = all.len().saturating_sub(SHOWN);
                let more = if more > 0 { format!("<br>and {more} more") } else { String::new() };
                format!("{}{more}", shown.join("<br>"))
            }
        };
        // Writing to a string cannot fail.
        let _ = writeln!(page, "| {name} | {code:?} | `{message}` | {proof} |");
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let path = root().join("docs/errors.md");
    if std::env::var_os("UPDATE_ERRORS").is_some() {
        fs::write(&path, &page)?;
    }
    let written = fs::read_to_string(&path).context("docs/errors.md")?;
    ensure!(
        written == page,
        "docs/errors.md is not what the tests say: write it by \
         `UPDATE_ERRORS=1 cargo test --workspace --test provoked`"
    );
    Ok(())
}
