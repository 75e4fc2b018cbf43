//! Pings: how many a client may send, and when the server sends its own (ETCD.md W-05).
//!
//! h2 answers a client's pings and tells nobody. So the frames are looked at on their way through
//! the connection's buffer: their heads alone, which costs a few instructions a frame. The rules
//! are grpc-go's. A ping that comes too early is a strike; having sent something meanwhile wipes
//! strikes out, since a client may measure its bandwidth with pings; one strike too many ends the
//! connection with `ENHANCE_YOUR_CALM` and the words from which clients learn to ping less.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use h2::{Ping, PingPong};
use tokio::time::{Sleep, sleep};

use super::io::Socket;
use crate::config::settings::KeepaliveConfig;

/// Octets before a frame's payload (RFC 9113, 4.1).
const FRAME_HEADER: usize = 9;
/// Octets of the connection preface.
const PREFACE: usize = 24;
const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const ACK: u8 = 0x1;
const ENHANCE_YOUR_CALM: u32 = 0xb;

const MAX_STRIKES: u32 = 2;
/// What a client without streams must leave between pings.
const IDLE_MIN_TIME: Duration = Duration::from_secs(2 * 60 * 60);
/// grpc-go's own minimum, which holds when the flag is 0.
const DEFAULT_MIN_TIME: Duration = Duration::from_secs(5 * 60);

const DEFAULT_INTERVAL: Duration = Duration::from_secs(2 * 60 * 60);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

/// Finds the heads of frames in a stream of bytes that is cut anywhere.
struct FrameWalker {
    head: [u8; FRAME_HEADER],
    /// How much of `head` is there.
    known: usize,
    /// Bytes until the next head.
    skip: usize,
}

/// A frame's head.
struct Head {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameWalker {
    /// A walker along a stream that begins with `skip` bytes which are no frame.
    fn new(skip: usize) -> FrameWalker {
        FrameWalker { head: [0; FRAME_HEADER], known: 0, skip }
    }

    /// Goes along `bytes` and says what it meets.
    fn walk(&mut self, mut bytes: &[u8], mut meet: impl FnMut(Head)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let count = (FRAME_HEADER - self.known).min(bytes.len());
            self.head[self.known..self.known + count].copy_from_slice(&bytes[..count]);
            self.known += count;
            bytes = &bytes[count..];
            if self.known < FRAME_HEADER {
                return;
            }
            self.known = 0;
            let [a, b, c, kind, flags, stream @ ..] = self.head;
            self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
            meet(Head { kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff });
        }
    }

    fn is_between_frames(&self) -> bool {
        self.known == 0 && self.skip == 0
    }
}

/// What passes on an HTTP/2 connection.
pub(super) struct Traffic {
    incoming: FrameWalker,
    outgoing: FrameWalker,
    min_time: Duration,
    /// Counts reads: as long as they go on, the client is there.
    reads: u64,
    /// The client's newest stream.
    last_stream: u32,
    /// Whether a call is under way.
    is_busy: bool,
    /// Whether headers or data were sent since the last ping.
    has_answered: bool,
    last_ping: Option<Instant>,
    strikes: u32,
}

impl Traffic {
    pub(super) fn new(keepalive: &KeepaliveConfig) -> Traffic {
        Traffic {
            incoming: FrameWalker::new(PREFACE),
            outgoing: FrameWalker::new(0),
            min_time: if keepalive.min_time.is_zero() {
                DEFAULT_MIN_TIME
            } else {
                keepalive.min_time
            },
            reads: 0,
            last_stream: 0,
            is_busy: false,
            has_answered: false,
            last_ping: None,
            strikes: 0,
        }
    }

    pub(super) fn reads(&self) -> u64 {
        self.reads
    }

    /// Looks at bytes of the client.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.reads += 1;
        let (mut pings, mut stream) = (0, self.last_stream);
        self.incoming.walk(bytes, |head| match head.kind {
            PING if head.flags & ACK == 0 => pings += 1,
            HEADERS => stream = stream.max(head.stream),
            _ => {}
        });
        self.is_busy |= stream > self.last_stream;
        self.last_stream = stream;
        for _ in 0..pings {
            self.ping(Instant::now());
        }
    }

    /// Looks at bytes for the client.
    pub(super) fn written(&mut self, bytes: &[u8]) {
        let answered = &mut self.has_answered;
        self.outgoing.walk(bytes, |head| *answered |= matches!(head.kind, DATA | HEADERS));
    }

    /// Whether calls are under way, as the server knows it.
    pub(super) fn set_busy(&mut self, is_busy: bool) {
        self.is_busy = is_busy;
    }

    fn ping(&mut self, now: Instant) {
        let last = self.last_ping.replace(now);
        if std::mem::take(&mut self.has_answered) {
            self.strikes = 0;
            return;
        }
        let min_time = if self.is_busy { self.min_time } else { IDLE_MIN_TIME };
        if last.is_some_and(|last| now.duration_since(last) < min_time) {
            self.strikes += 1;
        }
    }

    /// The last frame for a client that pings too much; nothing for all others. It is empty where a
    /// frame is on its way by halves.
    pub(super) fn farewell(&self) -> Option<Vec<u8>> {
        if self.strikes <= MAX_STRIKES {
            return None;
        }
        if !self.outgoing.is_between_frames() {
            return Some(Vec::new());
        }
        let reason = b"too_many_pings";
        let mut frame = vec![0, 0, 8 + reason.len() as u8, GOAWAY, 0, 0, 0, 0, 0];
        frame.extend(self.last_stream.to_be_bytes());
        frame.extend(ENHANCE_YOUR_CALM.to_be_bytes());
        frame.extend(reason);
        Some(frame)
    }
}

