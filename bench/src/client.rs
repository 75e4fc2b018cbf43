//! The lean client: gRPC framed by hand on HTTP/2.
//!
//! A gRPC call is a POST whose body is a sequence of frames (one byte "compressed", four bytes
//! length, the message), answered by the same and by trailers with `grpc-status`. A generic client
//! adds services, interceptors, timers and boxes around that and costs several times as much CPU as
//! the server under test; here it is one request, one response, and the messages are encoded by
//! the caller. Everything runs on the caller's current-thread runtime.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Uri};
use tokio::net::TcpStream;

/// Room for responses in flight, per stream and per connection: never the bottleneck.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Ten of them without a connection and something is wrong with the server.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// One byte for "compressed", four for the length.
const PREFIX: usize = 5;

/// The RPCs under load.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rpc {
    Put,
    Range,
    Watch,
}

impl Rpc {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Rpc::Put => "/etcdserverpb.KV/Put",
            Rpc::Range => "/etcdserverpb.KV/Range",
            Rpc::Watch => "/etcdserverpb.Watch/Watch",
        }
    }
}

/// One message with gRPC's prefix before it.
pub(crate) fn framed(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).expect("our messages are far below 4 GiB"));
    message.encode(&mut frame).expect("the buffer grows as needed");
    frame.freeze()
}

/// One HTTP/2 connection; clones share it. Its task runs until the last clone is gone.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: SendRequest<Bytes>,
    origin: String,
}

impl Connection {
    /// Connects, or fails after a few seconds.
    pub(crate) async fn open(endpoint: SocketAddr) -> Result<Connection> {
        let stream = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(endpoint))
            .await
            .with_context(|| format!("{endpoint} does not answer"))?
            .with_context(|| format!("cannot connect to {endpoint}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await?;
        // An error ends the connection and so reaches every call on it: nothing to report twice.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Connection { sender, origin: format!("http://{endpoint}") })
    }

    fn request(&self, rpc: Rpc) -> Result<Request<()>> {
        let uri: Uri = format!("{}{}", self.origin, rpc.path()).parse()?;
        Ok(Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?)
    }

    /// Prepares calls of one RPC, so that a call builds nothing but its own message.
    pub(crate) fn caller(&self, rpc: Rpc) -> Result<Caller> {
        Ok(Caller { sender: self.sender.clone(), request: self.request(rpc)? })
    }

    /// Opens a call that streams both ways.
    pub(crate) async fn stream(
        &self,
        rpc: Rpc,
        first: Bytes,
    ) -> Result<(SendStream<Bytes>, Messages)> {
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut stream) = sender.send_request(self.request(rpc)?, false)?;
        stream.send_data(first, false)?;
        let response = response.await?;
        check_status(response.headers())?;
        Ok((stream, Messages { body: response.into_body(), pending: BytesMut::new() }))
    }
}

/// Unary calls of one RPC on one connection.
pub(crate) struct Caller {
    sender: SendRequest<Bytes>,
    request: Request<()>,
}

impl Caller {
    /// Sends one framed message; returns the length of the answer's message, in bytes.
    pub(crate) async fn call(&mut self, frame: Bytes) -> Result<usize> {
        Ok(self.call_for(frame).await?.len())
    }

    /// Sends one framed message; returns the answer's message.
    pub(crate) async fn call_for(&mut self, frame: Bytes) -> Result<Bytes> {
        std::future::poll_fn(|context| self.sender.poll_ready(context)).await?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(self.request.uri());
        request.headers_mut().clone_from(self.request.headers());
        let (response, mut stream) = self.sender.send_request(request, false)?;
        stream.send_data(frame, true)?;
        let response = response.await?;
        check_status(response.headers())?;
        let mut messages = Messages { body: response.into_body(), pending: BytesMut::new() };
        let message = messages.next().await?.context("an answer without a message")?;
        if messages.next().await?.is_some() {
            bail!("more than one message answers a unary call");
        }
        Ok(message)
    }
}

/// The messages of a response, in order.
pub(crate) struct Messages {
    body: RecvStream,
    pending: BytesMut,
}

impl Messages {
    /// The next message; `None` at the end of a call that succeeded.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            match self.body.data().await {
                Some(data) => {
                    let data = data?;
                    self.body.flow_control().release_capacity(data.len())?;
                    self.pending.extend_from_slice(&data);
                }
                None => {
                    let trailers = self.body.trailers().await?.context("no gRPC trailers")?;
                    check_status(&trailers)?;
                    return Ok(None);
                }
            }
        }
    }

    fn take(&mut self) -> Result<Option<Bytes>> {
        let Some(prefix) = self.pending.first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        if prefix[0] != 0 {
            bail!("a compressed message, which nobody asked for");
        }
        let length = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if self.pending.len() < PREFIX + length {
            return Ok(None);
        }
        let mut frame = self.pending.split_to(PREFIX + length);
        Ok(Some(frame.split_off(PREFIX).freeze()))
    }
}

/// Fails if these headers or trailers carry a `grpc-status` other than 0.
fn check_status(headers: &HeaderMap) -> Result<()> {
    match headers.get("grpc-status") {
        None => Ok(()),
        Some(status) if status.as_bytes() == b"0" => Ok(()),
        Some(status) => {
            let text = headers.get("grpc-message").map(|text| text.to_str().unwrap_or("?"));
            bail!("gRPC status {}: {}", status.to_str().unwrap_or("?"), text.unwrap_or(""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_core::api::etcdserverpb::RangeRequest;

    #[test]
    fn a_frame_is_a_flag_a_length_and_the_message() {
        let frame = framed(&RangeRequest { key: "a".into(), ..Default::default() });
        assert_eq!(&frame[..], [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
    }
}
