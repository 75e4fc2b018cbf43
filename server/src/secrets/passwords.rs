//! bcrypt on threads of its own.
//!
//! One hash takes as long as thousands of puts, by design. So the threads are few, whatever the
//! number of clients that log in, and of those that wait there is a bound: more are told so.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use coracle_core::error::{Code, Error};
use coracle_core::limits::MAX_PASSWORD_JOBS;
use coracle_core::platform::Passwords;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

type Job = Box<dyn FnOnce() + Send>;

/// Hashes and compares passwords.
pub(crate) struct BcryptThreads {
    cost: u32,
    queue: SyncSender<Job>,
}

impl BcryptThreads {
    /// `cost` is the binary logarithm of the rounds (`--bcrypt-cost`).
    pub(crate) fn new(cost: u32) -> BcryptThreads {
        let (queue, jobs) = sync_channel::<Job>(MAX_PASSWORD_JOBS);
        let jobs = Arc::new(Mutex::new(jobs));
        // Half of the cores stay for those who are logged in already.
        let threads = thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
        for _ in 0..threads {
            let jobs = jobs.clone();
            let run = move || {
                loop {
                    let next = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(job) = next else { return };
                    job();
                }
            };
            let spawned = thread::Builder::new().name("passwords".to_owned()).spawn(run);
            spawned.expect("a process that has just started may have a few threads");
        }
        BcryptThreads { cost, queue }
    }

    /// Runs `work` on one of the threads.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Error>> {
        let (sender, result) = oneshot::channel();
        // Whoever asked may have gone away.
        let job = Box::new(move || drop(sender.send(work())));
        let queued = self.queue.try_send(job);
        Box::pin(async move {
            match queued {
                Ok(()) => result.await.unwrap_or(Err(Error::Stopped)),
                Err(TrySendError::Full(_)) => Err(Error::RequestTooManyRequests),
                Err(TrySendError::Disconnected(_)) => Err(Error::Stopped),
            }
        })
    }
}

impl Passwords for BcryptThreads {
    fn hash(&self, password: String) -> BoxFuture<'static, Result<String, Error>> {
        let cost = self.cost;
        self.run(move || hash(&password, cost))
    }

    fn decode(&self, hash: &str) -> Option<String> {
        String::from_utf8(STANDARD.decode(hash).ok()?).ok()
    }

    fn verify(
        &self,
        password: String,
        hashed: Option<Bytes>,
    ) -> BoxFuture<'static, Result<bool, Error>> {
        let cost = self.cost;
        self.run(move || match hashed {
            Some(hashed) => {
                // What is stored and is no hash is nobody's password (a user that was imported).
                let hashed = std::str::from_utf8(&hashed).unwrap_or_default();
                Ok(bcrypt::verify(password, hashed).unwrap_or(false))
            }
            None => hash(&password, cost).map(|_| false),
        })
    }
}

/// In Go's spelling of the version, so that etcd reads it.
fn hash(password: &str, cost: u32) -> Result<String, Error> {
    match bcrypt::hash_with_result(password, cost) {
        Ok(parts) => Ok(parts.format_for_version(bcrypt::Version::TwoA)),
        Err(error) => Err(Error::Other(Code::Internal, format!("bcrypt: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn auth_10_passwords_are_stored_as_etcd_stores_them() {
        let threads = BcryptThreads::new(4);
        let hashed = wait(threads.hash("secret".to_owned())).unwrap();
        assert!(hashed.starts_with("$2a$04$") && hashed.len() == 60, "{hashed}");
        let verify = |password: &str, hashed: Option<&str>| {
            let hashed = hashed.map(|text| Bytes::copy_from_slice(text.as_bytes()));
            wait(threads.verify(password.to_owned(), hashed)).unwrap()
        };
        assert!(verify("secret", Some(&hashed)));
        assert!(!verify("Secret", Some(&hashed)));
        assert!(!verify("secret", None), "an unknown user");
        assert!(!verify("", Some("")), "an imported user without a password");
        let empty = wait(threads.hash(String::new())).unwrap();
        assert!(verify("", Some(&empty)), "an empty password is one");
    }

    #[test]
    fn auth_10_a_flood_of_log_ins_is_told_to_wait() {
        let threads = BcryptThreads::new(8);
        let jobs: Vec<_> =
            (0..10 * MAX_PASSWORD_JOBS).map(|_| threads.verify("guess".to_owned(), None)).collect();
        let results = wait(futures_util::future::join_all(jobs));
        let refused = results.iter().filter(|r| **r == Err(Error::RequestTooManyRequests)).count();
        assert!(refused > 0 && refused < results.len(), "{refused} of {}", results.len());
    }
}
