//! `gateway start`: a forwarder of TCP connections to the members, which knows nothing of what is
//! said on them. It spares clients the list of members, on the machine on which they run.
//!
//! Members take turns. One that cannot be reached is left out until a look every `--retry-delay`
//! finds it again; if none is left, all are tried.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use coracle_ctl::go;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

/// How long a member may take to accept a connection.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);

pub const USAGE: &str = "\
Usage:
  etcd gateway start [flags]

Flags:
      --endpoints strings        comma separated etcd cluster endpoints (default [127.0.0.1:2379])
      --listen-addr string       listen address (default \"127.0.0.1:23790\")
      --retry-delay duration     duration of delay before retrying failed endpoints (default 1m0s)
  -h, --help                     help for start
";

/// What the gateway is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayConfig {
    pub endpoints: Vec<String>,
    pub listen_address: String,
    pub retry_delay: Duration,
}

/// Reads the arguments after `gateway`; `None` asks for help.
pub fn parse(arguments: &[String]) -> Result<Option<GatewayConfig>, String> {
    let mut config = GatewayConfig {
        endpoints: vec!["127.0.0.1:2379".to_owned()],
        listen_address: "127.0.0.1:23790".to_owned(),
        retry_delay: Duration::from_secs(60),
    };
    let mut arguments = match arguments.split_first() {
        Some((start, rest)) if start == "start" => rest.iter(),
        None => return Ok(None),
        Some((help, _)) if matches!(help.as_str(), "-h" | "--help") => return Ok(None),
        Some((other, _)) => return Err(format!("unknown command {other:?} for \"etcd gateway\"")),
    };
    while let Some(argument) = arguments.next() {
        if matches!(argument.as_str(), "-h" | "--help") {
            return Ok(None);
        }
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        if !matches!(name, "--endpoints" | "--listen-addr" | "--retry-delay") {
            return Err(format!("unknown flag: {name}"));
        }
        let value = inline.or_else(|| arguments.next().cloned());
        let value = value.ok_or_else(|| format!("flag needs an argument: {name}"))?;
        match name {
            "--endpoints" => config.endpoints = endpoints(&value)?,
            "--listen-addr" => config.listen_address = value,
            _ => {
                config.retry_delay = go::parse_duration(&value).map_err(|error| {
                    format!("invalid argument {value:?} for \"--retry-delay\" flag: {error}")
                })?;
            }
        }
    }
    Ok(Some(config))
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

struct Remote {
    address: String,
    active: AtomicBool,
}

struct Remotes {
    all: Vec<Remote>,
    turn: AtomicUsize,
}

impl Remotes {
    /// A connection to the member whose turn it is, or to one after it.
    async fn dial(&self) -> Option<TcpStream> {
        for active in [true, false] {
            let first = self.turn.fetch_add(1, Ordering::Relaxed);
            for step in 0..self.all.len() {
                let remote = &self.all[(first + step) % self.all.len()];
                if remote.active.load(Ordering::Relaxed) != active {
                    continue;
                }
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

impl Remote {
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
    let listener = TcpListener::bind(&config.listen_address).await?;
    tracing::info!(
        address = %listener.local_addr()?,
        endpoints = config.endpoints.join(","),
        "ready to proxy client requests"
    );
    forward(listener, config).await
}

async fn forward(listener: TcpListener, config: GatewayConfig) -> io::Result<()> {
    let remote = |address| Remote { address, active: AtomicBool::new(true) };
    let all = config.endpoints.into_iter().map(remote).collect();
    let remotes = Arc::new(Remotes { all, turn: AtomicUsize::new(0) });
    let looking = remotes.clone();
    tokio::spawn(async move { looking.look_again(config.retry_delay).await });
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
        assert_eq!(parsed(&[]), Ok(None));
        assert_eq!(parsed(&["start", "-h"]), Ok(None));
        assert!(parsed(&["stop"]).is_err() && parsed(&["start", "--foo=1"]).is_err());
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
        let config = GatewayConfig {
            endpoints,
            listen_address: String::new(),
            retry_delay: Duration::from_secs(60),
        };
        tokio::spawn(forward(gateway, config));
        for _ in 0..4 {
            let mut client = TcpStream::connect(gateway_address).await.unwrap();
            client.write_all(b"ping").await.unwrap();
            let mut buffer = [0; 4];
            client.read_exact(&mut buffer).await.unwrap();
            assert_eq!(&buffer, b"ping");
        }
    }
}
