//! The accepting side: answers other members' requests.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_core::api::coraclepb::{Hello, PeerRequest, PeerResponse, peer_request::Request};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::frame::{self, FrameReader, Kind, MAX_FRAME, MAX_HELLO};
use super::traffic::Traffic;
use super::{
    HANDSHAKE_TIMEOUT, HELLO_TIMEOUT, Identity, MAX_IN_FLIGHT, PROTOCOL, check_hello, prepare,
};
use crate::front::io::{Socket, flushing};
use crate::front::report_rejected;
use crate::net::{Accepted, AsyncListener, Stream};
use crate::tls::Acceptor;

/// Pause after a failed `accept`: file descriptors do not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts peers for the member that `identity` names.
pub(crate) struct PeerListener<H> {
    pub(crate) identity: Identity,
    /// Called with the identifier of the asking member (0 if it does not know itself yet).
    pub(crate) handle: H,
    /// Without one the connections are plain.
    pub(crate) tls: Option<Arc<Acceptor>>,
    pub(crate) traffic: Traffic,
    pub(crate) stopping: CancellationToken,
}

impl<H, F> PeerListener<H>
where
    H: Fn(u64, PeerRequest) -> F + Send + Sync + 'static,
    F: Future<Output = PeerResponse> + Send + 'static,
{
    /// Serves `listener` until `stopping`. Nothing that a peer sends ends it.
    pub(crate) async fn serve(self, listener: AsyncListener) {
        let listener_of_all = Arc::new(self);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = listener_of_all.stopping.cancelled() => return,
            };
            match accepted {
                Ok(stream) => {
                    tokio::spawn(listener_of_all.clone().connection(stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a peer connection; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, accepted: Accepted) {
        let Ok(stream) = accepted.into_async() else { return };
        let remote = stream.remote_address();
        if prepare(&stream).is_err() {
            return;
        }
        let stream = match &self.tls {
            None => Stream::Bare(stream),
            Some(acceptor) => {
                let accepted = timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
                match accepted.unwrap_or_else(|late| Err(late.into())) {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        let text = "rejected connection on peer endpoint";
                        return report_rejected(text, remote, &error);
                    }
                }
            }
        };
        let socket = Socket::new(stream);
        let answering = flushing(&socket, self.answer(&socket));
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

    async fn answer(&self, socket: &Socket) -> io::Result<()> {
        let mut reader = FrameReader::default();
        let mut io = socket.io(Bytes::new());
        let hello = timeout(HELLO_TIMEOUT, reader.next(&mut io, MAX_HELLO)).await??;
        let theirs = self.welcome(socket, hello).await?;
        let traffic = self.traffic.peer(theirs.from);
        let mut answers = FuturesUnordered::new();
        loop {
            tokio::select! {
                request = reader.next(&mut io, MAX_FRAME), if answers.len() < MAX_IN_FLIGHT => {
                    let request = request?;
                    traffic.received(request.payload.len());
                    let message = frame::decode::<PeerRequest>(request.payload)?;
                    let stranger = theirs.cluster_id == 0;
                    if stranger && !matches!(message.request, Some(Request::Members(_))) {
                        return Err(frame::invalid("a request from outside the cluster".to_owned()));
                    }
                    let answer = (self.handle)(theirs.from, message);
                    answers.push(async move { (request.id, answer.await) });
                }
                Some((id, answer)) = answers.next(), if !answers.is_empty() => {
                    let Some(frame) = frame::encode(id, Kind::Response, &answer) else {
                        return Err(frame::invalid("an answer is too large".to_owned()));
                    };
                    // The dialling side always reads, so this wait ends.
                    socket.room().await?;
                    traffic.sent(frame.len());
                    socket.push(&frame);
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
