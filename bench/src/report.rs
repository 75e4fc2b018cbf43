//! The report: markdown, written into a document between markers so that prose around it stays.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;

use crate::cluster::{SYSTEMS, System};
use crate::load::{Outcome, quantile};

/// The part of the document with the comparison under our own loads.
pub(crate) const COMPARISON: &str = "comparison";
/// The part with the figures under h2load.
pub(crate) const H2LOAD: &str = "h2load";

/// What all figures have in common.
pub(crate) struct Context {
    pub(crate) machine: String,
    pub(crate) load_before: String,
    pub(crate) load_after: String,
    /// p50 and p99 in milliseconds of a small append with its sync.
    pub(crate) sync: (f64, f64),
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) keys: u64,
    pub(crate) value_size: usize,
}

/// Everything measured with one number of members.
pub(crate) struct Section {
    pub(crate) members: usize,
    pub(crate) memory: Vec<Memory>,
    pub(crate) rows: Vec<Row>,
}

/// Resident bytes of all members together.
pub(crate) struct Memory {
    pub(crate) system: System,
    pub(crate) idle: u64,
    /// With all keys in it.
    pub(crate) loaded: u64,
    /// After all loads.
    pub(crate) after: u64,
}

/// One load; the figures in the order of [`SYSTEMS`].
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) figures: Vec<Figures>,
}

/// One load on one system, all rounds together.
pub(crate) struct Figures {
    operations: u64,
    length: Duration,
    server_cpu: Duration,
    latency: Histogram<u64>,
}

impl Figures {
    pub(crate) fn new(outcome: Outcome) -> Figures {
        let Outcome { operations, length, server_cpu, latency, .. } = outcome;
        Figures { operations, length, server_cpu, latency }
    }

    pub(crate) fn add(&mut self, outcome: &Outcome) -> Result<()> {
        self.operations += outcome.operations;
        self.length += outcome.length;
        self.server_cpu += outcome.server_cpu;
        Ok(self.latency.add(&outcome.latency)?)
    }

    fn per_second(&self) -> f64 {
        self.operations as f64 / self.length.as_secs_f64()
    }

    fn cpu(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / self.operations as f64
    }

    fn latencies(&self) -> String {
        [0.5, 0.99, 0.999].map(|share| milliseconds(quantile(&self.latency, share))).join(" / ")
    }
}

/// The comparison as markdown.
pub(crate) fn markdown(context: &Context, sections: &[Section]) -> String {
    let mut text = String::new();
    let (p50, p99) = context.sync;
    let Context { machine, load_before, load_after, seconds, rounds, keys, value_size, .. } =
        context;
    let lines = [
        format!("Machine: {machine}; clients and servers share it."),
        format!("Load average before: {load_before}; after: {load_after}."),
        format!(
            "Disk: an append of 2 KiB with its fdatasync takes {} ms (p50), {} ms (p99).",
            milliseconds(p50),
            milliseconds(p99)
        ),
        format!(
            "Each load: {rounds} rounds of {seconds} s per system, by turns; {keys} keys of 8 \
             bytes, values of {value_size} bytes."
        ),
    ];
    for line in lines {
        text += &format!("- {line}\n");
    }
    for section in sections {
        text += &table(section);
    }
    text
}

fn table(section: &Section) -> String {
    let plural = if section.members == 1 { "member" } else { "members" };
    let mut text = format!("\n### {} {plural}\n\n", section.members);
    let [etcd, coracle] = SYSTEMS;
    text += &format!(
        "| load | {etcd} /s | {coracle} /s | ratio | {etcd} p50 / p99 / p99.9 ms | {coracle} p50 / \
         p99 / p99.9 ms | {etcd} CPU µs | {coracle} CPU µs | ratio |\n"
    );
    text += "|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for Row { name, figures } in &section.rows {
        let [etcd, coracle] = figures.as_slice() else { continue };
        let _ = writeln!(
            text,
            "| {name} | {:.0} | {:.0} | {:.2} | {} | {} | {:.1} | {:.1} | {:.2} |",
            etcd.per_second(),
            coracle.per_second(),
            coracle.per_second() / etcd.per_second(),
            etcd.latencies(),
            coracle.latencies(),
            etcd.cpu(),
            coracle.cpu(),
            coracle.cpu() / etcd.cpu()
        );
    }
    text +=
        "\n| resident memory, MiB | idle | with all keys | after all loads |\n|---|--:|--:|--:|\n";
    for Memory { system, idle, loaded, after } in &section.memory {
        let [idle, loaded, after] =
            [idle, loaded, after].map(|bytes| *bytes as f64 / f64::from(1 << 20));
        let _ = writeln!(text, "| {system} | {idle:.0} | {loaded:.0} | {after:.0} |");
    }
    text
}

/// Three digits that count.
pub(crate) fn milliseconds(value: f64) -> String {
    match value {
        value if value < 1.0 => format!("{value:.3}"),
        value if value < 10.0 => format!("{value:.2}"),
        value if value < 100.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

/// Puts `text` between the part's markers in the document, replacing what was there.
pub(crate) fn write(document: &Path, part: &str, text: &str) -> Result<()> {
    let old = fs::read_to_string(document)
        .with_context(|| format!("cannot read {}", document.display()))?;
    let new = replaced(&old, part, text)
        .with_context(|| format!("{} has no place for the part {part}", document.display()))?;
    fs::write(document, new).with_context(|| format!("cannot write {}", document.display()))
}

/// The document with `text` in the part's place; `None` when it has no such place.
fn replaced(old: &str, part: &str, text: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- begin {part} -->"), format!("<!-- end {part} -->"));
    let (from, to) = (old.find(&begin)?, old.find(&end)?);
    let (before, after) = (old.get(..from)?, old.get(to..)?);
    (from < to).then(|| format!("{before}{begin}\n{}\n{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_replaced_and_the_prose_around_it_stays() {
        let old = "Before\n<!-- begin one -->\nold\n<!-- end one -->\nAfter\n";
        let new = replaced(old, "one", "new\n").unwrap();
        assert_eq!(new, "Before\n<!-- begin one -->\nnew\n<!-- end one -->\nAfter\n");
        assert_eq!(replaced(&new, "one", "new").unwrap(), new);
        assert!(replaced(old, "two", "new").is_none());
    }

    #[test]
    fn milliseconds_keep_three_digits() {
        assert_eq!(
            [0.1234, 1.234, 12.34, 123.4].map(milliseconds),
            ["0.123", "1.23", "12.3", "123"]
        );
    }
}
