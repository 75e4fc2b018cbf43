//! Who may do what: users, roles, permissions on ranges of keys, tokens. Off until it is enabled.
//!
//! ```text
//!   Caller       what a client showed: a token, a certificate's name, nothing
//!     │ node: a look at the token
//!     ▼
//!   Identity     a user's name, and the auth revision that was current then
//!     │ travels with a write in the log (`Asker`), with a forwarded request between members
//!     ▼
//!   Rights       the union of what the user's roles permit, made once per user and auth revision
//! ```
//!
//! [`AuthStore`] is replicated: it changes only by entries of the log. A write is checked when it
//! is *applied*, so that all members judge by the same users and roles; an identity that is older
//! than the store's revision is refused, because the user may have lost the right meanwhile
//! (AUTH-07). A read is checked where it is answered, before and after. The cluster's own doings
//! ask for no rights.
//!
//! Users and roles are stored as etcd stores them (its buckets, names and messages), so that they
//! can be carried over as they are.
//!
//! What is not here: hashing passwords and signing tokens, which cost time or code and belong to
//! the host (`platform::Passwords`, `platform::TokenSigner`); looking at the clock.

mod identity;
mod manage;
mod rights;
mod store;
#[cfg(test)]
mod tests;
mod tokens;

pub use identity::{Caller, Credentials, Identity};
pub use rights::Rights;
pub(crate) use store::password_for_nobody;
pub use store::{AuthStore, LoadedAuth, StoredAuth};
pub use tokens::{Lookup, SimpleTokens, TOKEN_LETTERS};

/// The user that enables authentication, and that it cannot be enabled without.
pub const ROOT_USER: &str = "root";
/// The role that may do everything. It needs not exist to be granted.
pub const ROOT_ROLE: &str = "root";
