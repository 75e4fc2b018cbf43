//! The codec that the generated clients in [`crate::grpc`] name as `crate::codec::Codec`.
//!
//! Tests use tonic's plain protobuf codec, so that a fault of the server's own codec cannot hide
//! behind the same fault in the client.

pub use tonic_prost::ProstCodec as Codec;
