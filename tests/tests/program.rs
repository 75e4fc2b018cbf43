//! The server as a program: exit statuses and texts beside real etcd's, what supervisors wait for.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use coracle_tests::cluster::http_get;
use coracle_tests::programs;
use coracle_tests::running::{DEADLINE, Running, coracle_as_etcd, eventually, free_port};
use coracle_tests::tls::client::Client;
use coracle_tests::tls::pki::Pki;
use rustix::process::{Pid, Signal, kill_process};

fn output(mut command: Command, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Output> {
    Ok(command.args(arguments).envs(variables.iter().copied()).output()?)
}

/// The `msg` and `error` of each line of the log that has an error.
fn told(output: &Output) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines =
        text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let told = |line: serde_json::Value| {
        Some((line["msg"].as_str()?.to_owned(), line["error"].as_str()?.to_owned()))
    };
    lines.filter_map(told).collect()
}

/// The command line is refused with the status and the words of etcd 3.5.
#[test]
fn cfg_03_cfg_04_refusals_are_etcds() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let url = format!("http://127.0.0.1:{}", free_port()?);
    let client = format!("--listen-client-urls={url}");
    let advertised = format!("--advertise-client-urls={url}");
    let peer = format!("--listen-peer-urls=http://127.0.0.1:{}", free_port()?);
    let another =
        ["--name=a", "--initial-cluster=b=http://127.0.0.1:1", &client, &advertised, &peer];
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
        (&another, &[]),
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
            // etcd says it once more on its way out.
            let (ours, theirs) = (told(&coracle), told(&etcd));
            let is_theirs = ours.iter().all(|line| theirs.contains(line));
            assert!(is_theirs && ours.is_empty() == theirs.is_empty(), "{ours:?}, not {theirs:?}");
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

/// kubeadm's static pod, by the name `etcd`, with other paths and ports: readiness is told to the
/// supervisor, the probes are answered without a certificate and clients only with one, the log has
/// the lines that are waited for.
#[test]
fn cfg_05_tls_01_a_static_pods_command_line_starts() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pki = Pki::new()?;
    let (client, peer, metrics) = (free_port()?, free_port()?, free_port()?);
    let data = folder.path().join("data");
    let log = folder.path().join("etcd.log");
    let notify = UnixDatagram::bind(folder.path().join("notify"))?;
    notify.set_read_timeout(Some(DEADLINE))?;
    let mut command = coracle_as_etcd(folder.path())?;
    let child = command
        .args([
            format!("--advertise-client-urls=https://127.0.0.1:{client}"),
            pki.fill("--cert-file=$D/server.pem"),
            "--client-cert-auth=true".to_owned(),
            format!("--data-dir={}", data.display()),
            "--experimental-initial-corrupt-check=true".to_owned(),
            "--experimental-watch-progress-notify-interval=5s".to_owned(),
            format!("--initial-advertise-peer-urls=https://127.0.0.1:{peer}"),
            format!("--initial-cluster=control-plane=https://127.0.0.1:{peer}"),
            pki.fill("--key-file=$D/server.key"),
            format!("--listen-client-urls=https://127.0.0.1:{client},https://127.0.0.2:{client}"),
            format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
            format!("--listen-peer-urls=https://127.0.0.1:{peer}"),
            "--name=control-plane".to_owned(),
            pki.fill("--peer-cert-file=$D/peer.pem"),
            "--peer-client-cert-auth=true".to_owned(),
            pki.fill("--peer-key-file=$D/peer.key"),
            pki.fill("--peer-trusted-ca-file=$D/ca.pem"),
            "--snapshot-count=10000".to_owned(),
            pki.fill("--trusted-ca-file=$D/ca.pem"),
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
    let endpoint = format!("https://127.0.0.1:{client}");
    let with = pki.fill("--cacert=$D/ca.pem --cert=$D/client.pem --key=$D/client.key");
    Client::Etcdctl35.ask(&endpoint, &with, true)?;
    let without = Client::Etcdctl35.ask(&endpoint, &pki.fill("--cacert=$D/ca.pem"), false);
    ensure!(without.is_err(), "a client without a certificate is served");
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

/// A server that may open `files` at most.
fn with_files(files: u32, folder: &Path, client: u16) -> Result<Command> {
    coracle_as_etcd(folder)?;
    let (url, peer) = (format!("http://127.0.0.1:{client}"), free_port()?);
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -n {files} && exec \"$0\" \"$@\"")])
        .arg(folder.join("etcd"))
        .arg(format!("--data-dir={}", folder.join("data").display()))
        .args([format!("--listen-client-urls={url}"), format!("--advertise-client-urls={url}")])
        .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer}"))
        .arg(format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"))
        .arg(format!("--initial-cluster=default=http://127.0.0.1:{peer}"));
    Ok(command)
}

