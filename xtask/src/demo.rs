//! `cargo xtask demo`: a cluster of three members on this machine, on etcd's usual ports.
//!
//! The members are processes of the release binary, each with a data folder and a log file of its
//! own. They run in process groups of their own, so that Ctrl-C reaches us alone and we end them in
//! order: SIGTERM, wait, and only then the hard way. A member that dies while the demo runs is
//! reported and left dead: killing one to watch the others carry on is what a demo is for. The
//! laboratory, which has a cluster of its own in a browser tab, is served beside them.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::run::{cargo, run, wait_within};
use crate::{health, paths, site, www};

/// etcd's client and peer port for the first member; the others' are those of etcd's own examples.
const PORTS: [(u16, u16); 3] = [(2379, 2380), (22379, 22380), (32379, 32380)];
/// Where the laboratory is served, unless something else is there.
const LABORATORY_PORT: u16 = 8080;
/// From start to a leader elected by all three; seconds in truth, unless the machine is very busy.
const START_LIMIT: Duration = Duration::from_secs(60);
/// For handing over leadership, flushing and closing.
const STOP_LIMIT: Duration = Duration::from_secs(20);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where the members keep their data and logs [default: target/demo].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Start with an empty store: delete the data of an earlier demo first.
    #[arg(long)]
    fresh: bool,
}

/// Builds, starts three members, tells what to try, and stops them on Ctrl-C.
pub(crate) fn demo(options: &Options) -> Result<()> {
    let folder = options.data_dir.clone().unwrap_or_else(|| paths::target().join("demo"));
    println!("A Coracle cluster of three members on this machine.");
    // Before anything is started: from here on a signal is a message, not our end.
    let signals = watch_signals()?;
    check_ports()?;
    println!("\n==> Building the release binary (a few minutes the first time)");
    run(cargo().args(["build", "--release", "-p", "coracle-server", "--bin", "coracle"]))?;
    let binary = paths::target().join("release/coracle");
    println!("\n==> Building the laboratory, a cluster in a browser tab");
    let laboratory = laboratory();

    println!("\n==> Starting three members, with their data and logs in {}", paths::shown(&folder));
    if options.fresh {
        clear(&folder)?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut members = Members(Vec::new());
    for number in 0..PORTS.len() {
        members.0.push(Member::start(&binary, &folder, number)?);
    }
    if !members.wait_until_healthy(&signals)? {
        return members.stop();
    }
    print_next_steps(&binary);
    match laboratory {
        Ok(address) => println!("\nA cluster of its own, in a browser tab: http://{address}/"),
        Err(error) => println!("\nThe laboratory cannot be shown: {error:#}"),
    }
    members.attend(&signals)?;
    members.stop()
}

/// Builds the laboratory and serves it beside the cluster, which does without it if need be.
fn laboratory() -> Result<SocketAddr> {
    let site = www::build(false)?;
    site::serve(&site, LABORATORY_PORT).or_else(|_| site::serve(&site, 0))
}

/// One message per signal that asks us to end.
fn watch_signals() -> Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot catch signals")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for signal in signals.forever() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A port that is taken would show up later, as a member's early end; say it now and plainly.
fn check_ports() -> Result<()> {
    let taken: Vec<String> = PORTS
        .iter()
        .flat_map(|(client, peer)| [*client, *peer])
        .filter(|port| TcpListener::bind(address(*port)).is_err())
        .map(|port| port.to_string())
        .collect();
    if !taken.is_empty() {
        bail!(
            "these ports of 127.0.0.1 are in use: {}. Stop what listens there first (another \
             demo? an etcd?)",
            taken.join(", ")
        );
    }
    Ok(())
}

/// Deletes what an earlier demo left, and nothing else that may be in the folder.
fn clear(folder: &Path) -> Result<()> {
    for number in 0..PORTS.len() {
        let data = data_folder(folder, number);
        if data.exists() {
            fs::remove_dir_all(&data)
                .with_context(|| format!("cannot delete {}", data.display()))?;
        }
    }
    Ok(())
}

fn data_folder(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("member-{}", number + 1))
}

/// A running member, or one that has ended.
struct Member {
    name: String,
    process: Child,
    client: SocketAddr,
    log: PathBuf,
    /// How to start it again by hand.
    command: String,
    ended: Option<ExitStatus>,
}

impl Member {
    fn start(binary: &Path, folder: &Path, number: usize) -> Result<Member> {
        let (client, peer) = PORTS[number];
        let name = format!("member-{}", number + 1);
        let log = folder.join(format!("{name}.log"));
        let arguments = arguments(&name, client, peer, &data_folder(folder, number));
        let output =
            File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let process = Command::new(binary)
            .args(&arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} does not start", binary.display()))?;
        println!(
            "    {name}: clients 127.0.0.1:{client}, peers 127.0.0.1:{peer}, process {}, log {}",
            process.id(),
            paths::shown(&log)
        );
        let command = format!("{} {}", paths::shown(binary), arguments.join(" "));
        Ok(Member { name, process, client: address(client), log, command, ended: None })
    }

    /// Whether it has just been found to have ended.
    fn has_ended(&mut self) -> Result<bool> {
        if self.ended.is_none() {
            self.ended = self.process.try_wait()?;
            return Ok(self.ended.is_some());
        }
        Ok(false)
    }

