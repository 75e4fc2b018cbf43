//! Raft is openraft's; this module is the only one that knows it.
//!
//! openraft decides (elections, replication, commit, membership); the files here supply what it
//! needs: types ([`types`]), the log and the vote on the WAL ([`log`]), the state machine, raft
//! snapshots and the network. Everything above speaks to them through `node`.

pub mod convert;
pub mod types;
