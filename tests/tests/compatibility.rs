//! `docs/compatibility.md` says what is proved, and what proves it.
//!
//! `tests/requirements.txt` lists what etcd does; the names of the tests carry its labels
//! (`kv_01_...` proves KV-01). This test puts the two together, and fails when the page is not what
//! comes out, when a requirement has neither a proof nor a reason, and when a label or a proof is
//! named that does not exist. `UPDATE_COMPATIBILITY=1` writes the page.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;

/// Where tests are: Rust's, and the browser's and the clients' scripts.
const FOLDERS: [&str; 10] =
    ["core", "ctl", "server", "worker", "web", "gateway", "bolt", "concurrency", "tests", "bench"];

struct Requirement {
    label: String,
    title: String,
    /// The section it stands in.
    section: String,
    /// Each as it is shown: a test of this name, or a file.
    proofs: Vec<String>,
    /// Why it does not pass, or not wholly.
    differs: Vec<String>,
    not_done: Vec<String>,
}

impl Requirement {
    fn status(&self) -> &'static str {
        match (self.proofs.is_empty(), self.differs.is_empty(), self.not_done.is_empty()) {
            (_, _, false) if self.proofs.is_empty() => "not done",
            (_, _, false) => "in part",
            (_, false, true) => "differs",
            _ => "passes",
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_requirement_has_a_proof_or_a_reason() -> Result<()> {
    let requirements = requirements()?;
    let bare: Vec<&str> = requirements
        .iter()
        .filter(|one| one.proofs.is_empty() && one.differs.is_empty() && one.not_done.is_empty())
        .map(|one| one.label.as_str())
        .collect();
    ensure!(bare.is_empty(), "neither a test with its label nor a reason: {}", bare.join(", "));
    Ok(())
}

#[test]
fn the_page_says_what_the_tests_prove() -> Result<()> {
    let page = root().join("docs/compatibility.md");
    let text = render(&requirements()?);
    if std::env::var_os("UPDATE_COMPATIBILITY").is_some() {
        fs::write(&page, &text)?;
    }
    let written = fs::read_to_string(&page).context("docs/compatibility.md")?;
    ensure!(
        written == text,
        "docs/compatibility.md is not what requirements and tests say: write it by \
         `UPDATE_COMPATIBILITY=1 cargo test --workspace --test compatibility`"
    );
    Ok(())
}

/// The requirements with all that proves them.
fn requirements() -> Result<Vec<Requirement>> {
    let mut all = parse(include_str!("../requirements.txt"))?;
    let mut named = tests_by_label()?;
    for requirement in &mut all {
        requirement.proofs.extend(named.remove(&requirement.label).unwrap_or_default());
        requirement.proofs.sort();
        requirement.proofs.dedup();
    }
    Ok(all)
}

fn parse(text: &str) -> Result<Vec<Requirement>> {
    let mut all: Vec<Requirement> = Vec::new();
    let mut section = String::new();
    let is_comment = |line: &str| line.starts_with('#') && !line.starts_with("##");
    for line in text.lines().filter(|line| !line.is_empty() && !is_comment(line)) {
        if let Some(name) = line.strip_prefix("## ") {
            section = name.to_owned();
        } else if let Some(note) = line.strip_prefix("    ") {
            let last = all.last_mut().with_context(|| format!("a note on nothing: {note}"))?;
            if let Some(proof) = note.strip_prefix("+ ") {
                check_proof(proof)?;
                last.proofs.push(proof.to_owned());
            } else if let Some(reason) = note.strip_prefix("differs: ") {
                last.differs.push(reason.to_owned());
            } else if let Some(reason) = note.strip_prefix("not done: ") {
                last.not_done.push(reason.to_owned());
            } else {
                bail!("{}: what is `{note}`?", last.label);
            }
        } else {
            let (label, title) = line.split_once(' ').with_context(|| line.to_owned())?;
            ensure!(all.iter().all(|one| one.label != label), "{label} stands twice");
            all.push(Requirement {
                label: label.to_owned(),
                title: title.to_owned(),
                section: section.clone(),
                proofs: Vec::new(),
                differs: Vec::new(),
                not_done: Vec::new(),
            });
        }
    }
    Ok(all)
}

/// A proof is a file, or a file and a test in it.
fn check_proof(proof: &str) -> Result<()> {
    let (file, test) = proof.split_once(": ").unwrap_or((proof, ""));
    let text = fs::read_to_string(root().join(file)).with_context(|| format!("proof {file}"))?;
    ensure!(text.contains(test), "{file} has no test `{test}`");
    Ok(())
}

/// The tests that carry a label, by label: `file: test`.
fn tests_by_label() -> Result<BTreeMap<String, Vec<String>>> {
    let rust = Regex::new(r"(?m)^\s*(?:async )?fn ([a-z]+_\d\d_\w+)\(")?;
    let script = Regex::new(r#"(?m)^\s*test\(\s*["'`]([A-Z]+-\d\d)[ :](.*?)["'`]"#)?;
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in sources()? {
        for parts in rust.captures_iter(&text) {
            for label in labels(&parts[1]) {
                found.entry(label).or_default().push(format!("{path}: {}", &parts[1]));
            }
        }
        for parts in script.captures_iter(&text) {
            let test = format!("{path}: {} {}", &parts[1], &parts[2]);
            found.entry(parts[1].to_owned()).or_default().push(test);
        }
    }
    Ok(found)
}

/// The labels at the front of a test's name: `gw_02_03_h_01_pages` has GW-02, GW-03 and H-01.
fn labels(name: &str) -> Vec<String> {
    let mut labels = Vec::new();
    let mut group = "";
    let words: Vec<&str> = name.split('_').collect();
    let is_number = |word: &str| word.len() == 2 && word.bytes().all(|byte| byte.is_ascii_digit());
    for (index, word) in words.iter().enumerate() {
        if is_number(word) && !group.is_empty() {
            labels.push(format!("{}-{word}", group.to_uppercase()));
        } else if words.get(index + 1).is_some_and(|next| is_number(next)) {
            group = word;
        } else {
            break;
        }
    }
    labels
}

#[test]
fn a_name_may_carry_several_labels() {
    assert_eq!(labels("gw_02_03_h_01_pages_and_10_more"), ["GW-02", "GW-03", "H-01"]);
    assert_eq!(labels("most_of_it"), Vec::<String>::new());
}

/// Path and text of each file that may hold tests.
fn sources() -> Result<Vec<(String, String)>> {
    let mut sources = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        // A package that has no tests yet, or is still to come.
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            let skipped = ["target", "generated", "node_modules"];
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !skipped.contains(&name.as_str()) {
                folders.push(path);
            } else if name.ends_with(".rs") || name.ends_with(".mjs") {
                let shown = path.strip_prefix(root())?.display().to_string();
                sources.push((shown, fs::read_to_string(&path)?));
            }
        }
    }
    sources.sort();
    ensure!(sources.len() > 20, "the source files have moved: {} found", sources.len());
    Ok(sources)
}

fn render(requirements: &[Requirement]) -> String {
    let mut text = String::from(
        "# Compatibility with etcd\n\n\
         What etcd does, requirement by requirement, and what proves that Coracle does it.\n\
         Written by a test, from `tests/requirements.txt` and the names of the tests; \
         it fails when this page is not true any more.\n\n",
    );
    let count = |status: &str| requirements.iter().filter(|one| one.status() == status).count();
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(
        text,
        "{} requirements: {} pass, {} differ, {} are done in part, {} are not done.",
        requirements.len(),
        count("passes"),
        count("differs"),
        count("in part"),
        count("not done"),
    );
    let mut section = "";
    for requirement in requirements {
        if requirement.section != section {
            section = &requirement.section;
            let _ = write!(
                text,
                "\n## {section}\n\n| | requirement | | proved by |\n|---|---|---|---|\n"
            );
        }
        let reasons = requirement.differs.iter().chain(&requirement.not_done);
        let status = std::iter::once(requirement.status().to_owned()).chain(reasons.cloned());
        let proofs = requirement.proofs.iter().map(|proof| format!("`{proof}`"));
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} |",
            requirement.label,
            requirement.title,
            status.collect::<Vec<_>>().join(": "),
            proofs.collect::<Vec<_>>().join("<br>"),
        );
    }
    text
}
