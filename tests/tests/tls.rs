//! TLS and unix sockets, as one table: what a server is started with, and who gets through.
//!
//! Every row runs against Coracle; those whose flags etcd 3.5 knows run against etcd too, so that
//! what the table expects is what etcd does. Clients: `etcdctl` 3.5, `coracle ctl`, and a bare
//! connection that speaks HTTP/1.1 on the same port.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use coracle_core::api::etcdserverpb as pb;
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::grpc::{KvClient, WatchClient};
use coracle_tests::programs::{self, EtcdctlRelease};
use coracle_tests::tls::channel;
use coracle_tests::tls::client::{Client, bare, say};
use coracle_tests::tls::pki::Pki;
use coracle_tests::tls::server::{Server, refusal};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

/// A server and attempts to reach it: scheme, the client's flags, and whether it gets through.
struct Row {
    name: &'static str,
    scheme: &'static str,
    flags: &'static str,
    /// Whether etcd 3.5 knows the flags, and does the same.
    with_etcd: bool,
    attempts: &'static [(&'static str, &'static str, bool)],
}

const CA: &str = "--cacert=$D/ca.pem";
const CLIENT: &str = "--cacert=$D/ca.pem --cert=$D/client.pem --key=$D/client.key";
const OTHER: &str = "--cacert=$D/ca.pem --cert=$D/other.pem --key=$D/other.key";
const REVOKED: &str = "--cacert=$D/ca.pem --cert=$D/revoked.pem --key=$D/revoked.key";
const EXPIRED: &str = "--cacert=$D/ca.pem --cert=$D/client-expired.pem --key=$D/client-expired.key";
const STRANGER: &str = "--cacert=$D/ca.pem --cert=$D/stranger.pem --key=$D/stranger.key";
const BLIND: &str = "--insecure-skip-tls-verify --insecure-transport=false";

const TABLE: &[Row] = &[
    Row {
        name: "plain",
        scheme: "http",
        flags: "",
        with_etcd: true,
        attempts: &[("http", "", true), ("https", CA, false)],
    },
    Row {
        name: "server TLS",
        scheme: "https",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key",
        with_etcd: true,
        attempts: &[
            ("https", CA, true),
            ("https", BLIND, true),
            ("https", "--cacert=$D/other-ca.pem", false),
            ("http", "", false),
        ],
    },
    Row {
        name: "one address with TLS and without",
        scheme: "both",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key",
        with_etcd: true,
        attempts: &[
            ("http", "", true),
            ("https", CA, true),
            ("https", "--cacert=$D/other-ca.pem", false),
        ],
    },
    Row {
        name: "mutual TLS",
        scheme: "https",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key --client-cert-auth \
                --trusted-ca-file=$D/ca.pem",
        with_etcd: true,
        attempts: &[
            ("https", CLIENT, true),
            ("https", REVOKED, true),
            ("https", CA, false),
            ("https", EXPIRED, false),
            ("https", STRANGER, false),
        ],
    },
    Row {
        name: "an authority alone is a demand for certificates",
        scheme: "https",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key --trusted-ca-file=$D/ca.pem",
        with_etcd: true,
        attempts: &[("https", CLIENT, true), ("https", CA, false)],
    },
    Row {
        name: "revoked certificates",
        scheme: "https",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key --client-cert-auth \
                --trusted-ca-file=$D/ca.pem --client-crl-file=$D/crl.der",
        with_etcd: true,
        attempts: &[("https", CLIENT, true), ("https", REVOKED, false)],
    },
    Row {
        name: "revoked certificates in PEM",
        scheme: "https",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key --client-cert-auth \
                --trusted-ca-file=$D/ca.pem --client-crl-file=$D/crl.pem",
        with_etcd: true,
        attempts: &[("https", CLIENT, true), ("https", REVOKED, false)],
    },
    Row {
        name: "a list of revoked certificates that is not there",
        scheme: "https",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key --client-cert-auth \
                --trusted-ca-file=$D/ca.pem --client-crl-file=$D/none",
        with_etcd: true,
        attempts: &[("https", CLIENT, false)],
    },
    Row {
        name: "an expired certificate of the server",
        scheme: "https",
        flags: "--cert-file=$D/server-expired.pem --key-file=$D/server-expired.key",
        with_etcd: true,
        attempts: &[("https", CA, false), ("https", BLIND, true)],
    },
    Row {
        name: "allowed common name",
        scheme: "https",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key --client-cert-auth \
                --trusted-ca-file=$D/ca.pem --client-cert-allowed-cn=someone,client",
        with_etcd: false,
        attempts: &[("https", CLIENT, true), ("https", OTHER, false)],
    },
    Row {
        name: "allowed host name",
        scheme: "https",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key --client-cert-auth \
                --trusted-ca-file=$D/ca.pem --client-cert-allowed-hostname=client.example",
        with_etcd: true,
        attempts: &[("https", CLIENT, true), ("https", OTHER, false)],
    },
    Row {
        name: "a certificate for an address only",
        scheme: "https",
        flags: "--cert-file=$D/ip.pem --key-file=$D/ip.key",
        with_etcd: true,
        attempts: &[("https", CA, true)],
    },
    Row {
        name: "the curve of etcd's own keys",
        scheme: "https",
        flags: "--cert-file=$D/p521.pem --key-file=$D/p521.key",
        with_etcd: true,
        attempts: &[("https", CA, true)],
    },
    Row {
        name: "TLS 1.2 at most, with one cipher suite",
        scheme: "https",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key --tls-max-version=TLS1.2 \
                --cipher-suites=TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,\
                TLS_RSA_WITH_AES_128_CBC_SHA",
        with_etcd: false,
        attempts: &[("https", CA, true)],
    },
    Row {
        name: "a cipher suite",
        scheme: "https",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key \
                --cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        with_etcd: true,
        attempts: &[("https", CA, true)],
    },
    Row {
        name: "auto TLS",
        scheme: "https",
        flags: "--auto-tls",
        with_etcd: true,
        attempts: &[
            ("https", BLIND, true),
            ("https", "--cacert=$STORE/fixtures/client/cert.pem", true),
            ("https", CA, false),
            ("http", "", false),
        ],
    },
    Row {
        name: "a unix socket",
        scheme: "unix",
        flags: "",
        // etcd 3.5 wants `host:port` behind `unix://` too.
        with_etcd: false,
        attempts: &[("unix", "", true)],
    },
    Row {
        name: "a unix socket with TLS",
        scheme: "unixs",
        flags: "--cert-file=$D/server.pem --key-file=$D/server.key",
        // etcd 3.5 wants `host:port` behind `unix://` too.
        with_etcd: false,
        attempts: &[("unixs", CA, true), ("unixs", "--cacert=$D/other-ca.pem", false)],
    },
];