/// The server's own pings: a client that is silent for an interval is asked whether it is there.
///
/// Silence is looked for once in an interval, so that reading costs no look at the clock; the ping
/// comes between one interval and two after the last byte.
pub(super) struct Pinger {
    interval: Duration,
    timeout: Duration,
    pings: Option<PingPong>,
    timer: Pin<Box<Sleep>>,
    /// Reads when the timer was set.
    reads: u64,
    is_asking: bool,
}

impl Pinger {
    /// `pings` is h2's; without it the server never asks.
    pub(super) fn new(config: KeepaliveConfig, pings: Option<PingPong>) -> Pinger {
        // A flag of 0 leaves grpc-go's default, and it asks once in a second at most.
        let (interval, timeout) = if config.interval.is_zero() || config.timeout.is_zero() {
            (DEFAULT_INTERVAL, DEFAULT_TIMEOUT)
        } else {
            (config.interval.max(Duration::from_secs(1)), config.timeout)
        };
        let timer = Box::pin(sleep(interval));
        Pinger { interval, timeout, pings, timer, reads: 0, is_asking: false }
    }

    /// Ready when the client does not answer any more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        if self.is_asking && pings.poll_pong(cx).is_ready() {
            self.is_asking = false;
            self.timer.set(sleep(self.interval));
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let reads = socket.reads();
            let is_silent = std::mem::replace(&mut self.reads, reads) == reads;
            if is_silent && self.is_asking {
                return Poll::Ready(());
            }
            // Fails when a ping is under way, which the client has sent something after.
            let asks = is_silent && pings.send_ping(Ping::opaque()).is_ok();
            self.is_asking |= asks;
            let pause = if asks { self.timeout } else { self.interval };
            self.timer.set(sleep(pause));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn w_05_zero_leaves_the_defaults_of_grpc_go() {
        let (zero, second) = (Duration::ZERO, Duration::from_secs(1));
        for (interval, timeout, effect) in [
            (zero, zero, (7200, 20)),
            (second, zero, (7200, 20)),
            (zero, second, (7200, 20)),
            (second, second, (1, 1)),
        ] {
            let pinger = Pinger::new(KeepaliveConfig { min_time: zero, interval, timeout }, None);
            assert_eq!((pinger.interval.as_secs(), pinger.timeout.as_secs()), effect);
        }
        let config = KeepaliveConfig { min_time: zero, interval: zero, timeout: zero };
        assert_eq!(Traffic::new(&config).min_time.as_secs(), 300);
    }

    const CONFIG: KeepaliveConfig = KeepaliveConfig {
        min_time: Duration::from_secs(5),
        interval: Duration::from_secs(7200),
        timeout: Duration::from_secs(20),
    };

    fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let mut frame = (payload as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(vec![PING; payload]);
        frame
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let mut bytes = vec![b'x'; PREFACE];
        for (kind, stream, payload) in
            [(4, 0, 0), (HEADERS, 1, 100), (DATA, 1, 70_000), (PING, 0, 8)]
        {
            bytes.extend(frame(kind, 0, stream, payload));
        }
        for piece in [1, 7, 4096, bytes.len()] {
            let mut walker = FrameWalker::new(PREFACE);
            let mut met = Vec::new();
            for piece in bytes.chunks(piece) {
                walker.walk(piece, |head| met.push((head.kind, head.stream)));
            }
            assert_eq!(met, [(4, 0), (HEADERS, 1), (DATA, 1), (PING, 0)]);
            assert!(walker.is_between_frames());
        }
    }

    #[test]
    fn w_05_pings_are_judged_as_grpc_go_does() {
        // Seconds between pings, whether a call is under way, whether something is sent between
        // them, and at which ping the client is sent away.
        for (seconds, is_busy, answers, last) in [
            (1, true, false, Some(4)),
            (5, true, false, None),
            (10, false, false, Some(4)),
            (7200, false, false, None),
            (0, true, true, None),
        ] {
            let mut traffic = Traffic::new(&CONFIG);
            traffic.set_busy(is_busy);
            let start = Instant::now();
            let ended = (1..=20).find(|number| {
                traffic.ping(start + Duration::from_secs(seconds) * *number);
                if answers {
                    traffic.written(&frame(DATA, 0, 1, 10));
                }
                traffic.farewell().is_some()
            });
            assert_eq!(ended, last, "every {seconds} s, busy: {is_busy}, answers: {answers}");
        }
    }

    #[test]
    fn w_05_the_farewell_names_the_reason() {
        let mut traffic = Traffic::new(&CONFIG);
        traffic.read(&[vec![0; PREFACE], frame(HEADERS, 4, 7, 3)].concat());
        let acknowledgement = frame(PING, ACK, 0, 8);
        for _ in 0..20 {
            traffic.read(&acknowledgement);
        }
        assert!(traffic.farewell().is_none(), "answers to our pings are no pings");
        for _ in 0..4 {
            traffic.read(&frame(PING, 0, 0, 8));
        }
        let farewell = traffic.farewell().unwrap();
        assert_eq!(farewell[..9], [0, 0, 22, GOAWAY, 0, 0, 0, 0, 0]);
        assert_eq!(farewell[9..17], [0, 0, 0, 7, 0, 0, 0, 0xb]);
        assert_eq!(&farewell[17..], b"too_many_pings");
        // In the middle of a frame nothing can be said.
        traffic.written(&frame(DATA, 0, 7, 10)[..12]);
        assert!(traffic.farewell().unwrap().is_empty());
    }
}
