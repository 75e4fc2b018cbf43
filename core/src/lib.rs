//! Coracle's store: etcd's API over Raft and MVCC, with no platform in it.
//!
//! The modules stand in reading order, which is the order of a put; `ARCHITECTURE.md` tells the
//! way.

#![forbid(unsafe_code)]

pub mod api;
pub mod apply;
pub mod auth;
pub mod backend;
pub mod cluster;
pub mod error;
pub mod lease;
pub mod limits;
pub mod meters;
pub mod mvcc;
pub mod node;
mod notify;
pub mod platform;
pub mod quota;
pub mod raft;
pub mod small_map;
pub mod snapshot;
pub mod trace;
pub mod wal;
pub mod watch;
