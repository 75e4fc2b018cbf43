//! The step executor: a node as a pure function of its inputs.
//!
//! Tasks run on one thread, in the order in which they were woken; time is a number that the host
//! sets. The host feeds inputs, calls [`Executor::run_until_idle`], collects what came out, and
//! asks [`Executor::next_timer`] when something will happen by itself. Nothing in here looks at a
//! clock or draws randomness of its own, so the same inputs give the same outputs on every
//! platform. The browser and the simulator run nodes on it.
//!
//! Every task has a [`Tag`], which the tasks that it spawns inherit: the node it belongs to.
//! [`Executor::crash`] drops exactly a node's tasks, as a killed process drops its threads.
//!
//! [`StepRuntime`] is the executor as openraft's runtime. It finds the executor in a variable of
//! the thread, which is set while tasks run.

mod executor;
mod mpsc;
mod runtime;
mod watch;
mod worker;

pub use executor::{ElectionDraw, Executor, Sleep, Tag};
pub use mpsc::StepMpsc;
pub use runtime::{Elapsed, JoinError, JoinHandle, StepInstant, StepRandom, StepRuntime, Timeout};
pub use watch::StepWatch;
pub use worker::StepWorker;

#[cfg(test)]
mod tests;
