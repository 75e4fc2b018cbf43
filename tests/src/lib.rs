//! What needs more than one crate to test: real processes, real clients, real etcd beside Coracle.
//!
//! [`programs`] says where the binaries are, [`cluster`] runs clusters of them, [`transcript`]
//! replays recorded `etcdctl` sessions, and [`conformance`] sends the same random requests to etcd
//! and to Coracle and compares every answer. [`grpc`] holds the generated clients.

pub mod cluster;
pub mod codec;
pub mod conformance;
pub mod grpc;
pub mod programs;
pub mod transcript;
