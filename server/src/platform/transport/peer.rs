//! The dialling side: requests to one peer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use coracle_core::api::coraclepb::{Hello, PeerRequest, PeerResponse};
use coracle_core::platform::TransportError;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::frame::{self, FrameReader, Kind, MAX_FRAME, MAX_HELLO};
use super::traffic::PeerTraffic;
use super::{DIAL_TIMEOUT, HELLO_TIMEOUT, Handshakes, MAX_IN_FLIGHT, check_hello, prepare};
use crate::config::urls::Url;
use crate::front::io::{Socket, flushing};
use crate::net::{Bare, Stream};
use crate::tls::{self, Connector};

/// After a failed attempt requests fail at once for this long; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Different reasons why a peer cannot be reached that the log is told of until it can.
const MAX_REASONS: usize = 16;

type Answer = Result<PeerResponse, TransportError>;

/// A handle to the task that holds the connection. The task ends with the last handle.
#[derive(Clone)]
pub(super) struct Peer {
    queue: mpsc::Sender<Outgoing>,
    next_id: Arc<AtomicU64>,
    urls: Urls,
}

/// Where the next connection is made to.
type Urls = Arc<Mutex<Vec<String>>>;

struct Outgoing {
    id: u64,
    frame: Bytes,
    answer: oneshot::Sender<Answer>,
}

impl Peer {
    /// Starts the task; it dials when there is a request.
    pub(super) fn start(runtime: &Handle, dialler: Dialler, traffic: Arc<PeerTraffic>) -> Peer {
        let (queue, requests) = mpsc::channel(MAX_IN_FLIGHT);
        let urls = dialler.urls.clone();
        runtime.spawn(run(requests, dialler, traffic));
        Peer { queue, next_id: Arc::default(), urls }
    }

    /// The peer has these URLs from now on. A connection that stands is good all the same.
    pub(super) fn is_at(&self, urls: Vec<String>) {
        let mut known = self.urls.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != urls {
            *known = urls;
        }
    }

