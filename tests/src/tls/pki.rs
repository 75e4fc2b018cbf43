//! A folder of authorities, certificates, keys and lists of revoked certificates.
//!
//! | file | is |
//! |---|---|
//! | `ca.pem`, `other-ca.pem` | two authorities |
//! | `server.pem` | for 127.0.0.1, localhost and `etcd.sock`, and only for servers |
//! | `ip.pem` | for 127.0.0.1 only |
//! | `p521.pem` | the same on the curve P-521 |
//! | `elsewhere.pem` | for a host that this machine is not |
//! | `server-expired.pem` | no longer valid |
//! | `self.pem` | signed by itself, and an authority too |
//! | `peer.pem` | for servers and clients, with the common name `peer` |
//! | `client.pem` | common name `client`, host `client.example` |
//! | `other.pem` | common name `other`, host `other.example` |
//! | `revoked.pem` | in the list `crl.der` and `crl.pem` |
//! | `client-expired.pem` | no longer valid |
//! | `alice.pem`, `root.pem`, `nameless.pem` | of these common names, the last of none |
//! | `stranger.pem` | signed by the other authority |
//!
//! The key of each is beside it, as `.key`.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P521_SHA512, RevokedCertParams, SerialNumber,
    SignatureAlgorithm,
};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const REVOKED_SERIAL: &[u8] = &[0x7f, 1, 2, 3];

/// The folder, which goes with this value.
pub struct Pki {
    folder: TempDir,
    authority: Issuer<'static, KeyPair>,
}

/// What a certificate says.
struct Template {
    common_name: &'static str,
    hosts: &'static [&'static str],
    usages: &'static [ExtendedKeyUsagePurpose],
    curve: &'static SignatureAlgorithm,
    serial: Option<&'static [u8]>,
    is_expired: bool,
}

const SERVER: Template = Template {
    common_name: "server",
    hosts: &["127.0.0.1", "localhost", "etcd.sock"],
    usages: &[ExtendedKeyUsagePurpose::ServerAuth],
    curve: &PKCS_ECDSA_P256_SHA256,
    serial: None,
    is_expired: false,
};

const CLIENT: Template = Template {
    common_name: "client",
    hosts: &["client.example"],
    usages: &[ExtendedKeyUsagePurpose::ClientAuth],
    ..SERVER
};

const PEER: Template = Template {
    common_name: "peer",
    usages: &[ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    ..SERVER
};

impl Pki {
    /// Makes all files.
    pub fn new() -> Result<Pki> {
        let folder = TempDir::with_prefix("coracle-pki-")?;
        let (own, pem) = authority("coracle test authority")?;
        let (other, other_pem) = authority("another authority")?;
        let pki = Pki { folder, authority: own };
        fs::write(pki.folder().join("ca.pem"), pem)?;
        fs::write(pki.folder().join("other-ca.pem"), other_pem)?;
        let elsewhere: &[&str] = &["198.51.100.1"];
        for (name, template) in [
            ("server", SERVER),
            ("ip", Template { hosts: &["127.0.0.1"], ..SERVER }),
            ("p521", Template { curve: &PKCS_ECDSA_P521_SHA512, ..SERVER }),
            ("server-expired", Template { is_expired: true, ..SERVER }),
            ("peer", PEER),
            ("elsewhere", Template { hosts: elsewhere, ..PEER }),
            ("client", CLIENT),
            ("other", Template { common_name: "other", hosts: &["other.example"], ..CLIENT }),
            ("revoked", Template { serial: Some(REVOKED_SERIAL), ..CLIENT }),
            ("client-expired", Template { is_expired: true, ..CLIENT }),
            ("alice", Template { common_name: "alice", ..CLIENT }),
            ("root", Template { common_name: "root", ..CLIENT }),
            ("nameless", Template { common_name: "", ..CLIENT }),
        ] {
            pki.issue(name, &template, Some(&pki.authority))?;
        }
        pki.issue("stranger", &CLIENT, Some(&other))?;
        pki.issue("self", &SERVER, None)?;
        pki.revoke(&[REVOKED_SERIAL])?;
        Ok(pki)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `text` with the folder in the place of `$D`.
    pub fn fill(&self, text: &str) -> String {
        text.replace("$D", &self.folder().to_string_lossy())
    }

    /// Writes `name.pem` and `name.key`, signed by `issuer`, or by itself.
    fn issue(
        &self,
        name: &str,
        template: &Template,
        issuer: Option<&Issuer<'static, KeyPair>>,
    ) -> Result<()> {
        let hosts: Vec<_> = template.hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, template.common_name);
        params.extended_key_usages = template.usages.to_vec();
        params.serial_number = template.serial.map(SerialNumber::from_slice);
        let now = SystemTime::now();
        params.not_before = (now - 10 * DAY).into();
        params.not_after = if template.is_expired { now - DAY } else { now + 10 * DAY }.into();
        let key = KeyPair::generate_for(template.curve)?;
        let certificate = match issuer {
            Some(issuer) => params.signed_by(&key, issuer)?,
            None => {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.extended_key_usages = Vec::new();
                params.self_signed(&key)?
            }
        };
        fs::write(self.folder().join(format!("{name}.pem")), certificate.pem())?;
        fs::write(self.folder().join(format!("{name}.key")), key.serialize_pem())?;
        Ok(())
    }

    /// Writes the list of revoked certificates anew.
    pub fn revoke(&self, serials: &[&[u8]]) -> Result<()> {
        let now = SystemTime::now();
        let revoked = |serial: &&[u8]| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: (now - DAY).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: (now - DAY).into(),
            next_update: (now + DAY).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.authority)?;
        fs::write(self.folder().join("crl.der"), list.der())?;
        fs::write(self.folder().join("crl.pem"), list.pem()?)?;
        Ok(())
    }
}

fn authority(name: &str) -> Result<(Issuer<'static, KeyPair>, String)> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem))
}
