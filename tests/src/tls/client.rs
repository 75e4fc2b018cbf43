//! Clients of a server: `etcdctl`, `coracle ctl`, and a bare connection that asks for `/version`.
//!
//! All of them take `etcdctl`'s flags, separated by spaces; the bare one also `tls=1.2` and
//! `tls=1.3`, which limit it to that version.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio_rustls::rustls;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
    StreamOwned,
};

use crate::programs::{self, EtcdctlRelease};

/// How long a call that must succeed may take; a failure is awaited for a shorter time.
const PATIENCE: Duration = Duration::from_secs(20);

/// What asks the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Etcdctl35,
    Etcdctl34,
    CoracleCtl,
    Bare,
}

impl Client {
    pub const ALL: [Client; 4] =
        [Client::Etcdctl35, Client::Etcdctl34, Client::CoracleCtl, Client::Bare];

    /// Asks the server at `endpoint`. It is `expected` to succeed or to fail, which only decides
    /// how long to wait for it.
    pub fn ask(self, endpoint: &str, flags: &str, expected: bool) -> Result<()> {
        let mut command = match self {
            Client::Bare => return bare(endpoint, flags).map(drop),
            Client::Etcdctl35 => Command::new(programs::etcdctl(EtcdctlRelease::V35)?),
            Client::Etcdctl34 => Command::new(programs::etcdctl(EtcdctlRelease::V34)?),
            Client::CoracleCtl => {
                let mut command = Command::new(programs::coracle()?);
                command.arg("ctl");
                command
            }
        };
        let patience = if expected { PATIENCE.as_secs() } else { 1 };
        let output = command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", endpoint])
            .args([format!("--command-timeout={patience}s"), format!("--dial-timeout={patience}s")])
            .args(flags.split_whitespace().filter(|flag| !flag.starts_with("tls=")))
            .args(["put", "key", "value"])
            .output()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success() && output.stdout == b"OK\n", "{}: {text}", output.status);
        Ok(())
    }
}

/// What a bare connection has agreed on.
#[derive(Debug)]
pub struct Agreed {
    pub version: String,
    pub suite: String,
    /// Of the server's certificate, in DER.
    pub certificate: Vec<u8>,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Asks for `/version` over HTTP/1.1.
pub fn bare(endpoint: &str, flags: &str) -> Result<Option<Agreed>> {
    let request = "GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let (answer, agreed) = say(endpoint, flags, request)?;
    ensure!(answer.contains("\"etcdserver\""), "answered {answer:?}");
    Ok(agreed)
}

/// Says `request`, and gives what is answered until the server closes the connection.
pub fn say(endpoint: &str, flags: &str, request: &str) -> Result<(String, Option<Agreed>)> {
    let (scheme, address) = endpoint.split_once("://").context("an endpoint has a scheme")?;
    let mut stream: Box<dyn Stream> = match scheme {
        "unix" | "unixs" => {
            let stream = UnixStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Box::new(stream)
        }
        _ => {
            let stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Box::new(stream)
        }
    };
    if matches!(scheme, "http" | "unix") {
        return Ok((exchange(&mut stream, request)?, None));
    }
    let host = if scheme == "unixs" { "etcd.sock" } else { "127.0.0.1" };
    let connection = ClientConnection::new(Arc::new(config(flags)?), ServerName::try_from(host)?)?;
    let mut stream = StreamOwned::new(connection, stream);
    let answer = exchange(&mut stream, request)?;
    let connection = &stream.conn;
    let version = connection.protocol_version().context("a handshake was done")?;
    let suite = connection.negotiated_cipher_suite().context("a handshake was done")?;
    let certificates = connection.peer_certificates().context("the server has a certificate")?;
    let agreed = Agreed {
        version: format!("{version:?}"),
        suite: format!("{:?}", suite.suite()),
        certificate: certificates[0].to_vec(),
    };
    Ok((answer, Some(agreed)))
}

/// Posts JSON over HTTP/1.1, with a token if there is one; gives the status and the body.
pub fn post(
    address: &str,
    flags: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> Result<(u16, String)> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let server = ServerName::try_from("127.0.0.1")?;
    let connection = ClientConnection::new(Arc::new(config(flags)?), server)?;
    let mut stream = StreamOwned::new(connection, stream);
    let authorization =
        token.map(|token| format!("Authorization: {token}\r\n")).unwrap_or_default();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = exchange(&mut stream, &request)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("a head and a body")?;
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    Ok((status, body.to_owned()))
}

fn exchange(stream: &mut impl Stream, request: &str) -> Result<String> {
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    // Go closes without a farewell of TLS; what counts is what was read.
    let end = stream.read_to_end(&mut answer);
    ensure!(!answer.is_empty(), "no answer, but {end:?}");
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// What `flags` say about TLS.
pub(super) fn config(flags: &str) -> Result<ClientConfig> {
    let value = |name: &str| {
        let prefix = format!("--{name}=");
        flags.split_whitespace().find_map(|flag| flag.strip_prefix(prefix.as_str()))
    };
    let mut roots = RootCertStore::empty();
    if let Some(path) = value("cacert") {
        for certificate in CertificateDer::pem_slice_iter(&fs::read(path)?) {
            roots.add(certificate?)?;
        }
    }
    let versions = match value_of_version(flags) {
        Some("1.2") => vec![&TLS12],
        Some("1.3") => vec![&TLS13],
        Some(other) => bail!("no version {other}"),
        None => vec![&TLS13, &TLS12],
    };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions)?;
    let builder = if flags.contains("--insecure-skip-tls-verify") {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anything))
    } else {
        builder.with_root_certificates(roots)
    };
    Ok(match (value("cert"), value("key")) {
        (Some(certificate), Some(key)) => {
            let chain =
                CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(key)?)?
        }
        _ => builder.with_no_client_auth(),
    })
}

fn value_of_version(flags: &str) -> Option<&str> {
    flags.split_whitespace().find_map(|flag| flag.strip_prefix("tls="))
}

/// Believes everybody.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
