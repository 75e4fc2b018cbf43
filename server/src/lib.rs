//! The native host: gRPC and HTTP over TCP in front of one node, with files below it.
//!
//! The modules in the order of a call: [`config`] says what to listen on, [`server`] starts and
//! stops everything, `front` takes calls off the sockets (`net`, `tls`), `rpc` and `http`
//! translate them for [`coracle_core::node::Node`], and `platform` is what the node stands on.
//! [`ctl_client`] is the other end of the wire, and [`utl`] works on files while no
//! member runs.
//!
//! Invariants: only this crate knows tokio, h2 and tonic; what a request means is decided in core.

pub mod config;
pub mod server;

mod discovery;
mod front;
mod http;
mod net;
mod rpc;
mod secrets;
mod tls;
mod traces;

mod platform;

pub mod codec;
pub mod ctl_client;
pub mod descriptors;
pub mod grpc;
pub mod logging;
pub mod supervisor;
pub mod tcp_gateway;
pub mod utl;
