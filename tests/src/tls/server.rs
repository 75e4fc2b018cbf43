//! One server whose client URL has any scheme.

use std::fs::{self, File};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tempfile::TempDir;

use crate::cluster::{Kind, http_get};

const START_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// A server, which is killed with this value.
pub struct Server {
    /// `host:port`, or the path of the socket.
    pub address: String,
    folder: TempDir,
    metrics: String,
    command: Command,
    child: Child,
}

impl Server {
    /// Starts `kind` with a client URL of `scheme` (`both` is http and https), and waits until it
    /// is healthy. `flags` are separated by spaces; `$STORE` in them is the data directory.
    pub fn start(kind: Kind, scheme: &str, flags: &str) -> Result<Server> {
        let folder = TempDir::with_prefix("coracle-tls-")?;
        let [client, peer, metrics] = ports()?;
        let address = match scheme {
            "unix" | "unixs" => folder.path().join("etcd.sock").to_string_lossy().into_owned(),
            _ => format!("127.0.0.1:{client}"),
        };
        let url = match scheme {
            "both" => format!("http://{address},https://{address}"),
            _ => format!("{scheme}://{address}"),
        };
        // etcd 3.5 advertises no unix sockets.
        let advertised = format!("http://127.0.0.1:{client}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        let metrics_url = format!("http://127.0.0.1:{metrics}");
        let log = File::create(folder.path().join("log"))?;
        let data = folder.path().join("data");
        let mut command = kind.command()?;
        command
            .args(["--name=one", "--data-dir"])
            .arg(&data)
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &advertised])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("one={peer_url}")])
            .args(["--listen-metrics-urls", &metrics_url])
            .args(flags.replace("$STORE", &data.to_string_lossy()).split_whitespace())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn()?;
        let metrics = format!("127.0.0.1:{metrics}");
        let mut server = Server { address, folder, metrics, command, child };
        server.wait_healthy()?;
        Ok(server)
    }

    fn wait_healthy(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        let is_healthy = |body: String| body.contains("\"health\":\"true\"");
        while !http_get(&self.metrics, "/health").is_ok_and(is_healthy) {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server exited with {status}:\n{}", self.log());
            }
            if Instant::now() > deadline {
                bail!("the server is not healthy:\n{}", self.log());
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    /// The process, for measuring it.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// `text` with the data directory in the place of `$STORE`.
    pub fn fill(&self, text: &str) -> String {
        text.replace("$STORE", &self.folder.path().join("data").to_string_lossy())
    }

    /// Starts it again as it was started, after it was killed.
    pub fn restart(&mut self) -> Result<()> {
        self.child = self.command.spawn()?;
        self.wait_healthy()
    }

    /// Kills it without warning.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about a process that cannot be killed: the test is over anyway.
        let _ = self.kill();
    }
}

/// Runs a server that is expected to refuse its flags, and gives what it says.
pub fn refusal(kind: Kind, flags: &[&str]) -> Result<String> {
    let mut command: Command = kind.command()?;
    let folder = TempDir::with_prefix("coracle-tls-")?;
    let [client, peer, _] = ports()?;
    let url = format!("https://127.0.0.1:{client}");
    let output = command
        .args(["--listen-client-urls", &url, "--advertise-client-urls", &url, "--data-dir"])
        .arg(folder.path())
        .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer}")])
        .args(flags)
        .output()?;
    if output.status.success() {
        bail!("it started with {flags:?}");
    }
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn ports() -> Result<[u16; 3]> {
    let bind = || TcpListener::bind(("127.0.0.1", 0));
    let listeners = [bind()?, bind()?, bind()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}
