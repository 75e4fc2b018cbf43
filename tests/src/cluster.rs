//! Clusters of real processes, of etcd or of Coracle, on free ports of this machine.
//!
//! Both kinds take the same flags, so a test written against one runs against the other:
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use coracle_tests::cluster::{Cluster, Kind};
//! let mut cluster = Cluster::start(Kind::Coracle, 3)?;
//! cluster.kill(0)?;      // SIGKILL: what was acknowledged must still be there
//! cluster.restart(0)?;
//! cluster.wait_healthy()?;
//! # Ok(()) }
//! ```
//!
//! Invariants: no wait is a fixed sleep, each polls a condition within a deadline; the data and
//! the logs live in one temporary folder; dropping the cluster kills every process, and prints
//! the end of each log if the test is failing.
//!
//! Ports are found by binding port 0 and letting go. Another process may take one in between: a
//! member that cannot bind exits at once, and the cluster is then started anew on other ports.

use std::env;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::programs;

/// How long a cluster may take until every member serves.
const START_DEADLINE: Duration = Duration::from_secs(60);
/// How long a member may take to stop after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// Time between two looks at a condition.
const POLL: Duration = Duration::from_millis(20);
/// Attempts to start a cluster whose ports were taken meanwhile.
const PORT_ATTEMPTS: usize = 5;
/// Lines of each log that a failing test prints.
const LOG_TAIL_LINES: usize = 60;

/// Which program the members run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Etcd,
    /// The release before, for what must work with both.
    Etcd34,
    Coracle,
}

impl Kind {
    pub(crate) fn command(self) -> Result<Command> {
        Ok(match self {
            Kind::Etcd => Command::new(programs::etcd()?),
            Kind::Etcd34 => Command::new(programs::etcd34()?),
            Kind::Coracle => {
                let mut command = Command::new(programs::coracle()?);
                command.arg("serve");
                command
            }
        })
    }
}

/// One member: a process that may be down, and what it takes to start it again.
struct Member {
    name: String,
    client_port: u16,
    peer_port: u16,
    /// `--initial-cluster` and its state as this member was first told.
    initial_cluster: String,
    initial_state: &'static str,
    child: Option<Child>,
}

/// A running cluster; see the module's description.
pub struct Cluster {
    kind: Kind,
    /// `http`, `https`, `unix` or `unixs`.
    peer_scheme: &'static str,
    folder: TempDir,
    extra_flags: Vec<String>,
    members: Vec<Member>,
}

impl Cluster {
    /// Starts `size` members and waits until all of them are healthy.
    ///
    /// # Errors
    /// If the program is missing, or the members do not become healthy within a minute.
    pub fn start(kind: Kind, size: usize) -> Result<Cluster> {
        Cluster::start_with(kind, size, &[])
    }

    /// As [`Cluster::start`], with flags that every member gets besides names and addresses.
    pub fn start_with(kind: Kind, size: usize, extra_flags: &[&str]) -> Result<Cluster> {
        Cluster::start_with_peer_scheme(kind, size, "http", extra_flags)
    }

    /// The same with peer URLs of `peer_scheme`.
    pub fn start_with_peer_scheme(
        kind: Kind,
        size: usize,
        peer_scheme: &'static str,
        extra_flags: &[&str],
    ) -> Result<Cluster> {
        Cluster::start_anywhere(kind, size, peer_scheme, extra_flags, |_, _| Ok(()))
    }

    /// The same, but `prepare` is called for each member before the first is started: it may make
    /// their data directories.
    pub fn start_prepared(
        kind: Kind,
        size: usize,
        extra_flags: &[&str],
        prepare: impl Fn(&Cluster, usize) -> Result<()>,
    ) -> Result<Cluster> {
        Cluster::start_anywhere(kind, size, "http", extra_flags, prepare)
    }

    fn start_anywhere(
        kind: Kind,
        size: usize,
        peer_scheme: &'static str,
        extra_flags: &[&str],
        prepare: impl Fn(&Cluster, usize) -> Result<()>,
    ) -> Result<Cluster> {
        let mut failure = anyhow!("no attempt was made");
        for _ in 0..PORT_ATTEMPTS {
            let mut cluster = Cluster::create(kind, size, peer_scheme, extra_flags)?;
            (0..size).try_for_each(|index| prepare(&cluster, index))?;
            match cluster.start_all() {
                Ok(()) => return Ok(cluster),
                Err(error) if cluster.ports_were_taken() => {
                    failure = error;
                }
                Err(error) => {
                    return Err(error.context(format!("logs:\n{}", cluster.log_tails())));
                }
            }
        }
        Err(failure.context("ports were taken at every attempt"))
    }

