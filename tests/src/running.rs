//! Processes that are no member of a [`Cluster`](crate::cluster::Cluster): started on their own,
//! waited for, and gone with the test.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::programs;

/// How long anything may take that a test waits for.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A port that nobody listens on now.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        ensure!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A process that a test leaves nothing of.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Coracle under the name `etcd`, in `folder`.
pub fn coracle_as_etcd(folder: &Path) -> Result<Command> {
    let link = folder.join("etcd");
    if !link.exists() {
        symlink(fs::canonicalize(programs::coracle()?)?, &link)?;
    }
    Ok(Command::new(link))
}
