//! The native host: gRPC and HTTP over TCP in front of one node, with files below it.
pub mod codec;
pub mod config;
mod front;
pub mod grpc;
mod platform;
