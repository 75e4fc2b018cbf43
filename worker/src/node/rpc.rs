//! etcd's RPCs over packets: what gRPC is for the native server.
//!
//! A call is opened by its first request, may get more, and ends with [`Body::RpcEnd`]. What a
//! request means is the node's business; here it is decoded, handed over, and the answer encoded.

use std::sync::Arc;

use bytes::Bytes;
use coracle_core::api::etcdserverpb::{
    LeaseKeepAliveRequest, RangeRequest, SnapshotRequest, WatchRequest,
};
use coracle_core::auth::Caller;
use coracle_core::error::Error;
use coracle_core::platform::step::{Executor, Tag};
use coracle_core::small_map::SmallMap;
use futures_channel::mpsc;
use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable, Either, select};
use prost::Message;

use super::{LabNode, Shared};
use crate::protocol::{Body, CLIENT, Method};

/// gRPC's codes for what the transport itself has to say.
const INVALID_ARGUMENT: u32 = 3;
const UNIMPLEMENTED_STREAM: u32 = 13;
pub(crate) const UNAVAILABLE: u32 = 14;

type Failure = (u32, String);

/// The calls under way.
#[derive(Default)]
pub(super) struct Calls {
    open: SmallMap<u64, Call>,
}

struct Call {
    requests: mpsc::UnboundedSender<Vec<u8>>,
    abort: AbortHandle,
}

/// The node's end of one call.
#[derive(Clone)]
struct Replies {
    shared: Arc<Shared>,
    call: u64,
}

impl Replies {
    fn send(&self, message: &impl Message) {
        let data = message.encode_to_vec();
        self.shared.send(CLIENT, Body::RpcReply { call: self.call, data });
    }

    fn end(&self, result: Result<(), Failure>) {
        self.shared.send(CLIENT, Body::RpcEnd { call: self.call, error: result.err() });
    }
}

impl Calls {
    /// Takes a client's packet. Without a `node` a call is refused, as by a closed port.
    pub(super) fn receive(
        &mut self,
        executor: &Executor,
        tag: Tag,
        shared: &Arc<Shared>,
        node: Option<&Arc<LabNode>>,
        body: Body,
    ) {
        match body {
            Body::Rpc { call, method, data } => {
                let replies = Replies { shared: shared.clone(), call };
                let Some(node) = node.cloned() else {
                    return replies.end(Err((UNAVAILABLE, "connection refused".to_owned())));
                };
                let (requests, stream) = mpsc::unbounded();
                // The channel was just made.
                let _ = requests.unbounded_send(data);
                let (abort, registration) = AbortHandle::new_pair();
                self.open.retain(|_, call| !call.abort.is_aborted() && !call.requests.is_closed());
                self.open.insert(call, Call { requests, abort });
                let work = async move {
                    let result = serve(node, method, stream, &replies).await;
                    replies.end(result);
                };
                executor.spawn(tag, async move {
                    // An aborted call is answered by nobody.
                    let _ = Abortable::new(work, registration).await;
                });
            }
            Body::RpcRequest { call, data } => {
                if let Some(call) = self.open.get(&call) {
                    // A call that ended takes no more.
                    let _ = call.requests.unbounded_send(data);
                }
            }
            Body::RpcHalfClose { call } => {
                if let Some(call) = self.open.get(&call) {
                    call.requests.close_channel();
                }
            }
            Body::RpcCancel { call } => {
                if let Some(call) = self.open.remove(&call) {
                    call.abort.abort();
                }
            }
            _ => {}
        }
    }

    /// The node is gone: whoever waits for it is told.
    pub(super) fn refuse_all(&mut self, shared: &Arc<Shared>) {
        for (call, open) in std::mem::take(&mut self.open) {
            if !open.requests.is_closed() {
                let error = Some((UNAVAILABLE, "error reading from server: EOF".to_owned()));
                shared.send(CLIENT, Body::RpcEnd { call, error });
            }
        }
    }
}

fn decode<T: Message + Default>(data: Vec<u8>) -> Result<T, Failure> {
    T::decode(Bytes::from(data)).map_err(|error| (INVALID_ARGUMENT, error.to_string()))
}

fn failure(error: Error) -> Failure {
    (error.code() as u32, error.to_string())
}

