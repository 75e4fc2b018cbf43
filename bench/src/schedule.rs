//! When a request is due: at once (closed loop), or by a timetable (open loop).
//!
//! The timetable is kept by a thread that sleeps until the next request is due and then releases
//! as many as are: the runtime's own timers tick in milliseconds, which would show up as latency.
//! The thread's lateness (some 60 µs of Linux timer slack) is counted as the server's; it is the
//! same for every server.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Tells each client when its next request is due. Shared by the clients of one load.
pub(crate) enum Schedule {
    /// As soon as a client is free.
    Closed { stopped: Rc<Cell<bool>> },
    /// Request `i` is due at `start + i / rate`, whichever client is free.
    Open { timetable: Timetable, next: Cell<u64> },
}

impl Schedule {
    /// A closed loop, or an open one with this many requests per second for this long.
    pub(crate) fn new(rate: Option<f64>, start: Instant, length: Duration) -> Schedule {
        match rate {
            None => Schedule::Closed { stopped: Rc::default() },
            Some(rate) => {
                let timetable = Timetable::start(rate, start, length);
                Schedule::Open { timetable, next: Cell::new(0) }
            }
        }
    }

    /// Waits until a request is due; returns when it was. `None` when there are no more.
    pub(crate) async fn next(&self) -> Option<Instant> {
        match self {
            Schedule::Closed { stopped } => (!stopped.get()).then(Instant::now),
            Schedule::Open { timetable, next } => {
                timetable.due.acquire().await.ok()?.forget();
                let index = next.get();
                next.set(index + 1);
                (index < timetable.requests).then(|| timetable.start + timetable.at(index))
            }
        }
    }

    /// No further requests.
    pub(crate) fn stop(&self) {
        match self {
            Schedule::Closed { stopped } => stopped.set(true),
            Schedule::Open { timetable, .. } => timetable.stop(),
        }
    }
}

/// The thread that releases requests when they are due.
pub(crate) struct Timetable {
    due: Arc<Semaphore>,
    stopped: Arc<AtomicBool>,
    start: Instant,
    rate: f64,
    requests: u64,
}

impl Timetable {
    fn start(rate: f64, start: Instant, length: Duration) -> Timetable {
        let due = Arc::new(Semaphore::new(0));
        let stopped = Arc::new(AtomicBool::new(false));
        let requests = (rate * length.as_secs_f64()) as u64;
        let timetable = Timetable { due, stopped, start, rate, requests };
        let (due, stopped) = (timetable.due.clone(), timetable.stopped.clone());
        thread::spawn(move || {
            let mut released = 0;
            while released < requests && !stopped.load(Ordering::Relaxed) {
                let elapsed = start.elapsed().as_secs_f64();
                let reached = requests.min((elapsed * rate) as u64 + 1);
                due.add_permits((reached - released) as usize);
                released = reached;
                let next = Duration::from_secs_f64(released as f64 / rate);
                thread::sleep(next.saturating_sub(start.elapsed()));
            }
            // Nobody may wait for a request that is not to come: whoever asks now gets an index
            // beyond the last. (Closing instead would take back what is due and not yet begun.)
            due.add_permits(Semaphore::MAX_PERMITS / 2);
        });
        timetable
    }

    /// When request `index` is due, from the start.
    fn at(&self, index: u64) -> Duration {
        Duration::from_secs_f64(index as f64 / self.rate)
    }

    fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.due.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::block_on;

    #[test]
    fn an_open_loop_keeps_its_timetable_however_late_the_client_is() {
        let start = Instant::now();
        let schedule = Schedule::new(Some(1000.0), start, Duration::from_millis(50));
        // A stall of the client's, after which everything is overdue.
        thread::sleep(Duration::from_millis(100));
        let due = block_on(async {
            let mut due = Vec::new();
            while let Some(instant) = schedule.next().await {
                due.push(instant.duration_since(start));
            }
            Ok(due)
        });
        let timetable: Vec<Duration> = (0..50).map(Duration::from_millis).collect();
        assert_eq!(due.unwrap(), timetable);
    }

    #[test]
    fn a_closed_loop_ends_when_it_is_stopped() {
        let schedule = Schedule::new(None, Instant::now(), Duration::ZERO);
        let asked = block_on(async {
            let first = schedule.next().await.is_some();
            schedule.stop();
            Ok((first, schedule.next().await.is_some()))
        });
        assert_eq!(asked.unwrap(), (true, false));
    }
}
