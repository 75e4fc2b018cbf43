//! Handshakes over the loopback, and whom a certificate lets call from where.

use rcgen::{CertificateParams, DnType, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::*;
use crate::net::Bare;

/// The two sides of a handshake under a certificate for 127.0.0.1 that is kept in `folder`.
pub(crate) fn self_signed_pair(folder: &Path) -> (Acceptor, Connector) {
    let (cert_file, key_file) =
        self_signed::self_signed(folder, &["127.0.0.1".to_owned()], 1).unwrap();
    let files = TlsSide { cert_file, key_file, ..TlsSide::default() };
    let identity = Identity { trusted_ca_file: files.cert_file.clone(), ..Identity::default() };
    let acceptor = Acceptor::new(&files, Side::Clients, &Policy::default()).unwrap();
    (acceptor, Connector::new(identity, &Policy::default()).unwrap())
}

async fn pair() -> (Bare, Bare) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (Bare::Tcp(client), Bare::Tcp(server))
}

#[tokio::test]
async fn both_sides_agree_and_say_things() {
    let folder = TempDir::new().unwrap();
    let (acceptor, connector) = self_signed_pair(folder.path());
    let (client, server) = pair().await;
    let (client, server) =
        tokio::join!(connector.connect(client, "127.0.0.1"), acceptor.accept(server));
    let (mut client, (mut server, remote)) = (client.unwrap(), server.unwrap());
    assert!(remote.secure && remote.common_name.is_none());
    client.write_all(b"hello").await.unwrap();
    client.flush().await.unwrap();
    let mut heard = [0; 5];
    server.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"hello");
    // Under another name it is somebody else.
    let (client, server) = pair().await;
    let (client, server) =
        tokio::join!(connector.connect(client, "127.0.0.2"), acceptor.accept(server));
    assert!(client.is_err() && server.is_err());
}

#[test]
fn tls_01_a_pair_that_is_there_is_used() {
    let folder = TempDir::new().unwrap();
    let pair = || self_signed::self_signed(folder.path(), &["127.0.0.1".to_owned()], 1).unwrap();
    let (certificate, key) = pair();
    let before = std::fs::read(&certificate).unwrap();
    assert_eq!(
        (pair(), std::fs::read(&certificate).unwrap()),
        ((certificate, key.clone()), before)
    );
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&key).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    let refused = self_signed::self_signed(&folder.path().join("other"), &[], 0).unwrap_err();
    assert_eq!(refused, "selfSignedCertValidity is invalid,it should be greater than 0");
}

fn certificate(common_name: &str, hosts: &[&str]) -> CertificateDer<'static> {
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

#[tokio::test]
async fn tls_01_peers_call_from_where_their_certificates_say() {
    let [loopback, mapped] = ["127.0.0.1", "::ffff:127.0.0.1"].map(|text| text.parse().unwrap());
    for (hosts, is_right) in [
        (&[][..], true),
        (&["127.0.0.1"], true),
        (&["localhost"], true),
        (&["198.51.100.1", "localhost"], true),
        (&["198.51.100.1"], false),
        (&["nowhere.invalid"], false),
        (&["*.invalid"], false),
    ] {
        for address in [loopback, mapped] {
            let checked = verify::check_address(&certificate("peer", hosts), address).await;
            assert_eq!(checked.is_ok(), is_right, "{hosts:?}: {checked:?}");
        }
    }
}

#[tokio::test]
async fn tls_01_a_peer_at_another_address_is_told_which_are_right() {
    let certificate = certificate("peer", &["198.51.100.1", "198.51.100.2"]);
    let refused = verify::check_address(&certificate, "127.0.0.1".parse().unwrap()).await;
    let text = "x509: certificate is valid for 198.51.100.1, 198.51.100.2, not 127.0.0.1";
    assert_eq!(refused, Err(text.to_owned()));
}

#[test]
fn the_common_name_is_the_subjects() {
    assert_eq!(verify::common_name(&certificate("somebody", &[])).as_deref(), Some("somebody"));
    assert_eq!(verify::common_name(&certificate("", &[])), None);
}
