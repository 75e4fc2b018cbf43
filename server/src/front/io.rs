//! A socket whose writes are collected, and really written once per turn of its connection.
//!
//! h2 flushes after every DATA frame of 256 bytes and more, which is one system call and one TCP
//! segment per response. Here a write only appends to a buffer and a flush does nothing;
//! [`flushing`] drives the connection's future and writes the buffer after each of its polls, when
//! every response that was ready is in it. For responses of 256 B to 16 KiB this halves the CPU.
//!
//! Invariants: bytes leave in the order they were written; the buffer is bounded by
//! [`HIGH_WATER`] plus one write, above which writes wait for the socket.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::authority::AuthorityFilter;
use super::keepalive::Traffic;
use crate::net::Stream;

/// Unwritten bytes above which a write waits for the socket.
const HIGH_WATER: usize = 256 * 1024;
/// Bytes that the filter of headers reads at once.
const READ_PIECE: usize = 8 * 1024;
/// A drained buffer larger than this is given back.
const KEEP_BYTES: usize = 64 * 1024;

/// The socket, shared by the protocol (which reads and appends) and by [`flushing`].
///
/// Both run in one task, so the lock is never contended; it exists because the protocol owns its
/// half and may be moved between threads before it is first polled.
#[derive(Clone)]
pub(crate) struct Socket(Arc<Mutex<Inner>>);

struct Inner {
    stream: Stream,
    outgoing: Vec<u8>,
    /// How much of `outgoing` the socket has taken.
    written: usize,
    /// On HTTP/2 connections.
    traffic: Option<Box<Traffic>>,
}

impl Socket {
    pub(crate) fn new(stream: Stream) -> Socket {
        Socket(Arc::new(Mutex::new(Inner {
            stream,
            outgoing: Vec::new(),
            written: 0,
            traffic: None,
        })))
    }

    /// The protocol's half. `replay` was read from the socket already and is read again first.
    pub(crate) fn io(&self, replay: Bytes) -> CoalescingIo {
        CoalescingIo { socket: self.clone(), replay, filter: None }
    }

    /// Writes what was collected.
    pub(crate) fn poll_drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.lock().poll_drain(cx)
    }

    /// Appends `data` without asking for room; see [`Socket::has_room`].
    pub(crate) fn push(&self, data: &[u8]) {
        self.lock().outgoing.extend_from_slice(data);
    }

    /// Whether fewer than [`HIGH_WATER`] bytes wait.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().pending() < HIGH_WATER
    }

    /// Waits until there is room.
    pub(crate) async fn room(&self) -> io::Result<()> {
        poll_fn(|cx| self.lock().poll_room(cx)).await
    }

    /// Looks at the frames that pass from now on.
    pub(super) fn watch(&self, traffic: Traffic) {
        self.lock().traffic = Some(Box::new(traffic));
    }

    /// How often something was read, where that is watched.
    pub(super) fn reads(&self) -> u64 {
        self.lock().traffic.as_ref().map_or(0, |traffic| traffic.reads())
    }

    /// Says whether calls are under way; appends the last frame for a client that pings too much.
    /// `false` if there is such a frame, and nothing may be sent after it.
    pub(super) fn is_welcome(&self, is_busy: bool) -> bool {
        let mut inner = self.lock();
        let Some(traffic) = &mut inner.traffic else { return true };
        traffic.set_busy(is_busy);
        match traffic.farewell() {
            None => true,
            Some(frame) => {
                inner.outgoing.extend_from_slice(&frame);
                false
            }
        }
    }

    /// Ends the connection so that what was written last is read: a socket that is closed with
    /// unread bytes takes back what is under way.
    pub(super) async fn hang_up(&self) -> io::Result<()> {
        self.drained().await?;
        poll_fn(|cx| Pin::new(&mut self.lock().stream).poll_shutdown(cx)).await?;
        let mut space = [0; READ_PIECE];
        loop {
            let mut rest = ReadBuf::new(&mut space);
            poll_fn(|cx| Pin::new(&mut self.lock().stream).poll_read(cx, &mut rest)).await?;
            if rest.filled().is_empty() {
                return Ok(());
            }
        }
    }

    /// Waits until everything is written.
    pub(crate) async fn drained(&self) -> io::Result<()> {
        poll_fn(|cx| self.poll_drain(cx)).await
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn pending(&self) -> usize {
        self.outgoing.len() - self.written
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.pending() > 0 {
            let rest = &self.outgoing[self.written..];
            let count = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.written = 0;
        self.outgoing.clear();
        if self.outgoing.capacity() > KEEP_BYTES {
            self.outgoing = Vec::new();
        }
        // With TLS the stream has a buffer of its own; without, there is nothing to do.
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// The protocol has appended `count` bytes.
    fn appended(&mut self, count: usize) -> usize {
        if let Some(traffic) = &mut self.traffic {
            traffic.written(&self.outgoing[self.outgoing.len() - count..]);
        }
        count
    }

    /// Makes room for a write: ready when no more than [`HIGH_WATER`] bytes wait.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.pending() < HIGH_WATER {
            return Poll::Ready(Ok(()));
        }
        self.poll_drain(cx)
    }
}

