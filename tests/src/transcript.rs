//! Recorded `etcdctl` sessions: a scenario's commands and what etcd makes `etcdctl` print.
//!
//! A transcript in `tests/transcripts/` is its own script: whoever replays it runs the commands
//! against a fresh cluster, writes down the outputs in the same form, and compares the texts.
//!
//! ```text
//! # A put is read back.
//! $ put a 1
//!   OK
//! $ txn                          input lines follow, each after `<`
//! < mod("a") > "0"
//!   SUCCESS
//! ```
//!
//! | line | meaning |
//! |---|---|
//! | `# …` | the scenario, for the reader |
//! | `cluster 3` | members of the cluster (first line; 1 otherwise) |
//! | `$ …` | an etcdctl command, to all members |
//! | `3.5 $ …` | the same, with this `etcdctl` only: the other one does not know it |
//! | `sort $ …` | the same, lines sorted: their order depends on random ids |
//! | `until-empty $ …` | repeated until it prints nothing, within a minute |
//! | `watch w …` | starts `etcdctl watch …` in the background, under the name w |
//! | `show w 4` | waits for 4 lines of w, prints them and ends w |
//! | `restart 1` | stops member 1 in order and starts it again |
//! | `[etcdctl 3.4]` | what follows is this release's output; without it, both print the same |
//!
//! `<client1>`, `<peer1>`, `<tmp>` and ids such as `<id1>` stand for what differs in every run, in
//! outputs and in commands; `<leader>` is the leader's client address, `<follower>` the id of
//! another member. What etcd and Coracle may print differently (terms, sizes, releases, times) is
//! masked by the rules of [`masks`].

pub(crate) mod masks;
mod page;
mod processes;
mod session;
mod subject;

use std::fmt::Write as _;

use anyhow::{Result, bail};

use crate::cluster::Kind;
use crate::programs::EtcdctlRelease;
pub use page::Page;
use processes::Processes;
use session::Session;
use subject::Subject;

/// One step: what is to be done, in the transcript's own words.
#[derive(Clone, Debug, PartialEq)]
struct Step {
    /// Comment and blank lines before it.
    preamble: Vec<String>,
    /// The line itself.
    line: String,
    /// Input lines of the command.
    input: Vec<String>,
}

impl Step {
    /// What an `etcdctl` of `release` does in this step, if anything.
    fn line_for(&self, release: EtcdctlRelease) -> Option<&str> {
        match self.line.split_once(" $ ") {
            Some((only, _)) if EtcdctlRelease::ALL.iter().any(|one| one.name() == only) => {
                (only == release.name()).then(|| &self.line[only.len() + 1..])
            }
            _ => Some(&self.line),
        }
    }
}

/// The steps of a transcript, outputs dropped.
fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut preamble = Vec::new();
    for line in text.lines() {
        if line.starts_with('#') {
            preamble.push(line.to_string());
        } else if let Some(input) = line.strip_prefix('<') {
            let Some(step) = steps.last_mut() else { bail!("input before a command: {line}") };
            step.input.push(input.strip_prefix(' ').unwrap_or(input).to_string());
        } else if line.is_empty() || line.starts_with([' ', '[']) {
            // An output of the recorded run.
        } else {
            let preamble = std::mem::take(&mut preamble);
            steps.push(Step { preamble, line: line.to_string(), input: Vec::new() });
        }
    }
    Ok(steps)
}

/// Plays the transcript `text` against fresh clusters of `kind`, once with each `etcdctl`, and
/// returns it with the outputs of this run.
///
/// # Errors
/// If a program is missing, a cluster does not start, or a step is not understood.
pub fn play(kind: Kind, text: &str) -> Result<String> {
    let steps = parse(text)?;
    let mut outputs = Vec::new();
    for release in EtcdctlRelease::ALL {
        let subject = Processes::start(kind, members(&steps)?, release)?;
        outputs.push((release, play_with(subject, &steps, release)?));
    }
    Ok(write(&steps, &outputs))
}

/// The release whose outputs our own commands have.
const OURS: EtcdctlRelease = EtcdctlRelease::V35;

/// Plays the transcript `text` in the laboratory's page, whose commands are those of `ctl`, and
/// returns it with the outputs of this run; [`expected_of_page`] is what they should be.
///
/// # Errors
/// If the browser does not start, or a step is not understood.
pub fn play_in_page(page: &mut Page, text: &str) -> Result<String> {
    let steps = parse(text)?;
    page.start(members(&steps)?)?;
    let outputs = play_with(page, &steps, OURS)?;
    Ok(write(&steps, &[(OURS, outputs)]))
}

