//! TLS for clients and for peers, on both sides of the wire (ETCD.md TLS-01, TLS-02).
//!
//! [`Acceptor`] is the server's side and [`Connector`] the client's: that of `coracle ctl`, and of
//! a member that dials another. What they have in common:
//!
//! - `policy`: versions and cipher suites, in Go's spelling.
//! - `reload`: certificates, keys and authorities are read again for every handshake, so that
//!   replacing a file is all that a rotation takes. Only content that has changed is parsed.
//! - `verify`: chains of certificates, and what is asked of them beyond that: names that are
//!   allowed, lists of revoked certificates, addresses.
//! - `self_signed`: `--auto-tls`.
//!
//! The library is rustls on aws-lc-rs: of the two providers it is the one that knows P-521, the
//! curve of the keys that etcd's own `--auto-tls` leaves in a data directory.
//!
//! Invariants: nothing here blocks other connections: a handshake is part of its own connection's
//! task (a peer's has a thread for it), and files are read on threads that may wait. A file that
//! cannot be used is said once and does not take away what worked before, except a list of revoked
//! certificates, without which nobody is let in.

mod accept;
mod connect;
mod policy;
mod reload;
mod self_signed;
#[cfg(test)]
mod tests;
mod verify;

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::{self, AlertDescription};

pub(crate) use self::accept::Acceptor;
use self::accept::Side;
pub(crate) use self::connect::{Connector, Identity};
pub(crate) use self::policy::Policy;
#[cfg(test)]
pub(crate) use self::tests::self_signed_pair;
use crate::config::Config;
use crate::config::settings::TlsSide;
use crate::config::urls::Url;

/// What went wrong on a connection; that the other side does not take our certificate, in etcd's
/// words.
pub(crate) fn told(error: &io::Error) -> String {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(
            AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA,
        )) => "remote error: tls: bad certificate".to_owned(),
        _ => error.to_string(),
    }
}

/// What a server needs for the URLs that it listens on and dials.
pub(crate) struct Security {
    /// For clients, if one of the URLs asks for it.
    pub(crate) clients: Option<Arc<Acceptor>>,
    /// For peers, if one of the URLs asks for it.
    pub(crate) peers: Option<Arc<Acceptor>>,
    pub(crate) to_peers: Connector,
}

impl Security {
    /// Reads, and with `--auto-tls` makes, everything that `config` names.
    pub(crate) fn new(config: &Config) -> Result<Security, String> {
        let tls = &config.tls;
        let policy = Policy::new(&tls.cipher_suites, &tls.min_version, &tls.max_version)?;
        if !policy.left_out.is_empty() {
            let suites = policy.left_out.join(",");
            tracing::warn!(
                suites,
                "ignoring TLS cipher suites that are not implemented: weak ones"
            );
        }
        let client_urls = [
            config.listen_client_urls.as_slice(),
            config.listen_client_http_urls.as_slice(),
            config.listen_metrics_urls.as_slice(),
        ];
        let client_urls = client_urls.concat();
        let years = tls.self_signed_validity_years;
        let with_own = |files: &TlsSide, side: &str, urls: &[Url]| {
            let folder = config.data_dir.join("fixtures").join(side);
            with_own_certificate(files, side, &folder, urls, years)
        };
        let clients = with_own(&tls.client, "client", &client_urls)?;
        let peers = with_own(&tls.peer, "peer", &config.listen_peer_urls)?;
        let serving = [&config.listen_client_urls[..], &config.listen_client_http_urls].concat();
        check_urls(&serving, &clients, "--cert-file, --key-file", "client")?;
        let has_files = !(clients.cert_file.is_empty() && clients.key_file.is_empty());
        if !has_files && config.listen_metrics_urls.iter().any(|url| url.secure) {
            let text = "client TLS key/cert (--cert-file, --key-file) must be provided for \
                        metrics secure url";
            return Err(text.to_owned());
        }
        check_urls(&config.listen_peer_urls, &peers, "--peer-cert-file, --peer-key-file", "peer")?;
        let acceptor = |urls: &[Url], files: &TlsSide, side: Side| {
            let is_secure = urls.iter().any(|url| url.secure);
            is_secure.then(|| Acceptor::new(files, side, &policy).map(Arc::new)).transpose()
        };
        Ok(Security {
            clients: acceptor(&client_urls, &clients, Side::Clients)?,
            peers: acceptor(&config.listen_peer_urls, &peers, Side::Peers)?,
            to_peers: Connector::to_peers(&peers, &policy)?,
        })
    }
}

/// `files` with a certificate of the server's own, if that was asked for and there is no other.
fn with_own_certificate(
    files: &TlsSide,
    side: &str,
    folder: &Path,
    urls: &[Url],
    years: u64,
) -> Result<TlsSide, String> {
    let mut files = files.clone();
    if files.auto && !(files.cert_file.is_empty() && files.key_file.is_empty()) {
        tracing::warn!("ignoring {side} auto TLS since certs given");
        files.auto = false;
    }
    if files.auto {
        let hosts: Vec<_> = urls.iter().map(|url| url.host().to_owned()).collect();
        (files.cert_file, files.key_file) = self_signed::self_signed(folder, &hosts, years)?;
    }
    Ok(files)
}

/// Says which URLs and files do not go together, in etcd's words.
fn check_urls(urls: &[Url], files: &TlsSide, flags: &str, side: &str) -> Result<(), String> {
    let has_files = !(files.cert_file.is_empty() && files.key_file.is_empty());
    for url in urls {
        if url.secure && !has_files {
            return Err(format!(
                "TLS key/cert ({flags}) must be provided for {side} url {url} with HTTPS scheme"
            ));
        }
        if !url.secure && has_files {
            tracing::warn!(
                %url,
                "scheme is http or unix while key and cert files are present; ignoring key and \
                 cert files"
            );
        }
        if !url.secure && files.client_cert_auth {
            tracing::warn!(
                %url,
                "scheme is http or unix while --client-cert-auth is enabled; ignoring client cert \
                 auth for this URL"
            );
        }
    }
    Ok(())
}
