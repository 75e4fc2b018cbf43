//! etcd's client over packets: what gRPC is for the native command line.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use coracle_core::api::etcdserverpb::*;
use coracle_core::platform::step::StepRuntime;
use coracle_core::small_map::SmallMap;
use coracle_ctl::client::{Client, Duplex, Replies, Reply, Requests, RpcError};
use futures_channel::mpsc;
use futures_util::{FutureExt, Stream, StreamExt};
use openraft_rt::AsyncRuntime;
use prost::Message;

use crate::protocol::{Body, Method, NodeNumber};

/// gRPC's code for a member that cannot be reached.
const UNAVAILABLE: u32 = 14;
const INTERNAL: u32 = 13;
/// What a member's closed port says: the request was certainly not carried out.
pub(crate) const REFUSED: &str = "connection refused";
/// Pause before a refused connection is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// The client's end of the virtual network.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) outgoing: VecDeque<(NodeNumber, Body)>,
    calls: SmallMap<u64, OpenCall>,
    next_call: u64,
}

struct OpenCall {
    node: NodeNumber,
    replies: mpsc::UnboundedSender<Result<Vec<u8>, RpcError>>,
}

pub(super) type SharedWire = Rc<RefCell<Wire>>;

impl Wire {
    /// Takes a packet of `node`. What belongs to no open call is late, and dropped.
    pub(super) fn receive(&mut self, node: NodeNumber, body: Body) {
        match body {
            Body::RpcReply { call, data } => {
                if let Some(open) = self.calls.get(&call).filter(|open| open.node == node) {
                    // A caller that gave up has closed it.
                    let _ = open.replies.unbounded_send(Ok(data));
                }
            }
            Body::RpcEnd { call, error } => {
                if let Some(open) = self.calls.remove(&call)
                    && let Some((code, message)) = error
                {
                    let _ = open.replies.unbounded_send(Err(RpcError { code, message }));
                }
            }
            _ => {}
        }
    }

    /// The node's process ended: its calls end with it.
    pub(super) fn disconnect(&mut self, node: NodeNumber) {
        let lost: Vec<u64> =
            self.calls.iter().filter(|(_, open)| open.node == node).map(|(id, _)| *id).collect();
        for call in lost {
            let error = Some((UNAVAILABLE, "error reading from server: EOF".to_owned()));
            self.receive(node, Body::RpcEnd { call, error });
        }
    }
}

/// One call, as long as its replies are wanted.
struct Call {
    wire: SharedWire,
    node: NodeNumber,
    id: u64,
    replies: mpsc::UnboundedReceiver<Result<Vec<u8>, RpcError>>,
    ended: bool,
}

impl Call {
    /// Reserves a call to `node`; its first request opens it.
    fn new(wire: &SharedWire, node: NodeNumber) -> Call {
        let (sender, replies) = mpsc::unbounded();
        let mut inner = wire.borrow_mut();
        inner.next_call += 1;
        let id = inner.next_call;
        inner.calls.insert(id, OpenCall { node, replies: sender });
        drop(inner);
        Call { wire: wire.clone(), node, id, replies, ended: false }
    }

    fn open(&self, method: Method, request: Vec<u8>) {
        let body = Body::Rpc { call: self.id, method, data: request };
        self.wire.borrow_mut().outgoing.push_back((self.node, body));
    }
}

impl Stream for Call {
    type Item = Result<Vec<u8>, RpcError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.replies.poll_next_unpin(context);
        self.ended |= matches!(next, Poll::Ready(None | Some(Err(_))));
        next
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut wire = self.wire.borrow_mut();
        if wire.calls.remove(&self.id).is_some() && !self.ended {
            wire.outgoing.push_back((self.node, Body::RpcCancel { call: self.id }));
        }
    }
}

fn decode<T: Message + Default>(data: Vec<u8>) -> Result<T, RpcError> {
    let decoded = T::decode(Bytes::from(data));
    decoded.map_err(|error| RpcError { code: INTERNAL, message: error.to_string() })
}

/// A client of one or more nodes.
#[derive(Clone)]
pub(super) struct LabClient {
    wire: SharedWire,
    nodes: Vec<NodeNumber>,
}

/// Whether a request that may have been carried out can be made again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Reads,
    Writes,
}
use Effect::{Reads, Writes};

impl LabClient {
    /// `nodes` has at least one element.
    pub(super) fn new(wire: SharedWire, nodes: Vec<NodeNumber>) -> LabClient {
        LabClient { wire, nodes }
    }

    /// The same client, asking another node first.
    pub(super) fn beginning_with(&self, index: usize) -> LabClient {
        let mut nodes = self.nodes.clone();
        nodes.rotate_left(index % self.nodes.len());
        LabClient { wire: self.wire.clone(), nodes }
    }

