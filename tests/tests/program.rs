//! The server as a program: exit statuses and texts beside real etcd's, what supervisors wait for,
//! and the ways to find the initial cluster.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use coracle_tests::cluster::{Cluster, Kind, http_get};
use coracle_tests::programs::{self, EtcdctlRelease};
use rustix::process::{Pid, Signal, kill_process};

const DEADLINE: Duration = Duration::from_secs(60);

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        ensure!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A process that a test leaves nothing of.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Coracle under the name `etcd`, in `folder`.
fn coracle_as_etcd(folder: &Path) -> Result<Command> {
    let link = folder.join("etcd");
    if !link.exists() {
        symlink(fs::canonicalize(programs::coracle()?)?, &link)?;
    }
    Ok(Command::new(link))
}

fn output(mut command: Command, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    Ok(command.args(arguments).envs(variables.iter().copied()).output()?)
}

/// The `msg` and `error` of the last line of the log that has an error.
fn told(output: &Output) -> Option<(String, String)> {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines =
        text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let told = |line: serde_json::Value| {
        Some((line["msg"].as_str()?.to_owned(), line["error"].as_str()?.to_owned()))
    };
    lines.filter_map(told).next_back()
}

/// The command line is refused with the status and the words of etcd 3.5.
#[test]
fn cfg_03_cfg_04_refusals_are_etcds() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for (arguments, variables) in [
        (&["--nonsense"][..], &[][..]),
        (&["--max-txn-ops=x"], &[]),
        (&["--pre-vote=maybe"], &[]),
        (&["---x"], &[]),
        (&["-=x"], &[]),
        (&["--initial-cluster-state=foo"], &[]),
        (&["--heartbeat-interval=0"], &[]),
        (&["--election-timeout=100"], &[]),
        (&["--election-timeout=60000"], &[]),
        (&["--listen-client-urls=http://127.0.0.1:1"], &[]),
        (&["--listen-peer-urls=http://example.com:1"], &[]),
        (&["--initial-advertise-peer-urls=http://:1"], &[]),
        (&["--auto-compaction-mode=foo"], &[]),
        (&["--logger=foo"], &[]),
        (&["--log-outputs=foo,default"], &[]),
        (&["--enable-log-rotation"], &[]),
        (&["--config-file=/nonexistent"], &[]),
        (&["--name=a"], &[("ETCD_NAME", "b")]),
        (&[], &[("ETCD_MAX_TXN_OPS", "x")]),
        (&[], &[("ETCD_LISTEN_PEER_URLS", "foo")]),
        (&["--name=a", "--initial-cluster=b=http://127.0.0.1:1"], &[]),
    ] {
        let arguments = [arguments, &["--log-level=info"]].concat();
        let mut etcd = Command::new(programs::etcd()?);
        etcd.current_dir(folder.path());
        let etcd = output(etcd, &arguments, variables)?;
        let mut coracle = coracle_as_etcd(folder.path())?;
        coracle.current_dir(folder.path());
        let coracle = output(coracle, &arguments, variables)?;
        assert_eq!(coracle.status.code(), etcd.status.code(), "{arguments:?}");
        if etcd.status.code() == Some(2) {
            let first = |output: &Output| {
                String::from_utf8_lossy(&output.stderr).lines().next().map(str::to_owned)
            };
            assert_eq!(first(&coracle), first(&etcd), "{arguments:?}");
        } else {
            // What is said above it has changed since 3.5.
            let error = |output| told(output).map(|(_, error)| error);
            assert_eq!(error(&coracle), error(&etcd), "{arguments:?}");
        }
        let _ = fs::remove_dir_all(folder.path().join("default.etcd"));
        let _ = fs::remove_dir_all(folder.path().join("a.etcd"));
    }
    Ok(())
}

