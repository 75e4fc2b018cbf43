//! What only a native host does for authentication: bcrypt, and signed tokens.

mod jwt;
mod passwords;

use std::sync::Arc;

use coracle_core::platform::TokenSigner;

pub(crate) use self::passwords::BcryptThreads;
use crate::config::{AuthConfig, TokenConfig};

/// The host's half of authentication.
pub(crate) struct Secrets {
    pub(crate) passwords: Arc<BcryptThreads>,
    /// `None` for simple tokens, which the members remember.
    pub(crate) signer: Option<Arc<dyn TokenSigner>>,
}

impl Secrets {
    /// Reads the keys that `config` names. The error is a sentence for the operator.
    pub(crate) fn new(config: &AuthConfig) -> Result<Secrets, String> {
        let signer: Option<Arc<dyn TokenSigner>> = match &config.token {
            TokenConfig::Simple => None,
            TokenConfig::Jwt(options) => Some(Arc::new(jwt::JwtSigner::read(options)?)),
        };
        Ok(Secrets { passwords: Arc::new(BcryptThreads::new(config.bcrypt_cost)), signer })
    }
}
