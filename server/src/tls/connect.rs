//! The client's side of a handshake.

use std::io;
use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::{TlsConnector, TlsStream};

use super::accept::{
    allowed, certificates, check_allowed, native_certificates, private_key, root_store,
};
use super::policy::Policy;
use super::reload::{Contents, Reloaded};
use super::verify::{Allowed, Chains, ServerVerifier};
use crate::config::settings::TlsSide;
use crate::net::{Bare, Stream};

/// What a client shows, and whom it trusts. Files that are not given are empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) cert_file: String,
    pub(crate) key_file: String,
    /// The machine's own authorities if empty.
    pub(crate) trusted_ca_file: String,
    /// Takes any certificate of the server.
    pub(crate) skip_verify: bool,
    /// What is spoken, if that is negotiated.
    pub(crate) protocol: Option<&'static str>,
}

/// Does the client's part of handshakes.
#[derive(Debug)]
pub(crate) struct Connector {
    config: Reloaded<Arc<ClientConfig>>,
}

impl Connector {
    /// A connector to servers that anybody may run.
    pub(crate) fn new(identity: Identity, policy: &Policy) -> Result<Connector, String> {
        Connector::with(identity, Allowed::default(), policy)
    }

    /// A member's connector to its peers.
    pub(crate) fn to_peers(files: &TlsSide, policy: &Policy) -> Result<Connector, String> {
        if files.client_cert_file.is_empty() != files.client_key_file.is_empty() {
            return Err(format!(
                "ClientKeyFile and ClientCertFile must both be present or both absent: key: {}, \
                 cert: {}]",
                files.client_key_file, files.client_cert_file
            ));
        }
        check_allowed(files)?;
        let (cert_file, key_file) = match files.client_cert_file.as_str() {
            "" => (files.cert_file.clone(), files.key_file.clone()),
            _ => (files.client_cert_file.clone(), files.client_key_file.clone()),
        };
        let identity = Identity {
            cert_file,
            key_file,
            trusted_ca_file: files.trusted_ca_file.clone(),
            skip_verify: files.auto,
            protocol: None,
        };
        Connector::with(identity, allowed(files), policy)
    }

    fn with(identity: Identity, allowed: Allowed, policy: &Policy) -> Result<Connector, String> {
        let mut paths = Vec::new();
        if !identity.cert_file.is_empty() {
            paths.extend([identity.cert_file.clone(), identity.key_file.clone()]);
        }
        if !identity.trusted_ca_file.is_empty() {
            paths.push(identity.trusted_ca_file.clone());
        }
        let policy = policy.clone();
        let make = move |contents: &Contents| {
            client_config(contents, &identity, &allowed, &policy).map(Arc::new)
        };
        Ok(Connector { config: Reloaded::load(paths, make)? })
    }

    /// Does a handshake with the server at `host`. Give it a deadline.
    pub(crate) async fn connect(&self, stream: Bare, host: &str) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(self.config.current().await?);
        let stream = connector.connect(name, stream).await?;
        Ok(Stream::Secure(Box::new(TlsStream::Client(stream))))
    }
}

/// A configuration of the contents of certificate and key, if there are any, then of authorities,
/// if there are any.
fn client_config(
    contents: &Contents,
    identity: &Identity,
    allowed: &Allowed,
    policy: &Policy,
) -> Result<ClientConfig, String> {
    let own = if identity.cert_file.is_empty() { 0 } else { 2 };
    let trusted = match contents.get(own) {
        _ if identity.skip_verify => Ok(Vec::new()),
        Some(content) => Ok(certificates(content)?),
        // Without them a member that never dials with TLS must start all the same.
        None => native_certificates(),
    };
    let chains = match &trusted {
        _ if identity.skip_verify => Chains::Any,
        Ok(trusted) => {
            let roots = Arc::new(root_store(trusted));
            let provider = policy.provider.clone();
            let chains = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
            Chains::Verified(chains.map_err(|error| error.to_string())?)
        }
        Err(reason) => Chains::None(reason.clone()),
    };
    let trusted = trusted.unwrap_or_default();
    let algorithms = policy.provider.signature_verification_algorithms;
    let verifier = ServerVerifier { chains, trusted, allowed: allowed.clone(), algorithms };
    let builder = ClientConfig::builder_with_provider(policy.provider.clone())
        .with_protocol_versions(&policy.versions)
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &contents[..own] {
        [chain, key] => builder
            .with_client_auth_cert(certificates(chain)?, private_key(key)?)
            .map_err(|error| error.to_string())?,
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols.extend(identity.protocol.map(|name| name.as_bytes().to_vec()));
    Ok(config)
}