/// What a member needs for its files is not for clients, however many there are.
#[test]
fn w_04_connections_leave_a_member_its_files() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let client = free_port()?;
    let few = with_files(150, folder.path(), client)?.output()?;
    let text = String::from_utf8_lossy(&few.stderr);
    ensure!(text.contains("file descriptor limit of etcd process is too low"), "{text}");
    ensure!(few.status.code() == Some(1), "{}", few.status);

    let _member = Running(with_files(200, folder.path(), client)?.stderr(Stdio::null()).spawn()?);
    let address = format!("127.0.0.1:{client}");
    eventually("the member", || {
        http_get(&address, "/health").is_ok_and(|page| page.contains("\"health\":\"true\""))
    })?;
    let mut first = TcpStream::connect(&address)?;
    let others = (0..250).map(|_| TcpStream::connect(&address));
    let _others = others.collect::<Result<Vec<_>, _>>()?;
    first.set_read_timeout(Some(DEADLINE))?;
    first.write_all(
        b"POST /v3/maintenance/defragment HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
    )?;
    let mut answer = [0; 12];
    first.read_exact(&mut answer)?;
    ensure!(&answer == b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// What is not there says so, and what to do.
#[test]
fn a_grpc_proxy_is_asked_for_in_vain() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let refused = output(coracle_as_etcd(folder.path())?, &["grpc-proxy", "start"], &[])?;
    assert_eq!(refused.status.code(), Some(1));
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(text.starts_with("Error: there is no grpc-proxy in this program"), "{text}");
    Ok(())
}

/// The names of the flags in the usage text `help`.
fn flag_names(help: &str) -> Vec<String> {
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let name = |line: &str| line.split([' ', '=', ',']).next().unwrap_or_default().to_owned();
    flags.map(name).filter(|name| !name.is_empty()).collect()
}

/// Flags of releases after 3.5.1 (3.5.26, 3.6 and 3.7), beside those of its own help.
const LATER: &[&str] = &[
    "bootstrap-defrag-threshold-megabytes",
    "client-cert-allowed-hostname",
    "compact-hash-check-time",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "discovery-cacert",
    "discovery-cert",
    "discovery-dial-timeout",
    "discovery-endpoints",
    "discovery-insecure-skip-tls-verify",
    "discovery-insecure-transport",
    "discovery-keepalive-time",
    "discovery-keepalive-timeout",
    "discovery-key",
    "discovery-password",
    "discovery-request-timeout",
    "discovery-token",
    "discovery-user",
    "distributed-tracing-address",
    "distributed-tracing-instance-id",
    "distributed-tracing-sampling-rate",
    "distributed-tracing-service-name",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "experimental-bootstrap-defrag-threshold-megabytes",
    "experimental-compact-hash-check-enabled",
    "experimental-compact-hash-check-time",
    "experimental-compaction-sleep-interval",
    "experimental-distributed-tracing-sampling-rate",
    "experimental-max-learners",
    "experimental-peer-skip-client-san-verification",
    "experimental-snapshot-catch-up-entries",
    "experimental-snapshot-catchup-entries",
    "experimental-stop-grpc-service-on-defrag",
    "experimental-wait-cluster-ready-timeout",
    "feature-gates",
    "listen-client-http-urls",
    "log-format",
    "max-concurrent-streams",
    "max-learners",
    "memory-mlock",
    "peer-cert-allowed-hostname",
    "peer-skip-client-san-verification",
    "snapshot-catchup-entries",
    "tls-max-version",
    "tls-min-version",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "watch-progress-notify-interval",
];

/// Every flag of etcd is known, from the command line on: a flag that is not is refused for that,
/// and these, which all get a value that is none of theirs, are not.
#[test]
fn cfg_01_every_flag_of_etcd_is_known() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut etcd = Command::new(programs::etcd()?);
    let help = etcd.arg("--help").output()?;
    let help =
        String::from_utf8_lossy(&help.stdout).into_owned() + &String::from_utf8_lossy(&help.stderr);
    let mut names = flag_names(&help);
    ensure!(names.len() > 80, "too few flags: {names:?}");
    names.extend(LATER.iter().map(|name| (*name).to_owned()));
    let mut unknown = Vec::new();
    for name in &names {
        // What comes first is told, and the second is no flag of anybody's.
        let value = match name.as_str() {
            "config-file" | "version" => continue,
            _ => format!("--{name}="),
        };
        let refused = output(coracle_as_etcd(folder.path())?, &[&value, "--nonsense"], &[])?;
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        if text.contains(&format!("flag provided but not defined: -{name}\n")) {
            unknown.push(name);
        }
        ensure!(refused.status.code() == Some(2), "--{name}: {text}");
    }
    ensure!(unknown.is_empty(), "not known: {unknown:?}");
    Ok(())
}
