//! One play of a transcript: a cluster, one `etcdctl`, and what the steps do with them.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::masks::Masks;
use super::subject::{DEADLINE, Subject, words};

/// Time between two runs of a repeated command.
const REPEAT: Duration = Duration::from_millis(100);

/// A running transcript.
pub(super) struct Session<S> {
    subject: S,
    masks: Masks,
}

impl<S: Subject> Session<S> {
    pub(super) fn new(subject: S) -> Result<Session<S>> {
        let masks = Masks::new(subject.names())?;
        Ok(Session { subject, masks })
    }

    /// Carries one step out and returns its masked output.
    pub(super) fn run(&mut self, line: &str, input: &[String]) -> Result<Vec<String>> {
        self.step(line, input).with_context(|| format!("at {line}\n{}", self.subject.log_tails()))
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
                let arguments = self.resolved(&format!("watch {arguments}"))?;
                self.subject.watch(name, &arguments)?;
                Ok(Vec::new())
            }
            "show" => {
                let (name, count) = rest.split_once(' ').context("show NAME LINES")?;
                let lines = self.subject.show(name, count.parse()?)?;
                Ok(self.masks.apply(&lines))
            }
            "restart" => {
                let index =
                    rest.parse::<usize>()?.checked_sub(1).context("members count from 1")?;
                self.subject.restart(index)?;
                Ok(Vec::new())
            }
            _ => bail!("not a step of a transcript"),
        }
    }

    /// The command with this run's own texts in it, and the members that it asks.
    fn resolved(&mut self, arguments: &str) -> Result<String> {
        let arguments = self.resolve_roles(arguments)?;
        let arguments = self.masks.undo(&arguments);
        match words(&arguments)?.iter().any(|argument| argument.starts_with("--endpoints")) {
            true => Ok(arguments),
            false => Ok(format!("--endpoints={} {arguments}", self.subject.endpoints())),
        }
    }

    /// Runs a command to its end: what it printed, its errors, and how it exited if not well.
    fn etcdctl(&mut self, arguments: &str, input: &[String]) -> Result<Vec<String>> {
        let arguments = self.resolved(arguments)?;
        Ok(self.subject.etcdctl(&arguments, input)?.lines())
    }

    /// Replaces `<leader>` and `<follower>`, which only the running cluster knows.
    fn resolve_roles(&mut self, arguments: &str) -> Result<String> {
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

    fn until_empty(&mut self, command: &str) -> Result<Vec<String>> {
        let deadline = Instant::now() + DEADLINE;
        while Instant::now() < deadline {
            if self.etcdctl(command, &[])?.is_empty() {
                return Ok(Vec::new());
            }
            thread::sleep(REPEAT);
        }
        bail!("it still prints something after {DEADLINE:?}");
    }
}

/// A line without its ids: the key by which lines in the order of ids are sorted anew.
fn without_ids(line: &str) -> String {
    let word = |character: char| !character.is_ascii_alphanumeric();
    line.split(word).filter(|word| word.len() < 12).collect::<Vec<_>>().join(" ")
}
