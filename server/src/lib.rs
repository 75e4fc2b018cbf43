//! The native host: gRPC and HTTP over TCP in front of one node, with files below it.
pub mod codec;
mod front;
pub mod grpc;
