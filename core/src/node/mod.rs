//! The one front door: every request of every host goes through [`Node`].

mod config;
mod info;

use std::sync::Arc;

pub use config::{InitialClusterState, NodeConfig};
pub use info::{Histogram, NodeInfo, StartError, StopReason};

use crate::api::coraclepb::{PeerRequest, PeerResponse};
use crate::api::etcdserverpb as pb;
use crate::error::Error;
use crate::platform::Platform;

/// A running member.
pub struct Node<P: Platform> {
    platform: P,
}

/// A maintenance snapshot being read.
pub struct MaintenanceSnapshot {}

impl MaintenanceSnapshot {
    pub async fn next(&mut self) -> Option<Result<pb::SnapshotResponse, Error>> {
        todo!()
    }
}

/// One watch stream.
pub struct NodeWatch {}

impl NodeWatch {
    pub fn request(&mut self, _request: pb::WatchRequest) {
        todo!()
    }
    pub fn poll_next(&mut self, _cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<pb::WatchResponse>> {
        todo!()
    }
    pub async fn next(&mut self) -> Option<pb::WatchResponse> {
        todo!()
    }
}

macro_rules! rpcs { ($($name:ident $request:ident $response:ident;)*) => { $(
    pub async fn $name(&self, _request: pb::$request) -> Result<pb::$response, Error> { todo!() }
)* } }

impl<P: Platform> Node<P> {
    pub async fn start(_config: NodeConfig, _platform: P) -> Result<Arc<Node<P>>, StartError> {
        todo!()
    }
    rpcs! {
        range RangeRequest RangeResponse; put PutRequest PutResponse;
        delete_range DeleteRangeRequest DeleteRangeResponse; txn TxnRequest TxnResponse;
        compact CompactionRequest CompactionResponse;
        lease_grant LeaseGrantRequest LeaseGrantResponse; lease_revoke LeaseRevokeRequest LeaseRevokeResponse;
        lease_keep_alive LeaseKeepAliveRequest LeaseKeepAliveResponse;
        lease_time_to_live LeaseTimeToLiveRequest LeaseTimeToLiveResponse;
        lease_leases LeaseLeasesRequest LeaseLeasesResponse;
        member_add MemberAddRequest MemberAddResponse; member_remove MemberRemoveRequest MemberRemoveResponse;
        member_update MemberUpdateRequest MemberUpdateResponse; member_list MemberListRequest MemberListResponse;
        member_promote MemberPromoteRequest MemberPromoteResponse;
        alarm AlarmRequest AlarmResponse; status StatusRequest StatusResponse;
        defragment DefragmentRequest DefragmentResponse; hash HashRequest HashResponse;
        hash_kv HashKvRequest HashKvResponse; move_leader MoveLeaderRequest MoveLeaderResponse;
    }
    pub fn snapshot(&self) -> Result<MaintenanceSnapshot, Error> {
        todo!()
    }
    pub fn watch(&self) -> NodeWatch {
        todo!()
    }
    /// Answers another member.
    pub async fn handle_peer(&self, _from: u64, _request: PeerRequest) -> PeerResponse {
        todo!()
    }
    pub fn info(&self) -> NodeInfo {
        todo!()
    }
    pub async fn stopped(&self) -> StopReason {
        todo!()
    }
    pub async fn shutdown(&self) {}
    pub fn platform(&self) -> &P {
        &self.platform
    }
}
