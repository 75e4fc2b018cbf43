//! What members say to each other, over TCP, or with TLS where the peer's URL is `https`.
//!
//! Each member dials each other one; on a connection the dialling side asks and the accepting side
//! answers, many requests at a time. The protocol is Coracle's own (ETCD.md H-05 leaves that open):
//!
//! ```text
//! frame      length BE32 of the rest | request id BE64 | kind u8 | protobuf message
//! dialler    Hello(cluster, from, to)      Request 1, Request 2, …
//! acceptor   Hello(cluster, from, to)      Response 2, Response 1, …
//! ```
//!
//! Both sides check the other's [`Hello`]: another protocol, another cluster, or another member
//! than the one that was meant ends the connection before any request. A process that does not know
//! its cluster yet says cluster 0, and is answered `Members` requests only: small ones, and one at
//! least every [`STRANGER_IDLE`].
//!
//! Everything but handshakes runs on the node's runtime: an append goes from Raft to the socket
//! without a hop to another thread. A connection whose peer acknowledges nothing for
//! [`UNACKNOWLEDGED`] breaks, so that a healed partition is noticed by dialling again, not by TCP's
//! growing retransmit timer.

mod frame;
mod handshakes;
mod listener;
mod page;
mod peer;
#[cfg(test)]
mod tests;
mod traffic;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coracle_core::api::coraclepb::{Hello, PeerRequest, PeerResponse, peer_request::Request};
use coracle_core::platform::{PeerTarget, Transport, TransportError};
use futures_util::future::BoxFuture;
use socket2::SockRef;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;

pub(crate) use self::handshakes::Handshakes;
pub(crate) use self::listener::PeerListener;
use self::peer::{Dialler, Peer};
pub(crate) use self::traffic::{PeerCounts, Traffic};
use crate::net::Bare;
use crate::tls::Connector;

const PROTOCOL: u32 = 1;
/// Connections that have not said who they are yet; more wait to be accepted.
const MAX_NAMELESS: usize = 1024;
/// How long a process that is in no cluster may say nothing.
const STRANGER_IDLE: Duration = Duration::from_secs(10);
/// Requests of one connection that wait for their answer.
const MAX_IN_FLIGHT: usize = 4096;
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Also for looking up whose address it is that calls.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HELLO_TIMEOUT: Duration = Duration::from_secs(2);
/// Sent bytes that stay unacknowledged this long break the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(3);

/// Who this process is among the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
}

/// The [`Transport`] over TCP: one connection per peer, made when there is something to say.
pub(crate) struct TcpTransport {
    identity: watch::Sender<Option<Identity>>,
    peers: Arc<Peers>,
}

struct Peers {
    runtime: Handle,
    handshakes: Handshakes,
    tls: Arc<Connector>,
    /// The address of this machine to dial from, if it matters.
    local: Option<IpAddr>,
    traffic: Traffic,
    by_key: Mutex<BTreeMap<PeerKey, Peer>>,
}

/// Whose connection it is. A member with other URLs keeps the one that it has, until it breaks.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct PeerKey {
    id: u64,
    /// By which a process is known whose member ID is not (0); otherwise empty.
    urls: Vec<String>,
    /// Whether the connection was made before this process knew its cluster.
    anonymous: bool,
}

impl TcpTransport {
    /// A transport whose connections run on `runtime`, the node's, and whose handshakes `tls` does
    /// on the thread of `handshakes`. `local` is the address of this machine to dial from; without
    /// one the system chooses.
    pub(crate) fn new(
        runtime: Handle,
        handshakes: Handshakes,
        tls: Connector,
        local: Option<IpAddr>,
    ) -> TcpTransport {
        let (identity, _) = watch::channel(None);
        let (traffic, by_key) = Default::default();
        let peers = Peers { runtime, handshakes, tls: Arc::new(tls), local, traffic, by_key };
        TcpTransport { identity, peers: Arc::new(peers) }
    }

    /// What was said and heard; listeners count in it too.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.peers.traffic
    }

    /// Requests other than `Members` wait until this was called: Raft may speak before the host has
    /// asked the node who it is.
    pub(crate) fn set_identity(&self, identity: Identity) {
        self.identity.send_replace(Some(identity));
    }
}

impl Transport for TcpTransport {
    fn call(
        &self,
        target: PeerTarget,
        request: PeerRequest,
        limit: Duration,
    ) -> BoxFuture<'static, Result<PeerResponse, TransportError>> {
        let peers = self.peers.clone();
        let mut identity = self.identity.subscribe();
        let call = async move {
            let mut own = *identity.borrow();
            if own.is_none() && !matches!(request.request, Some(Request::Members(_))) {
                // Fails only when the transport is dropped, and with it the node.
                own = identity.wait_for(Option::is_some).await.map_or(None, |own| *own);
            }
            peers.peer(target, own).call(&request).await
        };
        Box::pin(async move {
            timeout(limit, call).await.unwrap_or(Err(TransportError::Timeout(limit)))
        })
    }
}

impl Peers {
    /// The peer that `target` names, under the identity `own`.
    fn peer(&self, target: PeerTarget, own: Option<Identity>) -> Peer {
        let PeerTarget { id, urls } = target;
        let named_by = if id == 0 { urls.clone() } else { Vec::new() };
        let key = PeerKey { id, urls: named_by, anonymous: own.is_none() };
        let mut by_key = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(peer) = by_key.get(&key) {
            peer.is_at(urls);
            return peer.clone();
        }
        // This process has learnt its cluster: the connection without a name ends.
        by_key.retain(|other, _| (other.id, &other.urls) != (key.id, &key.urls));
        let hello = Hello {
            protocol: PROTOCOL,
            cluster_id: own.map_or(0, |own| own.cluster_id),
            from: own.map_or(0, |own| own.member_id),
            to: key.id,
        };
        let dialler = Dialler {
            urls: Arc::new(Mutex::new(urls)),
            hello,
            handshakes: self.handshakes.clone(),
            tls: self.tls.clone(),
            local: self.local,
        };
        let peer = Peer::start(&self.runtime, dialler, self.traffic.peer(key.id));
        by_key.insert(key, peer.clone());
        peer
    }
}

/// What is wrong with `theirs`, the Hello that answered `ours`, or that `ours` would answer.
fn check_hello(theirs: &Hello, ours: &Hello) -> Result<(), String> {
    let anonymous = theirs.cluster_id == 0 || ours.cluster_id == 0;
    if theirs.protocol != ours.protocol {
        Err(format!("peer protocol {} instead of {}", theirs.protocol, ours.protocol))
    } else if !anonymous && theirs.cluster_id != ours.cluster_id {
        let (theirs, ours) = (theirs.cluster_id, ours.cluster_id);
        Err(format!("the peer belongs to cluster {theirs:x}, this member to {ours:x}"))
    } else {
        Ok(())
    }
}

/// Socket options of both sides.
fn prepare(stream: &Bare) -> io::Result<()> {
    let Some(stream) = stream.tcp() else { return Ok(()) };
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(UNACKNOWLEDGED)
        .with_interval(Duration::from_secs(1));
    socket.set_tcp_keepalive(&keepalive)
}
