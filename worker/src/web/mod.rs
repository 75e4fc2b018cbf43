//! The engine in a browser: every node in a Web Worker, and the conductor in one of its own.
//!
//! | module | holds |
//! |---|---|
//! | [`conductor`] | the conductor's worker: drives [`crate::conductor::Conductor`] |
//! | [`processes`] | the nodes' workers, as the conductor's worker sees them |
//! | [`storage`] | where the disks are: the tab's lock, the conductor's memory, saved images |
//! | [`node`] | a node's worker: steps [`crate::node::NodeProcess`] |
//! | [`opfs`] | a disk in the browser's own file system |
//! | [`wire`] | what the conductor's worker and a node's say to each other |
//! | [`scope`] | the little of JavaScript that all of them need |
//!
//! The page compiles the program once and posts it to the conductor's worker, which posts it on to
//! each node's. Nothing outside this module knows that there is a browser.

mod conductor;
mod node;
mod opfs;
mod processes;
mod scope;
mod storage;
mod wire;

/// The name of the conductor's worker.
pub const CONDUCTOR: &str = "conductor";

/// Runs in every worker, when its instance has been made.
pub fn main() {
    if scope::worker().name() == CONDUCTOR { conductor::main() } else { node::main() }
}
