//! What needs more than one crate to test: real processes, real clients, real etcd beside Coracle.
//!
//! [`check`] decides whether a recorded history kept etcd's promises.

pub mod check;
