//! The server's side of a handshake.

use std::io;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::policy::Policy;
use super::reload::{Contents, Reloaded};
use super::verify::{self, Allowed, ClientVerifier, Revoked};
use crate::config::settings::TlsSide;
use crate::front::Remote;
use crate::net::{Bare, Stream};

/// Whom an acceptor is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Protocols are negotiated: HTTP/2 and HTTP/1.1.
    Clients,
    /// One protocol; and a peer must call from where its certificate says it lives.
    Peers,
}

/// Does the server's part of handshakes.
#[derive(Debug)]
pub(crate) struct Acceptor {
    config: Reloaded<Arc<ServerConfig>>,
    revoked: Option<Arc<Revoked>>,
    checks_address: bool,
    /// Whether a certificate's common name may stand for a user: only with `client-cert-auth`.
    names_users: bool,
}

impl Acceptor {
    /// An acceptor as the flags of one side say, or what is wrong with them or with their files.
    pub(crate) fn new(files: &TlsSide, side: Side, policy: &Policy) -> Result<Acceptor, String> {
        if files.cert_file.is_empty() || files.key_file.is_empty() {
            return Err(format!(
                "KeyFile and CertFile must both be present[key: {}, cert: {}]",
                files.key_file, files.cert_file
            ));
        }
        check_allowed(files)?;
        let mut paths = vec![files.cert_file.clone(), files.key_file.clone()];
        if !files.trusted_ca_file.is_empty() {
            paths.push(files.trusted_ca_file.clone());
        }
        let checks_address = side == Side::Peers && !files.skip_client_san_verification;
        let revoked = match files.crl_file.as_str() {
            "" => None,
            path => Some(Arc::new(Revoked::new(path))),
        };
        let make = {
            let (files, policy, revoked) = (files.clone(), policy.clone(), revoked.clone());
            move |contents: &Contents| {
                server_config(contents, &files, side, &policy, revoked.clone()).map(Arc::new)
            }
        };
        let config = Reloaded::load(paths, make)?;
        Ok(Acceptor { config, revoked, checks_address, names_users: files.client_cert_auth })
    }

    /// Does a handshake. It takes as long as the client lets it: give it a deadline.
    pub(crate) async fn accept(&self, stream: Bare) -> io::Result<(Stream, Remote)> {
        let address = stream.remote_address();
        let config = self.config.current().await?;
        if let Some(revoked) = &self.revoked {
            revoked.refresh().await?;
        }
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let mut common_name = None;
        if let Some(certificate) = certificates.first() {
            if let (true, Some(address)) = (self.checks_address, address) {
                let checked = verify::check_address(certificate, address.ip()).await;
                checked.map_err(io::Error::other)?;
            }
            if self.names_users {
                common_name = verify::common_name(certificate).map(Arc::from);
            }
        }
        let stream = Stream::Secure(Box::new(TlsStream::Server(stream)));
        Ok((stream, Remote { secure: true, common_name }))
    }
}

/// The lists exclude each other, as with etcd.
pub(super) fn check_allowed(files: &TlsSide) -> Result<(), String> {
    if files.allowed_cns.is_empty() || files.allowed_hostnames.is_empty() {
        return Ok(());
    }
    Err(format!(
        "AllowedCNs and AllowedHostnames are mutually exclusive (cns={:?}, hostnames={:?})",
        files.allowed_cns, files.allowed_hostnames
    ))
}

pub(super) fn allowed(files: &TlsSide) -> Allowed {
    Allowed { common_names: files.allowed_cns.clone(), host_names: files.allowed_hostnames.clone() }
}

/// A configuration of the contents of certificate, key, and authorities if there are any.
fn server_config(
    contents: &Contents,
    files: &TlsSide,
    side: Side,
    policy: &Policy,
    revoked: Option<Arc<Revoked>>,
) -> Result<ServerConfig, String> {
    let builder = ServerConfig::builder_with_provider(policy.provider.clone())
        .with_protocol_versions(&policy.versions)
        .map_err(|error| error.to_string())?;
    // Authorities alone are a demand for certificates, as with etcd.
    let demands = files.client_cert_auth || contents.len() > 2;
    let builder = if demands {
        let trusted = match contents.get(2) {
            Some(content) => certificates(content)?,
            None => native_certificates()?,
        };
        let roots = Arc::new(root_store(&trusted));
        let chains =
            WebPkiClientVerifier::builder_with_provider(roots, policy.provider.clone()).build();
        let chains = chains.map_err(|error| error.to_string())?;
        let verifier = ClientVerifier { chains, trusted, allowed: allowed(files), revoked };
        builder.with_client_cert_verifier(Arc::new(verifier))
    } else {
        builder.with_no_client_auth()
    };
    let [chain, key, ..] = &contents[..] else { return Err("no certificate".to_owned()) };
    let mut config = builder
        .with_single_cert(certificates(chain)?, private_key(key)?)
        .map_err(|error| error.to_string())?;
    if side == Side::Clients {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    if demands {
        // A resumed session would be let in by a certificate that was revoked meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// All certificates of a PEM file; one at least.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| error.to_string())?;
    if certificates.is_empty() {
        return Err("no certificate in PEM form".to_owned());
    }
    Ok(certificates)
}

pub(super) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| format!("no private key: {error}"))
}

pub(super) fn root_store(trusted: &[CertificateDer<'static>]) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // One that does not parse can have signed nothing.
    roots.add_parsable_certificates(trusted.iter().cloned());
    roots
}

/// The authorities that this machine trusts.
pub(super) fn native_certificates() -> Result<Vec<CertificateDer<'static>>, String> {
    let loaded = rustls_native_certs::load_native_certs();
    if loaded.certs.is_empty() {
        return Err("this machine has no trusted authorities: name a file of them".to_owned());
    }
    Ok(loaded.certs)
}
