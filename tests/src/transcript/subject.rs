//! Where a transcript's commands run.

use std::time::Duration;

use anyhow::{Result, bail};

/// How long a step may wait for what it waits for.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// A cluster, and whatever understands etcdctl's commands for it.
pub(super) trait Subject {
    /// Texts that are this cluster's own, each with its name in transcripts.
    fn names(&self) -> Vec<(String, String)>;

    /// What `--endpoints` takes for all members.
    fn endpoints(&self) -> String;

    /// Runs a command to its end.
    fn etcdctl(&mut self, arguments: &str, input: &[String]) -> Result<Output>;

    /// Starts a command that watches, under a name.
    fn watch(&mut self, name: &str, arguments: &str) -> Result<()>;

    /// Waits for so many lines of a watching command, and ends it.
    fn show(&mut self, name: &str, count: usize) -> Result<Vec<String>>;

    /// Stops a member in order and starts it again.
    fn restart(&mut self, index: usize) -> Result<()>;

    /// What the members said last, for a failing test's message.
    fn log_tails(&self) -> String;
}

/// How a command ended.
pub(super) struct Output {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    /// None: it was killed.
    pub(super) code: Option<i32>,
}

impl Output {
    /// What it printed, its errors, and how it ended if not well.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = [&self.stdout, &self.stderr]
            .into_iter()
            .flat_map(|bytes| {
                String::from_utf8_lossy(bytes).lines().map(printable).collect::<Vec<_>>()
            })
            .filter(|line| !line.starts_with("{\"level\":"))
            .collect();
        match self.code {
            Some(0) => {}
            Some(code) => lines.push(format!("exit {code}")),
            None => lines.push("killed".to_string()),
        }
        lines
    }
}

/// A line with control characters written out, so that transcripts stay text.
pub(super) fn printable(line: &str) -> String {
    line.chars()
        .map(|character| match character.is_control() && character != '\t' {
            true => character.escape_default().to_string(),
            false => character.to_string(),
        })
        .collect()
}

/// Splits a command line into words: spaces separate them, quotes hold one together.
pub(super) fn words(line: &str) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' => words.extend(word.take()),
            quote @ ('\'' | '"') => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next() {
                        Some(end) if end == quote => break,
                        Some(quoted) => word.push(quoted),
                        None => bail!("a quote is not closed"),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}