/// Carries a call out, up to its end.
async fn serve(
    node: Arc<LabNode>,
    method: Method,
    mut requests: mpsc::UnboundedReceiver<Vec<u8>>,
    replies: &Replies,
) -> Result<(), Failure> {
    check_learner(&node, method)?;
    match method {
        Method::Watch => return watch(node, requests, replies).await,
        Method::LeaseKeepAlive => return keep_alive(node, requests, replies).await,
        _ => {}
    }
    let first = requests.next().await;
    let data = first.ok_or((UNIMPLEMENTED_STREAM, "a call without a request".to_owned()))?;
    let by = Caller::anonymous();
    /// Hands the request to the node's method of the same meaning.
    macro_rules! unary {
        ($method:ident) => {
            replies.send(&node.$method(&by, decode(data)?).await.map_err(failure)?)
        };
    }
    match method {
        Method::Range => {
            let request: RangeRequest = decode(data)?;
            if !request.serializable && node.is_learner() {
                return Err(failure(Error::NotSupportedForLearner));
            }
            replies.send(&node.range(&by, request).await.map_err(failure)?);
        }
        Method::Put => unary!(put),
        Method::DeleteRange => unary!(delete_range),
        Method::Txn => unary!(txn),
        Method::Compact => unary!(compact),
        Method::LeaseGrant => unary!(lease_grant),
        Method::LeaseRevoke => unary!(lease_revoke),
        Method::LeaseTimeToLive => unary!(lease_time_to_live),
        Method::LeaseLeases => unary!(lease_leases),
        Method::MemberAdd => unary!(member_add),
        Method::MemberRemove => unary!(member_remove),
        Method::MemberUpdate => unary!(member_update),
        Method::MemberList => unary!(member_list),
        Method::MemberPromote => unary!(member_promote),
        Method::Alarm => unary!(alarm),
        Method::Status => unary!(status),
        Method::Defragment => unary!(defragment),
        Method::HashKv => unary!(hash_kv),
        Method::MoveLeader => unary!(move_leader),
        Method::Snapshot => snapshot(node, data, replies).await?,
        // Served above.
        Method::Watch | Method::LeaseKeepAlive => {}
    }
    Ok(())
}

/// A learner answers serializable ranges, its status and its snapshot (ETCD.md W-07).
fn check_learner(node: &LabNode, method: Method) -> Result<(), Failure> {
    let served = matches!(method, Method::Range | Method::Status | Method::Snapshot);
    match !served && node.is_learner() {
        true => Err(failure(Error::NotSupportedForLearner)),
        false => Ok(()),
    }
}

async fn watch(
    node: Arc<LabNode>,
    mut requests: mpsc::UnboundedReceiver<Vec<u8>>,
    replies: &Replies,
) -> Result<(), Failure> {
    let mut watch = node.watch(Caller::anonymous()).await;
    let mut lost = Box::pin(node.leader_lost());
    let mut open = true;
    loop {
        let event = {
            let request = async {
                match open {
                    true => requests.next().await,
                    false => std::future::pending().await,
                }
            };
            let either = select(Box::pin(request), Box::pin(watch.next()));
            match select(either, lost.as_mut()).await {
                Either::Left((Either::Left((request, _)), _)) => Either::Left(request),
                Either::Left((Either::Right((response, _)), _)) => Either::Right(response),
                Either::Right(((), _)) => return Err(failure(Error::NoLeader)),
            }
        };
        match event {
            Either::Left(Some(data)) => watch.request(decode::<WatchRequest>(data)?),
            Either::Left(None) => open = false,
            Either::Right(Some(response)) => replies.send(&response),
            Either::Right(None) => return Err(failure(Error::Stopped)),
        }
    }
}

async fn keep_alive(
    node: Arc<LabNode>,
    mut requests: mpsc::UnboundedReceiver<Vec<u8>>,
    replies: &Replies,
) -> Result<(), Failure> {
    while let Some(data) = requests.next().await {
        let request: LeaseKeepAliveRequest = decode(data)?;
        replies.send(&node.lease_keep_alive(&Caller::anonymous(), request).await.map_err(failure)?);
    }
    Ok(())
}

async fn snapshot(node: Arc<LabNode>, data: Vec<u8>, replies: &Replies) -> Result<(), Failure> {
    let _: SnapshotRequest = decode(data)?;
    let mut snapshot = node.snapshot(&Caller::anonymous()).await.map_err(failure)?;
    while let Some(blob) = snapshot.next().await {
        replies.send(&blob.map_err(failure)?);
    }
    Ok(())
}
