//! A thread that runs jobs in the order they were submitted.

use std::sync::mpsc;
use std::thread;

use coracle_core::platform::Worker;

type Job = Box<dyn FnOnce() + Send>;

/// A named thread behind a queue. It ends, when all its jobs are done, after the last handle is
/// dropped. The queue needs no bound: the node has at most one drain or flush job waiting.
pub(super) struct ThreadWorker {
    queue: mpsc::Sender<Job>,
}

impl ThreadWorker {
    pub(super) fn new(name: &str) -> ThreadWorker {
        let (queue, jobs) = mpsc::channel::<Job>();
        let run = move || jobs.into_iter().for_each(|job| job());
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
        spawned.expect("a process that has just started may have a few threads");
        ThreadWorker { queue }
    }
}

impl Worker for ThreadWorker {
    fn submit(&self, job: Job) {
        self.queue.send(job).expect("a worker ends only when it cannot be submitted to any more");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_run_in_order_and_all_of_them() {
        let worker = ThreadWorker::new("test");
        let (sender, results) = mpsc::channel();
        for number in 0..100 {
            let sender = sender.clone();
            worker.submit(Box::new(move || sender.send(number).unwrap()));
        }
        drop((worker, sender));
        assert_eq!(results.into_iter().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
    }
}
