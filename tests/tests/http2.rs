//! Limits of HTTP/2 connections (ETCD.md W-04, W-05), frame by frame, against etcd and Coracle.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use coracle_core::api::etcdserverpb as pb;
use coracle_tests::cluster::{Cluster, Kind};
use pb::watch_request::RequestUnion;
use prost::Message;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const RST_STREAM: u8 = 0x3;
const SETTINGS: u8 = 0x4;
const PING: u8 = 0x6;
const GOAWAY: u8 = 0x7;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const NO_ERROR: [u8; 4] = [0; 4];
const CANCEL: [u8; 4] = [0, 0, 0, 0x8];
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 0x7];
const ENHANCE_YOUR_CALM: [u8; 4] = [0, 0, 0, 0xb];
/// What grpc-go measures the bandwidth with.
const BANDWIDTH: [u8; 8] = [2, 4, 16, 16, 9, 14, 7, 7];
const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// A connection without a library, which does what it is told.
struct Http2 {
    stream: TcpStream,
    next_stream: u32,
    /// While there is something, frames wait here and are not sent.
    held: Option<Vec<u8>>,
}

impl Http2 {
    fn connect(address: &str) -> Result<Http2> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        let mut connection = Http2 { stream, next_stream: 1, held: None };
        connection.send(SETTINGS, 0, 0, &[])?;
        Ok(connection)
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        match &mut self.held {
            Some(held) => held.extend(frame),
            None => self.stream.write_all(&frame)?,
        }
        Ok(())
    }

    /// Sends what was held.
    fn release(&mut self) -> io::Result<()> {
        let held = self.held.take().unwrap_or_default();
        self.stream.write_all(&held)
    }

    /// The next frame; an error once the server has closed the connection.
    fn next(&mut self) -> Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Begins a call with one message, and gives its stream.
    fn call(&mut self, path: &str, message: &impl Message, ends: bool) -> Result<u32> {
        let stream = self.begin(path)?;
        self.message(stream, message, ends)?;
        Ok(stream)
    }

    /// Begins a call without a message yet, and gives its stream.
    fn begin(&mut self, path: &str) -> Result<u32> {
        let stream = self.next_stream;
        self.next_stream += 2;
        // POST and http are in the static table; the others are literals that are not indexed.
        let mut block = vec![0x83, 0x86];
        for (name, value) in [
            (":path", path),
            (":authority", "localhost"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len())?);
                block.extend(text.bytes());
            }
        }
        self.send(HEADERS, END_HEADERS, stream, &block)?;
        Ok(stream)
    }

    fn message(&mut self, stream: u32, message: &impl Message, ends: bool) -> Result<()> {
        let mut data = vec![0];
        data.extend(u32::try_from(message.encoded_len())?.to_be_bytes());
        data.extend(message.encode_to_vec());
        self.send(DATA, if ends { END_STREAM } else { 0 }, stream, &data)?;
        Ok(())
    }

    /// Makes a whole unary call.
    fn range(&mut self) -> Result<()> {
        let request = pb::RangeRequest { key: "key".into(), ..Default::default() };
        let stream = self.call(RANGE, &request, true)?;
        self.wait_for_status(stream)
    }

    fn wait_for_status(&mut self, stream: u32) -> Result<()> {
        loop {
            let frame = self.next()?;
            ensure!(frame.kind != GOAWAY, "sent away");
            if frame.stream == stream && frame.kind == HEADERS && frame.flags & END_STREAM != 0 {
                return Ok(());
            }
        }
    }

    /// Begins a watch, waits until it is created, and gives its stream.
    fn watch(&mut self) -> Result<u32> {
        let create = pb::WatchCreateRequest { key: "key".into(), ..Default::default() };
        let request = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let stream = self.call(WATCH, &request, false)?;
        loop {
            let frame = self.next()?;
            if frame.stream == stream && frame.kind == DATA {
                return Ok(stream);
            }
        }
    }

    /// Pings and waits for the answer; `false` if the server sends this client away instead.
    fn ping(&mut self) -> Result<bool> {
        self.send(PING, 0, 0, &[7; 8])?;
        loop {
            let frame = self.next()?;
            match frame.kind {
                PING if frame.flags & ACK != 0 => return Ok(true),
                GOAWAY => {
                    ensure!(frame.payload[4..8] == ENHANCE_YOUR_CALM, "{:?}", frame.payload);
                    ensure!(&frame.payload[8..] == b"too_many_pings", "{:?}", frame.payload);
                    return Ok(false);
                }
                _ => {}
            }
        }
    }

    /// At which ping the server sends this client away; `None` if ten of them are fine.
    fn pings_until_sent_away(
        &mut self,
        mut between: impl FnMut(&mut Http2) -> Result<()>,
    ) -> Result<Option<u32>> {
        for number in 1..=10 {
            // A server may answer the ping before it sends the client away.
            let welcome = self
                .ping()
                .and_then(|welcome| if welcome { between(self).map(|()| true) } else { Ok(false) });
            if !welcome? {
                ensure!(self.next().is_err(), "the connection goes on");
                return Ok(Some(number));
            }
        }
        Ok(None)
    }
}

fn nothing(_: &mut Http2) -> Result<()> {
    Ok(())
}

