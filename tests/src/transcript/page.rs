//! Commands in the laboratory's page: `window.coracle.exec`, through a Node script that holds the
//! browser (`tests/browser/bridge.mjs`) and answers one line of JSON with another.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::subject::{Output, Subject};

/// Where files would go, if a page had any.
const FOLDER: &str = "/tmp/page";

/// The laboratory in a browser tab.
pub struct Page {
    size: usize,
    bridge: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Commands that watch: they are run when their output is wanted, since they start in the past.
    watches: BTreeMap<String, String>,
}

impl Drop for Page {
    fn drop(&mut self) {
        // At the end of its input the script closes the browser and ends.
        let _ = writeln!(self.requests, "null");
        let _ = self.bridge.wait();
    }
}

impl Page {
    /// Opens the page.
    ///
    /// # Errors
    /// If there is no Node to run the script.
    pub fn open() -> Result<Page> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/browser/bridge.mjs");
        let mut bridge = Command::new("node")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start Node")?;
        let requests = bridge.stdin.take().context("the bridge's input is a pipe")?;
        let answers = bridge.stdout.take().context("the bridge's output is a pipe")?;
        let answers = BufReader::new(answers);
        Ok(Page { size: 0, bridge, requests, answers, watches: BTreeMap::new() })
    }

    /// Begins an experiment with a cluster of `size` nodes.
    pub(super) fn start(&mut self, size: usize) -> Result<()> {
        self.size = size;
        self.watches.clear();
        self.ask(&json!({ "start": size })).map(|_| ())
    }

    fn ask(&mut self, request: &Value) -> Result<Value> {
        writeln!(self.requests, "{request}").context("the bridge has ended")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line).context("the bridge has ended")?;
        match answer["error"].as_str() {
            Some(error) => bail!("in the page: {error}"),
            None => Ok(answer),
        }
    }

    fn exec(&mut self, arguments: &str, options: &Value) -> Result<Output> {
        let answer = self.ask(&json!({ "exec": arguments, "options": options }))?;
        let text = |name: &str| answer[name].as_str().unwrap_or_default().as_bytes().to_vec();
        let code = answer["code"].as_i64().and_then(|code| code.try_into().ok());
        Ok(Output { stdout: text("stdout"), stderr: text("stderr"), code })
    }
}

impl Subject for &mut Page {
    fn names(&self) -> Vec<(String, String)> {
        let mut names = vec![(FOLDER.to_string(), "<tmp>".to_string())];
        for number in 1..=self.size {
            names.push((format!("node{number}:2379"), format!("<client{number}>")));
            names.push((format!("node{number}:2380"), format!("<peer{number}>")));
            names.push((format!("node{number}"), format!("n{number}")));
        }
        names
    }

    fn endpoints(&self) -> String {
        let all: Vec<String> = (1..=self.size).map(|n| format!("http://node{n}:2379")).collect();
        all.join(",")
    }

    fn etcdctl(&mut self, arguments: &str, input: &[String]) -> Result<Output> {
        let input: String = input.iter().map(|line| format!("{line}\n")).collect();
        self.exec(arguments, &json!({ "input": input }))
    }

    fn watch(&mut self, name: &str, arguments: &str) -> Result<()> {
        if !arguments.contains("--rev=") {
            bail!("a watch in the page has to start at a revision");
        }
        self.watches.insert(name.to_string(), arguments.to_string());
        Ok(())
    }

    fn show(&mut self, name: &str, count: usize) -> Result<Vec<String>> {
        let arguments = self.watches.remove(name).context("no watch of this name")?;
        let output = self.exec(&arguments, &json!({ "lines": count }))?;
        let mut lines = Output { code: Some(0), ..output }.lines();
        lines.truncate(count);
        Ok(lines)
    }

    fn restart(&mut self, index: usize) -> Result<()> {
        self.ask(&json!({ "restart": index + 1 })).map(|_| ())
    }

    fn log_tails(&self) -> String {
        String::new()
    }
}