#[test]
fn cfg_03_version_and_help_end_well() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let version = output(coracle_as_etcd(folder.path())?, &["--version"], &[])?;
    let text = String::from_utf8(version.stdout)?;
    let heads: Vec<_> = text.lines().filter_map(|line| line.split(": ").next()).collect();
    assert_eq!(heads, ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]);
    let help = output(coracle_as_etcd(folder.path())?, &["--help"], &[])?;
    ensure!(help.status.success() && !help.stdout.is_empty() && !help.stderr.is_empty());
    Ok(())
}

/// kubeadm's static pod, without its certificates, by the name `etcd`: readiness is told to the
/// supervisor, the probes are answered, the log has the lines that are waited for.
#[test]
fn cfg_05_a_static_pods_command_line_starts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (client, peer, metrics) = (free_port()?, free_port()?, free_port()?);
    let data = folder.path().join("data");
    let log = folder.path().join("etcd.log");
    let notify = UnixDatagram::bind(folder.path().join("notify"))?;
    notify.set_read_timeout(Some(DEADLINE))?;
    let mut command = coracle_as_etcd(folder.path())?;
    let child = command
        .args([
            format!("--advertise-client-urls=http://127.0.0.1:{client}"),
            format!("--data-dir={}", data.display()),
            "--experimental-initial-corrupt-check=true".to_owned(),
            "--experimental-watch-progress-notify-interval=5s".to_owned(),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-cluster=control-plane=http://127.0.0.1:{peer}"),
            format!("--listen-client-urls=http://127.0.0.1:{client}"),
            format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            "--name=control-plane".to_owned(),
            "--snapshot-count=10000".to_owned(),
            format!("--log-outputs=stderr,{}", log.display()),
        ])
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .stderr(Stdio::null())
        .spawn()?;
    let mut child = Running(child);
    let mut message = [0; 64];
    let length = notify.recv(&mut message).context("READY=1")?;
    assert_eq!(&message[..length], b"READY=1");
    for (path, body) in [("/livez", "ok"), ("/readyz", "ok"), ("/health", "\"health\":\"true\"")] {
        let answer = http_get(&format!("127.0.0.1:{metrics}"), path)?;
        ensure!(answer.contains(body), "{path}: {answer}");
    }
    eventually("the log", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        ["ready to serve client requests", "published local member to cluster through raft"]
            .iter()
            .all(|line| text.contains(&format!("\"msg\":\"{line}\"")))
            && text.contains("elected leader")
            && text.contains("--experimental-initial-corrupt-check is deprecated")
    })?;
    ensure!(data.join("member/snap").is_dir() && data.join("member/wal").is_dir());
    let id = Pid::from_child(&child.0);
    kill_process(id, Signal::TERM)?;
    assert_eq!(child.0.wait()?.signal(), Some(Signal::TERM.as_raw()), "FS-02");
    Ok(())
}

/// Puts the size of the cluster to be under `token` at the discovery service.
fn announce(service: &Cluster, token: &str, size: usize) -> Result<()> {
    let put = Command::new(programs::etcdctl(EtcdctlRelease::V35)?)
        .args(["--endpoints", &service.endpoint(0), "put"])
        .args([format!("/_etcd/registry/{token}/_config/size"), size.to_string()])
        .output()?;
    ensure!(put.status.success(), "{}", String::from_utf8_lossy(&put.stderr));
    Ok(())
}

struct Newcomer {
    process: Running,
    client: u16,
}

/// Starts a member that does not know its cluster.
fn start_newcomer(folder: &Path, name: &str, flags: &[String]) -> Result<Newcomer> {
    let (client, peer) = (free_port()?, free_port()?);
    start_on(folder, name, client, peer, flags)
}