fn run(kind: Kind) -> Result<()> {
    let cluster = Cluster::start(kind, 1)?;
    let address = cluster.client_address(0);
    let mut idle = Http2::connect(&address)?;
    let ended = idle.pings_until_sent_away(nothing)?;
    ensure!(matches!(ended, Some(4 | 5)), "{kind:?}, idle: {ended:?}");
    let mut busy = Http2::connect(&address)?;
    busy.watch()?;
    let ended = busy.pings_until_sent_away(nothing)?;
    ensure!(matches!(ended, Some(4..=6)), "{kind:?}, with a watch: {ended:?}");
    let mut working = Http2::connect(&address)?;
    let ended = working.pings_until_sent_away(Http2::range)?;
    ensure!(ended.is_none(), "{kind:?}, with calls in between: {ended:?}");
    Ok(())
}

#[test]
fn w_04_streams_of_a_connection_are_limited() -> Result<()> {
    // etcd 3.5.1 does not know the flag yet.
    let cluster = Cluster::start_with(Kind::Coracle, 1, &["--max-concurrent-streams=2"])?;
    let mut client = Http2::connect(&cluster.client_address(0))?;
    client.watch()?;
    client.watch()?;
    let request = pb::RangeRequest { key: "key".into(), ..Default::default() };
    let third = client.call(RANGE, &request, true)?;
    let answer = loop {
        let frame = client.next()?;
        if frame.stream == third {
            break frame;
        }
    };
    ensure!(answer.kind == RST_STREAM && answer.payload == REFUSED_STREAM, "{:?}", answer.payload);
    Ok(())
}

#[test]
fn w_05_who_pings_too_often_is_sent_away() -> Result<()> {
    run(Kind::Coracle)?;
    run(Kind::Etcd)
}

#[test]
fn w_05_the_minimum_is_a_flag() -> Result<()> {
    for kind in [Kind::Coracle, Kind::Etcd] {
        let cluster = Cluster::start_with(kind, 1, &["--grpc-keepalive-min-time=1us"])?;
        let mut busy = Http2::connect(&cluster.client_address(0))?;
        busy.watch()?;
        let ended = busy.pings_until_sent_away(nothing)?;
        ensure!(ended.is_none(), "{kind:?}: {ended:?}");
    }
    Ok(())
}

#[test]
fn w_05_a_silent_client_is_asked_and_given_up() -> Result<()> {
    for kind in [Kind::Coracle, Kind::Etcd] {
        let flags = ["--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s"];
        let cluster = Cluster::start_with(kind, 1, &flags)?;
        let mut client = Http2::connect(&cluster.client_address(0))?;
        client.watch()?;
        let mut asked = 0;
        while let Ok(frame) = client.next() {
            match frame.kind {
                PING if frame.payload == BANDWIDTH => {
                    client.send(PING, ACK, 0, &frame.payload)?;
                }
                PING if frame.flags & ACK == 0 => {
                    asked += 1;
                    // Answered once: the client is there, and asked again later.
                    if asked == 1 {
                        client.send(PING, ACK, 0, &frame.payload)?;
                    }
                }
                _ => {}
            }
            if asked > 5 {
                bail!("{kind:?} does not give up");
            }
        }
        ensure!(asked == 2, "{kind:?} asked {asked} times");
        let mut other = Http2::connect(&cluster.client_address(0))?;
        other.range().context("others are served")?;
    }
    Ok(())
}

/// A client that gives up many calls at once writes their ends with their beginnings.
#[test]
fn w_04_many_calls_may_be_given_up_at_once() -> Result<()> {
    const CALLS: usize = 500;
    for kind in [Kind::Etcd, Kind::Coracle] {
        let cluster = Cluster::start(kind, 1)?;
        let mut connection = Http2::connect(&cluster.client_address(0))?;
        connection.range()?;
        connection.held = Some(Vec::new());
        for _ in 0..CALLS {
            let stream = connection.begin(RANGE)?;
            connection.send(RST_STREAM, 0, stream, &CANCEL)?;
        }
        connection.release()?;
        connection.range().with_context(|| format!("{kind:?}, after {CALLS} calls"))?;
    }
    Ok(())
}

/// A member without a leader refuses watches before their first message has come, which is then
/// nobody's: no reason to break off everything else that the client has on its connection.
#[test]
fn w_04_messages_of_refused_calls_cost_nobody_the_connection() -> Result<()> {
    // More than a connection is allowed of what an attacker would send.
    const REFUSALS: usize = 3_000;
    for kind in [Kind::Etcd, Kind::Coracle] {
        let cluster = Cluster::start(kind, 1)?;
        let mut connection = Http2::connect(&cluster.client_address(0))?;
        for _ in 0..REFUSALS {
            let stream = connection.begin("/etcdserverpb.Watch/Nothing")?;
            connection.wait_for_status(stream)?;
            connection.message(stream, &pb::WatchRequest::default(), false)?;
            connection.send(RST_STREAM, 0, stream, &NO_ERROR)?;
        }
        connection.range().with_context(|| format!("{kind:?}, after {REFUSALS} refusals"))?;
    }
    Ok(())
}

/// A connection that waits for what a client has still to say of a call that is over would take
/// further calls, and lose them.
#[test]
fn w_04_a_member_that_stops_needs_no_more_of_watches() -> Result<()> {
    let mut cluster = Cluster::start(Kind::Coracle, 1)?;
    let mut connection = Http2::connect(&cluster.client_address(0))?;
    let stream = connection.watch()?;
    cluster.stop(0)?;
    let mut reset = None;
    while let Ok(frame) = connection.next() {
        if (frame.kind, frame.stream) == (RST_STREAM, stream) {
            reset = Some(frame.payload);
        }
    }
    ensure!(reset.as_deref() == Some(&NO_ERROR), "{reset:?}");
    Ok(())
}
