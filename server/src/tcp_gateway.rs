//! `gateway start`: a forwarder of TCP connections to the members, which knows nothing of what is
//! said on them. It spares clients the list of members, on the machine on which they run.
//!
//! The members are those of `--endpoints`, or those that the SRV records of a domain name
//! (`--discovery-srv`); these must have certificates of the domain's, unless that is waived.
//!
//! Members of the best priority that can be reached take turns, by their weight. One that cannot is
//! left out until a look every `--retry-delay` finds it again; if none is left, all are tried.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use coracle_ctl::go;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use crate::discovery::{self, Endpoint};
use crate::net::Bare;
use crate::tls::{Connector, Identity, Policy};

/// How long a member may take to accept a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

pub const USAGE: &str = "\
Usage:
  etcd gateway start [flags]

Flags:
      --discovery-srv string       DNS domain used to bootstrap initial cluster
      --discovery-srv-name string  DNS service name used to bootstrap initial cluster
      --endpoints strings          comma separated endpoints (default [127.0.0.1:2379])
  -h, --help                       help for start
      --insecure-discovery         accept insecure SRV records
      --listen-addr string         listen address (default \"127.0.0.1:23790\")
      --retry-delay duration       delay before failed endpoints are tried again (default 1m0s)
      --trusted-ca-file string     path to the client server TLS CA file for endpoint validation
";

/// What the gateway is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    pub endpoints: Vec<String>,
    pub listen_address: String,
    pub retry_delay: Duration,
    /// The domain whose records name the members; empty if `endpoints` are they.
    pub discovery_srv: String,
    pub discovery_srv_name: String,
    /// Whether members are taken as the records name them.
    pub insecure_discovery: bool,
    /// The machine's own authorities if empty.
    pub trusted_ca_file: String,
}

impl Default for GatewayConfig {
    fn default() -> GatewayConfig {
        GatewayConfig {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            listen_address: "127.0.0.1:23790".to_owned(),
            retry_delay: Duration::from_secs(60),
            discovery_srv: String::new(),
            discovery_srv_name: String::new(),
            insecure_discovery: false,
            trusted_ca_file: String::new(),
        }
    }
}

/// Reads the arguments after `gateway`; `None` asks for help.
pub fn parse(arguments: &[String]) -> Result<Option<GatewayConfig>, String> {
    let mut config = GatewayConfig::default();
    // Flags may stand before the command, too.
    let mut starts = false;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if matches!(argument.as_str(), "-h" | "--help") {
            return Ok(None);
        }
        if !argument.starts_with('-') {
            if starts || argument != "start" {
                return Err(format!("unknown command {argument:?} for \"etcd gateway\""));
            }
            starts = true;
            continue;
        }
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let invalid = |value: &str, error: String| {
            format!("invalid argument {value:?} for \"{name}\" flag: {error}")
        };
        if name == "--insecure-discovery" {
            let value = inline.unwrap_or_else(|| "true".to_owned());
            config.insecure_discovery =
                go::parse_bool(&value).map_err(|error| invalid(&value, error))?;
            continue;
        }
        let place = match name {
            "--endpoints" | "--retry-delay" => None,
            "--listen-addr" => Some(&mut config.listen_address),
            "--discovery-srv" => Some(&mut config.discovery_srv),
            "--discovery-srv-name" => Some(&mut config.discovery_srv_name),
            "--trusted-ca-file" => Some(&mut config.trusted_ca_file),
            _ => return Err(format!("unknown flag: {name}")),
        };
        let value = inline.or_else(|| arguments.next().cloned());
        let value = value.ok_or_else(|| format!("flag needs an argument: {name}"))?;
        match place {
            Some(place) => *place = value,
            None if name == "--endpoints" => config.endpoints = endpoints(&value)?,
            None => {
                config.retry_delay =
                    go::parse_duration(&value).map_err(|error| invalid(&value, error))?;
            }
        }
    }
    Ok(starts.then_some(config))
}

/// Endpoints may be written as URLs, of which only the address matters.
fn endpoints(text: &str) -> Result<Vec<String>, String> {
    let address = |text: &str| {
        let text = text.trim();
        let address = text.split_once("://").map_or(text, |(_, rest)| rest);
        address.trim_end_matches('/').to_owned()
    };
    let endpoints: Vec<_> = text.split(',').map(address).filter(|text| !text.is_empty()).collect();
    if endpoints.is_empty() { Err("no endpoints found".to_owned()) } else { Ok(endpoints) }
}

