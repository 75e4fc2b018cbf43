//! The generated gRPC clients, built from the same generated file as the server, with a codec of
//! their own ([`crate::codec`]): tests speak to any etcd and need no code of the server.

#[allow(unreachable_pub, unused_qualifications, dead_code, clippy::all)]
pub mod etcdserverpb {
    include!("../../server/src/generated/etcdserverpb.rs");
}

#[allow(unreachable_pub, unused_qualifications, dead_code, clippy::all)]
pub mod v3lockpb {
    include!("../../server/src/generated/v3lockpb.rs");
}
#[allow(unreachable_pub, unused_qualifications, dead_code, clippy::all)]
pub mod v3electionpb {
    include!("../../server/src/generated/v3electionpb.rs");
}

/// The messages of server reflection, of which both releases have the same.
#[allow(unreachable_pub, unused_qualifications, dead_code, clippy::all)]
pub mod reflection {
    include!("../../server/src/generated/grpc.reflection.v1.rs");
}

pub use etcdserverpb::auth_client::AuthClient;
pub use etcdserverpb::cluster_client::ClusterClient;
pub use etcdserverpb::kv_client::KvClient;
pub use etcdserverpb::lease_client::LeaseClient;
pub use etcdserverpb::maintenance_client::MaintenanceClient;
pub use etcdserverpb::watch_client::WatchClient;
pub use v3electionpb::election_client::ElectionClient;
pub use v3lockpb::lock_client::LockClient;
