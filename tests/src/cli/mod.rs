//! `etcdctl` and `coracle ctl` side by side: the same command lines, each against a fresh etcd and
//! a fresh Coracle, print the same bytes, once what differs in every run is masked.
//!
//! ```text
//!                 etcd              Coracle
//! etcdctl 3.5   the reference     our server, their client
//! coracle ctl   our client        all ours
//! ```
//!
//! Four pairs are given the same lines. Whatever two of them print differently is a difference,
//! unless [`known`] knows it: then both look the same before they are compared. Beside all other
//! operations, [`crate::conformance`] gives lines to two servers in the same way.

pub mod generate;
mod known;
pub mod matrix;
mod protobuf;

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, Kind};
use crate::programs::{self, EtcdctlRelease};
use crate::transcript::masks::Masks;
pub use protobuf::Reply;

/// Whose command line it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Etcdctl,
    Coracle,
}

/// One command line. `<lease1>` stands for the first lease that a line captured, `<member>` for
/// the member's own id and `<added>` for that of the member that was added.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    pub words: Vec<Vec<u8>>,
    /// What the command reads.
    pub input: Vec<u8>,
    /// Variables of its environment.
    pub variables: Vec<(&'static str, &'static str)>,
    /// What `-w protobuf` prints.
    pub reply: Option<Reply>,
    /// What it makes gets a name.
    pub captures: Option<Capture>,
}

/// What a line makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capture {
    Lease,
    AddedMember,
}

impl Line {
    /// The line of these words, which are separated by single spaces; `''` is an empty word.
    pub fn new(words: &str) -> Line {
        let words = words.split(' ').map(|word| word.replace("''", "").into_bytes()).collect();
        Line { words, ..Line::default() }
    }

    /// The same with more words.
    pub fn and(&self, words: &str) -> Line {
        let mut line = self.clone();
        line.words.extend(Line::new(words).words);
        line
    }

    /// The command's first word.
    pub fn command(&self) -> String {
        self.words
            .first()
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .unwrap_or_default()
    }

    /// As one would type it, roughly.
    pub fn shown(&self) -> String {
        let words: Vec<_> = self.words.iter().map(|word| word.escape_ascii().to_string()).collect();
        let input = String::from_utf8_lossy(&self.input).replace('\n', "⏎");
        format!("{} < {input}", words.join(" "))
    }
}

/// A server that command lines are given to, and how what they print is masked.
pub struct Shell {
    folder: PathBuf,
    endpoint: String,
    masks: Masks,
    member: String,
    added: String,
    leases: Vec<String>,
}

impl Shell {
    /// The shell of the first member of `cluster`.
    pub fn new(cluster: &Cluster) -> Result<Shell> {
        let known = vec![
            (cluster.folder().display().to_string(), "<tmp>".to_owned()),
            (cluster.client_address(0), "<client>".to_owned()),
            (cluster.peer_address(0), "<peer>".to_owned()),
        ];
        let (member, added, leases) = (String::new(), String::new(), Vec::new());
        let (folder, endpoint) = (cluster.folder().to_owned(), cluster.client_address(0));
        let masks = Masks::new(known)?;
        let mut shell = Shell { folder, endpoint, masks, member, added, leases };
        let listed = shell.output(Program::Etcdctl, &Line::new("member list"))?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        shell.member = listed.split(',').next().context("a member")?.to_owned();
        Ok(shell)
    }

    /// Runs a line; gives what it printed, its errors and its exit code, masked.
    pub fn run(&mut self, program: Program, line: &Line) -> Result<Vec<String>> {
        let output = self.output_patiently(program, line)?;
        match line.captures {
            Some(Capture::Lease) if output.status.success() => {
                self.leases.push(second_word(&output.stdout)?);
            }
            Some(Capture::AddedMember) => self.added = self.unstarted_member(program)?,
            _ => {}
        }
        let is_protobuf = line.words.iter().any(|word| word == b"protobuf");
        let mut lines = match line.reply {
            Some(reply) if is_protobuf && output.status.success() => reply.lines(&output.stdout),
            _ => printed(&output.stdout),
        };
        // Log lines are its library's, not the program's.
        let complaints = printed(&output.stderr).into_iter();
        lines.extend(complaints.filter(|line| !line.starts_with("{\"level\":")));
        lines.push(format!("exit {}", output.status.code().unwrap_or(-1)));
        Ok(self.masks.apply(&known::evened(lines)))
    }

    /// The next lease, which was granted in another way, for lines that name it.
    pub fn learn_lease(&mut self, id: i64) {
        self.leases.push(format!("{id:x}"));
    }

    /// The lease that was captured or learnt last.
    pub fn last_lease(&self) -> Option<i64> {
        self.leases.last().and_then(|id| i64::from_str_radix(id, 16).ok())
    }

