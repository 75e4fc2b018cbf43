//! The step executor as openraft's runtime.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::panic::{AssertUnwindSafe, Location};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use openraft_rt::{AsyncRuntime, Instant, Mutex, Oneshot, OneshotSender, OptionalSend};
use rand::rand_core::TryRng;

use super::executor::{ElectionDraw, Executor, Sleep};
use super::{StepMpsc, StepWatch};

/// The file of openraft that draws election timeouts; the deadline it makes of them is otherwise
/// not to be seen from outside.
const ELECTION_DRAWS: &str = "engine_config.rs";

/// openraft's runtime over the [`Executor`] that runs the calling task.
///
/// As a value it owns an executor, for [`AsyncRuntime::block_on`]: time then jumps to the next
/// timer whenever all tasks wait.
pub struct StepRuntime {
    executor: Executor,
}

impl fmt::Debug for StepRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StepRuntime")
    }
}

/// A moment of virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepInstant(pub Duration);

impl Instant for StepInstant {
    fn now() -> Self {
        StepInstant(Executor::current().now())
    }
}

impl Add<Duration> for StepInstant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        StepInstant(self.0 + duration)
    }
}

impl AddAssign<Duration> for StepInstant {
    fn add_assign(&mut self, duration: Duration) {
        self.0 += duration;
    }
}

impl Sub<Duration> for StepInstant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        StepInstant(self.0.saturating_sub(duration))
    }
}

impl SubAssign<Duration> for StepInstant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for StepInstant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Random numbers of the running task's node.
#[derive(Clone, Copy, Debug)]
pub struct StepRandom {
    for_election: bool,
}

impl TryRng for StepRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        // The high half: no generator has better bits.
        Ok((Executor::current().random() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let executor = Executor::current();
        let number = executor.random();
        if std::mem::take(&mut self.for_election) {
            executor.note_election_draw(ElectionDraw(number));
        }
        Ok(number)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            let number = Executor::current().random().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
        Ok(())
    }
}

impl ElectionDraw {
    /// The election timeout that openraft makes of the number, in the unit of the bounds.
    pub fn timeout(self, min: u64, max: u64) -> u64 {
        use rand::RngExt;
        Replay(self.0).random_range(min..max)
    }
}

struct Replay(u64);

impl TryRng for Replay {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0 >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill(0);
        Ok(())
    }
}

/// The future of a spawned task's result.
pub struct JoinHandle<T>(oneshot::Receiver<Result<T, JoinError>>);

/// Why a task has no result.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error("the task panicked")]
    Panicked,
    #[error("the task was dropped before it ended")]
    Dropped,
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(context).map(|result| result.unwrap_or(Err(JoinError::Dropped)))
    }
}

/// A future with a deadline.
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

/// The deadline of a [`Timeout`] passed.
#[derive(Debug, thiserror::Error)]
#[error("deadline has elapsed")]
pub struct Elapsed;

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(value) = self.future.as_mut().poll(context) {
            return Poll::Ready(Ok(value));
        }
        self.sleep.poll_unpin(context).map(|()| Err(Elapsed))
    }
}

impl AsyncRuntime for StepRuntime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = StepInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = StepRandom;
    type Mpsc = StepMpsc;
    type Watch = StepWatch;
    type Oneshot = StepOneshot;
    type Mutex<T: OptionalSend + 'static> = StepMutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        // As one type for all tasks with such a result: what is around them is made once for it.
        let future: BoxFuture<'static, T::Output> = Box::pin(future);
        let work = AssertUnwindSafe(future).catch_unwind();
        Executor::current().spawn_sibling(async move {
            let result = work.await.map_err(|_| JoinError::Panicked);
            // Whoever spawned it may not want the result.
            let _ = sender.send(result);
        });
        JoinHandle(receiver)
    }

    fn sleep(duration: Duration) -> Sleep {
        let executor = Executor::current();
        let deadline = executor.now() + duration;
        Sleep::until(executor, deadline)
    }

    fn sleep_until(deadline: StepInstant) -> Sleep {
        Sleep::until(Executor::current(), deadline.0)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Timeout<F> {
        Timeout { future: Box::pin(future), sleep: Self::sleep(duration) }
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: StepInstant,
        future: F,
    ) -> Timeout<F> {
        Timeout { future: Box::pin(future), sleep: Self::sleep_until(deadline) }
    }

    fn is_panic(join_error: &JoinError) -> bool {
        matches!(join_error, JoinError::Panicked)
    }

    #[track_caller]
    fn thread_rng() -> StepRandom {
        StepRandom { for_election: Location::caller().file().ends_with(ELECTION_DRAWS) }
    }

    fn new(_threads: usize) -> Self {
        StepRuntime { executor: Executor::new(0) }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        let mut future = std::pin::pin!(future);
        let waker = Waker::from(Arc::new(NoWake));
        loop {
            let mut context = Context::from_waker(&waker);
            let poll = self.executor.enter(0, || future.as_mut().poll(&mut context));
            if let Poll::Ready(value) = poll {
                return value;
            }
            // What the future waits for is a task's doing, or a timer's.
            if self.executor.run_woken() {
                continue;
            }
            let timer = self.executor.next_timer();
            self.executor.advance_to(timer.expect("somebody must end what is waited for"));
        }
    }

    async fn spawn_blocking<F, T>(function: F) -> Result<T, io::Error>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // There is no other thread.
        Ok(function())
    }
}

/// `block_on` polls its future again after everything that could have woken it.
struct NoWake;

impl Wake for NoWake {
    fn wake(self: Arc<Self>) {}
}

/// openraft's oneshot channel.
pub struct StepOneshot;

pub struct StepOneshotSender<T>(oneshot::Sender<T>);

impl Oneshot for StepOneshot {
    type Sender<T: OptionalSend> = StepOneshotSender<T>;
    type Receiver<T: OptionalSend> = oneshot::Receiver<T>;
    type ReceiverError = oneshot::Canceled;

    fn channel<T: OptionalSend>() -> (StepOneshotSender<T>, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (StepOneshotSender(sender), receiver)
    }
}

impl<T: OptionalSend> OneshotSender<T> for StepOneshotSender<T> {
    fn send(self, value: T) -> Result<(), T> {
        self.0.send(value)
    }
}

/// openraft's mutex.
pub struct StepMutex<T>(futures_util::lock::Mutex<T>);

impl<T: OptionalSend + 'static> Mutex<T> for StepMutex<T> {
    type Guard<'a> = futures_util::lock::MutexGuard<'a, T>;

    fn new(value: T) -> Self {
        StepMutex(futures_util::lock::Mutex::new(value))
    }

    fn lock(&self) -> impl Future<Output = Self::Guard<'_>> + OptionalSend {
        self.0.lock()
    }
}