const CLIENTS: [Client; 3] = [Client::Etcdctl35, Client::CoracleCtl, Client::Bare];

/// Tries every client in every way at `row`, and gives what came out differently.
fn run(row: &Row, kind: Kind, pki: &Pki) -> Result<Vec<String>> {
    let server = Server::start(kind, row.scheme, &pki.fill(row.flags))?;
    let mut surprises = Vec::new();
    for (scheme, flags, expected) in row.attempts {
        let endpoint = format!("{scheme}://{}", server.address);
        let flags = server.fill(&pki.fill(flags));
        let outcomes = thread::scope(|scope| {
            let ask = |client: Client| {
                let (endpoint, flags) = (&endpoint, &flags);
                scope.spawn(move || (client, client.ask(endpoint, flags, *expected)))
            };
            let asking = CLIENTS.map(ask);
            asking.map(|one| one.join().expect("a client's thread does not panic"))
        });
        for (client, outcome) in outcomes {
            if outcome.is_ok() != *expected {
                let name = row.name;
                surprises
                    .push(format!("{kind:?}, {name}: {client:?} {endpoint} {flags}: {outcome:?}"));
            }
        }
    }
    Ok(surprises)
}

fn run_table(kind: Kind) -> Result<()> {
    let pki = Pki::new()?;
    let mut surprises = Vec::new();
    for row in TABLE.iter().filter(|row| kind == Kind::Coracle || row.with_etcd) {
        match run(row, kind, &pki) {
            Ok(found) => surprises.extend(found),
            Err(error) => surprises.push(format!("{kind:?}, {}: {error:#}", row.name)),
        }
    }
    ensure!(surprises.is_empty(), "{}", surprises.join("\n"));
    Ok(())
}

#[test]
fn tls_01_w_01_w_02_the_table_holds_for_coracle() -> Result<()> {
    run_table(Kind::Coracle)
}

#[test]
fn tls_01_the_table_holds_for_etcd() -> Result<()> {
    run_table(Kind::Etcd)
}

