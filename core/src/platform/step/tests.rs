//! openraft's own suite for runtimes, and what it does not ask: order, virtual time, crashes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft_rt::testing::Suite;
use openraft_rt::watch::{Watch, WatchReceiver, WatchSender};
use openraft_rt::{AsyncRuntime, Instant};

use super::{Executor, StepInstant, StepRuntime, StepWatch, StepWorker};
use crate::platform::Worker;

type Log = Arc<Mutex<Vec<String>>>;

fn note(log: &Log, what: impl Into<String>) {
    log.lock().unwrap().push(what.into());
}

#[test]
fn openraft_accepts_the_runtime() {
    Suite::<StepRuntime>::test_all();
}

#[test]
fn tasks_run_in_the_order_in_which_they_were_woken() {
    let executor = Executor::new(1);
    let log = Log::default();
    for name in ["a", "b", "c"] {
        let log = log.clone();
        executor.spawn(1, async move {
            note(&log, name);
            StepRuntime::sleep(Duration::from_secs(1)).await;
            note(&log, format!("{name} at {:?}", StepInstant::now().0));
        });
    }
    executor.run_until_idle();
    assert_eq!(*log.lock().unwrap(), ["a", "b", "c"]);
    assert_eq!(executor.next_timer(), Some(Duration::from_secs(1)));
    executor.advance_to(Duration::from_millis(1500));
    executor.run_until_idle();
    assert_eq!(log.lock().unwrap()[3..], ["a at 1.5s", "b at 1.5s", "c at 1.5s"]);
    assert_eq!(executor.next_timer(), None);
}

#[test]
fn a_crash_drops_the_tasks_of_one_node_and_those_they_spawned() {
    let executor = Executor::new(1);
    let log = Log::default();
    for tag in [1, 2] {
        let log = log.clone();
        executor.spawn(tag, async move {
            let task = StepRuntime::spawn(async move {
                StepRuntime::sleep(Duration::from_secs(1)).await;
                note(&log, format!("node {tag}"));
            });
            task.await.unwrap();
        });
    }
    executor.run_until_idle();
    executor.crash(1);
    executor.advance_to(Duration::from_secs(2));
    executor.run_until_idle();
    assert_eq!(*log.lock().unwrap(), ["node 2"]);
}

#[test]
fn randomness_is_the_seeds_and_each_node_has_its_own() {
    let draw = |seed, tag| Executor::new(seed).enter(tag, || Executor::current().random());
    assert_eq!(draw(1, 1), draw(1, 1));
    assert_ne!(draw(1, 1), draw(1, 2));
    assert_ne!(draw(1, 1), draw(2, 1));
}

#[test]
fn those_who_wait_for_a_value_wake_in_order() {
    let executor = Executor::new(1);
    let log = Log::default();
    let (sender, receiver) = StepWatch::channel(0);
    for number in 0..20 {
        let (log, mut receiver) = (log.clone(), receiver.clone());
        executor.spawn(1, async move {
            receiver.changed().await.unwrap();
            note(&log, number.to_string());
        });
    }
    executor.run_until_idle();
    sender.send(1).unwrap();
    executor.run_until_idle();
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(*log.lock().unwrap(), expected);
}

#[test]
fn a_worker_takes_its_time_and_keeps_the_order() {
    let executor = Executor::new(1);
    let log = Log::default();
    let worker = StepWorker::new(&executor, 1, Arc::new(|| Duration::from_millis(5)));
    for number in 0..2 {
        let (log, executor) = (log.clone(), executor.clone());
        worker.submit(Box::new(move || note(&log, format!("{number} at {:?}", executor.now()))));
    }
    for _ in 0..2 {
        executor.run_until_idle();
        executor.advance_to(executor.next_timer().unwrap());
    }
    executor.run_until_idle();
    assert_eq!(*log.lock().unwrap(), ["0 at 5ms", "1 at 10ms"]);
}