    /// etcd's raft silently drops a membership change that follows another one too closely, and
    /// the caller waits in vain: it is asked again.
    fn output_patiently(&self, program: Program, line: &Line) -> Result<Output> {
        const DROPPED_CHANGES: usize = 3;
        for _ in 0..DROPPED_CHANGES {
            let output = self.output(program, line)?;
            let gave_up = output.stderr.ends_with(b"context deadline exceeded\n");
            if !gave_up || !line.words.iter().any(|word| word == b"member") {
                return Ok(output);
            }
        }
        self.output(program, line)
    }

    /// The id of the member that was added and does not run.
    fn unstarted_member(&self, program: Program) -> Result<String> {
        let listed = self.output(program, &Line::new("member list"))?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let added = listed.lines().find(|line| line.contains(", unstarted,"));
        let id = added.and_then(|line| line.split(',').next()).context("no member was added")?;
        Ok(id.to_owned())
    }

    fn output(&self, program: Program, line: &Line) -> Result<Output> {
        let mut command = match program {
            Program::Etcdctl => Command::new(programs::etcdctl(EtcdctlRelease::V35)?),
            Program::Coracle => {
                let mut command = Command::new(programs::coracle()?);
                command.arg("ctl");
                command
            }
        };
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD") {
                command.env_remove(variable);
            }
        }
        let mut child = command
            .env("ETCDCTL_API", "3")
            .env("ETCDCTL_ENDPOINTS", &self.endpoint)
            .envs(line.variables.iter().copied())
            .args(line.words.iter().map(|word| self.resolved(word)))
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting a command")?;
        let mut stdin = child.stdin.take().context("its input is a pipe")?;
        // A command that fails early does not read its input.
        let _ = stdin.write_all(&line.input);
        drop(stdin);
        Ok(child.wait_with_output()?)
    }

    /// The word with this server's ids in the place of their names.
    fn resolved(&self, word: &[u8]) -> OsString {
        let Ok(text) = std::str::from_utf8(word) else { return OsString::from_vec(word.to_vec()) };
        let mut text = text.replace("<member>", &self.member).replace("<added>", &self.added);
        if text.contains("<lease") {
            for (index, lease) in self.leases.iter().enumerate() {
                text = text.replace(&format!("<lease{}>", index + 1), lease);
            }
        }
        text.into()
    }
}

/// The id of the lease that `lease grant` tells of.
fn second_word(stdout: &[u8]) -> Result<String> {
    let text = String::from_utf8_lossy(stdout);
    let id = text.split_whitespace().nth(1).context("an id is the second word")?;
    ensure!(u64::from_str_radix(id, 16).is_ok(), "{text:?} has no id");
    Ok(id.to_owned())
}

/// Lines of text with everything but printable ASCII written out: nothing is lost.
fn printed(bytes: &[u8]) -> Vec<String> {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'\n' | b'\t' | b' '..=b'~' => text.push(char::from(*byte)),
            other => text.push_str(&format!("\\x{other:02x}")),
        }
    }
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    // What ends without an end of line is told from what ends with one.
    match lines.last().is_some_and(String::is_empty) {
        true => drop(lines.pop()),
        false => lines.push("(no end of line)".to_owned()),
    }
    lines
}

/// The four pairs of server and program, the reference first.
const PAIRS: [(Kind, Program); 4] = [
    (Kind::Etcd, Program::Etcdctl),
    (Kind::Etcd, Program::Coracle),
    (Kind::Coracle, Program::Etcdctl),
    (Kind::Coracle, Program::Coracle),
];

/// Gives all lines to all pairs; an error tells of every difference.
pub fn compare(lines: &[Line]) -> Result<()> {
    let outputs = std::thread::scope(|scope| {
        let runs = PAIRS.map(|(kind, program)| {
            scope.spawn(move || -> Result<Vec<Vec<String>>> {
                let cluster = Cluster::start(kind, 1)?;
                let mut shell = Shell::new(&cluster)?;
                let run = |line: &Line| {
                    let context = || {
                        format!("{kind:?}, {program:?}: {}\n{}", line.shown(), cluster.log_tails())
                    };
                    shell.run(program, line).with_context(context)
                };
                lines.iter().map(run).collect()
            })
        });
        runs.map(|run| run.join().expect("no panic"))
    });
    let [reference, others @ ..] = outputs;
    let reference = reference?;
    let mut differences = Vec::new();
    for (pair, output) in PAIRS[1..].iter().zip(others) {
        for ((line, expected), actual) in lines.iter().zip(&reference).zip(output?) {
            // Where etcdctl crashes there is nothing to be equal to.
            if *expected != actual && !expected.iter().any(|line| line.starts_with("panic: ")) {
                let shown = line.shown();
                differences.push(format!(
                    "{pair:?}: {shown}\n  - {}\n  + {}",
                    expected.join("\n  - "),
                    actual.join("\n  + ")
                ));
            }
        }
    }
    ensure!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
    Ok(())
}