#[test]
fn tls_02_versions_and_cipher_suites_are_the_ones_asked_for() -> Result<()> {
    let pki = Pki::new()?;
    let ca = pki.fill(CA);
    let (only12, only13) = (format!("{ca} tls=1.2"), format!("{ca} tls=1.3"));
    let server = |flags: &str| {
        let all = format!("--cert-file=$D/server.pem --key-file=$D/server.key {flags}");
        Server::start(Kind::Coracle, "https", &pki.fill(&all))
    };
    let new = server("--tls-min-version=TLS1.3")?;
    let endpoint = format!("https://{}", new.address);
    ensure!(bare(&endpoint, &only12).is_err());
    Client::CoracleCtl.ask(&endpoint, &ca, true)?;
    let agreed = bare(&endpoint, &only13)?.map(|agreed| agreed.version);
    ensure!(agreed.as_deref() == Some("TLSv1_3"), "{agreed:?}");
    let old =
        server("--tls-max-version=TLS1.2 --cipher-suites=TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305")?;
    let endpoint = format!("https://{}", old.address);
    ensure!(bare(&endpoint, &only13).is_err());
    let agreed = bare(&endpoint, &ca)?.map(|agreed| (agreed.version, agreed.suite));
    let (version, suite) = agreed.unwrap_or_default();
    ensure!(version == "TLSv1_2", "{version}");
    ensure!(suite == "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "{suite}");
    Ok(())
}

#[test]
fn tls_01_plain_http_of_its_own_address_is_secured_too() -> Result<()> {
    let pki = Pki::new()?;
    let flags = "--cert-file=$D/server.pem --key-file=$D/server.key \
                 --listen-client-http-urls=unixs://$STORE.sock";
    // The other URLs do not ask for TLS.
    let server = Server::start(Kind::Coracle, "http", &pki.fill(flags))?;
    bare(&server.fill("unixs://$STORE.sock"), &pki.fill(CA))?;
    ensure!(bare(&server.fill("unix://$STORE.sock"), "").is_err(), "served plain");
    Ok(())
}

#[test]
fn tls_01_what_cannot_be_served_is_refused() -> Result<()> {
    let pki = Pki::new()?;
    let files =
        ["--cert-file=$D/server.pem", "--key-file=$D/server.key"].map(|text| pki.fill(text));
    let [certificate, key] = files.each_ref().map(String::as_str);
    let other_key = pki.fill("--key-file=$D/client.key");
    for (flags, text) in [
        (vec![], "TLS key/cert (--cert-file, --key-file) must be provided for client url"),
        (
            vec![
                "--listen-client-urls=http://127.0.0.1:0",
                "--listen-metrics-urls=https://127.0.0.1:0",
            ],
            "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url",
        ),
        (vec![certificate], "KeyFile and CertFile must both be present"),
        (vec![certificate, "--key-file=/none"], "open /none: no such file or directory"),
        (vec![certificate, &other_key], "server.pem"),
        (vec![certificate, key, "--cipher-suites=NONE"], "unexpected TLS cipher suite"),
        (
            vec![
                certificate,
                key,
                "--cipher-suites=TLS_RSA_WITH_AES_128_CBC_SHA",
                "--tls-max-version=TLS1.2",
            ],
            "none of the TLS cipher suites",
        ),
        (vec![certificate, key, "--tls-min-version=TLS1.1"], "unexpected TLS version"),
    ] {
        let said = refusal(Kind::Coracle, &flags)?;
        ensure!(said.contains(text), "{flags:?}: {said}");
    }
    Ok(())
}

#[test]
fn ctl_01_files_that_cannot_be_used_are_bad_arguments() -> Result<()> {
    for flags in [&["--cacert=/none"][..], &["--cert=/none", "--key=/none"], &["--cert=/none"]] {
        let run = |mut program: Command| -> Result<(Option<i32>, String)> {
            let output = program.args(flags).args(["get", "key"]).output()?;
            Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
        };
        let mut coracle = Command::new(programs::coracle()?);
        coracle.arg("ctl");
        let etcdctl = Command::new(programs::etcdctl(EtcdctlRelease::V35)?);
        let (coracle, etcdctl) = (run(coracle)?, run(etcdctl)?);
        ensure!(coracle == etcdctl, "{flags:?}: {coracle:?} instead of {etcdctl:?}");
    }
    Ok(())
}

/// What the server's memory costs is read from its metrics, by HTTP on the same secure port.
#[test]
fn ctl_09_a_page_is_read_over_tls() -> Result<()> {
    let pki = Pki::new()?;
    let flags = "--unsafe-no-fsync --client-cert-auth --trusted-ca-file=$D/ca.pem \
                 --cert-file=$D/server.pem --key-file=$D/server.key";
    let server = Server::start(Kind::Coracle, "https", &pki.fill(flags))?;
    let client = pki.fill("--cacert=$D/ca.pem --cert=$D/client.pem --key=$D/client.key");
    let output = Command::new(programs::coracle()?)
        .args(["ctl", "check", "datascale", "--load=s", "--command-timeout=60s"])
        .arg(format!("--endpoints=https://{}", server.address))
        .args(client.split_whitespace())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(text.contains("Approximate system memory used"), "{text} {output:?}");
    Ok(())
}

#[test]
fn tls_01_certificates_and_authorities_are_replaced_while_it_runs() -> Result<()> {
    let pki = Pki::new()?;
    let path = |name: &str| pki.folder().join(name);
    for (from, to) in [("server", "live"), ("client", "shown")] {
        fs::copy(path(&format!("{from}.pem")), path(&format!("{to}.pem")))?;
        fs::copy(path(&format!("{from}.key")), path(&format!("{to}.key")))?;
    }
    fs::copy(path("ca.pem"), path("live-ca.pem"))?;
    let flags = "--cert-file=$D/live.pem --key-file=$D/live.key --client-cert-auth \
                 --trusted-ca-file=$D/live-ca.pem --client-crl-file=$D/crl.der";
    let server = Server::start(Kind::Coracle, "https", &pki.fill(flags))?;
    let endpoint = format!("https://{}", server.address);
    let shown = || {
        bare(&endpoint, &pki.fill(CLIENT))
            .map(|agreed| agreed.map(|agreed| agreed.certificate).unwrap_or_default())
    };
    let before = shown()?;
    // By replacing, as a rename does.
    fs::copy(path("ip.pem"), path("new.pem"))?;
    fs::copy(path("ip.key"), path("new.key"))?;
    fs::rename(path("new.pem"), path("live.pem"))?;
    // Between the two the pair does not match: what worked goes on.
    ensure!(shown()? == before);
    fs::rename(path("new.key"), path("live.key"))?;
    let renamed = shown()?;
    ensure!(renamed != before, "the certificate that was renamed is not shown");
    // By copying over it.
    fs::copy(path("p521.pem"), path("live.pem"))?;
    fs::copy(path("p521.key"), path("live.key"))?;
    let copied = shown()?;
    ensure!(copied != before && copied != renamed);
    // A list that is written anew.
    ensure!(bare(&endpoint, &pki.fill(REVOKED)).is_err());
    pki.revoke(&[])?;
    bare(&endpoint, &pki.fill(REVOKED))?;
    // Authorities: both for a while, as a rotation has it, then the new one alone.
    ensure!(bare(&endpoint, &pki.fill(STRANGER)).is_err());
    let both = [fs::read(path("ca.pem"))?, fs::read(path("other-ca.pem"))?].concat();
    fs::write(path("live-ca.pem"), both)?;
    bare(&endpoint, &pki.fill(STRANGER))?;
    shown()?;
    fs::copy(path("other-ca.pem"), path("live-ca.pem"))?;
    bare(&endpoint, &pki.fill(STRANGER))?;
    ensure!(shown().is_err(), "an authority that was taken away is still trusted");
    Ok(())
}

#[test]
fn auth_11_gw_08_a_certificate_signs_in_and_not_at_the_gateway() -> Result<()> {
    let pki = Pki::new()?;
    let flags = "--cert-file=$D/server.pem --key-file=$D/server.key --client-cert-auth \
                 --trusted-ca-file=$D/ca.pem";
    for kind in [Kind::Coracle, Kind::Etcd] {
        let server = Server::start(kind, "https", &pki.fill(flags))?;
        let endpoint = format!("https://{}", server.address);
        let (client, other) = (pki.fill(CLIENT), pki.fill(OTHER));
        for words in [
            "user add root:pw",
            "user grant-role root root",
            // By its certificate only.
            "user add client --no-password",
            "user grant-role client root",
            "auth enable",
        ] {
            let mut ctl = Command::new(programs::coracle()?);
            ctl.args(["ctl", "--endpoints", &endpoint]).args(client.split_whitespace());
            let output = ctl.args(words.split_whitespace()).output()?;
            ensure!(output.status.success(), "{kind:?}: {words}: {output:?}");
        }
        Client::CoracleCtl.ask(&endpoint, &client, true)?;
        ensure!(Client::CoracleCtl.ask(&endpoint, &other, false).is_err(), "{kind:?}");
        for path in ["/v3/kv/range", "/v3beta/kv/range"] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                 Content-Length: 14\r\n\r\n{{\"key\":\"a2V5\"}}"
            );
            let (answer, _) = say(&endpoint, &client, &request)?;
            let refused = "CommonName of client sending a request against gateway will be ignored";
            ensure!(
                answer.starts_with("HTTP/1.1 400 ") && answer.contains(refused),
                "{kind:?}, {path}: {answer}"
            );
        }
    }
    Ok(())
}

#[test]
fn tls_01_a_self_signed_certificate_is_its_own_authority() -> Result<()> {
    let pki = Pki::new()?;
    let flags = pki.fill("--cert-file=$D/self.pem --key-file=$D/self.key");
    let server = Server::start(Kind::Coracle, "https", &flags)?;
    let endpoint = format!("https://{}", server.address);
    for client in [Client::Etcdctl35, Client::Etcdctl34, Client::CoracleCtl] {
        client.ask(&endpoint, &pki.fill("--cacert=$D/self.pem"), true)?;
    }
    Ok(())
}

#[test]
fn w_02_a_socket_file_that_was_left_behind_is_replaced() -> Result<()> {
    let mut server = Server::start(Kind::Coracle, "unix", "")?;
    let endpoint = format!("unix://{}", server.address);
    Client::CoracleCtl.ask(&endpoint, "", true)?;
    server.kill()?;
    ensure!(fs::exists(&server.address)?, "a killed server leaves its socket behind");
    server.restart()?;
    Client::CoracleCtl.ask(&endpoint, "", true)?;
    Ok(())
}

/// Certificates and demands of every member, as kubeadm and most manuals have them.
const PEERS: &str = "--peer-cert-file=$D/peer.pem --peer-key-file=$D/peer.key \
                     --peer-client-cert-auth --peer-trusted-ca-file=$D/ca.pem";

fn cluster(pki: &Pki, peer_scheme: &'static str, flags: &str) -> Result<Cluster> {
    let flags = pki.fill(flags);
    let flags: Vec<_> = flags.split_whitespace().collect();
    Cluster::start_with_peer_scheme(Kind::Coracle, 3, peer_scheme, &flags)
}

/// Puts through a member until it takes it: a member that was started may still look for its
/// leader.
fn put_through(cluster: &Cluster, index: usize) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match Client::CoracleCtl.ask(&cluster.endpoint(index), "", true) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(_) => {}
        }
    }
}