/// The transcript `text` with the outputs of one `etcdctl` only, as [`play_in_page`] writes it.
pub fn expected_of_page(text: &str) -> String {
    let mut expected = String::new();
    let mut applies = true;
    for line in text.lines() {
        let header = line.strip_prefix("[etcdctl ").and_then(|line| line.strip_suffix(']'));
        if let Some(release) = header {
            applies = release == OURS.name();
            continue;
        }
        let output = line.is_empty() || line.starts_with(' ');
        if !output && !line.starts_with('<') {
            applies = true;
        }
        if applies || !output {
            let _ = writeln!(expected, "{line}");
        }
    }
    expected
}

/// How many members a transcript wants.
fn members(steps: &[Step]) -> Result<usize> {
    match steps.first().and_then(|step| step.line.strip_prefix("cluster ")) {
        Some(size) => Ok(size.trim().parse()?),
        None => Ok(1),
    }
}

/// The outputs of each step; none where this `etcdctl` skips it.
type Outputs = Vec<Option<Vec<String>>>;

fn play_with(subject: impl Subject, steps: &[Step], release: EtcdctlRelease) -> Result<Outputs> {
    let mut session = Session::new(subject)?;
    let mut outputs = Vec::new();
    for step in steps {
        outputs.push(match step.line_for(release) {
            Some(line) => Some(session.run(line, &step.input)?),
            None => None,
        });
    }
    Ok(outputs)
}

/// The transcript of `steps`, with the outputs of each release (none where it skips a step).
fn write(steps: &[Step], outputs: &[(EtcdctlRelease, Outputs)]) -> String {
    let mut text = String::new();
    for (index, step) in steps.iter().enumerate() {
        // A comment opens a paragraph.
        if index > 0 && !step.preamble.is_empty() {
            text.push('\n');
        }
        for line in &step.preamble {
            let _ = writeln!(text, "{line}");
        }
        let _ = writeln!(text, "{}", step.line);
        for line in &step.input {
            let _ = writeln!(text, "{}", format!("< {line}").trim_end());
        }
        let of_step: Vec<(EtcdctlRelease, &Vec<String>)> = outputs
            .iter()
            .filter_map(|(release, outputs)| Some((*release, outputs[index].as_ref()?)))
            .collect();
        let alike = of_step.windows(2).all(|pair| pair[0].1 == pair[1].1);
        for (position, (release, lines)) in of_step.into_iter().enumerate() {
            if !alike {
                let _ = writeln!(text, "[etcdctl {}]", release.name());
            }
            if !alike || position == 0 {
                write_lines(&mut text, lines);
            }
        }
    }
    text
}

fn write_lines(text: &mut String, lines: &[String]) {
    for line in lines {
        let _ = writeln!(text, "{}", format!("  {line}").trim_end());
    }
}

/// The lines in which two texts differ, for a failing test's message: `-` expected, `+` actual,
/// each with its number, after the last command (or other step) before it.
pub fn differences(expected: &str, actual: &str) -> String {
    let expected: Vec<&str> = expected.lines().collect();
    let actual: Vec<&str> = actual.lines().collect();
    let common = common_lengths(&expected, &actual);
    let (mut one, mut other) = (0, 0);
    let mut text = String::new();
    let mut command = None;
    while one < expected.len() || other < actual.len() {
        if one < expected.len() && other < actual.len() && expected[one] == actual[other] {
            if !expected[one].starts_with([' ', '<', '#', '[']) && !expected[one].is_empty() {
                command = Some(expected[one]);
            }
            one += 1;
            other += 1;
            continue;
        }
        if let Some(command) = command.take() {
            let _ = writeln!(text, "      {command}");
        }
        if one < expected.len()
            && (other == actual.len() || common[one + 1][other] >= common[one][other + 1])
        {
            let _ = writeln!(text, "-{:>4} {}", one + 1, expected[one]);
            one += 1;
        } else {
            let _ = writeln!(text, "+{:>4} {}", other + 1, actual[other]);
            other += 1;
        }
    }
    text
}

/// For each pair of suffixes the length of their longest common subsequence. Transcripts are
/// short, so the plain table will do.
fn common_lengths(one: &[&str], other: &[&str]) -> Vec<Vec<usize>> {
    let mut table = vec![vec![0; other.len() + 1]; one.len() + 1];
    for row in (0..one.len()).rev() {
        for column in (0..other.len()).rev() {
            table[row][column] = match one[row] == other[column] {
                true => table[row + 1][column + 1] + 1,
                false => table[row + 1][column].max(table[row][column + 1]),
            };
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_command() {
        let expected = "$ get a\n  1\n$ get b\n  2\n$ get c\n  3\n";
        let actual = "$ get a\n  1\n$ get b\n  two\n$ get c\n  3\n";
        assert_eq!(differences(expected, actual), "      $ get b\n-   4   2\n+   4   two\n");
        assert_eq!(differences(actual, actual), "");
    }
}
