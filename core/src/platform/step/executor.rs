//! Tasks, timers, and the order in which they run.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use super::super::SplitMix64;
use crate::small_map::SmallMap;

/// Whose task it is: a node's number.
pub type Tag = u32;

type TaskId = u64;
type TaskFuture = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Polls at one moment after which something must be spinning.
const MAX_POLLS_PER_MOMENT: u64 = 10_000_000;

thread_local! {
    /// The executor whose task is running on this thread.
    static CURRENT: RefCell<Option<Executor>> = const { RefCell::new(None) };
}

/// A single-threaded executor over virtual time. Clones are the same executor.
#[derive(Clone)]
pub struct Executor {
    state: Arc<Mutex<State>>,
    ready: Arc<Mutex<VecDeque<TaskId>>>,
}

struct State {
    now: Duration,
    tasks: BTreeMap<TaskId, Task>,
    next_task: TaskId,
    /// By deadline, and in the order of their making among equals.
    timers: BTreeMap<(Duration, u64), Waker>,
    next_timer: u64,
    seed: u64,
    random: SmallMap<Tag, SplitMix64>,
    running: Tag,
    draws: SmallMap<Tag, ElectionDraw>,
}

struct Task {
    tag: Tag,
    /// Absent while it is polled.
    future: Option<TaskFuture>,
    waker: Arc<TaskWaker>,
}

struct TaskWaker {
    id: TaskId,
    queued: AtomicBool,
    ready: Arc<Mutex<VecDeque<TaskId>>>,
}

