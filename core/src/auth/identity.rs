//! Who asks: as a client presents itself, and as a member has found out.

use std::fmt;

use crate::api::coraclepb::Asker;

/// On whose behalf a request is made, before anybody looked at what the client showed.
#[derive(Clone, Debug)]
pub enum Caller {
    /// The cluster itself, or its host: health checks, expired leases. Nobody's rights are asked
    /// for.
    Internal,
    Client(Credentials),
}

/// What a client shows of itself. Both are secrets or close to it: they never reach a log.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// A token of `Authenticate`.
    pub token: Option<String>,
    /// The common name of the certificate that the connection verified; the host leaves it out
    /// where it does not speak for the client (a gateway's connection).
    pub common_name: Option<String>,
}

impl Caller {
    /// A client that shows nothing.
    pub fn anonymous() -> Caller {
        Caller::Client(Credentials::default())
    }

    /// A client with a token.
    pub fn with_token(token: impl Into<String>) -> Caller {
        Caller::Client(Credentials { token: Some(token.into()), common_name: None })
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |secret: &Option<String>| if secret.is_some() { "given" } else { "none" };
        f.debug_struct("Credentials")
            .field("token", &shown(&self.token))
            .field("common_name", &self.common_name)
            .finish()
    }
}

/// Who asks, as far as rights go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    Internal,
    /// A client without credentials, or one that came while authentication was off.
    Nobody,
    User {
        name: String,
        /// The auth revision that the name was found out at, or that the token was signed at.
        revision: u64,
    },
}

impl Identity {
    /// As it travels in the log and between members. Nobody costs nothing there.
    pub fn to_asker(&self) -> Option<Asker> {
        match self {
            Identity::Internal => Some(Asker { internal: true, ..Asker::default() }),
            Identity::Nobody => None,
            Identity::User { name, revision } => {
                Some(Asker { user: name.clone(), auth_revision: *revision, internal: false })
            }
        }
    }

    pub fn from_asker(asker: Option<Asker>) -> Identity {
        match asker {
            None => Identity::Nobody,
            Some(asker) if asker.internal => Identity::Internal,
            Some(asker) => Identity::User { name: asker.user, revision: asker.auth_revision },
        }
    }
}
