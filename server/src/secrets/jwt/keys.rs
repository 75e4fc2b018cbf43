//! The methods by which tokens are signed (RFC 7518), and their keys in the forms that Go's library
//! takes: PKCS #8, PKCS #1 and SEC 1 for private ones; PKIX, PKCS #1 and certificates for public.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED,
    ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING,
};
use aws_lc_rs::signature::{EcdsaSigningAlgorithm, RsaEncoding, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// A `sign-method`.
pub(super) struct Method {
    /// As tokens name it, too.
    pub(super) name: &'static str,
    kind: Kind,
}

enum Kind {
    Hmac(&'static hmac::Algorithm),
    Rsa(&'static dyn RsaEncoding, &'static dyn VerificationAlgorithm),
    Ecdsa(&'static EcdsaSigningAlgorithm, &'static dyn VerificationAlgorithm),
    Ed25519,
}

#[rustfmt::skip] // A table.
static METHODS: [Method; 13] = [
    rsa("RS256", &signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
    rsa("RS384", &signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384),
    rsa("RS512", &signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512),
    rsa("PS256", &signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
    rsa("PS384", &signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
    rsa("PS512", &signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
    ecdsa("ES256", &ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P256_SHA256_FIXED),
    ecdsa("ES384", &ECDSA_P384_SHA384_FIXED_SIGNING, &ECDSA_P384_SHA384_FIXED),
    ecdsa("ES512", &ECDSA_P521_SHA512_FIXED_SIGNING, &ECDSA_P521_SHA512_FIXED),
    Method { name: "EdDSA", kind: Kind::Ed25519 },
    Method { name: "HS256", kind: Kind::Hmac(&hmac::HMAC_SHA256) },
    Method { name: "HS384", kind: Kind::Hmac(&hmac::HMAC_SHA384) },
    Method { name: "HS512", kind: Kind::Hmac(&hmac::HMAC_SHA512) },
];

const fn rsa(
    name: &'static str,
    sign: &'static dyn RsaEncoding,
    verify: &'static dyn VerificationAlgorithm,
) -> Method {
    Method { name, kind: Kind::Rsa(sign, verify) }
}

const fn ecdsa(
    name: &'static str,
    sign: &'static EcdsaSigningAlgorithm,
    verify: &'static dyn VerificationAlgorithm,
) -> Method {
    Method { name, kind: Kind::Ecdsa(sign, verify) }
}

/// What signs.
pub(super) enum SigningKey {
    Hmac(Box<hmac::Key>),
    Rsa(RsaKeyPair, &'static dyn RsaEncoding, &'static dyn VerificationAlgorithm),
    Ecdsa(EcdsaKeyPair, &'static dyn VerificationAlgorithm),
    Ed25519(Ed25519KeyPair),
}

/// What tells whether it was signed.
pub(super) enum VerifyingKey {
    Hmac(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Method {
    pub(super) fn find(name: &str) -> Option<&'static Method> {
        METHODS.iter().find(|method| method.name == name)
    }

    /// All of them, for a sentence.
    pub(super) fn names() -> String {
        let names: Vec<_> = METHODS.iter().map(|method| method.name).collect();
        let (last, others) = names.split_last().unwrap_or((&"", &[]));
        format!("{} or {last}", others.join(", "))
    }

    /// Whether this method signs and verifies with one secret.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Hmac(_))
    }

    /// Both keys, if this method has but one secret for them.
    pub(super) fn secret(&self, secret: &[u8]) -> Option<(SigningKey, VerifyingKey)> {
        let Kind::Hmac(algorithm) = self.kind else { return None };
        let key = Box::new(hmac::Key::new(*algorithm, secret));
        Some((SigningKey::Hmac(key.clone()), VerifyingKey::Hmac(key)))
    }

    /// The private key of `text`, if it is one for this method.
    pub(super) fn signing_key(&self, text: &[u8]) -> Option<SigningKey> {
        let (label, der) = pem(text)?;
        match (&self.kind, label) {
            (Kind::Rsa(sign, verify), "PRIVATE KEY") => {
                Some(SigningKey::Rsa(RsaKeyPair::from_pkcs8(&der).ok()?, *sign, *verify))
            }
            (Kind::Rsa(sign, verify), "RSA PRIVATE KEY") => {
                Some(SigningKey::Rsa(RsaKeyPair::from_der(&der).ok()?, *sign, *verify))
            }
            (Kind::Ecdsa(sign, verify), "PRIVATE KEY" | "EC PRIVATE KEY") => {
                let pair = EcdsaKeyPair::from_private_key_der(sign, &der).ok()?;
                Some(SigningKey::Ecdsa(pair, *verify))
            }
            (Kind::Ed25519, "PRIVATE KEY") => {
                Some(SigningKey::Ed25519(Ed25519KeyPair::from_pkcs8(&der).ok()?))
            }
            _ => None,
        }
    }

    /// The public key of `text`, if it is one for this method.
    pub(super) fn verifying_key(&self, text: &[u8]) -> Option<VerifyingKey> {
        let algorithm: &'static dyn VerificationAlgorithm = match &self.kind {
            Kind::Hmac(_) => return None,
            Kind::Rsa(_, verify) | Kind::Ecdsa(_, verify) => *verify,
            Kind::Ed25519 => &signature::ED25519,
        };
        let (label, der) = pem(text)?;
        let der = match label {
            "PUBLIC KEY" | "RSA PUBLIC KEY" => der,
            "CERTIFICATE" => {
                let certificate = CertificateDer::from(der);
                let certificate = EndEntityCert::try_from(&certificate).ok()?;
                certificate.subject_public_key_info().to_vec()
            }
            _ => return None,
        };
        ParsedPublicKey::new(algorithm, der).ok().map(VerifyingKey::Public)
    }
}

impl SigningKey {
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            SigningKey::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            SigningKey::Rsa(pair, encoding, _) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            SigningKey::Ecdsa(pair, _) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            SigningKey::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }

    /// The other half of a pair.
    pub(super) fn public_key(&self) -> Option<VerifyingKey> {
        let parsed = match self {
            SigningKey::Hmac(key) => return Some(VerifyingKey::Hmac(key.clone())),
            SigningKey::Rsa(pair, _, verify) => ParsedPublicKey::new(*verify, pair.public_key()),
            SigningKey::Ecdsa(pair, verify) => ParsedPublicKey::new(*verify, pair.public_key()),
            SigningKey::Ed25519(pair) => {
                ParsedPublicKey::new(&signature::ED25519, pair.public_key())
            }
        };
        parsed.ok().map(VerifyingKey::Public)
    }
}

impl VerifyingKey {
    /// The key at this point of P-521.
    #[cfg(test)]
    pub(super) fn of_point(point: &[u8]) -> Option<VerifyingKey> {
        let key = ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point);
        key.ok().map(VerifyingKey::Public)
    }

    /// Whether `signature` is one of `message`. The time it takes tells nothing of a secret.
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            VerifyingKey::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            VerifyingKey::Public(key) => key.verify_sig(message, signature).is_ok(),
        }
    }
}

/// Label and content of the first block of a PEM file (RFC 7468) that is no parameter of a curve.
fn pem(text: &[u8]) -> Option<(&str, Vec<u8>)> {
    let mut text = std::str::from_utf8(text).ok()?;
    loop {
        let (label, behind) = text.split_once("-----BEGIN ")?.1.split_once("-----")?;
        let (body, behind) = behind.split_once(&format!("-----END {label}-----"))?;
        text = behind;
        if label != "EC PARAMETERS" {
            let body: String = body.split_whitespace().collect();
            return Some((label, STANDARD.decode(body).ok()?));
        }
    }
}