    /// Makes a unary call, on the next node too where that is safe. While no node can be reached it
    /// goes on trying, as gRPC does: the caller's timeout ends it.
    async fn call(
        &self,
        effect: Effect,
        method: Method,
        request: Vec<u8>,
    ) -> Result<Vec<u8>, RpcError> {
        loop {
            for (index, node) in self.nodes.iter().enumerate() {
                let error = match self.attempt(*node, method, request.clone()).await {
                    Ok(data) => return Ok(data),
                    Err(error) => error,
                };
                let refused = error.code == UNAVAILABLE && error.message.contains(REFUSED);
                let unavailable = error.code == UNAVAILABLE && index + 1 < self.nodes.len();
                let again = refused || (effect == Reads && unavailable);
                if !again {
                    return Err(error);
                }
            }
            StepRuntime::sleep(RECONNECT_PAUSE).await;
        }
    }

    async fn attempt(
        &self,
        node: NodeNumber,
        method: Method,
        request: Vec<u8>,
    ) -> Result<Vec<u8>, RpcError> {
        let mut call = Call::new(&self.wire, node);
        call.open(method, request);
        match call.next().await {
            Some(Ok(data)) => {
                // The reply of a unary call is its last word but for the status.
                call.ended = true;
                Ok(data)
            }
            Some(Err(error)) => Err(error),
            None => {
                Err(RpcError { code: INTERNAL, message: "the call ended without a reply".into() })
            }
        }
    }

    fn duplex<Q: Message + 'static, A: Message + Default + 'static>(
        &self,
        method: Method,
    ) -> Duplex<Q, A> {
        let call = Call::new(&self.wire, self.nodes[0]);
        let requests = Sender {
            wire: self.wire.clone(),
            node: call.node,
            id: call.id,
            method,
            opened: RefCell::new(false),
        };
        Duplex { requests: Box::new(requests), replies: replies(call) }
    }
}

fn replies<A: Message + Default + 'static>(call: Call) -> Replies<A> {
    call.map(|reply| reply.and_then(decode)).boxed_local()
}

/// The requests of a stream; the first one opens the call.
struct Sender {
    wire: SharedWire,
    node: NodeNumber,
    id: u64,
    method: Method,
    opened: RefCell<bool>,
}

impl<Q: Message> Requests<Q> for Sender {
    fn send(&self, request: Q) -> Result<(), RpcError> {
        let mut wire = self.wire.borrow_mut();
        if !wire.calls.contains_key(&self.id) {
            let message = "the stream has ended".to_owned();
            return Err(RpcError { code: UNAVAILABLE, message });
        }
        let (call, data) = (self.id, request.encode_to_vec());
        let body = match self.opened.replace(true) {
            false => Body::Rpc { call, method: self.method, data },
            true => Body::RpcRequest { call, data },
        };
        wire.outgoing.push_back((self.node, body));
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut wire = self.wire.borrow_mut();
        if wire.calls.contains_key(&self.id) {
            wire.outgoing.push_back((self.node, Body::RpcHalfClose { call: self.id }));
        }
    }
}

macro_rules! unary {
    ($($function:ident $effect:ident $method:ident $request:ident $reply:ident;)*) => {$(
        fn $function(&self, message: $request) -> Reply<'_, $reply> {
            let call = self.call($effect, Method::$method, message.encode_to_vec());
            call.boxed_local().map(|data| decode(data?)).boxed_local()
        }
    )*};
}

impl Client for LabClient {
    unary! {
        range Reads Range RangeRequest RangeResponse;
        put Writes Put PutRequest PutResponse;
        delete_range Writes DeleteRange DeleteRangeRequest DeleteRangeResponse;
        txn Writes Txn TxnRequest TxnResponse;
        compact Writes Compact CompactionRequest CompactionResponse;
        lease_grant Writes LeaseGrant LeaseGrantRequest LeaseGrantResponse;
        lease_revoke Writes LeaseRevoke LeaseRevokeRequest LeaseRevokeResponse;
        lease_time_to_live Reads LeaseTimeToLive LeaseTimeToLiveRequest LeaseTimeToLiveResponse;
        lease_leases Reads LeaseLeases LeaseLeasesRequest LeaseLeasesResponse;
        member_add Writes MemberAdd MemberAddRequest MemberAddResponse;
        member_remove Writes MemberRemove MemberRemoveRequest MemberRemoveResponse;
        member_update Writes MemberUpdate MemberUpdateRequest MemberUpdateResponse;
        member_list Reads MemberList MemberListRequest MemberListResponse;
        member_promote Writes MemberPromote MemberPromoteRequest MemberPromoteResponse;
        alarm Writes Alarm AlarmRequest AlarmResponse;
        status Reads Status StatusRequest StatusResponse;
        defragment Writes Defragment DefragmentRequest DefragmentResponse;
        hash_kv Reads HashKv HashKvRequest HashKvResponse;
        move_leader Writes MoveLeader MoveLeaderRequest MoveLeaderResponse;
    }

    fn watch(&self) -> Duplex<WatchRequest, WatchResponse> {
        self.duplex(Method::Watch)
    }

    fn lease_keep_alive(&self) -> Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse> {
        self.duplex(Method::LeaseKeepAlive)
    }

    fn snapshot(&self, request: SnapshotRequest) -> Replies<SnapshotResponse> {
        let call = Call::new(&self.wire, self.nodes[0]);
        call.open(Method::Snapshot, request.encode_to_vec());
        replies(call)
    }
}
