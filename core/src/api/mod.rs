//! etcd's messages (and Coracle's own, in [`coraclepb`]), generated from `core/proto`.
//!
//! The same types travel from the wire to `apply`: there is no second set of structs to keep in
//! step. `cargo xtask codegen` rewrites the generated files; a test checks that they are current.
//! Field numbers, names and types are etcd's (`api/etcdserverpb/rpc.proto` of etcd 3.7).

#[allow(unreachable_pub, unused_qualifications, clippy::all)]
pub mod mvccpb {
    include!("generated/mvccpb.rs");
}
#[allow(unreachable_pub, unused_qualifications, clippy::all)]
pub mod authpb {
    include!("generated/authpb.rs");
}
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
#[allow(unreachable_pub, unused_qualifications, clippy::all)]
pub mod coraclepb {
    include!("generated/coraclepb.rs");
}

pub mod validate;
