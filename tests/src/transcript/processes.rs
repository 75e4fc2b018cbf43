//! Commands as processes: a real `etcdctl` against a cluster of real processes.

use std::collections::BTreeMap;
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::subject::{DEADLINE, Output, Subject, printable, words};
use crate::cluster::{Cluster, Kind};
use crate::programs::{self, EtcdctlRelease};

/// A cluster and an `etcdctl`.
pub(super) struct Processes {
    cluster: Cluster,
    etcdctl: PathBuf,
    watches: BTreeMap<String, Watch>,
}

/// An `etcdctl watch` in the background.
struct Watch {
    child: Child,
    lines: Receiver<String>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It runs until it is ended; whether it was still there does not matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Processes {
    /// Starts a cluster of `size` members for the given `etcdctl`.
    pub(super) fn start(kind: Kind, size: usize, release: EtcdctlRelease) -> Result<Processes> {
        let etcdctl = programs::etcdctl(release)?;
        Ok(Processes { cluster: Cluster::start(kind, size)?, etcdctl, watches: BTreeMap::new() })
    }

    fn command(&self, arguments: &str) -> Result<Command> {
        let mut command = Command::new(&self.etcdctl);
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD") {
                command.env_remove(variable);
            }
        }
        command.args(words(arguments)?).env("ETCDCTL_API", "3").current_dir(self.cluster.folder());
        Ok(command)
    }
}

impl Subject for Processes {
    fn names(&self) -> Vec<(String, String)> {
        let mut names = vec![(self.cluster.folder().display().to_string(), "<tmp>".to_string())];
        for index in 0..self.cluster.size() {
            let number = index + 1;
            names.push((self.cluster.client_address(index), format!("<client{number}>")));
            names.push((self.cluster.peer_address(index), format!("<peer{number}>")));
        }
        names
    }

    fn endpoints(&self) -> String {
        self.cluster.endpoints()
    }

    fn etcdctl(&mut self, arguments: &str, input: &[String]) -> Result<Output> {
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
        Ok(Output { stdout: output.stdout, stderr: output.stderr, code: output.status.code() })
    }

    fn watch(&mut self, name: &str, arguments: &str) -> Result<()> {
        let mut child = self
            .command(arguments)?
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
        self.watches.insert(name.to_string(), Watch { child, lines });
        Ok(())
    }

    fn show(&mut self, name: &str, count: usize) -> Result<Vec<String>> {
        let watch = self.watches.remove(name).context("no watch of this name")?;
        let deadline = Instant::now() + DEADLINE;
        let mut lines = Vec::new();
        while lines.len() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = watch.lines.recv_timeout(left) else {
                bail!("it printed only {lines:#?}");
            };
            if !line.starts_with("{\"level\":") {
                lines.push(line);
            }
        }
        Ok(lines)
    }

    fn restart(&mut self, index: usize) -> Result<()> {
        self.cluster.stop(index)?;
        self.cluster.restart(index)?;
        self.cluster.wait_healthy()
    }

    fn log_tails(&self) -> String {
        self.cluster.log_tails()
    }
}

/// Sends each line until the other end, or the text, is gone.
fn forward(reader: impl BufRead, to: &Sender<String>) {
    for line in reader.split(b'\n') {
        let Ok(line) = line else { return };
        if to.send(printable(&String::from_utf8_lossy(&line))).is_err() {
            return;
        }
    }
}