/// The members of the configuration, as they are to be dialled.
async fn members(config: &GatewayConfig) -> Result<Vec<Remote>, String> {
    let mut found = Vec::new();
    if !config.discovery_srv.is_empty() {
        found = discovery::clients(&config.discovery_srv, &config.discovery_srv_name).await?;
        if !config.insecure_discovery {
            check_security(&found, config).await?;
        }
    }
    if found.is_empty() {
        let given = config.endpoints.iter();
        return Ok(given.map(|address| Remote::new(address.clone(), 0, 0)).collect());
    }
    let remote = |found: Endpoint| Remote::new(found.address, found.priority, found.weight);
    Ok(found.into_iter().map(remote).collect())
}

/// Whether every member speaks TLS and has a certificate for the domain; says which have not.
async fn check_security(members: &[Endpoint], config: &GatewayConfig) -> Result<(), String> {
    let identity = Identity {
        trusted_ca_file: config.trusted_ca_file.clone(),
        protocol: Some("h2"),
        ..Identity::default()
    };
    let connector = Connector::new(identity, &Policy::default())?;
    let mut failures = Vec::new();
    for member in members {
        if !member.secure {
            failures.push(format!("\"{member}\" is insecure"));
            continue;
        }
        let checked = timeout(DIAL_TIMEOUT, async {
            let stream = Bare::Tcp(TcpStream::connect(&member.address).await?);
            connector.connect(stream, &config.discovery_srv).await.map(drop)
        });
        match checked.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failures.push(format!("\"{member}\": {error}")),
            Err(_) => failures.push(format!("\"{member}\": i/o timeout")),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join(",")) }
}

struct Remote {
    address: String,
    /// Lower ones are better.
    priority: u16,
    weight: u16,
    active: AtomicBool,
}

struct Remotes {
    all: Vec<Remote>,
    turn: AtomicUsize,
}

impl Remotes {
    /// A connection to the member whose turn it is, or to another one.
    async fn dial(&self) -> Option<TcpStream> {
        for active in [true, false] {
            let is_candidate = |remote: &&Remote| remote.active.load(Ordering::Relaxed) == active;
            let mut left: Vec<&Remote> = self.all.iter().filter(is_candidate).collect();
            while !left.is_empty() {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                let remote = left.swap_remove(pick(&left, turn));
                if let Ok(stream) = remote.dial().await {
                    return Some(stream);
                }
            }
        }
        None
    }

    async fn look_again(&self, every: Duration) {
        loop {
            sleep(every).await;
            for remote in self.all.iter().filter(|remote| !remote.active.load(Ordering::Relaxed)) {
                if remote.dial().await.is_ok() {
                    tracing::info!(address = remote.address, "activated");
                }
            }
        }
    }
}

/// Whose turn it is among the candidates of the best priority: one of weight 3 has three times as
/// many as one of weight 1, and without weights all have the same.
fn pick(candidates: &[&Remote], turn: usize) -> usize {
    let best = candidates.iter().map(|remote| remote.priority).min().unwrap_or_default();
    let best: Vec<(usize, usize)> = candidates
        .iter()
        .enumerate()
        .filter(|(_, remote)| remote.priority == best)
        .map(|(index, remote)| (index, usize::from(remote.weight)))
        .collect();
    let total: usize = best.iter().map(|(_, weight)| weight).sum();
    if total == 0 {
        return best[turn % best.len()].0;
    }
    let mut place = turn % total;
    for (index, weight) in &best {
        match place.checked_sub(*weight) {
            Some(rest) => place = rest,
            None => return *index,
        }
    }
    best[0].0
}

impl Remote {
    fn new(address: String, priority: u16, weight: u16) -> Remote {
        Remote { address, priority, weight, active: AtomicBool::new(true) }
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let dialled = timeout(DIAL_TIMEOUT, TcpStream::connect(&self.address)).await;
        let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let was_active = self.active.swap(dialled.is_ok(), Ordering::Relaxed);
        if let (true, Err(error)) = (was_active, &dialled) {
            tracing::warn!(address = self.address, %error, "deactivated endpoint");
        }
        dialled
    }
}

