//! JSON web tokens (`--auth-token jwt,…`): who holds one needs no member to remember it.
//!
//! The claims are etcd's: `username`, `revision` (the auth revision at the time of signing) and
//! `exp`. A token of an earlier revision is refused where keys are concerned, and the client logs
//! in again.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coracle_core::error::{Code, Error};
use coracle_core::platform::{Claims, TokenSigner};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, EncodingKey, Header, Validation, decode, encode,
};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::JwtConfig;

/// Signs with a private key or a secret, verifies with the public key that belongs to it.
pub(super) struct JwtSigner {
    algorithm: Algorithm,
    /// Without it the member verifies what others signed.
    sign: Option<EncodingKey>,
    verify: DecodingKey,
    ttl: Duration,
}

#[derive(Serialize)]
struct Body {
    username: String,
    revision: u64,
    exp: u64,
}

/// What is asked of a token that somebody else may have signed: no more and no less than etcd does
/// with Go's library. Numbers may have fractions; a time that is 0 or not there does not matter;
/// `aud`, `iat` and all others are not looked at.
#[derive(Deserialize)]
struct Asked {
    username: String,
    revision: f64,
    #[serde(default, deserialize_with = "number")]
    exp: Option<f64>,
    #[serde(default, deserialize_with = "number")]
    nbf: Option<f64>,
}

/// A number if there is anything: `null` is none.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    f64::deserialize(deserializer).map(Some)
}

impl Asked {
    /// Whether the token is good at `now`, in seconds.
    fn holds_at(&self, now: f64) -> bool {
        let time = |claim: Option<f64>| claim.filter(|time| *time != 0.0).map(f64::trunc);
        time(self.exp).is_none_or(|end| now < end)
            && time(self.nbf).is_none_or(|begin| now >= begin)
    }
}

impl JwtSigner {
    /// Reads the key files. The error is a sentence for the operator.
    pub(super) fn read(config: &JwtConfig) -> Result<JwtSigner, String> {
        let algorithm: Algorithm = config.sign_method.parse().map_err(|_| {
            format!(
                "--auth-token: sign-method {:?} is not known; choose RS256, RS384, RS512, PS256, \
                 PS384, PS512, ES256, ES384, EdDSA, HS256, HS384 or HS512",
                config.sign_method
            )
        })?;
        let read = |path: &Option<String>| {
            path.as_ref().map(|path| {
                let bytes = fs::read(path);
                bytes.map_err(|error| format!("--auth-token: cannot read {path}: {error}"))
            })
        };
        let private = read(&config.priv_key).transpose()?;
        let public = read(&config.pub_key).transpose()?;
        let family = family(algorithm);
        let unfit = |what: &str, error: jsonwebtoken::errors::Error| {
            format!(
                "--auth-token: the {what} is no key for {} in PEM form (of elliptic curves: in \
                 PKCS #8): {error}",
                config.sign_method
            )
        };
        if family == AlgorithmFamily::Hmac {
            // A public key is no secret.
            let secret = private.filter(|secret| !secret.is_empty()).ok_or_else(|| {
                "--auth-token: missing key data: priv-key is the file of the secret".to_owned()
            })?;
            let (sign, verify) =
                (Some(EncodingKey::from_secret(&secret)), DecodingKey::from_secret(&secret));
            return Ok(JwtSigner { algorithm, sign, verify, ttl: config.ttl });
        }
        let sign = private.map(|pem| match family {
            AlgorithmFamily::Rsa => EncodingKey::from_rsa_pem(&pem),
            AlgorithmFamily::Ec => EncodingKey::from_ec_pem(&pem),
            _ => EncodingKey::from_ed_pem(&pem),
        });
        let sign = sign.transpose().map_err(|error| unfit("priv-key", error))?;
        let verify = match (public, &sign) {
            (Some(pem), _) => match family {
                AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(&pem),
                AlgorithmFamily::Ec => DecodingKey::from_ec_pem(&pem),
                _ => DecodingKey::from_ed_pem(&pem),
            }
            .map_err(|error| unfit("pub-key", error))?,
            // The private key holds the public one.
            (None, Some(sign)) => Jwk::from_encoding_key(sign, algorithm)
                .and_then(|jwk| DecodingKey::from_jwk(&jwk))
                .map_err(|error| unfit("priv-key", error))?,
            (None, None) => return Err(missing_key()),
        };
        let signer = JwtSigner { algorithm, sign, verify, ttl: config.ttl };
        signer.check_pair()?;
        Ok(signer)
    }

    /// A private key whose tokens nobody accepts is found at the start, not at the first log-in.
    fn check_pair(&self) -> Result<(), String> {
        if self.sign.is_none() {
            return Ok(());
        }
        let token = self.sign("nobody", 0).map_err(|error| format!("--auth-token: {error}"))?;
        match self.verify(&token) {
            Some(_) => Ok(()),
            None => Err("--auth-token: priv-key and pub-key do not belong together".to_owned()),
        }
    }
}

impl TokenSigner for JwtSigner {
    fn sign(&self, user: &str, revision: u64) -> Result<String, Error> {
        let Some(key) = &self.sign else {
            let text = "auth: token signing attempted with verify-only key";
            return Err(Error::Other(Code::Unknown, text.to_owned()));
        };
        let exp = (since_epoch() + self.ttl).as_secs();
        let body = Body { username: user.to_owned(), revision, exp };
        encode(&Header::new(self.algorithm), &body, key).map_err(|error| {
            Error::Other(Code::Internal, format!("auth: signing a token failed: {error}"))
        })
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        // Only the configured method: a token that names another one is somebody's trick.
        let mut validation = Validation::new(self.algorithm);
        // The claims are judged below.
        (validation.validate_exp, validation.validate_aud) = (false, false);
        validation.required_spec_claims.clear();
        let asked = decode::<Asked>(token, &self.verify, &validation).ok()?.claims;
        let holds = asked.holds_at(since_epoch().as_secs_f64());
        holds.then_some(Claims { user: asked.username, revision: asked.revision as u64 })
    }
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn family(algorithm: Algorithm) -> AlgorithmFamily {
    let families = [AlgorithmFamily::Hmac, AlgorithmFamily::Rsa, AlgorithmFamily::Ec];
    let found = families.into_iter().find(|family| family.algorithms().contains(&algorithm));
    found.unwrap_or(AlgorithmFamily::Ed)
}

fn missing_key() -> String {
    "--auth-token: missing key data: give pub-key, priv-key or both".to_owned()
}

#[cfg(test)]
mod tests;
