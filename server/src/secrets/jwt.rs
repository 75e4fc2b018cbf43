//! JSON web tokens (`--auth-token jwt,…`): who holds one needs no member to remember it.
//!
//! The claims are etcd's: `username`, `revision` (the auth revision at the time of signing) and
//! `exp`. A token of an earlier revision is refused where keys are concerned, and the client logs
//! in again. Tokens may also be signed by somebody else who has the key; what has no `exp` does not
//! expire, as with etcd.

mod keys;

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_core::error::{Code, Error};
use coracle_core::platform::{Claims, TokenSigner};
use serde::{Deserialize, Deserializer, Serialize};

use self::keys::{Method, SigningKey, VerifyingKey};
use crate::config::JwtConfig;

/// Signs with a private key or a secret, verifies with the public key that belongs to it.
pub(super) struct JwtSigner {
    method: &'static Method,
    /// Without it the member verifies what others signed.
    sign: Option<SigningKey>,
    verify: VerifyingKey,
    ttl: Duration,
}

#[derive(Serialize, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    typ: String,
    /// What must be understood beyond the standard; nothing is.
    #[serde(skip_serializing)]
    crit: Option<serde_json::Value>,
}

/// What is asked of a token that somebody else may have signed: no more and no less than etcd does
/// with Go's library. Numbers may have fractions; a time that is 0 or not there does not matter;
/// `aud`, `iat` and all others are not looked at.
#[derive(Deserialize)]
struct Body {
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

impl Body {
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
        let method = Method::find(&config.sign_method).ok_or_else(|| {
            format!(
                "--auth-token: sign-method {:?} is not known; choose {}",
                config.sign_method,
                Method::names()
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
        let unfit = |what: &str| {
            let what = format!("the {what} is no key for {} in PEM form", config.sign_method);
            format!("--auth-token: {what}")
        };
        if method.is_secret() {
            // A public key is no secret.
            let secret = private.as_ref().filter(|secret| !secret.is_empty());
            let keys = secret.and_then(|secret| method.secret(secret));
            let (sign, verify) = keys.ok_or_else(|| {
                "--auth-token: missing key data: priv-key is the file of the secret".to_owned()
            })?;
            return Ok(JwtSigner { method, sign: Some(sign), verify, ttl: config.ttl });
        }
        let sign = private.map(|pem| method.signing_key(&pem).ok_or_else(|| unfit("priv-key")));
        let sign = sign.transpose()?;
        let verify = match (public, &sign) {
            (Some(pem), _) => method.verifying_key(&pem).ok_or_else(|| unfit("pub-key"))?,
            // The private key holds the public one.
            (None, Some(sign)) => sign.public_key().ok_or_else(|| unfit("priv-key"))?,
            (None, None) => {
                let text = "--auth-token: missing key data: give pub-key, priv-key or both";
                return Err(text.to_owned());
            }
        };
        let signer = JwtSigner { method, sign, verify, ttl: config.ttl };
        signer.check_pair()?;
        Ok(signer)
    }

    /// A private key whose tokens nobody accepts is found at the start, not at the first log-in.
    fn check_pair(&self) -> Result<(), String> {
        if self.sign.is_none() {
            return Ok(());
        }
        let token = self.sign("nobody", 0).map_err(|error| format!("--auth-token: {error}"))?;
        let (message, signature) = token.rsplit_once('.').unwrap_or_default();
        match self.is_signed(message, signature) {
            true => Ok(()),
            false => Err("--auth-token: priv-key and pub-key do not belong together".to_owned()),
        }
    }

    fn is_signed(&self, message: &str, signature: &str) -> bool {
        let signature = URL_SAFE_NO_PAD.decode(signature);
        signature.is_ok_and(|signature| self.verify.verify(message.as_bytes(), &signature))
    }
}

impl TokenSigner for JwtSigner {
    fn sign(&self, user: &str, revision: u64) -> Result<String, Error> {
        let Some(key) = &self.sign else {
            let text = "auth: token signing attempted with verify-only key";
            return Err(Error::Other(Code::Unknown, text.to_owned()));
        };
        let header = Header { alg: self.method.name.to_owned(), typ: "JWT".to_owned(), crit: None };
        let body = serde_json::json!({
            "username": user,
            "revision": revision,
            "exp": (since_epoch() + self.ttl).as_secs(),
        });
        let failed = |why: &str| {
            Error::Other(Code::Internal, format!("auth: signing a token failed: {why}"))
        };
        let header = serde_json::to_vec(&header).map_err(|error| failed(&error.to_string()))?;
        let message =
            [header, body.to_string().into_bytes()].map(|part| URL_SAFE_NO_PAD.encode(part));
        let message = message.join(".");
        let signature = key.sign(message.as_bytes()).ok_or_else(|| failed("the key refused"))?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn verify(&self, token: &str) -> Option<Claims> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, body) = message.split_once('.')?;
        let header: Header = from_base64(header)?;
        // Only the configured method: a token that names another one is somebody's trick.
        if header.alg != self.method.name || header.crit.is_some() {
            return None;
        }
        if !self.is_signed(message, signature) {
            return None;
        }
        let body: Body = from_base64(body)?;
        let valid = body.holds_at(since_epoch().as_secs_f64()) && body.revision >= 0.0;
        valid.then_some(Claims { user: body.username, revision: body.revision as u64 })
    }
}

fn from_base64<T: for<'a> Deserialize<'a>>(text: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