    /// The same without waiting for anything: for members that will not find each other.
    pub fn spawn_with_peer_scheme(
        kind: Kind,
        size: usize,
        peer_scheme: &'static str,
        extra_flags: &[&str],
    ) -> Result<Cluster> {
        let mut cluster = Cluster::create(kind, size, peer_scheme, extra_flags)?;
        (0..size).try_for_each(|index| cluster.spawn(index))?;
        Ok(cluster)
    }

    fn ports_were_taken(&self) -> bool {
        self.logs().to_lowercase().contains("address already in use")
    }

    fn create(
        kind: Kind,
        size: usize,
        peer_scheme: &'static str,
        extra_flags: &[&str],
    ) -> Result<Cluster> {
        let folder = TempDir::with_prefix("coracle-cluster-").context("a temporary folder")?;
        let mut cluster = Cluster {
            kind,
            peer_scheme,
            folder,
            extra_flags: extra_flags.iter().map(|flag| flag.to_string()).collect(),
            members: Vec::new(),
        };
        let ports = free_ports(size * 2)?;
        let names: Vec<String> = (1..=size).map(|number| format!("n{number}")).collect();
        let initial_cluster = names
            .iter()
            .zip(ports.chunks(2))
            .map(|(name, ports)| format!("{name}={peer_scheme}://127.0.0.1:{}", ports[1]))
            .collect::<Vec<_>>()
            .join(",");
        for (name, ports) in names.into_iter().zip(ports.chunks(2)) {
            cluster.members.push(Member {
                name,
                client_port: ports[0],
                peer_port: ports[1],
                initial_cluster: initial_cluster.clone(),
                initial_state: "new",
                child: None,
            });
        }
        Ok(cluster)
    }

    fn start_all(&mut self) -> Result<()> {
        for index in 0..self.members.len() {
            self.spawn(index)?;
        }
        self.wait_healthy()
    }

