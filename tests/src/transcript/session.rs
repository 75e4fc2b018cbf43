//! One play of a transcript: a cluster, one `etcdctl`, and what the steps do with them.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::masks::Masks;
use crate::cluster::{Cluster, Kind};
use crate::programs::{self, EtcdctlRelease};

/// How long a step may wait for what it waits for.
const DEADLINE: Duration = Duration::from_secs(60);
/// Time between two runs of a repeated command.
const REPEAT: Duration = Duration::from_millis(100);

/// A running transcript.
pub(super) struct Session {
    cluster: Cluster,
    etcdctl: PathBuf,
    masks: Masks,
    background: BTreeMap<String, Background>,
}

/// An `etcdctl watch` in the background.
struct Background {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Background {
    fn drop(&mut self) {
        // It runs until it is ended; whether it was still there does not matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Session {
    /// Starts a cluster of `size` members for the given `etcdctl`.
    pub(super) fn start(kind: Kind, size: usize, release: EtcdctlRelease) -> Result<Session> {
        let etcdctl = programs::etcdctl(release)?;
        let cluster = Cluster::start(kind, size)?;
        let mut known = vec![(cluster.folder().display().to_string(), "<tmp>".to_string())];
        for index in 0..size {
            known.push((cluster.client_address(index), format!("<client{}>", index + 1)));
            known.push((cluster.peer_address(index), format!("<peer{}>", index + 1)));
        }
        let masks = Masks::new(known)?;
        Ok(Session { cluster, etcdctl, masks, background: BTreeMap::new() })
    }

    /// Carries one step out and returns its masked output.
    pub(super) fn run(&mut self, line: &str, input: &[String]) -> Result<Vec<String>> {
        self.step(line, input).with_context(|| format!("at {line}\n{}", self.cluster.log_tails()))
    }

    fn step(&mut self, line: &str, input: &[String]) -> Result<Vec<String>> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "cluster" => Ok(Vec::new()),
            "$" => {
                let output = self.etcdctl(rest, input)?;
                Ok(self.masks.apply(&output))
            }
            "sort" => {
                let command = rest.strip_prefix("$ ").context("`sort` is followed by `$`")?;
                let mut output = self.etcdctl(command, input)?;
                output.sort_by_key(|line| without_ids(&self.masks.mask_known(line)));
                Ok(self.masks.apply(&output))
            }
            "until-empty" => {
                let command =
                    rest.strip_prefix("$ ").context("`until-empty` is followed by `$`")?;
                self.until_empty(command)
            }
            "watch" => {
                let (name, arguments) = rest.split_once(' ').context("watch NAME ARGUMENTS")?;
                self.start_watch(name, arguments)?;
                Ok(Vec::new())
            }
            "show" => {
                let (name, count) = rest.split_once(' ').context("show NAME LINES")?;
                self.show(name, count.parse()?)
            }
            "restart" => {
                let index =
                    rest.parse::<usize>()?.checked_sub(1).context("members count from 1")?;
                self.cluster.stop(index)?;
                self.cluster.restart(index)?;
                self.cluster.wait_healthy()?;
                Ok(Vec::new())
            }
            _ => bail!("not a step of a transcript"),
        }
    }

