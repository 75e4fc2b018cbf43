//! The servers under test: a real etcd or Coracle, one member or three, started with the same
//! flags on free ports and thrown away afterwards.

use std::fmt;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use coracle_core::api::etcdserverpb::{RangeRequest, RangeResponse};
use prost::Message;

use crate::client::{Connection, Rpc, framed};
use crate::load::block_on;

const START_LIMIT: Duration = Duration::from_secs(60);
/// Room for all that a long benchmark puts, whatever the server's default is.
const QUOTA: u64 = 8 << 30;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Etcd,
    Coracle,
}

/// In the order in which they take turns.
pub(crate) const SYSTEMS: [System; 2] = [System::Etcd, System::Coracle];

impl fmt::Display for System {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            System::Etcd => "etcd 3.5.1",
            System::Coracle => "Coracle",
        })
    }
}

/// Where the programs are and where their data may go.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// The binary of a real etcd.
    #[arg(long)]
    etcd: PathBuf,
    /// Our binary.
    #[arg(long)]
    coracle: PathBuf,
    /// Folder for the members' data and logs; emptied at the start.
    #[arg(long)]
    folder: PathBuf,
}

impl Programs {
    /// The folder, made anew.
    pub(crate) fn prepare(&self) -> Result<&Path> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)
                .with_context(|| format!("cannot empty {}", self.folder.display()))?;
        }
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot create {}", self.folder.display()))?;
        Ok(&self.folder)
    }

    fn command(&self, system: System, cores: Cores) -> Command {
        let program = match system {
            System::Etcd => &self.etcd,
            System::Coracle => &self.coracle,
        };
        let mut command = match cores {
            Cores::All => Command::new(program),
            Cores::First => {
                let mut command = Command::new("taskset");
                command.args(["--cpu-list", "0"]).arg(program);
                command
            }
        };
        if system == System::Coracle {
            command.arg("serve");
        }
        command
    }
}

/// The cores that a member may use. It is bound from its start, so that it makes as many threads as
/// it has cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cores {
    All,
    First,
}

/// The running members of one system. Dropping it kills them and deletes their data.
pub(crate) struct Cluster {
    system: System,
    members: Vec<Member>,
}

struct Member {
    process: Child,
    client: SocketAddr,
    data: PathBuf,
    log: PathBuf,
}

impl Cluster {
    /// Starts that many members and waits until each answers a linearizable read.
    pub(crate) fn start(
        programs: &Programs,
        system: System,
        size: usize,
        cores: Cores,
    ) -> Result<Cluster> {
        let mut cluster = Cluster { system, members: Vec::new() };
        let ports = free_ports(size * 2)?;
        let (clients, peers) = ports.split_at(size);
        let initial: Vec<String> = (0..size)
            .map(|number| format!("m{number}=http://127.0.0.1:{}", peers[number]))
            .collect();
        for number in 0..size {
            let label = format!("{system:?}-{size}-{number}").to_lowercase();
            let data = programs.folder.join(&label);
            let log = programs.folder.join(format!("{label}.log"));
            let output = File::create(&log)?;
            let client = format!("http://127.0.0.1:{}", clients[number]);
            let peer = format!("http://127.0.0.1:{}", peers[number]);
            let process = programs
                .command(system, cores)
                .arg(format!("--name=m{number}"))
                .arg(format!("--data-dir={}", data.display()))
                .arg(format!("--listen-client-urls={client}"))
                .arg(format!("--advertise-client-urls={client}"))
                .arg(format!("--listen-peer-urls={peer}"))
                .arg(format!("--initial-advertise-peer-urls={peer}"))
                .arg(format!("--initial-cluster={}", initial.join(",")))
                .arg(format!("--quota-backend-bytes={QUOTA}"))
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output)
                .spawn()
                .with_context(|| format!("{system} does not start"))?;
            let client = (Ipv4Addr::LOCALHOST, clients[number]).into();
            cluster.members.push(Member { process, client, data, log });
        }
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    pub(crate) fn endpoints(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.client).collect()
    }

    pub(crate) fn processes(&self) -> Vec<u32> {
        self.members.iter().map(|member| member.process.id()).collect()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        let system = self.system;
        for member in &mut self.members {
            loop {
                if let Some(status) = member.process.try_wait()? {
                    bail!("{system} has ended ({status}); see {}", member.log.display());
                }
                let Err(error) = revision(member.client) else { break };
                if start.elapsed() > START_LIMIT {
                    let log = member.log.display();
                    return Err(error.context(format!("{system} does not get ready; see {log}")));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            // An error means that it is gone already, and its data is only scratch.
            let _ = member.process.kill();
            let _ = member.process.wait();
            let _ = fs::remove_dir_all(&member.data);
        }
    }
}

/// The store's revision, by a linearizable read at this member.
pub(crate) fn revision(endpoint: SocketAddr) -> Result<i64> {
    block_on(async {
        let connection = Connection::open(endpoint).await?;
        let request = RangeRequest { key: "none".into(), ..Default::default() };
        let mut caller = connection.caller(Rpc::Range)?;
        let call = caller.call_for(framed(&request));
        let answer = tokio::time::timeout(Duration::from_secs(5), call)
            .await
            .context("no answer to a range")??;
        let header = RangeResponse::decode(answer)?.header.context("a response without header")?;
        Ok(header.revision)
    })
}

/// Ports that nobody listens on: all are held at once, so that they differ, and then released.
fn free_ports(number: usize) -> Result<Vec<u16>> {
    let listeners: Vec<TcpListener> = (0..number)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<std::io::Result<_>>()?;
    Ok(listeners
        .iter()
        .map(|one| one.local_addr().map(|at| at.port()))
        .collect::<Result<_, _>>()?)
}