    /// How many members there are, running or not.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// The folder of data and logs; a test may put its own files there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `host:port` of the client URL of member `index`.
    pub fn client_address(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.members[index].client_port)
    }

    /// `host:port` of the peer URL of member `index`.
    pub fn peer_address(&self, index: usize) -> String {
        format!("127.0.0.1:{}", self.members[index].peer_port)
    }

    /// The name of member `index`.
    pub fn name(&self, index: usize) -> &str {
        &self.members[index].name
    }

    /// `--initial-cluster` as member `index` was told.
    pub fn initial_cluster(&self, index: usize) -> &str {
        &self.members[index].initial_cluster
    }

    /// The client URL of member `index`.
    pub fn endpoint(&self, index: usize) -> String {
        format!("http://{}", self.client_address(index))
    }

    /// The client URLs of all members, as `etcdctl --endpoints` takes them.
    pub fn endpoints(&self) -> String {
        (0..self.size()).map(|index| self.endpoint(index)).collect::<Vec<_>>().join(",")
    }

    /// The process id of member `index`, if it runs.
    pub fn process_id(&self, index: usize) -> Option<u32> {
        self.members[index].child.as_ref().map(Child::id)
    }

    /// The data directory of member `index`.
    pub fn data_dir(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("{}.data", self.members[index].name))
    }

    fn log_path(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("{}.log", self.members[index].name))
    }

    fn spawn(&mut self, index: usize) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path(index))?;
        let data_dir = self.data_dir(index);
        let client_url = self.endpoint(index);
        let peer_url = format!("{}://{}", self.peer_scheme, self.peer_address(index));
        let member = &mut self.members[index];
        let mut command = self.kind.command()?;
        // etcd reads flags from its environment too; a developer's must not leak in.
        for (variable, _) in env::vars_os() {
            if variable.to_string_lossy().starts_with("ETCD_") {
                command.env_remove(variable);
            }
        }
        let child = command
            .args(["--name", &member.name, "--data-dir"])
            .arg(data_dir)
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &member.initial_cluster])
            .args(["--initial-cluster-state", member.initial_state])
            .args(&self.extra_flags)
            // Where the sockets of `unix://127.0.0.1:port` are.
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {:?} {}", self.kind, member.name))?;
        member.child = Some(child);
        Ok(())
    }

    /// Starts member `index` again on its data directory and its ports; does not wait for it.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        if self.members[index].child.is_some() {
            bail!("member {index} is running");
        }
        self.spawn(index)
    }

    /// Adds a member that was announced with `member add` and joins the running cluster.
    ///
    /// `announce` is handed the peer URL and does the announcing; the process starts after it.
    pub fn join(&mut self, announce: impl FnOnce(&str) -> Result<()>) -> Result<usize> {
        let ports = free_ports(2)?;
        let index = self.members.len();
        let name = format!("n{}", index + 1);
        announce(&format!("http://127.0.0.1:{}", ports[1]))?;
        let mut peers: Vec<String> = self
            .members
            .iter()
            .map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.peer_port))
            .collect();
        peers.push(format!("{name}=http://127.0.0.1:{}", ports[1]));
        self.members.push(Member {
            name,
            client_port: ports[0],
            peer_port: ports[1],
            initial_cluster: peers.join(","),
            initial_state: "existing",
            child: None,
        });
        self.spawn(index)?;
        Ok(index)
    }

    /// Kills member `index` without warning (SIGKILL).
    pub fn kill(&mut self, index: usize) -> Result<()> {
        if let Some(mut child) = self.members[index].child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Stops member `index` in order (SIGTERM) and waits for its exit.
    ///
    /// # Errors
    /// If it does not exit within half a minute; it is killed then.
    pub fn stop(&mut self, index: usize) -> Result<ExitStatus> {
        self.signal(index, Signal::TERM)?;
        let mut child = self.members[index].child.take().context("the member is not running")?;
        let deadline = Instant::now() + STOP_DEADLINE;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                bail!("member {index} did not stop within {STOP_DEADLINE:?} of SIGTERM");
            }
            thread::sleep(POLL);
        }
    }

    /// Freezes member `index` (SIGSTOP).
    pub fn pause(&self, index: usize) -> Result<()> {
        self.signal(index, Signal::STOP)
    }

    /// Wakes a frozen member `index` (SIGCONT).
    pub fn resume(&self, index: usize) -> Result<()> {
        self.signal(index, Signal::CONT)
    }

    fn signal(&self, index: usize, signal: Signal) -> Result<()> {
        let child = self.members[index].child.as_ref().context("the member is not running")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has an id")?;
        kill_process(pid, signal).with_context(|| format!("signal to member {index}"))
    }

    /// Waits until every running member answers `/health` with true.
    ///
    /// # Errors
    /// If one exits, or the deadline of a minute passes.
    pub fn wait_healthy(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        for index in 0..self.members.len() {
            if self.members[index].child.is_some() {
                self.wait_member_healthy(index, deadline)?;
            }
        }
        Ok(())
    }

    fn wait_member_healthy(&mut self, index: usize, deadline: Instant) -> Result<()> {
        let address = self.client_address(index);
        loop {
            if let Ok(body) = http_get(&address, "/health")
                && body.contains("\"health\":\"true\"")
            {
                return Ok(());
            }
            let child = self.members[index].child.as_mut().context("the member is not running")?;
            if let Some(status) = child.try_wait()? {
                self.members[index].child = None;
                bail!("member {index} exited with {status}");
            }
            if Instant::now() > deadline {
                bail!("member {index} is not healthy after {START_DEADLINE:?}");
            }
            thread::sleep(POLL);
        }
    }

    /// Whether member `index` has exited by itself (or was never started).
    pub fn has_exited(&mut self, index: usize) -> Result<bool> {
        match self.members[index].child.as_mut() {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(true),
        }
    }

    /// Everything that the members have logged.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for index in 0..self.size() {
            if let Ok(mut file) = File::open(self.log_path(index)) {
                let mut bytes = Vec::new();
                if file.read_to_end(&mut bytes).is_ok() {
                    all.push_str(&String::from_utf8_lossy(&bytes));
                }
            }
        }
        all
    }

    /// The last lines of each member's log, under its name.
    pub fn log_tails(&self) -> String {
        let mut tails = String::new();
        for index in 0..self.size() {
            let text = fs::read(self.log_path(index)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(LOG_TAIL_LINES);
            let name = &self.members[index].name;
            let _ = writeln!(tails, "--- {:?} {name}, last lines:", self.kind);
            for line in &lines[from..] {
                let _ = writeln!(tails, "{line}");
            }
        }
        tails
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.members.len() {
            // Nothing to do about a process that cannot be killed: the test is over anyway.
            let _ = self.kill(index);
        }
        if thread::panicking() {
            eprintln!("{}", self.log_tails());
        }
    }
}

/// `count` ports that nobody listened on a moment ago, all different.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let listeners = (0..count)
        .map(|_| TcpListener::bind(("127.0.0.1", 0)))
        .collect::<std::io::Result<Vec<_>>>()
        .context("binding free ports")?;
    let ports = listeners
        .iter()
        .map(|listener| listener.local_addr().map(|address| address.port()))
        .collect::<std::io::Result<Vec<_>>>()?;
    Ok(ports)
}

/// The body of `GET path` over plain HTTP/1.1, for health and metrics.
pub fn http_get(address: &str, path: &str) -> Result<String> {
    let timeout = Some(Duration::from_secs(5));
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let (_, body) = text.split_once("\r\n\r\n").context("an HTTP answer has an empty line")?;
    Ok(body.to_string())
}