    pub(super) async fn call(&self, request: &PeerRequest) -> Answer {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let Some(frame) = frame::encode(id, Kind::Request, request) else {
            return Err(TransportError::Unreachable("the request is too large".to_owned()));
        };
        let (answer, result) = oneshot::channel();
        if self.queue.try_send(Outgoing { id, frame, answer }).is_err() {
            let text = "too many requests are under way".to_owned();
            return Err(TransportError::Unreachable(text));
        }
        let ended = || TransportError::Broken("the connection was given up".to_owned());
        result.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// Dials when there is something to say, and again when the connection breaks.
async fn run(mut requests: mpsc::Receiver<Outgoing>, dialler: Dialler, traffic: Arc<PeerTraffic>) {
    let mut pause = FIRST_PAUSE;
    // The log is told of changes and of each reason once, not of every attempt.
    let mut active = false;
    let mut reasons = BTreeSet::new();
    let peer_id = format!("{:x}", dialler.hello.to);
    while let Some(first) = requests.recv().await {
        let error = match dialler.dial().await {
            Ok((socket, reader)) => {
                pause = FIRST_PAUSE;
                if !active {
                    tracing::info!("peer-id" = peer_id, "peer became active");
                }
                active = true;
                reasons.clear();
                traffic.connected();
                let ended = converse(socket, reader, first, &mut requests, &traffic).await;
                traffic.disconnected(ended.is_err());
                continue;
            }
            Err(error) => error,
        };
        active = false;
        if reasons.len() < MAX_REASONS && reasons.insert(error.to_string()) {
            tracing::warn!(
                "peer-id" = peer_id,
                %error,
                "peer became inactive (message send to peer failed)"
            );
        }
        // The caller gives a vote or an append up and comes back: better than a growing queue.
        _ = first.answer.send(Err(error.clone()));
        let until = Instant::now() + pause;
        while let Ok(Some(request)) = timeout_at(until, requests.recv()).await {
            _ = request.answer.send(Err(error.clone()));
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How a peer is reached.
pub(super) struct Dialler {
    pub(super) urls: Urls,
    pub(super) hello: Hello,
    pub(super) handshakes: Handshakes,
    pub(super) tls: Arc<Connector>,
    /// The address of this machine to dial from, if it matters.
    pub(super) local: Option<IpAddr>,
}

impl Dialler {
    /// Tries the URLs in order; the error is the last one's.
    async fn dial(&self) -> Result<(Socket, FrameReader), TransportError> {
        let mut error = TransportError::Unreachable("the peer has no URL".to_owned());
        let urls = self.urls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for url in &urls {
            let stream = match self.connect(url).await {
                Ok(stream) => stream,
                Err(cause) => {
                    error = TransportError::Unreachable(format!("{url}: {}", tls::told(&cause)));
                    continue;
                }
            };
            let socket = Socket::new(stream);
            let greeting = flushing(&socket, greet(&socket, &self.hello));
            let said = timeout(HELLO_TIMEOUT, greeting).await;
            match said.map_err(io::Error::from).and_then(|said| said) {
                Ok(Ok(reader)) => return Ok((socket, reader)),
                Ok(Err(refusal)) => error = refusal,
                Err(cause) => {
                    error = TransportError::Unreachable(format!("{url}: {}", tls::told(&cause)));
                }
            }
        }
        Err(error)
    }

    async fn connect(&self, url: &str) -> io::Result<Stream> {
        let url = Url::parse(url).map_err(frame::invalid)?;
        let stream = timeout(DIAL_TIMEOUT, Bare::connect_from(&url.address, self.local)).await??;
        prepare(&stream)?;
        if !url.secure {
            return Ok(Stream::Bare(stream));
        }
        let tls = self.tls.clone();
        let handshake = async move { tls.connect(stream, url.host()).await };
        self.handshakes.run(HELLO_TIMEOUT, handshake).await
    }
}

/// Says who we are, and hears whether that is welcome.
async fn greet(socket: &Socket, hello: &Hello) -> Result<FrameReader, TransportError> {
    let mut reader = FrameReader::default();
    socket.push(&frame::encode(0, Kind::Hello, hello).unwrap_or_default());
    let answer = async {
        let answer = reader.next(&mut socket.io(Bytes::new()), MAX_HELLO).await?;
        if answer.kind != Kind::Hello {
            return Err(frame::invalid("no Hello".to_owned()));
        }
        frame::decode::<Hello>(answer.payload)
    };
    // A peer that closes without a Hello may just be stopping: nothing is known, so try again.
    let theirs = answer.await.map_err(|error| TransportError::Unreachable(tls::told(&error)))?;
    check_hello(&theirs, hello).map_err(TransportError::Refused)?;
    if hello.to != 0 && theirs.from != hello.to {
        return Err(TransportError::Refused(format!(
            "member {:x} answers where member {:x} should",
            theirs.from, hello.to
        )));
    }
    Ok(reader)
}

/// Sends requests and hands out answers until the connection breaks or is not needed any more.
async fn converse(
    socket: Socket,
    mut reader: FrameReader,
    first: Outgoing,
    requests: &mut mpsc::Receiver<Outgoing>,
    traffic: &PeerTraffic,
) -> io::Result<()> {
    let mut waiting = BTreeMap::new();
    let mut io = socket.io(Bytes::new());
    let conversation = async {
        traffic.sent(first.frame.len());
        send(&socket, first, &mut waiting);
        loop {
            // Answers are always read, also while the peer takes no requests: otherwise two members
            // could wait for each other.
            tokio::select! {
                frame = reader.next(&mut io, MAX_FRAME) => {
                    let frame = frame?;
                    traffic.received(frame.payload.len());
                    let Some(answer) = waiting.remove(&frame.id) else { continue };
                    let response = frame::decode::<PeerResponse>(frame.payload)?;
                    // The caller may have timed out.
                    _ = oneshot::Sender::<Answer>::send(answer, Ok(response));
                }
                request = requests.recv(), if socket.has_room() => match request {
                    Some(request) => {
                        traffic.sent(request.frame.len());
                        send(&socket, request, &mut waiting);
                    }
                    None => return Ok::<(), io::Error>(()),
                },
                room = socket.room(), if !socket.has_room() => room?,
            }
        }
    };
    let ended = flushing(&socket, conversation).await;
    let Err(error) = ended.and_then(|ended| ended) else { return Ok(()) };
    while let Some((_, answer)) = waiting.pop_first() {
        _ = answer.send(Err(TransportError::Broken(error.to_string())));
    }
    Err(error)
}

fn send(socket: &Socket, request: Outgoing, waiting: &mut BTreeMap<u64, oneshot::Sender<Answer>>) {
    if request.answer.is_closed() {
        return;
    }
    if waiting.len() >= MAX_IN_FLIGHT {
        waiting.retain(|_, answer| !answer.is_closed());
    }
    if waiting.len() >= MAX_IN_FLIGHT {
        let text = "too many requests are under way".to_owned();
        _ = request.answer.send(Err(TransportError::Unreachable(text)));
        return;
    }
    socket.push(&request.frame);
    waiting.insert(request.id, request.answer);
}
