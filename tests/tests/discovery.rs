//! The ways to find a cluster: a discovery service, and the records of a domain, for members that
//! are to form it, for clients and for the gateway.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use anyhow::{Result, bail, ensure};
use coracle_tests::cluster::{Cluster, Kind, http_get};
use coracle_tests::programs::{self, EtcdctlRelease};
use coracle_tests::running::{Running, coracle_as_etcd, eventually, free_port};
use coracle_tests::tls::pki::Pki;
use coracle_tests::tls::server::Server;

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

/// A DNS server that has one answer: SRV records of `localhost` with these ports, for services that
/// speak TLS or for those that do not.
fn serve_dns(ports: &[u16], secure: bool) -> Result<String> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?.to_string();
    let ports = ports.to_vec();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        // The thread ends with the process.
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = &buffer[..length];
            let asks_for_tls = question.windows(5).any(|part| part == b"-ssl\x04");
            let mut answer = question.to_vec();
            answer[2] |= 0x80;
            if asks_for_tls != secure {
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
    let nameserver = serve_dns(&peers, false)?;
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

/// A service that speaks TLS alone, asks for certificates, and knows its users.
#[test]
fn cl_boot_members_find_each_other_at_a_guarded_service() -> Result<()> {
    let pki = Pki::new()?;
    let flags = "--cert-file=$D/server.pem --key-file=$D/server.key --client-cert-auth \
                 --trusted-ca-file=$D/ca.pem";
    let service = Server::start(Kind::Etcd, "https", &pki.fill(flags))?;
    let endpoint = format!("https://{}", service.address);
    let etcdctl = |words: &str| -> Result<()> {
        let tls = pki.fill("--cacert=$D/ca.pem --cert=$D/client.pem --key=$D/client.key");
        let ran = Command::new(programs::etcdctl(EtcdctlRelease::V35)?)
            .args(["--endpoints", &endpoint])
            .args(tls.split_whitespace())
            .args(words.split_whitespace())
            .output()?;
        ensure!(ran.status.success(), "{words}: {}", String::from_utf8_lossy(&ran.stderr));
        Ok(())
    };
    for words in ["user add root:secret", "role add root", "user grant-role root root"] {
        etcdctl(words)?;
    }
    etcdctl("put /_etcd/registry/token/_config/size 3")?;
    etcdctl("auth enable")?;
    let folder = tempfile::tempdir()?;
    let flags = |credentials: &str| -> Vec<String> {
        let text = "--discovery-token=token --discovery-cacert=$D/ca.pem \
                    --discovery-cert=$D/client.pem --discovery-key=$D/client.key";
        let mut flags = vec![format!("--discovery-endpoints={endpoint}")];
        let text = format!("{} {credentials}", pki.fill(text));
        flags.extend(text.split_whitespace().map(str::to_owned));
        flags
    };
    let known =
        ["--discovery-user=root:secret", "--discovery-user=root --discovery-password=secret"];
    let mut members = Vec::new();
    for (name, credentials) in ["a", "b", "c"].into_iter().zip(known.into_iter().cycle()) {
        members.push(start_newcomer(folder.path(), name, &flags(credentials))?);
    }
    let formed = eventually("a healthy cluster of three", || members.iter().all(healthy));
    if formed.is_err() {
        bail!("{}", fs::read_to_string(folder.path().join("a.log"))?);
    }
    let mut stranger = start_newcomer(folder.path(), "d", &flags("--discovery-user=root:wrong"))?;
    assert_eq!(stranger.process.0.wait()?.code(), Some(1));
    let log = fs::read_to_string(folder.path().join("d.log"))?;
    ensure!(log.contains("authentication failed, invalid user ID or password"), "{log}");
    Ok(())
}

/// Runs `coracle` with the words and a DNS server.
fn coracle(words: &str, nameserver: &str) -> Result<Output> {
    let mut command = Command::new(programs::coracle()?);
    command.args(words.split_whitespace()).env("CORACLE_NAMESERVER", nameserver);
    Ok(command.stdin(Stdio::null()).output()?)
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn port_of(address: &str) -> Result<u16> {
    Ok(address.rsplit(':').next().unwrap_or_default().parse()?)
}

#[test]
fn ctl_01_endpoints_are_found_by_dns() -> Result<()> {
    let cluster = Cluster::start(Kind::Coracle, 1)?;
    let plain = serve_dns(&[port_of(&cluster.client_address(0))?], false)?;
    let put = said(&coracle("ctl --discovery-srv=example.com put a 1", &plain)?);
    assert_eq!((put.0, put.1.as_str()), (Some(0), "OK\n"), "{}", put.2);
    let words = "ctl -d example.com --insecure-discovery=false --endpoints= put a 1";
    let put = said(&coracle(words, &plain)?);
    ensure!(put.0 == Some(2) && put.2.contains("ignoring discovered insecure endpoint"), "{put:?}");

    let pki = Pki::new()?;
    let flags = pki.fill("--cert-file=$D/server.pem --key-file=$D/server.key");
    let server = Server::start(Kind::Coracle, "https", &flags)?;
    let secure = serve_dns(&[port_of(&server.address)?], true)?;
    let words = "ctl -d localhost --insecure-discovery=false --cacert=$D/ca.pem put a 1";
    let put = said(&coracle(&pki.fill(words), &secure)?);
    assert_eq!((put.0, put.1.as_str()), (Some(0), "OK\n"), "{}", put.2);
    // The certificate must be the domain's.
    let words = words.replace("localhost", "example.com --command-timeout=1s");
    let put = said(&coracle(&pki.fill(&words), &secure)?);
    ensure!(put.0 != Some(0), "{put:?}");
    Ok(())
}

#[test]
fn the_gateway_finds_members_by_dns_and_checks_their_certificates() -> Result<()> {
    let pki = Pki::new()?;
    let flags = pki.fill("--cert-file=$D/server.pem --key-file=$D/server.key");
    let server = Server::start(Kind::Coracle, "https", &flags)?;
    let nameserver = serve_dns(&[port_of(&server.address)?], true)?;
    let port = free_port()?;
    let start = format!("gateway start --listen-addr=127.0.0.1:{port} --discovery-srv=localhost");
    let refused =
        coracle(&pki.fill(&format!("{start} --trusted-ca-file=$D/other-ca.pem")), &nameserver)?;
    let (code, _, log) = said(&refused);
    ensure!(code == Some(1) && log.contains("UnknownIssuer"), "{code:?} {log}");
    let mut command = Command::new(programs::coracle()?);
    command.args(start.split_whitespace()).env("CORACLE_NAMESERVER", &nameserver);
    let child = command.arg(pki.fill("--trusted-ca-file=$D/ca.pem")).stderr(Stdio::null());
    let _gateway = Running(child.spawn()?);
    let words = format!("ctl --endpoints=https://127.0.0.1:{port} --cacert=$D/ca.pem put a 1");
    eventually("a put through the gateway", || {
        let put = coracle(&pki.fill(&words), &nameserver);
        put.is_ok_and(|put| said(&put).1 == "OK\n")
    })
}