#[test]
fn tls_01_three_members_under_mutual_tls() -> Result<()> {
    let pki = Pki::new()?;
    for more in ["", "--peer-cert-allowed-cn=peer", "--peer-cert-allowed-hostname=localhost"] {
        let mut cluster = cluster(&pki, "https", &format!("{PEERS} {more}"))?;
        for index in 0..3 {
            put_through(&cluster, index)?;
        }
        if more.is_empty() {
            cluster.kill(0)?;
            put_through(&cluster, 1)?;
            put_through(&cluster, 2)?;
            cluster.restart(0)?;
            cluster.wait_healthy()?;
            put_through(&cluster, 0)?;
        }
    }
    Ok(())
}

#[test]
fn tls_01_peers_make_their_own_certificates() -> Result<()> {
    let pki = Pki::new()?;
    let cluster = cluster(&pki, "https", "--peer-auto-tls")?;
    (0..3).try_for_each(|index| put_through(&cluster, index))
}

#[test]
fn w_02_peers_speak_over_unix_sockets() -> Result<()> {
    let pki = Pki::new()?;
    for (scheme, flags) in [("unix", ""), ("unixs", PEERS)] {
        let cluster = cluster(&pki, scheme, flags)?;
        (0..3).try_for_each(|index| put_through(&cluster, index))?;
    }
    Ok(())
}

