//! The accepting side: answers other members' requests.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_core::api::coraclepb::{Hello, PeerRequest, PeerResponse, peer_request::Request};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::frame::{self, FrameReader, Kind, MAX_FRAME, MAX_HELLO};
use super::page;
use super::traffic::{PeerTraffic, Traffic};
use super::{
    HANDSHAKE_TIMEOUT, HELLO_TIMEOUT, Handshakes, Identity, MAX_IN_FLIGHT, MAX_NAMELESS, PROTOCOL,
    STRANGER_IDLE, check_hello, prepare,
};
use crate::front::io::{Socket, flushing};
use crate::front::report_rejected;
use crate::net::{Accepted, AsyncListener, Stream};
use crate::tls::Acceptor;

/// Pause after a failed `accept`: file descriptors do not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts peers for the member that `identity` names.
pub(crate) struct PeerListener<H, K, V> {
    pub(crate) identity: Identity,
    /// Called with the identifier of the asking member (0 if it does not know itself yet).
    pub(crate) handle: H,
    /// Whether a member of this identifier is one of the cluster, as far as this one knows.
    pub(crate) knows: K,
    /// What the page `/version` says.
    pub(crate) version: V,
    /// Without one the connections are plain.
    pub(crate) tls: Option<Arc<Acceptor>>,
    pub(crate) handshakes: Handshakes,
    pub(crate) traffic: Traffic,
    pub(crate) stopping: CancellationToken,
}

