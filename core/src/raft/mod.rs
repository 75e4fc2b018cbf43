//! Raft is openraft's; this module is the only one that knows it.
//!
//! openraft decides (elections, replication, commit, membership); the files here supply what it
//! needs: types ([`types`]), the log and the vote on the WAL ([`log`]), the state machine, raft
//! snapshots and the network. [`Consensus`] is what the node sees of it all.

pub mod applied;
pub(crate) mod ask;
pub mod consensus;
pub mod convert;
mod force;
pub mod log;
pub mod network;
mod slow;
pub mod snapshot;
pub mod state_machine;
pub mod types;

pub use consensus::{
    Consensus, ConsensusOptions, Progress, ProposeError, RaftStatus, Role, RoleWatch,
};
pub use force::force_single_voter;
pub use log::LogStore;
pub use network::NetworkFactory;
pub use slow::SlowApplies;
pub use state_machine::{StateMachine, StateMachineShared};