fn start_on(
    folder: &Path,
    name: &str,
    client: u16,
    peer: u16,
    flags: &[String],
) -> Result<Newcomer> {
    let log = fs::File::create(folder.join(format!("{name}.log")))?;
    let child = coracle_as_etcd(folder)?
        .arg(format!("--name={name}"))
        .arg(format!("--data-dir={}", folder.join(name).display()))
        .arg(format!("--listen-client-urls=http://127.0.0.1:{client}"))
        .arg(format!("--advertise-client-urls=http://127.0.0.1:{client}"))
        .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
        .args(flags)
        .args(
            (!flags.iter().any(|flag| flag.starts_with("--initial-advertise")))
                .then(|| format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}")),
        )
        .stderr(log)
        .spawn()?;
    Ok(Newcomer { process: Running(child), client })
}

fn healthy(member: &Newcomer) -> bool {
    http_get(&format!("127.0.0.1:{}", member.client), "/health")
        .is_ok_and(|answer| answer.contains("\"health\":\"true\""))
}

fn discover_at(kind: Kind) -> Result<()> {
    let service = Cluster::start(kind, 1)?;
    let folder = tempfile::tempdir()?;
    announce(&service, "token", 3)?;
    let flags = [
        format!("--discovery-endpoints={}", service.endpoint(0)),
        "--discovery-token=token".to_owned(),
    ];
    let members = ["a", "b", "c"].map(|name| start_newcomer(folder.path(), name, &flags));
    let members = members.into_iter().collect::<Result<Vec<_>>>()?;
    eventually("a healthy cluster of three", || members.iter().all(healthy))?;
    let mut late = start_newcomer(folder.path(), "d", &flags)?;
    assert_eq!(late.process.0.wait()?.code(), Some(1));
    let log = fs::read_to_string(folder.path().join("d.log"))?;
    ensure!(log.contains("discovery: cluster is full"), "{log}");
    let mut lost = start_newcomer(
        folder.path(),
        "e",
        &[
            format!("--discovery-endpoints={}", service.endpoint(0)),
            "--discovery-token=another".to_owned(),
        ],
    )?;
    assert_eq!(lost.process.0.wait()?.code(), Some(1));
    let log = fs::read_to_string(folder.path().join("e.log"))?;
    ensure!(log.contains("discovery: size key not found"), "{log}");
    Ok(())
}

#[test]
fn cl_boot_members_find_each_other_at_a_real_etcd() -> Result<()> {
    discover_at(Kind::Etcd)
}

#[test]
fn cl_boot_members_find_each_other_at_a_coracle() -> Result<()> {
    discover_at(Kind::Coracle)
}

/// A DNS server that has one answer: SRV records of `localhost` with these ports.
fn serve_dns(ports: &[u16]) -> Result<String> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?.to_string();
    let ports = ports.to_vec();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        // The thread ends with the process.
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..length];
            let secure =
                question.windows(16).any(|part| part == b"\x10_etcd-server-ssl"[..16].as_ref());
            let mut answer = question.to_vec();
            answer[2] |= 0x80;
            if secure {
                answer[3] |= 3;
            } else {
                answer[7] = ports.len() as u8;
                for port in &ports {
                    answer.extend_from_slice(&[
                        0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0, 17, 0, 0, 0, 0,
                    ]);
                    answer.extend_from_slice(&port.to_be_bytes());
                    answer.extend_from_slice(b"\x09localhost\x00");
                }
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    Ok(address)
}

#[test]
fn cl_boot_members_find_each_other_by_dns() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let peers = [free_port()?, free_port()?, free_port()?];
    let nameserver = serve_dns(&peers)?;
    let mut members = Vec::new();
    for (name, peer) in ["a", "b", "c"].into_iter().zip(peers) {
        let flags = [
            "--discovery-srv=example.com".to_owned(),
            format!("--nameserver={nameserver}"),
            format!("--initial-advertise-peer-urls=http://localhost:{peer}"),
        ];
        members.push(start_on(folder.path(), name, free_port()?, peer, &flags)?);
    }
    let formed = eventually("a healthy cluster of three", || members.iter().all(healthy));
    if formed.is_err() {
        bail!("{}", fs::read_to_string(folder.path().join("a.log"))?);
    }
    Ok(())
}