#[test]
fn tls_01_peers_that_are_not_allowed_stay_outside() -> Result<()> {
    let pki = Pki::new()?;
    for flags in [
        // For an address that the members do not have.
        "--peer-cert-file=$D/elsewhere.pem --peer-key-file=$D/elsewhere.key \
         --peer-client-cert-auth --peer-trusted-ca-file=$D/ca.pem",
        "--peer-cert-file=$D/peer.pem --peer-key-file=$D/peer.key --peer-client-cert-auth \
         --peer-trusted-ca-file=$D/other-ca.pem",
        "--peer-cert-file=$D/peer.pem --peer-key-file=$D/peer.key --peer-client-cert-auth \
         --peer-trusted-ca-file=$D/ca.pem --peer-cert-allowed-cn=someone",
        "--peer-cert-file=$D/peer.pem --peer-key-file=$D/peer.key --peer-client-cert-auth \
         --peer-trusted-ca-file=$D/ca.pem --peer-client-cert-file=$D/revoked.pem \
         --peer-client-key-file=$D/revoked.key --peer-crl-file=$D/crl.der \
         --peer-skip-client-san-verification",
    ] {
        let flags = pki.fill(flags);
        let flags: Vec<_> = flags.split_whitespace().collect();
        let cluster = Cluster::spawn_with_peer_scheme(Kind::Coracle, 3, "https", &flags)?;
        let deadline = Instant::now() + Duration::from_secs(30);
        let told = |logs: &str| {
            logs.contains("rejected connection on peer endpoint")
                && logs.contains("peer became inactive (message send to peer failed)")
        };
        while !told(&cluster.logs()) {
            if Instant::now() > deadline {
                bail!("nobody was rejected with {flags:?}:\n{}", cluster.log_tails());
            }
            thread::sleep(Duration::from_millis(20));
        }
        ensure!(Client::CoracleCtl.ask(&cluster.endpoint(0), "", false).is_err(), "{flags:?}");
    }
    Ok(())
}

