//! `--auto-tls`: a certificate of the server's own, kept in its data directory.
//!
//! It encrypts and proves nothing: whoever dials such a server does not verify it. Places and names
//! of the files are etcd's, and a pair that is there already is used.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose,
};

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// A client's clock may be slow.
const BACKDATED: Duration = Duration::from_secs(60 * 60);

/// The paths of certificate and key in `folder`, which are made if they are not there.
pub(super) fn self_signed(
    folder: &Path,
    hosts: &[String],
    years: u64,
) -> Result<(String, String), String> {
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if !(certificate.exists() && key.exists()) {
        if years == 0 {
            let text = "selfSignedCertValidity is invalid,it should be greater than 0";
            return Err(text.to_owned());
        }
        let (certificate_pem, key_pem) = generate(hosts, years).map_err(|e| e.to_string())?;
        let written = write(folder, &certificate, &certificate_pem, 0o644)
            .and_then(|()| write(folder, &key, &key_pem, 0o600));
        written.map_err(|error| format!("{}: {error}", folder.display()))?;
        tracing::warn!(folder = %folder.display(), "automatically generated certificates");
    }
    let path = |path: &Path| path.to_str().map(str::to_owned).ok_or("a path that is not UTF-8");
    Ok((path(&certificate)?, path(&key)?))
}

fn write(folder: &Path, path: &Path, pem: &str, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // A key that others could read once stays readable to them: never an existing file.
    _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()
}

fn generate(hosts: &[String], years: u64) -> Result<(String, String), rcgen::Error> {
    let mut hosts = hosts.to_vec();
    hosts.retain(|host| !host.is_empty());
    hosts.sort();
    hosts.dedup();
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    let now = SystemTime::now();
    let validity = YEAR.saturating_mul(u32::try_from(years.min(100)).unwrap_or(100));
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + validity).into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
