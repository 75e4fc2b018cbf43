//! What the commands need from a member: etcd's RPCs, as an object-safe trait.
//!
//! The native program implements [`Client`] over gRPC, the page's terminal over the messages of
//! its worker; a test scripts one. The commands see only `coracle_core::api` messages and
//! [`RpcError`], so that they and their output are the same everywhere.
//!
//! Futures and streams are *local* (not `Send`): a browser's handles cannot leave their thread, and
//! a command line has no need of a second one. A native implementation over `Send` futures fits
//! without a change; [`crate::run`] is driven by the runtime's `block_on`.
//!
//! Timeouts are the commands': they drop the future. A client over several endpoints picks one and
//! fails over as etcd's does: reads are repeated on `Unavailable`, writes only if the request never
//! left.

use coracle_core::api::etcdserverpb::*;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::LocalBoxStream;

use crate::commands::UNIMPLEMENTED;

/// A failed RPC: the gRPC status of the reply, or of the attempt to get one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// gRPC status code, by its number on the wire (14 = `Unavailable`).
    pub code: u32,
    /// The status message; for etcd's own errors exactly its text (`etcdserver: ...`).
    pub message: String,
}

/// The answer to a unary RPC.
pub type Reply<'a, T> = LocalBoxFuture<'a, Result<T, RpcError>>;

/// The answers of a streaming RPC. An error is the last item; the end without one is the server's
/// regular end of the stream. Dropping it cancels the RPC.
pub type Replies<T> = LocalBoxStream<'static, Result<T, RpcError>>;

/// The sending half of a bidirectional stream. Dropping it ends the requests (half-close).
pub trait Requests<T> {
    /// Queues `request`; fails once the stream has ended.
    fn send(&self, request: T) -> Result<(), RpcError>;
}

/// An open bidirectional stream.
pub struct Duplex<Q, A> {
    pub requests: Box<dyn Requests<Q>>,
    pub replies: Replies<A>,
}

/// etcd's RPCs as the commands use them, over one or more endpoints of a cluster.
pub trait Client {
    fn range(&self, request: RangeRequest) -> Reply<'_, RangeResponse>;
    fn put(&self, request: PutRequest) -> Reply<'_, PutResponse>;
    fn delete_range(&self, request: DeleteRangeRequest) -> Reply<'_, DeleteRangeResponse>;
    fn txn(&self, request: TxnRequest) -> Reply<'_, TxnResponse>;
    fn compact(&self, request: CompactionRequest) -> Reply<'_, CompactionResponse>;

    /// Opens a watch stream. It returns at once: a server may send its first header only with the
    /// first reply, so that waiting for the RPC to open before sending a request would never end.
    /// A failure to open is the first item of the replies. It asks for a member that has a leader
    /// (metadata `hasleader: true`).
    fn watch(&self) -> Duplex<WatchRequest, WatchResponse>;

    /// Opens a watch stream that also lives on while its member has no leader. A host may not know
    /// the difference.
    fn watch_without_leader(&self) -> Duplex<WatchRequest, WatchResponse> {
        self.watch()
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> Reply<'_, LeaseGrantResponse>;
    fn lease_revoke(&self, request: LeaseRevokeRequest) -> Reply<'_, LeaseRevokeResponse>;
    fn lease_time_to_live(
        &self,
        request: LeaseTimeToLiveRequest,
    ) -> Reply<'_, LeaseTimeToLiveResponse>;
    fn lease_leases(&self, request: LeaseLeasesRequest) -> Reply<'_, LeaseLeasesResponse>;

    /// Opens a keep-alive stream; returns at once, and asks for a leader, like [`Client::watch`].
    fn lease_keep_alive(&self) -> Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse>;

    fn member_add(&self, request: MemberAddRequest) -> Reply<'_, MemberAddResponse>;
    fn member_remove(&self, request: MemberRemoveRequest) -> Reply<'_, MemberRemoveResponse>;
    fn member_update(&self, request: MemberUpdateRequest) -> Reply<'_, MemberUpdateResponse>;
    fn member_list(&self, request: MemberListRequest) -> Reply<'_, MemberListResponse>;
    fn member_promote(&self, request: MemberPromoteRequest) -> Reply<'_, MemberPromoteResponse>;

    fn alarm(&self, request: AlarmRequest) -> Reply<'_, AlarmResponse>;
    fn status(&self, request: StatusRequest) -> Reply<'_, StatusResponse>;
    fn defragment(&self, request: DefragmentRequest) -> Reply<'_, DefragmentResponse>;
    fn hash_kv(&self, request: HashKvRequest) -> Reply<'_, HashKvResponse>;
    fn move_leader(&self, request: MoveLeaderRequest) -> Reply<'_, MoveLeaderResponse>;

    /// A host without this call, such as the page's, answers as a member that lacks it.
    fn downgrade(&self, request: DowngradeRequest) -> Reply<'_, DowngradeResponse> {
        let _ = request;
        Box::pin(std::future::ready(Err(unimplemented("Downgrade"))))
    }

    /// A range in pieces (RS-01). A host without this call answers as a member that lacks it.
    fn range_stream(&self, request: RangeRequest) -> Replies<RangeStreamResponse> {
        let _ = request;
        Box::pin(futures_util::stream::once(std::future::ready(Err(unimplemented("RangeStream")))))
    }

    /// Users and roles, where the host knows any.
    fn auth(&self) -> Option<&dyn AuthClient> {
        None
    }

    /// The backend's snapshot, blob by blob (MNT-07).
    fn snapshot(&self, request: SnapshotRequest) -> Replies<SnapshotResponse>;
}

fn unimplemented(method: &str) -> RpcError {
    RpcError { code: UNIMPLEMENTED, message: format!("unknown method {method}") }
}

/// Declares the methods of a trait of unary RPCs.
macro_rules! unary_methods {
    ($($method:ident $request:ident $response:ident;)*) => {$(
        fn $method(&self, request: $request) -> Reply<'_, $response>;
    )*};
}

/// The Auth service. `Authenticate` is not in it: a client logs in when it connects.
#[rustfmt::skip] // A table.
pub trait AuthClient {
    unary_methods! {
        auth_enable AuthEnableRequest AuthEnableResponse;
        auth_disable AuthDisableRequest AuthDisableResponse;
        auth_status AuthStatusRequest AuthStatusResponse;
        user_add AuthUserAddRequest AuthUserAddResponse;
        user_get AuthUserGetRequest AuthUserGetResponse;
        user_list AuthUserListRequest AuthUserListResponse;
        user_delete AuthUserDeleteRequest AuthUserDeleteResponse;
        user_change_password AuthUserChangePasswordRequest AuthUserChangePasswordResponse;
        user_grant_role AuthUserGrantRoleRequest AuthUserGrantRoleResponse;
        user_revoke_role AuthUserRevokeRoleRequest AuthUserRevokeRoleResponse;
        role_add AuthRoleAddRequest AuthRoleAddResponse;
        role_get AuthRoleGetRequest AuthRoleGetResponse;
        role_list AuthRoleListRequest AuthRoleListResponse;
        role_delete AuthRoleDeleteRequest AuthRoleDeleteResponse;
        role_grant_permission AuthRoleGrantPermissionRequest AuthRoleGrantPermissionResponse;
        role_revoke_permission AuthRoleRevokePermissionRequest AuthRoleRevokePermissionResponse;
    }
}