/// Forwards until the process ends.
pub async fn serve(config: GatewayConfig) -> io::Result<()> {
    let members = members(&config).await.map_err(io::Error::other)?;
    let listener = TcpListener::bind(&config.listen_address).await?;
    let addresses: Vec<_> = members.iter().map(|remote| remote.address.as_str()).collect();
    tracing::info!(
        address = %listener.local_addr()?,
        endpoints = addresses.join(","),
        "ready to proxy client requests"
    );
    forward(listener, members, config.retry_delay).await
}

async fn forward(listener: TcpListener, all: Vec<Remote>, retry_delay: Duration) -> io::Result<()> {
    let remotes = Arc::new(Remotes { all, turn: AtomicUsize::new(0) });
    let looking = remotes.clone();
    tokio::spawn(async move { looking.look_again(retry_delay).await });
    loop {
        let (mut client, _) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, say: others will end.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let remotes = remotes.clone();
        tokio::spawn(async move {
            // A client without a member to talk to finds its connection closed.
            if let Some(mut member) = remotes.dial().await {
                _ = copy_bidirectional(&mut client, &mut member).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Option<GatewayConfig>, String> {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        parse(&arguments)
    }

    #[test]
    fn gateway_flags_are_read() {
        let config = parsed(&[
            "start",
            "--endpoints=http://a:1,b:2",
            "--listen-addr",
            "127.0.0.1:7",
            "--retry-delay=5s",
        ]);
        let config = config.unwrap().unwrap();
        assert_eq!(config.endpoints, ["a:1", "b:2"]);
        assert_eq!(config.listen_address, "127.0.0.1:7");
        assert_eq!(config.retry_delay, Duration::from_secs(5));
        let config = parsed(&["start", "--discovery-srv=x.org", "--insecure-discovery"]);
        let config = config.unwrap().unwrap();
        assert_eq!((config.discovery_srv.as_str(), config.insecure_discovery), ("x.org", true));
        assert_eq!(parsed(&[]), Ok(None));
        assert_eq!(parsed(&["start", "-h"]), Ok(None));
        let before = parsed(&["--endpoints", "c:3", "start"]).unwrap().unwrap();
        assert_eq!(before.endpoints, ["c:3"]);
        assert_eq!(parsed(&["--endpoints=c:3"]), Ok(None));
        assert!(parsed(&["start", "start"]).is_err());
        assert!(parsed(&["stop"]).is_err() && parsed(&["start", "--foo=1"]).is_err());
    }

    #[test]
    fn the_best_priority_takes_turns_by_weight() {
        let remote = |priority, weight| Remote::new(String::new(), priority, weight);
        let weighted = [remote(1, 3), remote(1, 1), remote(2, 9)];
        let weighted: Vec<_> = weighted.iter().collect();
        let picked: Vec<_> = (0..8).map(|turn| pick(&weighted, turn)).collect();
        assert_eq!(picked, [0, 0, 0, 1, 0, 0, 0, 1]);
        let plain = [remote(5, 0), remote(0, 0), remote(0, 0)];
        let plain: Vec<_> = plain.iter().collect();
        let picked: Vec<_> = (0..4).map(|turn| pick(&plain, turn)).collect();
        assert_eq!(picked, [1, 2, 1, 2]);
    }

    #[tokio::test]
    async fn a_member_that_is_down_is_passed_over() {
        let member = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let endpoints = vec![address(&gone), address(&member)];
        drop(gone);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = member.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut buffer = [0; 4];
                    stream.read_exact(&mut buffer).await.unwrap();
                    stream.write_all(&buffer).await.unwrap();
                });
            }
        });
        let gateway = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway_address = gateway.local_addr().unwrap();
        let members = endpoints.into_iter().map(|address| Remote::new(address, 0, 0)).collect();
        tokio::spawn(forward(gateway, members, Duration::from_secs(60)));
        for _ in 0..4 {
            let mut client = TcpStream::connect(gateway_address).await.unwrap();
            client.write_all(b"ping").await.unwrap();
            let mut buffer = [0; 4];
            client.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"ping");
        }
    }
}