    /// The last lines of its log, indented.
    fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(12)..];
        last.iter().map(|line| format!("      {line}\n")).collect()
    }
}

/// etcd's own flags: the cluster could be one of etcd's.
fn arguments(name: &str, client: u16, peer: u16, data: &Path) -> Vec<String> {
    let initial: Vec<String> = PORTS
        .iter()
        .enumerate()
        .map(|(number, (_, peer))| format!("member-{}=http://127.0.0.1:{peer}", number + 1))
        .collect();
    vec![
        "serve".to_owned(),
        format!("--name={name}"),
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls=http://127.0.0.1:{client}"),
        format!("--advertise-client-urls=http://127.0.0.1:{client}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
        format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
        format!("--initial-cluster={}", initial.join(",")),
        "--initial-cluster-token=coracle-demo".to_owned(),
    ]
}

/// The three of them. Dropping it kills what still runs, so that no error leaves a member behind.
struct Members(Vec<Member>);

impl Members {
    /// Waits until all are healthy; `false` when a signal came first.
    fn wait_until_healthy(&mut self, signals: &Receiver<i32>) -> Result<bool> {
        let start = Instant::now();
        loop {
            for member in &mut self.0 {
                if member.has_ended()? {
                    bail!(
                        "{} has ended ({}); the end of its log, {}:\n{}",
                        member.name,
                        described(member.ended),
                        member.log.display(),
                        member.last_words()
                    );
                }
            }
            let ill: Vec<&Member> =
                self.0.iter().filter(|member| !health::is_healthy(member.client)).collect();
            if ill.is_empty() {
                println!("    all three are healthy after {:.1} s", start.elapsed().as_secs_f64());
                return Ok(true);
            }
            if start.elapsed() > START_LIMIT {
                let member = ill[0];
                bail!(
                    "{} is not healthy after {} s; the end of its log, {}:\n{}",
                    member.name,
                    START_LIMIT.as_secs(),
                    member.log.display(),
                    member.last_words()
                );
            }
            if signals.recv_timeout(Duration::from_millis(100)).is_ok() {
                return Ok(false);
            }
        }
    }

    /// Waits for a signal, reporting members that end meanwhile.
    fn attend(&mut self, signals: &Receiver<i32>) -> Result<()> {
        loop {
            match signals.recv_timeout(Duration::from_millis(200)) {
                Ok(_) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => bail!("signals are no longer delivered"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            for member in &mut self.0 {
                if member.has_ended()? {
                    println!("\n{} has ended ({}).", member.name, described(member.ended));
                    println!("Its log: {}. Start it again with:", paths::shown(&member.log));
                    println!("  {}", member.command);
                }
            }
            if self.0.iter().all(|member| member.ended.is_some()) {
                bail!("no member is left");
            }
        }
    }

    /// SIGTERM to all at once, then waits for each.
    fn stop(mut self) -> Result<()> {
        println!("\n==> Stopping the members");
        let mut running = Vec::new();
        for member in &mut self.0 {
            if !member.has_ended()? && member.ended.is_none() {
                terminate(&member.process)?;
                running.push(member);
            }
        }
        let mut late = Vec::new();
        for member in running {
            member.ended = wait_within(&mut member.process, STOP_LIMIT)?;
            match member.ended {
                Some(_) => println!("    {}: {}", member.name, described(member.ended)),
                None => late.push(member.name.clone()),
            }
        }
        if !late.is_empty() {
            let limit = STOP_LIMIT.as_secs();
            bail!("{} had not stopped after {limit} s and was killed", late.join(", "));
        }
        Ok(())
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for member in self.0.iter_mut().filter(|member| member.ended.is_none()) {
            // Nothing to do about an error: the process is gone, which is what was wanted.
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

/// SIGTERM, by the shell's own `kill`: the standard library only knows SIGKILL.
fn terminate(process: &Child) -> Result<()> {
    run_kill(process.id()).with_context(|| format!("cannot stop process {}", process.id()))
}

fn run_kill(process: u32) -> Result<()> {
    let status = Command::new("sh").args(["-c", &format!("kill -TERM {process}")]).status()?;
    if !status.success() {
        bail!("kill ended with {status}");
    }
    Ok(())
}

fn described(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "still running".to_owned(), |status| status.to_string())
}

fn print_next_steps(binary: &Path) {
    let ctl = format!("{} ctl", paths::shown(binary));
    let endpoints: Vec<String> =
        PORTS.iter().map(|(client, _)| format!("127.0.0.1:{client}")).collect();
    let endpoints = endpoints.join(",");
    println!(
        "
The cluster is up. In another terminal (any etcdctl or etcd client does, too):

  {ctl} put greeting hello
  {ctl} get greeting
  {ctl} watch --prefix gr                # and put again elsewhere
  {ctl} lease grant 60                   # then: put --lease=ID key value
  {ctl} --endpoints={endpoints} endpoint status --write-out=table
  {ctl} member list --write-out=table

  etcdctl --endpoints=127.0.0.1:22379 get greeting    # another member knows it as well

Kill a member (`kill -9` and its process number above): the other two carry on.
The data stays for the next demo; `--fresh` starts with none. Ctrl-C stops the cluster."
    );
}
