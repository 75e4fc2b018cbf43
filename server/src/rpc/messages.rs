//! The messages of gRPC's own services, generated from `server/proto` (`cargo xtask codegen`). No
//! other host has a use for them.

#[allow(unreachable_pub, unused_qualifications, clippy::all)]
pub(super) mod health {
    include!("../generated/grpc.health.v1.rs");
}
#[allow(unreachable_pub, unused_qualifications, clippy::all)]
pub(super) mod reflection {
    include!("../generated/grpc.reflection.v1.rs");
}
