//! Whether a certificate is good enough.
//!
//! Chains are verified by rustls (webpki). Around that stands what etcd asks besides: common names
//! and host names that are allowed, a list of revoked certificates, and that a peer calls from
//! where its certificate says it lives.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::spawn_blocking;
use tokio_rustls::rustls;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{self, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList};

use super::reload::read_file;

/// Which certificates are let in, of all that an authority has signed.
#[derive(Clone, Debug, Default)]
pub(super) struct Allowed {
    /// All if empty.
    pub(super) common_names: Vec<String>,
    /// All if empty.
    pub(super) host_names: Vec<String>,
}

impl Allowed {
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let is_allowed = if !self.common_names.is_empty() {
            common_name(certificate).is_some_and(|name| self.common_names.contains(&name))
        } else if !self.host_names.is_empty() {
            self.host_names.iter().any(|name| is_for(certificate, name))
        } else {
            true
        };
        if is_allowed { Ok(()) } else { refuse("client certificate authentication failed") }
    }
}

/// Whether `certificate` was made for the host or address `name`.
fn is_for(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let (Ok(parsed), Ok(name)) =
        (ParsedCertificate::try_from(certificate), ServerName::try_from(name))
    else {
        return false;
    };
    verify_server_name(&parsed, &name).is_ok()
}

fn refuse<T>(text: impl AsRef<str>) -> Result<T, Error> {
    let other = OtherError(Arc::new(io::Error::other(text.as_ref())));
    Err(CertificateError::Other(other).into())
}

/// The common name of a certificate's subject, unless it is empty. Of several it is the last one,
/// as in Go.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut found = None;
    for (_, set) in Elements(certificate.subject()) {
        for (_, attribute) in Elements(set) {
            let mut parts = Elements(attribute);
            if let (Some((_, COMMON_NAME)), Some((_, value))) = (parts.next(), parts.next()) {
                found = Some(value);
            }
        }
    }
    let name = String::from_utf8(found?.to_vec()).ok()?;
    (!name.is_empty()).then_some(name)
}

/// The object identifier 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// The elements of a DER value, each as tag and content. It ends where something is malformed.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let [tag, length, rest @ ..] = self.0 else { return None };
        let (length, rest) = match length {
            0..=0x7f => (usize::from(*length), rest),
            0x81 | 0x82 => {
                rest.split_at_checked(usize::from(length - 0x80)).map(|(long, rest)| {
                    (long.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), rest)
                })?
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }
}

/// The list of revoked certificates, read again before every handshake.
#[derive(Debug)]
pub(super) struct Revoked {
    path: String,
    /// Held by whoever reads the file.
    reading: Arc<tokio::sync::Mutex<()>>,
    parsed: Mutex<Result<Parsed, String>>,
}

/// What the file held when it was last read, and the list in it.
type Parsed = (Vec<u8>, CertRevocationList<'static>);

impl Revoked {
    pub(super) fn new(path: &str) -> Revoked {
        let parsed = Mutex::new(Err(format!("{path} was not read yet")));
        Revoked { path: path.to_owned(), reading: Arc::default(), parsed }
    }

    /// Reads the file, on a thread that may wait for it. Fails only when the runtime ends: what
    /// else goes wrong is for [`Revoked::check`] to say.
    pub(super) async fn refresh(self: &Arc<Self>) -> io::Result<()> {
        let reading = self.reading.clone().lock_owned().await;
        let revoked = self.clone();
        let read = move || {
            let _reading = reading;
            revoked.read();
        };
        Ok(spawn_blocking(read).await?)
    }

    fn read(&self) {
        let parsed = match read_file(&self.path) {
            Ok(content) if self.parsed().as_ref().is_ok_and(|(had, _)| *had == content) => return,
            Ok(content) => revocation_list(&content)
                .map(|list| (content, list))
                .map_err(|error| format!("{}: {error}", self.path)),
            Err(error) => Err(error),
        };
        *self.parsed() = parsed;
    }

    fn parsed(&self) -> MutexGuard<'_, Result<Parsed, String>> {
        self.parsed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails if one of `certificates` is revoked, or if the list could not be read: whoever keeps
    /// such a list does not want anybody to slip past it.
    fn check<'a>(
        &self,
        certificates: impl Iterator<Item = &'a CertificateDer<'a>>,
    ) -> Result<(), Error> {
        let parsed = self.parsed();
        let (_, list) = parsed.as_ref().or_else(refuse)?;
        for certificate in certificates {
            let Ok(certificate) = EndEntityCert::try_from(certificate) else {
                return Err(CertificateError::BadEncoding.into());
            };
            let serial = certificate.serial();
            if !matches!(list.find_serial(serial), Ok(None)) {
                let digits: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
                return refuse(format!("transport: certificate serial {digits} revoked"));
            }
        }
        Ok(())
    }
}

