//! What the native binary does with its log: a sync before each reply, a torn tail dropped, and
//! damage refused. The disk's own faults are in `power_loss`; these look from outside, through
//! system calls and at the files of a real member.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use coracle_core::api::etcdserverpb::{PutRequest, PutResponse, RangeRequest};
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::grpc::KvClient;
use coracle_tests::programs;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// How long a member may take to start or to refuse.
const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);
/// Puts before the log is damaged; each is synced before the next one is sent.
const PUTS: usize = 10;

#[test]
fn sync_comes_before_the_reply() -> Result<()> {
    let runtime = runtime()?;
    let member = Traced::start()?;
    let (before, after) = ("value before", "value after");
    runtime.block_on(async {
        put_when_ready(&member.endpoint, "key", before).await?;
        let previous = put(&member.endpoint, "key", after).await?.prev_kv;
        let previous = previous.context("the put asked for the previous value")?;
        ensure!(previous.value == before, "the previous value is {:?}", previous.value);
        anyhow::Ok(())
    })?;
    // The request is known by the new value in it, the reply by the previous one.
    let trace = member.stop()?;
    let calls = SystemCalls::parse(&trace);
    let request = calls.find(0, |call| call.is_read() && call.text.contains(after))?;
    let write =
        calls.find(request, |call| call.is_on_wal("pwrite64") && call.text.contains(after))?;
    let sync = calls.find(write, |call| call.is_on_wal("fdatasync"))?;
    let synced = calls.end_of(sync)?;
    let reply = calls.find(request, |call| call.is_send() && call.text.contains(before))?;
    ensure!(
        synced < reply,
        "the reply in line {reply} was sent before the sync ended in line {synced}:\n{}",
        calls.lines(request, synced)
    );
    println!("request, write, sync, reply:\n{}", calls.lines(request, reply));
    Ok(())
}

#[test]
fn torn_tail_is_dropped_with_a_word() -> Result<()> {
    let mut cluster = Cluster::start(Kind::Coracle, 1)?;
    let runtime = runtime()?;
    runtime.block_on(put_all(&cluster.endpoint(0)))?;
    cluster.kill(0)?;
    // Through the last value: what a crash in the middle of the last write leaves.
    let wal = newest_wal(&cluster)?;
    let cut = position_of(&wal, &value(PUTS - 1))? + 3;
    OpenOptions::new().write(true).open(&wal)?.set_len(cut)?;

    cluster.restart(0)?;
    cluster.wait_healthy()?;
    let logs = cluster.logs();
    let name = file_name(&wal);
    ensure!(
        logs.lines().any(|line| line.contains("torn tail") && line.contains(&name)),
        "no line says what was dropped:\n{logs}"
    );
    // The last put may be in the backend already; those before must be there in any case.
    for number in 0..PUTS - 1 {
        let found = runtime.block_on(get(&cluster.endpoint(0), &key(number)))?;
        ensure!(found == Some(value(number).into()), "{} is {found:?}", key(number));
    }
    runtime.block_on(put_all(&cluster.endpoint(0)))
}

#[test]
fn flipped_bit_in_the_middle_is_refused() -> Result<()> {
    let mut cluster = Cluster::start(Kind::Coracle, 1)?;
    runtime()?.block_on(put_all(&cluster.endpoint(0)))?;
    cluster.kill(0)?;
    let wal = newest_wal(&cluster)?;
    let position = position_of(&wal, &value(PUTS / 2))?;
    flip_bit(&wal, position)?;
    let logs_before = cluster.logs();

    cluster.restart(0)?;
    let Err(error) = cluster.wait_healthy() else { bail!("the member serves a damaged log") };
    let error = format!("{error:#}");
    ensure!(error.contains("exited with") && !error.contains("exit status: 0"), "{error}");
    let logs = cluster.logs();
    let logs = &logs[logs_before.len()..];
    let offset = named_offset(logs, &file_name(&wal))?;
    ensure!(
        (position.saturating_sub(200)..=position).contains(&offset),
        "the damage is at {position}, the message names {offset}:\n{logs}"
    );
    Ok(())
}

