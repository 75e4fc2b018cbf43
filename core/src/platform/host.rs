//! The host's other capabilities: runtime, clock, randomness, transport, and places to run work.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::Disk;
use crate::api::coraclepb::{PeerRequest, PeerResponse};
use crate::error::Error;
use crate::raft::types::AsyncRuntime;
use crate::trace::Trace;

/// Everything that a host hands to a node.
pub trait Platform: Send + Sync + 'static {
    /// Tasks, timers and channels: tokio natively, the step executor elsewhere.
    type Runtime: AsyncRuntime;

    /// The member's own folder of files.
    fn disk(&self) -> Arc<dyn Disk>;

    /// The way to the other members.
    fn transport(&self) -> Arc<dyn Transport>;

    /// Time since an arbitrary start, never going back. Leases run on it.
    fn monotonic(&self) -> Duration;

    /// Wall clock, in milliseconds since the Unix epoch. Only identifiers are made of it.
    fn unix_millis(&self) -> u64;

    /// A random number: lease identifiers, proposal identifiers.
    fn random(&self) -> u64;

    /// A place where blocking work runs in submission order, off the node's own thread where the
    /// host has threads. The node asks for one for the WAL and one for the backend.
    fn worker(&self, name: &str) -> Arc<dyn Worker>;

    /// How passwords are hashed; a host without it has no users with passwords.
    fn passwords(&self) -> Option<Arc<dyn Passwords>> {
        None
    }

    /// Who signs tokens that say themselves whose they are; without it tokens are simple ones,
    /// which members remember.
    fn token_signer(&self) -> Option<Arc<dyn TokenSigner>> {
        None
    }

    /// Who listens to what the node does inside; nobody, by default.
    fn trace(&self) -> Trace {
        Trace::default()
    }
}

/// Runs jobs one after another, in the order of their submission.
pub trait Worker: Send + Sync + 'static {
    /// Queues `job` and returns at once.
    fn submit(&self, job: Box<dyn FnOnce() + Send>);
}

/// Slow one-way functions of passwords. They run off the threads that serve, few at once: a flood
/// of log-ins waits for itself and for nobody else. AUTH-10.
pub trait Passwords: Send + Sync + 'static {
    /// The password as it is stored.
    fn hash(&self, password: String) -> BoxFuture<'static, Result<String, Error>>;

    /// A hash that a client made, as it is stored; it comes in base64. None if it is no such text.
    fn decode(&self, hash: &str) -> Option<String>;

    /// Whether the password is the one that was hashed. Without a hash the answer is no, and takes
    /// as long.
    fn verify(
        &self,
        password: String,
        hash: Option<Bytes>,
    ) -> BoxFuture<'static, Result<bool, Error>>;
}

/// Signs and verifies tokens that carry a user's name and the auth revision (JWT). AUTH-03.
pub trait TokenSigner: Send + Sync + 'static {
    /// Fails where this member has only the key to verify.
    fn sign(&self, user: &str, revision: u64) -> Result<String, Error>;

    /// What the token says; `None` if it is not signed as it should be, or has expired.
    fn verify(&self, token: &str) -> Option<Claims>;
}

/// What a signed token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub user: String,
    pub revision: u64,
}

/// Where a request to a peer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTarget {
    /// The member's identifier; 0 where the caller does not know it yet (before joining).
    pub id: u64,
    /// The member's peer URLs, tried in order.
    pub urls: Vec<String>,
}

/// Requests to other members. Order between calls is not guaranteed; a call may fail after the
/// peer carried it out.
pub trait Transport: Send + Sync + 'static {
    /// Sends `request` and waits at most `timeout` for the answer.
    fn call(
        &self,
        target: PeerTarget,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerResponse, TransportError>>;
}

/// Why no answer came.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nothing was sent: no connection could be made.
    #[error("cannot reach the peer: {0}")]
    Unreachable(String),
    /// The answer did not come in time; the peer may have carried the request out.
    #[error("the peer did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The connection broke while waiting; the peer may have carried the request out.
    #[error("the connection to the peer broke: {0}")]
    Broken(String),
    /// The peer belongs to another cluster, or is not the member it should be.
    #[error("the peer refused the connection: {0}")]
    Refused(String),
}
