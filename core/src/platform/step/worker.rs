//! A place for blocking work on the step executor: jobs run one after another, each after the
//! virtual time that the host says it takes.

use std::sync::Arc;
use std::time::Duration;

use super::executor::Sleep;
use super::{Executor, Tag};
use crate::platform::Worker;

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs in submission order. A job is carried out, whole, at the end of its time, so a crash
/// before then leaves nothing of it; a torn write is the disk's business.
pub struct StepWorker {
    jobs: async_channel::Sender<Job>,
}

impl StepWorker {
    /// A worker of node `tag` on `executor`. `latency` is asked before each job how long it takes.
    pub fn new(
        executor: &Executor,
        tag: Tag,
        latency: Arc<dyn Fn() -> Duration + Send + Sync>,
    ) -> StepWorker {
        let (jobs, queue) = async_channel::unbounded::<Job>();
        let own = executor.clone();
        executor.spawn(tag, async move {
            while let Ok(job) = queue.recv().await {
                let duration = latency();
                if !duration.is_zero() {
                    let deadline = own.now() + duration;
                    Sleep::until(own.clone(), deadline).await;
                }
                job();
            }
        });
        StepWorker { jobs }
    }
}

impl Worker for StepWorker {
    fn submit(&self, job: Job) {
        // The queue is closed only when the node's tasks are gone, and with them whoever waits.
        let _ = self.jobs.try_send(job);
    }
}
