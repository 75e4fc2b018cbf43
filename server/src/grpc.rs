//! gRPC clients of etcd's services, generated from `core/proto` (`cargo xtask codegen`).
//!
//! The messages are those of [`coracle_core::api`]. The server side is written by hand, in
//! `rpc`: it costs about half the CPU of generated services per call.

#[allow(unreachable_pub, unused_qualifications, clippy::all)]
pub mod etcdserverpb {
    include!("generated/etcdserverpb.rs");
}
#[allow(unreachable_pub, unused_qualifications, clippy::all)]
pub mod v3lockpb {
    include!("generated/v3lockpb.rs");
}
#[allow(unreachable_pub, unused_qualifications, clippy::all)]
pub mod v3electionpb {
    include!("generated/v3electionpb.rs");
}