    fn command(&self, arguments: &str) -> Result<Command> {
        let arguments = self.masks.undo(&self.resolve_roles(arguments)?);
        let mut command = Command::new(&self.etcdctl);
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD") {
                command.env_remove(variable);
            }
        }
        let arguments = words(&arguments)?;
        if !arguments.iter().any(|argument| argument.starts_with("--endpoints")) {
            command.arg(format!("--endpoints={}", self.cluster.endpoints()));
        }
        command.args(arguments).env("ETCDCTL_API", "3").current_dir(self.cluster.folder());
        Ok(command)
    }

    /// Runs a command to its end: what it printed, its errors, and how it exited if not well.
    fn etcdctl(&self, arguments: &str, input: &[String]) -> Result<Vec<String>> {
        let mut child = self
            .command(arguments)?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start etcdctl")?;
        let mut stdin = child.stdin.take().context("etcdctl's input is a pipe")?;
        for line in input {
            // A command that fails early does not read its input.
            let _ = writeln!(stdin, "{line}");
        }
        drop(stdin);
        let output = child.wait_with_output()?;
        let mut lines: Vec<String> = [&output.stdout, &output.stderr]
            .into_iter()
            .flat_map(|bytes| {
                String::from_utf8_lossy(bytes).lines().map(printable).collect::<Vec<_>>()
            })
            .filter(|line| !line.starts_with("{\"level\":"))
            .collect();
        if !output.status.success() {
            lines.push(match output.status.code() {
                Some(code) => format!("exit {code}"),
                None => "killed".to_string(),
            });
        }
        Ok(lines)
    }

    /// Replaces `<leader>` and `<follower>`, which only the running cluster knows.
    fn resolve_roles(&self, arguments: &str) -> Result<String> {
        if !arguments.contains("<leader>") && !arguments.contains("<follower>") {
            return Ok(arguments.to_string());
        }
        let status = self.etcdctl("endpoint status -w json", &[])?.concat();
        let status: Vec<Value> = serde_json::from_str(&status).context("endpoint status")?;
        let id = |one: &Value| one["Status"]["header"]["member_id"].as_u64();
        let leader = status.first().and_then(|one| one["Status"]["leader"].as_u64());
        let endpoint = |one: &Value| one["Endpoint"].as_str().map(str::to_string);
        let leader_endpoint = status.iter().find(|one| id(one) == leader).and_then(endpoint);
        let follower = status.iter().filter_map(id).find(|id| Some(*id) != leader);
        let leader_endpoint = leader_endpoint.context("no leader among the members")?;
        let follower = follower.context("no follower among the members")?;
        Ok(arguments
            .replace("<leader>", leader_endpoint.trim_start_matches("http://"))
            .replace("<follower>", &format!("{follower:x}")))
    }

    fn until_empty(&self, command: &str) -> Result<Vec<String>> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if self.etcdctl(command, &[])?.is_empty() {
                return Ok(Vec::new());
            }
            thread::sleep(REPEAT);
        }
        bail!("it still prints something after {DEADLINE:?}");
    }

    fn start_watch(&mut self, name: &str, arguments: &str) -> Result<()> {
        let mut child = self
            .command(&format!("watch {arguments}"))?
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start etcdctl")?;
        let stdout = child.stdout.take().context("etcdctl's output is a pipe")?;
        let stderr = child.stderr.take().context("etcdctl's errors are a pipe")?;
        let (to_session, lines) = channel();
        let to_session_too = to_session.clone();
        thread::spawn(move || forward(BufReader::new(stdout), &to_session));
        thread::spawn(move || forward(BufReader::new(stderr), &to_session_too));
        self.background.insert(name.to_string(), Background { child, lines });
        Ok(())
    }

    fn show(&mut self, name: &str, count: usize) -> Result<Vec<String>> {
        let background = self.background.remove(name).context("no watch of this name")?;
        let deadline = Instant::now() + DEADLINE;
        let mut lines = Vec::new();
        while lines.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = background.lines.recv_timeout(left) else {
                bail!("it printed only {lines:#?}");
            };
            if !line.starts_with("{\"level\":") {
                lines.push(line);
            }
        }
        Ok(self.masks.apply(&lines))
    }
}

/// Sends each line until the other end, or the text, is gone.
fn forward(reader: impl BufRead, to: &std::sync::mpsc::Sender<String>) {
    for line in reader.split(b'\n') {
        let Ok(line) = line else { return };
        if to.send(printable(&String::from_utf8_lossy(&line))).is_err() {
            return;
        }
    }
}

/// A line with control characters written out, so that transcripts stay text.
fn printable(line: &str) -> String {
    line.chars()
        .map(|character| match character.is_control() && character != '\t' {
            true => character.escape_default().to_string(),
            false => character.to_string(),
        })
        .collect()
}

/// A line without its ids: the key by which lines in the order of ids are sorted anew.
fn without_ids(line: &str) -> String {
    let word = |character: char| !character.is_ascii_alphanumeric();
    line.split(word).filter(|word| word.len() < 12).collect::<Vec<_>>().join(" ")
}

/// Splits a command line into words: spaces separate them, quotes hold one together.
fn words(line: &str) -> Result<Vec<String>> {
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