/// A list in PEM or DER.
fn revocation_list(content: &[u8]) -> Result<CertRevocationList<'static>, String> {
    let der = CertificateRevocationListDer::from_pem_slice(content).map(|der| der.to_vec());
    let der = der.as_deref().unwrap_or(content);
    OwnedCertRevocationList::from_der(der)
        .map(CertRevocationList::from)
        .map_err(|error| format!("not a certificate revocation list: {error}"))
}

/// Whether `certificate` failed with `error` only because it may also sign others, and is itself
/// one of the trusted ones: Go takes it then. It is what `openssl req -x509` makes.
fn is_trusted_itself(
    trusted: &[CertificateDer<'static>],
    certificate: &CertificateDer<'_>,
    error: &Error,
) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) = error else {
        return false;
    };
    // webpki asks for the time before it asks for this.
    matches!(cause.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        && trusted.iter().any(|one| one.as_ref() == certificate.as_ref())
}

/// Verifies certificates of clients, which must have one.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    pub(super) chains: Arc<dyn ClientCertVerifier>,
    pub(super) trusted: Vec<CertificateDer<'static>>,
    pub(super) allowed: Allowed,
    pub(super) revoked: Option<Arc<Revoked>>,
}

impl ClientCertVerifier for ClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Err(error) = self.chains.verify_client_cert(end_entity, intermediates, now)
            && !is_trusted_itself(&self.trusted, end_entity, &error)
        {
            return Err(error);
        }
        self.allowed.check(end_entity)?;
        if let Some(revoked) = &self.revoked {
            revoked.check(std::iter::once(end_entity).chain(intermediates))?;
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Which authorities a server's certificate may come from.
#[derive(Debug)]
pub(super) enum Chains {
    /// Anybody is believed.
    Any,
    Verified(Arc<WebPkiServerVerifier>),
    /// Nobody is, for this reason.
    None(String),
}

/// Verifies certificates of servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    pub(super) chains: Chains,
    pub(super) trusted: Vec<CertificateDer<'static>>,
    pub(super) allowed: Allowed,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.chains {
            Chains::Any => {}
            Chains::Verified(chains) => {
                let verified = chains.verify_server_cert(
                    end_entity,
                    intermediates,
                    server_name,
                    ocsp_response,
                    now,
                );
                if let Err(error) = verified {
                    if !is_trusted_itself(&self.trusted, end_entity, &error) {
                        return Err(error);
                    }
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
            }
            Chains::None(reason) => return refuse(reason),
        }
        self.allowed.check(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The addresses among the names of a certificate, which are told as `IpAddress(127.0.0.1)`.
fn addresses_of(presented: &[String]) -> Vec<&str> {
    let names = presented.iter();
    names.filter_map(|name| name.strip_prefix("IpAddress(")?.strip_suffix(')')).collect()
}

/// Fails unless whoever calls from `address` is named by `certificate`: the address itself, a name
/// that the address has, or a name that has the address. A certificate without names is not asked.
pub(super) async fn check_address(
    certificate: &CertificateDer<'_>,
    address: IpAddr,
) -> Result<(), String> {
    // A listener of both families sees IPv4 as ::ffff:a.b.c.d, which no certificate names.
    let address = address.to_canonical();
    let (names, presented) = {
        let parsed = EndEntityCert::try_from(certificate).map_err(|error| error.to_string())?;
        let names: Vec<_> = parsed.valid_dns_names().map(str::to_owned).collect();
        match parsed.verify_is_valid_for_subject_name(&address.into()) {
            Ok(()) => return Ok(()),
            // What it is for instead; a name that is neither host nor address does not count.
            Err(webpki::Error::CertNotValidForName(found)) => (names, found.presented),
            Err(error) => return Err(error.to_string()),
        }
    };
    if names.is_empty() {
        let is_host = |name: &String| name.starts_with("IpAddress") || name.starts_with("DnsName");
        if !presented.iter().any(is_host) {
            return Ok(());
        }
        let valid = addresses_of(&presented).join(", ");
        return Err(format!("x509: certificate is valid for {valid}, not {address}"));
    }
    // It may ask a name server, and not answer for seconds.
    let reverse = spawn_blocking(move || dns_lookup::lookup_addr(&address)).await;
    let own_name = reverse.ok().and_then(Result::ok).unwrap_or_default();
    let own_name = own_name.trim_end_matches('.');
    for name in &names {
        let is_own = match name.strip_prefix('*') {
            Some(suffix) => own_name.ends_with(suffix),
            None => own_name == name,
        };
        if is_own {
            return Ok(());
        }
    }
    for name in names.iter().filter(|name| !name.starts_with('*')) {
        if let Ok(mut found) = tokio::net::lookup_host((name.as_str(), 0)).await
            && found.any(|found| found.ip() == address)
        {
            return Ok(());
        }
    }
    Err(format!("tls: \"{address}\" does not match any of DNSNames {names:?}"))
}
