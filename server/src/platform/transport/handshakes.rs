//! The thread on which handshakes with peers are done.
//!
//! A private key costs milliseconds, and a peer's name may have to be asked for; the node's thread
//! has Raft to run meanwhile. The sockets stay the node's: once a connection stands, nothing of it
//! takes this way.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

/// The thread, which ends with the last clone.
#[derive(Clone)]
pub(crate) struct Handshakes {
    runtime: Handle,
    _running: Arc<DropGuard>,
}

impl Handshakes {
    pub(crate) fn start() -> io::Result<Handshakes> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let ended = CancellationToken::new();
        let running = Arc::new(ended.clone().drop_guard());
        let run = move || {
            runtime.block_on(ended.cancelled());
            // A resolver or a disk that does not answer is not waited for.
            runtime.shutdown_background();
        };
        thread::Builder::new().name("peer-handshakes".to_owned()).spawn(run)?;
        Ok(Handshakes { runtime: handle, _running: running })
    }

    /// Does `handshake` there; it fails if it takes longer than `limit`, and ends if nobody waits.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        limit: Duration,
        handshake: impl Future<Output = io::Result<T>> + Send + 'static,
    ) -> io::Result<T> {
        let task = self.runtime.spawn(async move { timeout(limit, handshake).await });
        AbortOnDropHandle::new(task).await??
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn handshakes_are_done_elsewhere_and_in_time() {
        let handshakes = Handshakes::start().unwrap();
        let (soon, late) = (Duration::from_millis(20), Duration::from_secs(3600));
        let elsewhere = async { Ok(thread::current().id()) };
        assert_ne!(handshakes.run(late, elsewhere).await.unwrap(), thread::current().id());
        let silent = handshakes.run(soon, std::future::pending::<io::Result<()>>()).await;
        assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
        // One that computes holds up other handshakes, and not this thread.
        let (go_on, wait) = std::sync::mpsc::channel();
        let busy = async move { Ok(wait.recv().is_ok()) };
        let busy = tokio::spawn({
            let handshakes = handshakes.clone();
            async move { handshakes.run(late, busy).await }
        });
        tokio::time::sleep(Duration::from_millis(1)).await;
        go_on.send(()).unwrap();
        assert!(busy.await.unwrap().unwrap());
    }
}
