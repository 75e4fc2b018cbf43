//! What needs more than one crate to test: real processes, real clients, real etcd beside Coracle.
//!
//! [`programs`] says where the binaries are, [`cluster`] runs clusters of them, [`transcript`]
//! replays recorded `etcdctl` sessions, and [`conformance`] sends the same random requests to etcd
//! and to Coracle and compares every answer. [`chaos`] loads a cluster whose members are killed
//! and paused, and [`check`] decides whether the recorded history kept etcd's promises.
//! [`local_cluster`] runs nodes within the test's own process, [`running`] any other process,
//! [`picture`] is what a client sees of a state. [`grpc`] holds the generated clients, [`raw`]
//! calls what they cannot, [`http`] is a plain client, and [`side_by_side`] asks etcd and Coracle
//! the same over it.

pub mod auth_matrix;
pub mod chaos;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod codec;
pub mod conformance;
pub mod grpc;
pub mod http;
pub mod laboratory;
pub mod local_cluster;
pub mod picture;
pub mod programs;
pub mod raw;
pub mod running;
pub mod side_by_side;
pub mod tls;
pub mod transcript;