/// The number behind `offset` in the line that names `file` as corrupt.
fn named_offset(logs: &str, file: &str) -> Result<u64> {
    let line = logs.lines().find(|line| line.contains(file) && line.contains("corrupt"));
    let line = line.with_context(|| format!("no line names {file} as corrupt:\n{logs}"))?;
    let (_, rest) = line.split_once("offset ").with_context(|| format!("no offset in {line}"))?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().with_context(|| format!("no offset in {line}"))
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn put(endpoint: &str, key: &str, value: &str) -> Result<PutResponse> {
    let mut client = KvClient::connect(endpoint.to_owned()).await?;
    let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
    let request = PutRequest { key, value, prev_kv: true, ..Default::default() };
    Ok(client.put(request).await?.into_inner())
}

async fn put_when_ready(endpoint: &str, key: &str, value: &str) -> Result<PutResponse> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match put(endpoint, key, value).await {
            Ok(response) => return Ok(response),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

async fn get(endpoint: &str, key: &str) -> Result<Option<Bytes>> {
    let mut client = KvClient::connect(endpoint.to_owned()).await?;
    let request = RangeRequest { key: Bytes::from(key.to_owned()), ..Default::default() };
    let response = client.range(request).await?.into_inner();
    Ok(response.kvs.into_iter().next().map(|kv| kv.value))
}

async fn put_all(endpoint: &str) -> Result<()> {
    for number in 0..PUTS {
        put(endpoint, &key(number), &value(number)).await?;
    }
    Ok(())
}

fn key(number: usize) -> String {
    format!("key {number}")
}

fn value(number: usize) -> String {
    format!("value number {number}")
}

/// The newest segment of the member's log.
fn newest_wal(cluster: &Cluster) -> Result<PathBuf> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(cluster.data_dir(0).join("member/wal"))? {
        let path = entry?.path();
        if file_name(&path).starts_with("wal-") {
            segments.push(path);
        }
    }
    segments.into_iter().max().context("the member has no log")
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where `text` stands in `path`, the last time that it does.
fn position_of(path: &Path, text: &str) -> Result<u64> {
    let bytes = fs::read(path)?;
    let position = bytes.windows(text.len()).rposition(|window| window == text.as_bytes());
    Ok(position.with_context(|| format!("{text:?} is not in {}", path.display()))? as u64)
}

fn flip_bit(path: &Path, position: u64) -> Result<()> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.seek(SeekFrom::Start(position))?;
    file.read_exact(&mut byte)?;
    file.seek(SeekFrom::Start(position))?;
    file.write_all(&[byte[0] ^ 1])?;
    Ok(())
}

/// A one-member cluster under `strace`.
struct Traced {
    strace: Child,
    folder: TempDir,
    endpoint: String,
}

impl Traced {
    fn start() -> Result<Traced> {
        let folder = TempDir::with_prefix("coracle-strace-")?;
        let [client_port, peer_port] = free_ports()?;
        let endpoint = format!("http://127.0.0.1:{client_port}");
        let peer = format!("http://127.0.0.1:{peer_port}");
        let calls = "trace=execve,pwrite64,fdatasync,write,writev,sendto,sendmsg,\
                     read,readv,recvfrom,recvmsg";
        let log = File::create(folder.path().join("log"))?;
        let strace = Command::new("strace")
            // -yy names the file or the connection behind each descriptor.
            .args(["-f", "-tt", "-yy", "-s", "4096", "-e", calls, "-o"])
            .arg(folder.path().join("trace"))
            .arg(programs::coracle()?)
            .args(["serve", "--name", "n1", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("n1={peer}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("strace must be installed: `cargo xtask setup` does it")?;
        Ok(Traced { strace, folder, endpoint })
    }

    /// The trace, after the member was killed: strace ends with it.
    fn stop(mut self) -> Result<String> {
        self.kill_member()?;
        self.strace.wait()?;
        let trace = fs::read(self.folder.path().join("trace"))?;
        Ok(String::from_utf8_lossy(&trace).into_owned())
    }

    /// The first line of the trace is the member's `execve`, with its process id in front.
    fn kill_member(&self) -> Result<()> {
        let trace = fs::read(self.folder.path().join("trace"))?;
        let trace = String::from_utf8_lossy(&trace);
        let id = trace.split_whitespace().next().context("the trace is empty")?;
        let pid = Pid::from_raw(id.parse()?).context("a process has an id")?;
        Ok(kill_process(pid, Signal::KILL)?)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if matches!(self.strace.try_wait(), Ok(None)) {
            // The test has failed already; what can be cleaned up is.
            let _ = self.kill_member();
            let _ = self.strace.kill();
            let _ = self.strace.wait();
            let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
            eprintln!("{}", String::from_utf8_lossy(&log));
        }
    }
}

fn free_ports() -> Result<[u16; 2]> {
    let first = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let second = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

/// A trace in the order of its lines. A call that another thread's call interrupts has two lines,
/// `<unfinished ...>` where it began and `<... resumed>` where it ended.
struct SystemCalls<'a> {
    calls: Vec<Line<'a>>,
}

struct Line<'a> {
    thread: &'a str,
    text: &'a str,
}

impl Line<'_> {
    /// Behind the time of day: `name(…`, or `<... name resumed>…`.
    fn call(&self) -> &str {
        self.text.split_once(' ').map_or("", |(_, call)| call)
    }

    fn is_any_of(&self, names: &[&str]) -> bool {
        let call = self.call().trim_start_matches("<... ");
        names
            .iter()
            .any(|name| call.strip_prefix(name).is_some_and(|rest| rest.starts_with(['(', ' '])))
    }

    fn is_read(&self) -> bool {
        self.is_any_of(&["read", "readv", "recvfrom", "recvmsg"])
    }

    /// To a connection, not to a file.
    fn is_send(&self) -> bool {
        self.is_any_of(&["write", "writev", "sendto", "sendmsg"]) && self.text.contains("<TCP")
    }

    fn is_on_wal(&self, name: &str) -> bool {
        self.is_any_of(&[name]) && self.text.contains("/wal-")
    }
}

impl<'a> SystemCalls<'a> {
    fn parse(trace: &'a str) -> SystemCalls<'a> {
        let calls = trace.lines().filter_map(|line| {
            let (thread, text) = line.split_once(char::is_whitespace)?;
            Some(Line { thread, text: text.trim_start() })
        });
        SystemCalls { calls: calls.collect() }
    }

    /// The first line from `from` on that `is_wanted`.
    fn find(&self, from: usize, is_wanted: impl Fn(&Line<'_>) -> bool) -> Result<usize> {
        let found = self.calls[from..].iter().position(is_wanted);
        let found = found.with_context(|| {
            format!("no such call:\n{}", self.lines(from, self.calls.len().saturating_sub(1)))
        })?;
        Ok(from + found)
    }

    /// Where the call that begins in line `start` ends; it must succeed.
    fn end_of(&self, start: usize) -> Result<usize> {
        let thread = self.calls[start].thread;
        let end = if self.calls[start].text.ends_with("<unfinished ...>") {
            let next = start + 1;
            self.find(next, |line| line.thread == thread && line.text.contains("resumed>"))?
        } else {
            start
        };
        ensure!(self.calls[end].text.ends_with("= 0"), "it failed: {}", self.calls[end].text);
        Ok(end)
    }

    fn lines(&self, from: usize, to: usize) -> String {
        let lines = self.calls[from..=to].iter();
        lines.map(|line| format!("{} {}\n", line.thread, line.text)).collect()
    }
}
