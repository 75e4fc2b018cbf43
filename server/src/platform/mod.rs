//! The native platform: real files, threads, TCP between members, tokio, the machine's clocks.

mod disk;
mod transport;
mod worker;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coracle_core::platform::{Disk, Passwords, Platform, TokenSigner, Transport, Worker};
use openraft_rt_tokio::TokioRuntime;

pub(crate) use self::disk::NativeDisk;
pub(crate) use self::transport::{
    Handshakes, Identity, PeerCounts, PeerListener, TcpTransport, Traffic,
};
use self::worker::ThreadWorker;
use crate::secrets::Secrets;

/// What a native node is given.
pub(crate) struct Native {
    disk: Arc<NativeDisk>,
    transport: Arc<TcpTransport>,
    secrets: Secrets,
    started: Instant,
}

impl Native {
    pub(crate) fn new(
        disk: Arc<NativeDisk>,
        transport: Arc<TcpTransport>,
        secrets: Secrets,
    ) -> Native {
        Native { disk, transport, secrets, started: Instant::now() }
    }

    /// What was said to the other members, and heard of them.
    pub(crate) fn traffic(&self) -> &Traffic {
        self.transport.traffic()
    }

    /// Tells the transport who it speaks for, once the node knows its cluster and itself.
    pub(crate) fn set_identity(&self, identity: Identity) {
        self.transport.set_identity(identity);
    }
}

impl Platform for Native {
    type Runtime = TokioRuntime;

    fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    fn transport(&self) -> Arc<dyn Transport> {
        self.transport.clone()
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    fn unix_millis(&self) -> u64 {
        // A clock before 1970 is as good as one at 1970: only identifiers are made of it.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn random(&self) -> u64 {
        rand::random()
    }

    fn passwords(&self) -> Option<Arc<dyn Passwords>> {
        Some(self.secrets.passwords.clone())
    }

    fn token_signer(&self) -> Option<Arc<dyn TokenSigner>> {
        self.secrets.signer.clone()
    }

    fn worker(&self, name: &str) -> Arc<dyn Worker> {
        Arc::new(ThreadWorker::new(name))
    }
}
