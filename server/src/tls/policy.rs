//! Which versions and cipher suites are spoken (ETCD.md TLS-02).

use std::sync::Arc;

use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{CipherSuite, ProtocolVersion, SupportedProtocolVersion};

/// Cipher suites that there are, by their names in Go. Those of TLS 1.3 cannot be chosen from,
/// there as here.
const SUITES: &[(&str, CipherSuite)] = &[
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
    (
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    ),
];

/// What Go knows besides. The library leaves them out, for their CBC, RC4, 3DES, or key exchange
/// without forward secrecy.
const WEAK_SUITES: &[&str] = &[
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Versions and cipher suites, ready for a configuration.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) versions: Vec<&'static SupportedProtocolVersion>,
    /// Suites that were asked for and left out.
    pub(crate) left_out: Vec<String>,
}

impl Default for Policy {
    fn default() -> Policy {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Policy { provider, versions: vec![&TLS13, &TLS12], left_out: Vec::new() }
    }
}

impl Policy {
    /// What `--cipher-suites`, `--tls-min-version` and `--tls-max-version` say.
    pub(crate) fn new(
        cipher_suites: &[String],
        min_version: &str,
        max_version: &str,
    ) -> Result<Policy, String> {
        let (min, max) = (version(min_version)?, version(max_version)?);
        let oldest = min.unwrap_or(ProtocolVersion::TLSv1_2);
        let newest = max.unwrap_or(ProtocolVersion::TLSv1_3);
        if u16::from(oldest) > u16::from(newest) {
            return Err(format!(
                "min version ({min_version}) is greater than max version ({max_version})"
            ));
        }
        if oldest == ProtocolVersion::TLSv1_3 && !cipher_suites.is_empty() {
            return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
        }
        let mut policy = Policy::default();
        policy.versions.retain(|version| {
            (u16::from(oldest)..=u16::from(newest)).contains(&u16::from(version.version))
        });
        if !cipher_suites.is_empty() {
            policy.choose(cipher_suites)?;
        }
        Ok(policy)
    }

    /// Leaves only `names` of the suites of TLS 1.2, in their order.
    fn choose(&mut self, names: &[String]) -> Result<(), String> {
        let mut provider = aws_lc_rs::default_provider();
        let all = std::mem::take(&mut provider.cipher_suites);
        let is_tls13 = |suite: &CipherSuite| u16::from(*suite) >> 8 == 0x13;
        provider.cipher_suites.extend(all.iter().filter(|suite| is_tls13(&suite.suite())));
        for name in names {
            let Some((_, chosen)) = SUITES.iter().find(|(known, _)| known == name) else {
                if WEAK_SUITES.contains(&name.as_str()) {
                    self.left_out.push(name.clone());
                    continue;
                }
                return Err(format!("unexpected TLS cipher suite {name:?}"));
            };
            if is_tls13(chosen) || provider.cipher_suites.iter().any(|had| had.suite() == *chosen) {
                continue;
            }
            provider.cipher_suites.extend(all.iter().filter(|suite| suite.suite() == *chosen));
        }
        if !provider.cipher_suites.iter().any(|suite| !is_tls13(&suite.suite())) {
            // Go goes on with TLS 1.3 alone then.
            self.versions.retain(|version| version.version == ProtocolVersion::TLSv1_3);
        }
        if self.versions.is_empty() {
            return Err(format!(
                "none of the TLS cipher suites {} is implemented by this server: it takes those \
                 with ECDHE and either GCM or CHACHA20_POLY1305",
                names.join(",")
            ));
        }
        self.provider = Arc::new(provider);
        Ok(())
    }
}

fn version(name: &str) -> Result<Option<ProtocolVersion>, String> {
    match name {
        "" => Ok(None),
        "TLS1.2" => Ok(Some(ProtocolVersion::TLSv1_2)),
        "TLS1.3" => Ok(Some(ProtocolVersion::TLSv1_3)),
        _ => Err(format!("unexpected TLS version {name:?} (must be one of: TLS1.2, TLS1.3)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(suites: &[&str], min: &str, max: &str) -> Result<Policy, String> {
        let suites: Vec<_> = suites.iter().map(|name| (*name).to_owned()).collect();
        Policy::new(&suites, min, max)
    }

    #[test]
    fn tls_02_suites_have_their_names_in_go() {
        let names: Vec<_> = SUITES.iter().map(|(name, _)| *name).collect();
        let all = policy(&names, "", "").unwrap();
        let default = Policy::default();
        assert_eq!(all.provider.cipher_suites.len(), default.provider.cipher_suites.len());
        let one = policy(
            &["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_256_CBC_SHA"],
            "TLS1.2",
            "",
        );
        let one = one.unwrap();
        assert_eq!(one.left_out, ["TLS_RSA_WITH_AES_256_CBC_SHA"]);
        assert_eq!(one.provider.cipher_suites.len(), 3 + 1);
        assert_eq!(one.versions.len(), 2);
    }

    #[test]
    fn tls_02_what_cannot_be_is_said() {
        let suite = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
        for (suites, min, max, error) in [
            (&["X"][..], "", "", "unexpected TLS cipher suite \"X\""),
            (
                &[],
                "TLS1.1",
                "",
                "unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)",
            ),
            (&[], "TLS1.3", "TLS1.2", "min version (TLS1.3) is greater than max version (TLS1.2)"),
            (
                &[suite],
                "TLS1.3",
                "",
                "cipher suites cannot be configured when only TLS1.3 is enabled",
            ),
        ] {
            assert_eq!(policy(suites, min, max).unwrap_err(), error);
        }
        let error = policy(&["TLS_RSA_WITH_AES_128_CBC_SHA"], "", "TLS1.2").unwrap_err();
        assert!(error.starts_with("none of the TLS cipher suites TLS_RSA"), "{error}");
    }

    #[test]
    fn tls_02_versions_are_a_range() {
        for (min, max, versions) in [
            ("TLS1.2", "", vec!["TLSv1_3", "TLSv1_2"]),
            ("TLS1.2", "TLS1.2", vec!["TLSv1_2"]),
            ("TLS1.3", "TLS1.3", vec!["TLSv1_3"]),
        ] {
            let policy = policy(&[], min, max).unwrap();
            let names = policy.versions.iter().map(|version| format!("{:?}", version.version));
            assert_eq!(names.collect::<Vec<_>>(), versions);
        }
    }
}