/// Values that a range answers with, of this many bytes each.
const LARGE: usize = 1024 * 1024;
const LARGE_KEYS: usize = 24;
/// Events that are awaited while large answers are under way on the same connection.
const EVENTS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_21_large_ranges_on_one_tls_connection_do_not_starve_a_watch() -> Result<()> {
    let pki = Pki::new()?;
    let flags = pki.fill("--cert-file=$D/server.pem --key-file=$D/server.key");
    let server = Server::start(Kind::Coracle, "https", &flags)?;
    let one = channel::connect(&server.address, &pki.fill(CA)).await?;
    let mut kv = KvClient::new(one.clone()).max_decoding_message_size(LARGE * LARGE_KEYS * 2);
    for index in 0..LARGE_KEYS {
        kv.put(put(&format!("large/{index}"), LARGE)).await?;
    }
    let mut watch = WatchClient::new(one.clone());
    let create = pb::WatchCreateRequest { key: "event".into(), ..Default::default() };
    let create = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    let (requests, queue) = tokio::sync::mpsc::channel(1);
    requests.send(create).await?;
    let mut events = watch.watch(ReceiverStream::new(queue)).await?.into_inner();
    ensure!(events.message().await?.is_some_and(|created| created.created));
    // Four answers of 24 MiB are always under way.
    let answered = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..4 {
        let (mut kv, answered) = (kv.clone(), answered.clone());
        readers.spawn(async move {
            let range = pb::RangeRequest {
                key: "large/".into(),
                range_end: "large0".into(),
                serializable: true,
                ..Default::default()
            };
            while kv.range(range.clone()).await.is_ok() {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let other = channel::connect(&server.address, &pki.fill(CA)).await?;
    let mut writer = KvClient::new(other);
    let mut slowest = 0;
    for _ in 0..EVENTS {
        writer.put(put("event", 1)).await?;
        let before = answered.load(Ordering::Relaxed);
        let event = tokio::time::timeout(Duration::from_secs(20), events.message()).await??;
        ensure!(event.is_some_and(|event| event.events.len() == 1));
        slowest = slowest.max(answered.load(Ordering::Relaxed) - before);
    }
    readers.abort_all();
    // An event that had to wait for its turn would come after all four, more than once.
    ensure!(slowest <= 4, "{slowest} large answers were finished while an event waited");
    Ok(())
}

fn put(key: &str, length: usize) -> pb::PutRequest {
    let (key, value) = (key.to_owned().into(), vec![b'v'; length].into());
    pb::PutRequest { key, value, ..Default::default() }
}
