//! A tonic channel over one TLS connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint, Uri};
use tower_service::Service;

use super::client::config;

/// Windows as large as those of clients that download much.
const WINDOW: u32 = 16 * 1024 * 1024;

/// Connects to the server at `address` as `flags` (those of `etcdctl`) say.
pub async fn connect(address: &str, flags: &str) -> Result<Channel> {
    let mut config = config(flags)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let dialer =
        Dialer { address: address.to_owned(), config: TlsConnector::from(Arc::new(config)) };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW);
    Ok(endpoint.connect_with_connector(dialer).await?)
}

#[derive(Clone)]
struct Dialer {
    address: String,
    config: TlsConnector,
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Dialer { address, config } = self.clone();
        Box::pin(async move {
            let name = ServerName::try_from("127.0.0.1").map_err(io::Error::other)?;
            let stream = TcpStream::connect(&address).await?;
            config.connect(name, stream).await.map(TokioIo::new)
        })
    }
}
