//! Connections of a command: over TCP or a unix socket, plain or with TLS.
//!
//! The schemes mean what they mean to etcd's client: `http` is plain and `https` is TLS, whatever
//! the flags say; without a scheme, and with `unix`, it is TLS if one of the flags speaks of it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use coracle_core::error::Code;
use coracle_ctl::client::RpcError;
use coracle_ctl::environment::Tls;
use hyper_util::rt::TokioIo;
use tonic::transport::{Endpoint, Uri};
use tower_service::Service;

use super::client::rpc_error;
use crate::config::urls::{Address, Url};
use crate::net::{Bare, Stream};
use crate::tls::{Connector, Identity, Policy};

/// Dials one endpoint.
#[derive(Clone, Debug)]
pub(super) struct Dialer {
    url: Url,
    tls: Option<Arc<Connector>>,
}

/// What a command's endpoints have in common.
pub(super) struct Dialers {
    tls: Option<Arc<Connector>>,
    /// For `https`, when no flag speaks of TLS.
    fallback: Option<Arc<Connector>>,
    skip_verify: bool,
}

impl Dialers {
    /// Reads the files that the flags name.
    pub(super) fn new(tls: &Tls) -> Result<Dialers, RpcError> {
        let is_wanted =
            tls.certificate.is_some() || tls.trusted_ca.is_some() || !tls.insecure_transport;
        let mut dialers = Dialers { tls: None, fallback: None, skip_verify: tls.skip_verify };
        if is_wanted {
            dialers.tls = Some(connector(tls)?);
        }
        Ok(dialers)
    }

    /// What dials the endpoint `text`, and how tonic is to call it.
    pub(super) fn endpoint(&mut self, text: &str) -> Result<(Endpoint, Dialer), RpcError> {
        let url = parse(text)?;
        let is_open = url.scheme_left_open;
        let url = url.url;
        let tls = if url.secure || is_open { self.tls.clone() } else { None };
        let tls = match tls {
            None if url.secure => Some(self.fallback()?),
            tls => tls,
        };
        let authority = match &url.address {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(_) => "localhost".to_owned(),
        };
        let bad = |error| invalid(format!("bad endpoint {text}: {error}"));
        // To tonic it is always plain: the dialer does the rest. The servers see the true scheme.
        let mut endpoint =
            Endpoint::from_shared(format!("http://{authority}")).map_err(|e| bad(e.to_string()))?;
        if tls.is_some() {
            let origin = format!("https://{authority}").parse::<Uri>();
            endpoint = endpoint.origin(origin.map_err(|error| bad(error.to_string()))?);
        }
        Ok((endpoint, Dialer { url, tls }))
    }

    fn fallback(&mut self) -> Result<Arc<Connector>, RpcError> {
        if let Some(connector) = &self.fallback {
            return Ok(connector.clone());
        }
        let connector = connector(&Tls { skip_verify: self.skip_verify, ..Tls::default() })?;
        self.fallback = Some(connector.clone());
        Ok(connector)
    }
}

fn connector(tls: &Tls) -> Result<Arc<Connector>, RpcError> {
    let path = |path: &Option<String>| path.clone().unwrap_or_default();
    let identity = Identity {
        cert_file: path(&tls.certificate),
        key_file: path(&tls.key),
        trusted_ca_file: path(&tls.trusted_ca),
        skip_verify: tls.skip_verify,
        protocol: Some("h2"),
    };
    Connector::new(identity, &Policy::default()).map(Arc::new).map_err(invalid)
}

struct Parsed {
    url: Url,
    /// Whether the flags decide about TLS.
    scheme_left_open: bool,
}

fn parse(text: &str) -> Result<Parsed, RpcError> {
    let bad = |error| invalid(format!("bad endpoint {text}: {error}"));
    // `unix:path` is gRPC's own way to write it.
    let unix = text.strip_prefix("unix:").filter(|path| !path.starts_with("//"));
    if let Some(path) = unix {
        let url = Url { secure: false, address: Address::Unix(path.to_owned()) };
        return Ok(Parsed { url, scheme_left_open: true });
    }
    if text.contains("://") {
        let url = Url::parse(text.trim_end_matches('/')).map_err(bad)?;
        let scheme_left_open = text.starts_with("unix://");
        return Ok(Parsed { url, scheme_left_open });
    }
    let url = Url::parse(&format!("http://{text}")).map_err(bad)?;
    Ok(Parsed { url, scheme_left_open: true })
}

fn invalid(text: String) -> RpcError {
    rpc_error(Code::InvalidArgument, text)
}

impl Dialer {
    async fn dial(self) -> io::Result<TokioIo<Stream>> {
        let stream = Bare::connect(&self.url.address).await?;
        if let Some(stream) = stream.tcp() {
            stream.set_nodelay(true)?;
        }
        let stream = match &self.tls {
            None => Stream::Bare(stream),
            Some(tls) => tls.connect(stream, self.url.host()).await?,
        };
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Dialer {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().dial())
    }
}
