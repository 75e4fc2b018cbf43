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
    server_name: Option<String>,
}

/// What a command's endpoints have in common.
pub(super) struct Dialers {
    tls: Option<Arc<Connector>>,
    /// For `https`, when no flag speaks of TLS.
    fallback: Option<Arc<Connector>>,
    skip_verify: bool,
    server_name: Option<String>,
    /// What is spoken, if that is negotiated.
    protocol: Option<&'static str>,
}

impl Dialers {
    /// Dialers for gRPC. Reads the files that the flags name.
    pub(super) fn new(tls: &Tls) -> Result<Dialers, RpcError> {
        Dialers::speaking(tls, Some("h2"))
    }

    /// Dialers for plain HTTP.
    pub(super) fn for_pages(tls: &Tls) -> Result<Dialers, RpcError> {
        Dialers::speaking(tls, None)
    }

    fn speaking(tls: &Tls, protocol: Option<&'static str>) -> Result<Dialers, RpcError> {
        let is_wanted = tls.certificate.is_some()
            || tls.trusted_ca.is_some()
            || tls.server_name.is_some()
            || !tls.insecure_transport;
        let mut dialers = Dialers {
            tls: None,
            fallback: None,
            skip_verify: tls.skip_verify,
            server_name: tls.server_name.clone(),
            protocol,
        };
        if is_wanted {
            dialers.tls = Some(connector(tls, protocol)?);
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
        Ok((endpoint, Dialer { url, tls, server_name: self.server_name.clone() }))
    }

    fn fallback(&mut self) -> Result<Arc<Connector>, RpcError> {
        if let Some(connector) = &self.fallback {
            return Ok(connector.clone());
        }
        let tls = Tls { skip_verify: self.skip_verify, ..Tls::default() };
        let connector = connector(&tls, self.protocol)?;
        self.fallback = Some(connector.clone());
        Ok(connector)
    }
}

fn connector(tls: &Tls, protocol: Option<&'static str>) -> Result<Arc<Connector>, RpcError> {
    let path = |path: &Option<String>| path.clone().unwrap_or_default();
    let identity = Identity {
        cert_file: path(&tls.certificate),
        key_file: path(&tls.key),
        trusted_ca_file: path(&tls.trusted_ca),
        skip_verify: tls.skip_verify,
        protocol,
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
    // `unix:path` is gRPC's own way to write it, `unixs:path` what etcd's client makes of that.
    for (prefix, secure) in [("unix:", false), ("unixs:", true)] {
        let path = text.strip_prefix(prefix).filter(|path| !path.starts_with("//"));
        if let Some(path) = path {
            let url = Url { secure, address: Address::Unix(path.to_owned()) };
            return Ok(Parsed { url, scheme_left_open: !secure });
        }
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
    /// The name of the server, as requests tell it.
    pub(super) fn host(&self) -> &str {
        self.url.host()
    }

    pub(super) async fn dial(self) -> io::Result<TokioIo<Stream>> {
        let stream = Bare::connect(&self.url.address).await?;
        if let Some(stream) = stream.tcp() {
            stream.set_nodelay(true)?;
        }
        let stream = match &self.tls {
            None => Stream::Bare(stream),
            Some(tls) => {
                let name = self.server_name.as_deref().unwrap_or(self.url.host());
                tls.connect(stream, name).await?
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctl_01_endpoints_may_be_unix_sockets() {
        for (text, secure, path, left_open) in [
            ("unix:a/b", false, "a/b", true),
            ("unix:///a", false, "/a", true),
            ("unixs:localhost:2379", true, "localhost:2379", false),
            ("unixs://localhost:2379", true, "localhost:2379", false),
        ] {
            let parsed = parse(text).unwrap();
            let url = Url { secure, address: Address::Unix(path.to_owned()) };
            assert_eq!((parsed.url, parsed.scheme_left_open), (url, left_open), "{text}");
        }
    }
}
