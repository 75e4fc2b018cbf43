//! `--auth-token`, `--bcrypt-cost` and `--auth-token-ttl`.

use std::time::Duration;

use coracle_ctl::go;

use super::Warning;
use super::build::number;
use super::sources::Values;

/// Costs that bcrypt knows, and etcd's default.
const BCRYPT_COSTS: std::ops::RangeInclusive<u64> = 4..=31;
const DEFAULT_COST: u64 = 10;
/// How long a signed token is good unless `ttl` says otherwise (etcd: `jwt.go`).
const DEFAULT_JWT_TTL: Duration = Duration::from_secs(300);

/// How this member authenticates its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    pub token: TokenConfig,
    /// Binary logarithm of bcrypt's rounds.
    pub bcrypt_cost: u32,
}

/// What a client gets for its password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenConfig {
    /// Random letters that the members remember.
    Simple,
    /// A signed token.
    Jwt(JwtConfig),
}

/// The options behind `jwt`. The keys are paths of PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    pub sign_method: String,
    pub pub_key: Option<String>,
    pub priv_key: Option<String>,
    pub ttl: Duration,
}

pub(super) fn read(values: &mut Values) -> Result<AuthConfig, String> {
    let token = parse_token(values.get("auth-token"))?;
    let given = number(values, "bcrypt-cost");
    let cost = if BCRYPT_COSTS.contains(&given) { given } else { DEFAULT_COST };
    if cost != given {
        let text = format!("--bcrypt-cost={given} is not from 4 to 31: {DEFAULT_COST} is used");
        values.warnings.push(Warning::Text(text));
    }
    Ok(AuthConfig { token, bcrypt_cost: cost as u32 })
}

/// `simple`, or `jwt` with options `key=value` behind commas.
fn parse_token(text: &str) -> Result<TokenConfig, String> {
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let invalid = |why: String| Err(format!("auth: invalid auth options: {why}"));
    let mut jwt = JwtConfig {
        sign_method: String::new(),
        pub_key: None,
        priv_key: None,
        ttl: DEFAULT_JWT_TTL,
    };
    for option in parts {
        let Some((name, value)) = option.split_once('=') else {
            return invalid(format!("--auth-token has {option:?}, which is not option=value"));
        };
        let value = value.to_owned();
        match name {
            "sign-method" => jwt.sign_method = value,
            "pub-key" => jwt.pub_key = Some(value),
            "priv-key" => jwt.priv_key = Some(value),
            "ttl" => match go::parse_duration(&value) {
                Ok(ttl) if !ttl.is_zero() => jwt.ttl = ttl,
                _ => return invalid(format!("--auth-token has ttl={value:?}, no duration")),
            },
            _ => return invalid(format!("--auth-token has the unknown option {name:?}")),
        }
    }
    match kind {
        "simple" => Ok(TokenConfig::Simple),
        "jwt" if jwt.sign_method.is_empty() => {
            invalid("--auth-token=jwt needs sign-method=...".to_owned())
        }
        "jwt" => Ok(TokenConfig::Jwt(jwt)),
        _ => invalid(format!("--auth-token={kind:?} is neither simple nor jwt")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auth_03_what_auth_token_may_say() {
        let text = "jwt,pub-key=/p.pem,priv-key=/k.pem,sign-method=RS512,ttl=10m";
        let jwt = JwtConfig {
            sign_method: "RS512".to_owned(),
            pub_key: Some("/p.pem".to_owned()),
            priv_key: Some("/k.pem".to_owned()),
            ttl: Duration::from_secs(600),
        };
        assert_eq!(parse_token(text), Ok(TokenConfig::Jwt(jwt)));
        assert_eq!(parse_token("simple"), Ok(TokenConfig::Simple));
        for wrong in
            ["", "jwt", "other", "jwt,RS256", "jwt,sign-method=RS256,ttl=x", "jwt,colour=red"]
        {
            let refused = parse_token(wrong).unwrap_err();
            assert!(refused.starts_with("auth: invalid auth options"), "{refused}");
        }
    }
}
