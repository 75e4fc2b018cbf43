//! A lease that lives as long as its owner (`concurrency.Session`).

use std::time::Duration;

use etcd_client::{Client, LeaseKeepAliveStream, LeaseKeeper};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::{Error, Result};

/// The lifetime that a session's lease has unless told otherwise, as in Go.
pub const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// How long to wait before a broken keep-alive stream is opened anew.
const RETRY: Duration = Duration::from_millis(500);

/// What etcd-client says when it is asked to renew a lease that does not exist.
const GONE: &str = "lease not found";

/// Owns a lease and renews it three times per lifetime until it is closed, orphaned or dropped.
///
/// Dropping a session only ends the renewal: the lease, and what hangs on it, goes after its TTL.
pub struct Session {
    client: Client,
    lease: i64,
    ended: watch::Receiver<bool>,
    renewal: JoinHandle<()>,
}

impl Session {
    /// Grants a lease of `ttl` (whole seconds, at least one) and begins to renew it.
    ///
    /// # Errors
    /// When the lease cannot be granted.
    pub async fn new(client: &Client, ttl: Duration) -> Result<Self> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX).max(1);
        let granted = client.clone().lease_grant(seconds, None).await?;
        Self::of_lease(client, granted.id()).await
    }

    /// Takes over a lease that exists.
    ///
    /// # Errors
    /// When the lease cannot be renewed.
    pub async fn of_lease(client: &Client, lease: i64) -> Result<Self> {
        let mut client = client.clone();
        // The first renewal tells the lifetime, and whether the lease is there at all.
        let opened = client.lease_keep_alive(lease).await?;
        let ttl = client.lease_time_to_live(lease, None).await?.granted_ttl();
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0).max(1));
        let (ending, ended) = watch::channel(false);
        let renewing = client.clone();
        let renewal = tokio::spawn(async move {
            renew(renewing, lease, ttl, opened).await;
            // Nobody need be listening.
            ending.send_replace(true);
        });
        Ok(Self { client, lease, ended, renewal })
    }

    /// The client that the session was made with.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The number of the lease.
    pub fn lease(&self) -> i64 {
        self.lease
    }

    /// Waits until the lease is known to be gone, or could not be renewed for a whole lifetime.
    pub async fn ended(&self) {
        // An error means that the renewal is over: so is the session.
        _ = self.ended.clone().wait_for(|ended| *ended).await;
    }

    /// Whether [`Session::ended`] would return at once.
    pub fn is_over(&self) -> bool {
        *self.ended.borrow() || self.renewal.is_finished()
    }

    /// Ends the renewal and leaves the lease to its TTL; returns the lease.
    pub fn orphan(self) -> i64 {
        self.lease
    }

    /// Revokes the lease: the keys of the session go with it.
    ///
    /// # Errors
    /// When the lease cannot be revoked; it then goes after its TTL.
    pub async fn close(self) -> Result<()> {
        self.renewal.abort();
        self.client.clone().lease_revoke(self.lease).await?;
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// Renews every third of the lifetime, over a new stream where the old one broke, until the lease
/// is gone.
async fn renew(
    mut client: Client,
    lease: i64,
    mut ttl: Duration,
    opened: (LeaseKeeper, LeaseKeepAliveStream),
) {
    let mut stream = Some(opened);
    let mut deadline = Instant::now() + ttl;
    loop {
        let Some((keeper, answers)) = &mut stream else {
            if Instant::now() >= deadline {
                return;
            }
            match timeout_at(deadline, client.lease_keep_alive(lease)).await {
                Ok(Ok(opened)) => {
                    stream = Some(opened);
                    deadline = Instant::now() + ttl;
                }
                Ok(Err(etcd_client::Error::LeaseKeepAliveError(why))) if why == GONE => return,
                Ok(Err(_)) => sleep(RETRY).await,
                Err(_) => return,
            }
            continue;
        };
        sleep_until(deadline - ttl + ttl / 3).await;
        let renewed = timeout_at(deadline, async {
            keeper.keep_alive().await?;
            answers.message().await
        });
        match renewed.await {
            Ok(Ok(Some(answer))) => match u64::try_from(answer.ttl()) {
                Ok(seconds) if seconds > 0 => {
                    ttl = Duration::from_secs(seconds);
                    deadline = Instant::now() + ttl;
                }
                // The lease is gone.
                _ => return,
            },
            Ok(Ok(None) | Err(_)) => stream = None,
            Err(_) => return,
        }
    }
}

/// [`Error::SessionExpired`] once the session is over; what `work` says otherwise.
pub(crate) async fn while_alive<T>(
    session: &Session,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        done = work => done,
        () = session.ended() => Err(Error::SessionExpired),
    }
}
