//! Sessions, mutexes, elections and software transactional memory on the keys of an etcd.
//!
//! The crate `etcd-client` speaks every call of etcd; this adds what Go's users have in
//! `clientv3/concurrency`. The keys are laid out as there, so contenders in Go (`etcdctl lock` and
//! `etcdctl elect` among them), in Java and here wait in one queue.
//!
//! - [`Session`]: a lease that lives as long as its owner.
//! - [`Mutex`]: first come, first served; [`Mutex::is_owner`] fences writes.
//! - [`Election`]: the same queue with a value; [`Election::observe`] follows the leaders.
//! - [`transact`]: reads and writes of many keys that happen at once, at four levels of isolation.
//!
//! A future of this crate that is dropped while it waits in a queue leaves the queue.

mod election;
mod mutex;
mod queue;
mod session;
mod stm;

pub use election::{Election, Leader, Observer};
pub use mutex::Mutex;
pub use session::{DEFAULT_TTL, Session};
pub use stm::{Isolation, Stm, transact};

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server refused, or could not be reached.
    #[error(transparent)]
    Client(#[from] etcd_client::Error),
    /// The session's lease ended while its owner waited: its place in the queue is gone.
    #[error("session is expired")]
    SessionExpired,
    /// [`Mutex::try_lock`] found another owner.
    #[error("locked by another session")]
    Locked,
    /// What is only for the owner of a lock was asked of somebody else.
    #[error("not locked by this session")]
    NotLocked,
    /// What is only for the leader was asked of somebody else.
    #[error("not the leader of this election")]
    NotLeader,
    /// Nobody leads.
    #[error("the election has no leader")]
    NoLeader,
    /// An answer lacks what the protocol says it has.
    #[error("the server's answer is incomplete: {0}")]
    Incomplete(&'static str),
    /// The server ended a watch.
    #[error("the watch ended: {0}")]
    WatchEnded(String),
}

/// The answer, or our error.
pub type Result<T> = std::result::Result<T, Error>;