impl<H, K, V, F> PeerListener<H, K, V>
where
    K: Fn(u64) -> bool + Send + Sync + 'static,
    V: Fn() -> String + Send + Sync + 'static,
    H: Fn(u64, PeerRequest) -> F + Send + Sync + 'static,
    F: Future<Output = PeerResponse> + Send + 'static,
{
    /// Serves `listener` until `stopping`. Nothing that a peer sends ends it.
    pub(crate) async fn serve(self, listener: AsyncListener) {
        let listener_of_all = Arc::new(self);
        let nameless = Arc::new(Semaphore::new(MAX_NAMELESS));
        let next = async || {
            let place = nameless.clone().acquire_owned().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((place, listener.accept().await?))
        };
        loop {
            let accepted = tokio::select! {
                accepted = next() => accepted,
                () = listener_of_all.stopping.cancelled() => return,
            };
            match accepted {
                Ok((place, stream)) => {
                    tokio::spawn(listener_of_all.clone().connection(stream, place));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a peer connection; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Serves a connection, which has its `place` among those without a name until it has one.
    async fn connection(self: Arc<Self>, accepted: Accepted, place: OwnedSemaphorePermit) {
        let Ok(stream) = accepted.into_async() else { return };
        let remote = stream.remote_address();
        if prepare(&stream).is_err() {
            return;
        }
        let stream = match &self.tls {
            None => Stream::Bare(stream),
            Some(acceptor) => {
                let acceptor = acceptor.clone();
                let handshake = async move { acceptor.accept(stream).await };
                match self.handshakes.run(HANDSHAKE_TIMEOUT, handshake).await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        let text = "rejected connection on peer endpoint";
                        return report_rejected(text, remote, &error);
                    }
                }
            }
        };
        let socket = Socket::new(stream);
        let answering = flushing(&socket, self.answer(&socket, place));
        let ended = tokio::select! {
            ended = answering => ended.and_then(|ended| ended),
            () = self.stopping.cancelled() => return,
        };
        match ended {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(?remote, %error, "rejected a peer connection");
            }
            // The peer hung up: it stopped, moved, or was cut off. Raft will tell.
            _ => {}
        }
    }

    async fn answer(&self, socket: &Socket, place: OwnedSemaphorePermit) -> io::Result<()> {
        let mut reader = FrameReader::default();
        let mut io = socket.io(Bytes::new());
        let hello = match timeout(HELLO_TIMEOUT, reader.next(&mut io, MAX_HELLO)).await? {
            Err(_) if reader.rest().starts_with(page::GET) => {
                let answer = page::answer(reader.rest(), &mut io, &self.version);
                socket.push(timeout(HELLO_TIMEOUT, answer).await??.as_bytes());
                return socket.drained().await;
            }
            hello => hello?,
        };
        let theirs = self.welcome(socket, hello).await?;
        drop(place);
        match theirs.cluster_id {
            0 => self.answer_stranger(socket, reader).await,
            _ => self.answer_peer(socket, reader, theirs.from).await,
        }
    }

    /// Answers a process that does not know its cluster yet, or says so: one question at a time.
    async fn answer_stranger(&self, socket: &Socket, mut reader: FrameReader) -> io::Result<()> {
        let traffic = self.traffic.peer(0);
        let mut io = socket.io(Bytes::new());
        loop {
            let request = timeout(STRANGER_IDLE, reader.next(&mut io, MAX_HELLO)).await??;
            traffic.received(request.payload.len());
            let message = frame::decode::<PeerRequest>(request.payload)?;
            if !matches!(message.request, Some(Request::Members(_))) {
                return Err(frame::invalid("a request from outside the cluster".to_owned()));
            }
            let answer = (self.handle)(0, message).await;
            reply(socket, &traffic, request.id, &answer).await?;
        }
    }

    async fn answer_peer(
        &self,
        socket: &Socket,
        mut reader: FrameReader,
        from: u64,
    ) -> io::Result<()> {
        let mut traffic = self.traffic.peer(0);
        let mut is_known = false;
        let mut io = socket.io(Bytes::new());
        let mut answers = FuturesUnordered::new();
        loop {
            tokio::select! {
                request = reader.next(&mut io, MAX_FRAME), if answers.len() < MAX_IN_FLIGHT => {
                    let request = request?;
                    if !is_known && (self.knows)(from) {
                        is_known = true;
                        traffic = self.traffic.peer(from);
                    }
                    traffic.received(request.payload.len());
                    let message = frame::decode::<PeerRequest>(request.payload)?;
                    let answer = (self.handle)(from, message);
                    answers.push(async move { (request.id, answer.await) });
                }
                Some((id, answer)) = answers.next(), if !answers.is_empty() => {
                    reply(socket, &traffic, id, &answer).await?;
                }
            }
        }
    }

    /// Answers a Hello with ours, and checks theirs.
    async fn welcome(&self, socket: &Socket, frame: frame::Frame) -> io::Result<Hello> {
        if frame.kind != Kind::Hello {
            return Err(frame::invalid("no Hello".to_owned()));
        }
        let theirs = frame::decode::<Hello>(frame.payload)?;
        let ours = Hello {
            protocol: PROTOCOL,
            cluster_id: self.identity.cluster_id,
            from: self.identity.member_id,
            to: theirs.from,
        };
        // Also to one that is refused: ours tells it why.
        socket.push(&frame::encode(0, Kind::Hello, &ours).unwrap_or_default());
        let mut checked = check_hello(&theirs, &ours);
        if checked.is_ok() && theirs.to != 0 && theirs.to != ours.from {
            checked = Err(format!("looked for member {:x}, this is {:x}", theirs.to, ours.from));
        }
        if let Err(refusal) = checked {
            socket.drained().await?;
            return Err(frame::invalid(refusal));
        }
        Ok(theirs)
    }
}

async fn reply(
    socket: &Socket,
    traffic: &PeerTraffic,
    id: u64,
    answer: &PeerResponse,
) -> io::Result<()> {
    let Some(frame) = frame::encode(id, Kind::Response, answer) else {
        return Err(frame::invalid("an answer is too large".to_owned()));
    };
    // The dialling side always reads, so this wait ends.
    socket.room().await?;
    traffic.sent(frame.len());
    socket.push(&frame);
    Ok(())
}
