//! Sockets of any kind as one: TCP or unix, plain or with TLS.
//!
//! A listening socket is bound before anything is started, outside of any runtime, and an accepted
//! one may be handed to another thread's runtime: hence the pairs of types.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net as unix;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{fs, net};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream, lookup_host};
use tokio_rustls::TlsStream;

use crate::config::urls::{self, Address};

const LISTEN_BACKLOG: i32 = 1024;

/// Options of listening TCP sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketOptions {
    /// Several processes may listen on one port; the kernel shares connections out.
    pub(crate) reuse_port: bool,
}

/// A bound socket that belongs to no runtime yet.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(net::TcpListener),
    Unix(unix::UnixListener, SocketFile),
}

/// The file of a listening unix socket. It goes with the listener: nobody would answer there.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Whoever listens there next removes a file that is left over.
        _ = fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds a socket to `address`.
    pub(crate) fn bind(address: &Address, options: SocketOptions) -> io::Result<Listener> {
        match address {
            Address::Tcp { host, port } => {
                bind_tcp(urls::bind_address(host, *port)?, options).map(Listener::Tcp)
            }
            Address::Unix(path) => bind_unix(path.into()),
        }
    }

    /// The same on the runtime of the caller.
    pub(crate) fn into_async(self) -> io::Result<AsyncListener> {
        Ok(match self {
            Listener::Tcp(listener) => AsyncListener::Tcp(TcpListener::from_std(listener)?),
            Listener::Unix(listener, file) => {
                AsyncListener::Unix(UnixListener::from_std(listener)?, file)
            }
        })
    }
}

fn bind_tcp(address: SocketAddr, options: SocketOptions) -> io::Result<net::TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections of the former process to be forgotten.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(LISTEN_BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A file that a killed process left behind is replaced, as etcd does.
fn bind_unix(path: PathBuf) -> io::Result<Listener> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = unix::UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    Ok(Listener::Unix(listener, SocketFile(path)))
}

/// A listening socket on a runtime.
pub(crate) enum AsyncListener {
    Tcp(TcpListener),
    /// The file is held for as long as it is listened on.
    Unix(UnixListener, #[allow(dead_code)] SocketFile),
}

impl AsyncListener {
    /// The next connection, still of no runtime.
    pub(crate) async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            AsyncListener::Tcp(listener) => Accepted::Tcp(listener.accept().await?.0.into_std()?),
            AsyncListener::Unix(listener, _) => {
                Accepted::Unix(listener.accept().await?.0.into_std()?)
            }
        })
    }
}

/// A connection that belongs to no runtime yet.
pub(crate) enum Accepted {
    Tcp(net::TcpStream),
    Unix(unix::UnixStream),
}

impl Accepted {
    /// The same on the runtime of the caller.
    pub(crate) fn into_async(self) -> io::Result<Bare> {
        Ok(match self {
            Accepted::Tcp(stream) => Bare::Tcp(TcpStream::from_std(stream)?),
            Accepted::Unix(stream) => Bare::Unix(UnixStream::from_std(stream)?),
        })
    }
}

/// A connection without TLS, or beneath it.
#[derive(Debug)]
pub(crate) enum Bare {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Bare {
    /// Dials `address`.
    pub(crate) async fn connect(address: &Address) -> io::Result<Bare> {
        Ok(match address {
            Address::Tcp { host, port } => {
                Bare::Tcp(TcpStream::connect((host.as_str(), *port)).await?)
            }
            Address::Unix(path) => Bare::Unix(UnixStream::connect(path).await?),
        })
    }

    /// Dials `address` from `local`, an address of this machine; without one, or to a unix socket,
    /// from wherever the system likes.
    pub(crate) async fn connect_from(address: &Address, local: Option<IpAddr>) -> io::Result<Bare> {
        let (Address::Tcp { host, port }, Some(local)) = (address, local) else {
            return Bare::connect(address).await;
        };
        let mut failure = io::ErrorKind::AddrNotAvailable.into();
        for remote in lookup_host((host.as_str(), *port)).await? {
            if remote.is_ipv4() != local.is_ipv4() {
                continue;
            }
            let socket = if local.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
            socket.bind(SocketAddr::new(local, 0))?;
            match socket.connect(remote).await {
                Ok(stream) => return Ok(Bare::Tcp(stream)),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The socket, where it has TCP's options.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Bare::Tcp(stream) => Some(stream),
            Bare::Unix(_) => None,
        }
    }

    /// The first byte that the other end sends, which stays to be read.
    pub(crate) async fn first_byte(&self) -> io::Result<u8> {
        fn peek(socket: SockRef<'_>) -> io::Result<u8> {
            let mut byte = [MaybeUninit::new(0)];
            match socket.peek(&mut byte)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                // SAFETY: it was initialized before the system may have written it.
                _ => Ok(unsafe { byte[0].assume_init() }),
            }
        }
        match self {
            Bare::Tcp(stream) => {
                stream.async_io(Interest::READABLE, || peek(SockRef::from(stream))).await
            }
            Bare::Unix(stream) => {
                stream.async_io(Interest::READABLE, || peek(SockRef::from(stream))).await
            }
        }
    }

    /// The other end's address; none on a unix socket.
    pub(crate) fn remote_address(&self) -> Option<SocketAddr> {
        self.tcp()?.peer_addr().ok()
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Stream {
    Bare(Bare),
    Secure(Box<TlsStream<Bare>>),
}

/// Reads and writes through the stream within, whatever kind it is.
macro_rules! delegate {
    ($type:ident { $($variant:ident)+ }) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($type::$variant(stream) => Pin::new(stream).poll_read(cx, buffer),)+
                }
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                data: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $($type::$variant(stream) => Pin::new(stream).poll_write(cx, data),)+
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                slices: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    $($type::$variant(stream) => Pin::new(stream).poll_write_vectored(cx, slices),)+
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    $($type::$variant(stream) => stream.is_write_vectored(),)+
                }
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($type::$variant(stream) => Pin::new(stream).poll_flush(cx),)+
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    $($type::$variant(stream) => Pin::new(stream).poll_shutdown(cx),)+
                }
            }
        }
    };
}

delegate!(Bare { Tcp Unix });
delegate!(Stream { Bare Secure });