/// The random number from which openraft makes an election timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElectionDraw(pub u64);

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            lock(&self.ready).push_back(self.id);
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Executor {
    /// An executor at time zero; all randomness comes from `seed`.
    pub fn new(seed: u64) -> Executor {
        let state = State {
            now: Duration::ZERO,
            tasks: BTreeMap::new(),
            next_task: 0,
            timers: BTreeMap::new(),
            next_timer: 0,
            seed,
            random: SmallMap::new(),
            running: 0,
            draws: SmallMap::new(),
        };
        Executor { state: Arc::new(Mutex::new(state)), ready: Arc::default() }
    }

    /// The executor that runs the calling task.
    ///
    /// # Panics
    /// Outside of [`Executor::run_until_idle`] and [`Executor::enter`]: there is no runtime then.
    #[track_caller]
    pub fn current() -> Executor {
        let current = CURRENT.with_borrow(Clone::clone);
        current.expect("the step executor's functions are called by its tasks only")
    }

    /// Adds a task of `tag`; it runs at the next [`Executor::run_until_idle`].
    pub fn spawn(&self, tag: Tag, future: impl Future<Output = ()> + Send + 'static) {
        self.add(tag, Box::pin(future));
    }

    fn add(&self, tag: Tag, future: TaskFuture) {
        let mut state = lock(&self.state);
        let id = state.next_task;
        state.next_task += 1;
        let waker = TaskWaker { id, queued: AtomicBool::new(true), ready: self.ready.clone() };
        let task = Task { tag, future: Some(future), waker: Arc::new(waker) };
        state.tasks.insert(id, task);
        lock(&self.ready).push_back(id);
    }

    /// Adds a task that belongs to whoever is running.
    pub fn spawn_sibling(&self, future: impl Future<Output = ()> + Send + 'static) {
        let tag = lock(&self.state).running;
        self.spawn(tag, future);
    }

    /// Polls woken tasks until none is left. Time stands still meanwhile.
    ///
    /// # Panics
    /// If tasks keep waking each other without an end.
    pub fn run_until_idle(&self) {
        let mut polls = 0;
        while self.run_one() {
            polls += 1;
            assert!(polls < MAX_POLLS_PER_MOMENT, "tasks wake each other for ever");
        }
    }

    /// Polls all woken tasks; `false` if none was.
    pub(super) fn run_woken(&self) -> bool {
        let any = !lock(&self.ready).is_empty();
        self.run_until_idle();
        any
    }

    /// Polls the task that was woken first; `false` if none is woken.
    fn run_one(&self) -> bool {
        let Some(id) = lock(&self.ready).pop_front() else { return false };
        let (mut future, waker, tag) = {
            let mut state = lock(&self.state);
            // A task that was dropped may still be queued.
            let Some(task) = state.tasks.get_mut(&id) else { return true };
            let Some(future) = task.future.take() else { return true };
            (future, task.waker.clone(), task.tag)
        };
        waker.queued.store(false, Ordering::Release);
        let handle = Waker::from(waker);
        let poll = self.enter(tag, || future.as_mut().poll(&mut Context::from_waker(&handle)));
        let finished = {
            let mut state = lock(&self.state);
            match (poll, state.tasks.get_mut(&id)) {
                (Poll::Pending, Some(task)) => {
                    task.future = Some(future);
                    None
                }
                // It ended, or its node crashed while it ran.
                _ => Some((state.tasks.remove(&id), future)),
            }
        };
        // Dropping runs code of the task's, which may use the executor.
        self.enter(tag, || drop(finished));
        true
    }

    /// Calls `function` as if a task of `tag` did.
    pub fn enter<T>(&self, tag: Tag, function: impl FnOnce() -> T) -> T {
        let outer_tag = std::mem::replace(&mut lock(&self.state).running, tag);
        let outer = CURRENT.replace(Some(self.clone()));
        let result = function();
        CURRENT.set(outer);
        lock(&self.state).running = outer_tag;
        result
    }

    /// Drops all tasks of `tag`, as they are.
    pub fn crash(&self, tag: Tag) {
        let mut dropped = Vec::new();
        {
            let mut state = lock(&self.state);
            let ids: Vec<TaskId> =
                state.tasks.iter().filter(|(_, task)| task.tag == tag).map(|(id, _)| *id).collect();
            dropped.extend(ids.iter().filter_map(|id| state.tasks.remove(id)));
        }
        self.enter(tag, || drop(dropped));
    }

    /// Time since the executor was made.
    pub fn now(&self) -> Duration {
        lock(&self.state).now
    }

    /// When the next timer is due.
    pub fn next_timer(&self) -> Option<Duration> {
        lock(&self.state).timers.keys().next().map(|(deadline, _)| *deadline)
    }

    /// Sets the clock, never back, and wakes those whose timers are due.
    pub fn advance_to(&self, now: Duration) {
        let due = {
            let mut state = lock(&self.state);
            state.now = state.now.max(now);
            let bound = (state.now, u64::MAX);
            let later = state.timers.split_off(&bound);
            std::mem::replace(&mut state.timers, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// The next random number of the running task's node.
    pub fn random(&self) -> u64 {
        let mut state = lock(&self.state);
        let (tag, seed) = (state.running, state.seed);
        state.random.get_or_insert_with(tag, || for_tag(seed, tag)).next_u64()
    }

    pub(super) fn note_election_draw(&self, draw: ElectionDraw) {
        let mut state = lock(&self.state);
        let tag = state.running;
        state.draws.insert(tag, draw);
    }

    /// The last number from which a node of `tag` made its election timeout, once.
    pub fn take_election_draw(&self, tag: Tag) -> Option<ElectionDraw> {
        lock(&self.state).draws.remove(&tag)
    }
}

/// Nodes draw from streams of their own, so that one's draws do not depend on another's.
fn for_tag(seed: u64, tag: Tag) -> SplitMix64 {
    let mut mixer = SplitMix64(seed ^ (u64::from(tag) << 32));
    SplitMix64(mixer.next_u64())
}

/// Ends when virtual time has reached its deadline.
pub struct Sleep {
    executor: Executor,
    deadline: Duration,
    /// The key of the registered timer.
    timer: Option<(Duration, u64)>,
}

impl Sleep {
    pub(super) fn until(executor: Executor, deadline: Duration) -> Sleep {
        Sleep { executor, deadline, timer: None }
    }

    fn cancel(&mut self) {
        if let Some(key) = self.timer.take() {
            lock(&self.executor.state).timers.remove(&key);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.executor.state);
        if state.now >= self.deadline {
            drop(state);
            self.cancel();
            return Poll::Ready(());
        }
        let key = match self.timer {
            Some(key) => key,
            None => {
                state.next_timer += 1;
                (self.deadline, state.next_timer)
            }
        };
        state.timers.insert(key, context.waker().clone());
        drop(state);
        self.timer = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.cancel();
    }
}