/// Runs `protocol`, which works on the halves of `socket`, and writes after each of its polls what
/// it had to say. The output is `Err` if the socket broke first.
pub(crate) async fn flushing<F: Future>(socket: &Socket, protocol: F) -> io::Result<F::Output> {
    let mut protocol = pin!(protocol);
    poll_fn(|cx| {
        let turn = protocol.as_mut().poll(cx);
        let drained = socket.poll_drain(cx);
        match (turn, drained) {
            (Poll::Ready(output), _) => Poll::Ready(Ok(output)),
            (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(error)),
            (Poll::Pending, _) => Poll::Pending,
        }
    })
    .await
}

/// What a protocol reads from and writes to. See the module.
pub(crate) struct CoalescingIo {
    socket: Socket,
    replay: Bytes,
    /// On HTTP/2 connections, until the first header block was seen to be sound.
    filter: Option<Box<AuthorityFilter>>,
}

impl CoalescingIo {
    /// Mends what this HTTP/2 client sends where old Go clients need it.
    pub(crate) fn mending_authority(self, max_frame: u32) -> CoalescingIo {
        CoalescingIo { filter: Some(Box::new(AuthorityFilter::new(max_frame))), ..self }
    }

    /// Reads through the filter, which may hold bytes back until a frame is complete.
    fn poll_read_filtered(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(filter) = self.filter.as_mut() else { return Poll::Ready(Ok(())) };
        while filter.outgoing().is_empty() {
            if self.replay.has_remaining() {
                filter.feed(&std::mem::take(&mut self.replay))?;
                continue;
            }
            let mut space = [0; READ_PIECE];
            let mut piece = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut self.socket.lock().stream).poll_read(cx, &mut piece))?;
            if piece.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            filter.feed(piece.filled())?;
        }
        let ready = filter.outgoing();
        let count = ready.len().min(buffer.remaining());
        buffer.put_slice(&ready[..count]);
        ready.advance(count);
        if filter.is_passing() {
            self.filter = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for CoalescingIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = if self.filter.is_some() {
            self.poll_read_filtered(cx, buffer)
        } else if self.replay.has_remaining() {
            let count = self.replay.len().min(buffer.remaining());
            buffer.put_slice(&self.replay[..count]);
            self.replay.advance(count);
            Poll::Ready(Ok(()))
        } else {
            Pin::new(&mut self.socket.lock().stream).poll_read(cx, buffer)
        };
        let bytes = &buffer.filled()[before..];
        if !bytes.is_empty()
            && let Some(traffic) = &mut self.socket.lock().traffic
        {
            traffic.read(bytes);
        }
        read
    }
}

impl AsyncWrite for CoalescingIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.socket.lock();
        ready!(inner.poll_room(cx))?;
        inner.outgoing.extend_from_slice(data);
        Poll::Ready(Ok(inner.appended(data.len())))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.socket.lock();
        ready!(inner.poll_room(cx))?;
        let before = inner.outgoing.len();
        for slice in slices {
            inner.outgoing.extend_from_slice(slice);
        }
        let count = inner.outgoing.len() - before;
        Poll::Ready(Ok(inner.appended(count)))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.socket.lock();
        ready!(inner.poll_drain(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::Bare;

    async fn pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (Socket::new(Stream::Bare(Bare::Tcp(server))), client)
    }

    #[tokio::test]
    async fn writes_leave_together_after_the_poll_that_made_them() {
        let (socket, mut client) = pair().await;
        let mut io = socket.io(Bytes::new());
        let written = flushing(&socket, async {
            for part in [&b"one "[..], b"two ", b"three"] {
                io.write_all(part).await.unwrap();
                io.flush().await.unwrap();
                // Nothing has left yet, in spite of the flush.
                assert!(socket.lock().pending() > 0);
            }
            tokio::task::yield_now().await;
            socket.lock().pending()
        });
        assert_eq!(written.await.unwrap(), 0, "the turn before the yield was written");
        let mut got = [0; 13];
        client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"one two three");
    }

    #[tokio::test]
    async fn replayed_bytes_are_read_before_the_socket() {
        let (socket, mut client) = pair().await;
        client.write_all(b" world").await.unwrap();
        let mut io = socket.io(Bytes::from_static(b"hello"));
        let mut got = [0; 11];
        io.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello world");
    }

    #[tokio::test]
    async fn a_writer_waits_for_a_reader_that_does_not_read() {
        let (socket, mut client) = pair().await;
        let mut io = socket.io(Bytes::new());
        let chunk = vec![7; 64 * 1024];
        let total = 64 * 1024 * 1024;
        let writer = flushing(&socket, async {
            for _ in 0..total / chunk.len() {
                io.write_all(&chunk).await.unwrap();
                assert!(socket.lock().pending() <= HIGH_WATER + chunk.len());
            }
            io.shutdown().await.unwrap();
        });
        let reader = async {
            let mut got = Vec::new();
            client.read_to_end(&mut got).await.unwrap();
            got.len()
        };
        let (written, read) = tokio::join!(writer, reader);
        written.unwrap();
        assert_eq!(read, total);
    }
}
