//! The replicated state: whether authentication is on, its revision, users and roles.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message;

use super::{Identity, Rights, SimpleTokens};
use crate::api::authpb::{Role, User};
use crate::backend::{Backend, Bucket, Contents};
use crate::error::{Error, Fatal, hex};
use crate::mvcc::KeyRange;

/// The keys in the bucket `auth`, and etcd's values for on and off.
const ENABLED_KEY: &[u8] = b"authEnabled";
const REVISION_KEY: &[u8] = b"authRevision";
const ON: &[u8] = &[1];
const OFF: &[u8] = &[0];
/// The revision of a store that nothing was changed in. AUTH-04.
const FIRST_REVISION: u64 = 1;

/// Users, roles, and what follows from them. Apply is the only writer.
pub struct AuthStore {
    pub(super) backend: Arc<Backend>,
    /// What a request costs while authentication is off: one load of this.
    enabled: AtomicBool,
    revision: AtomicU64,
    state: Mutex<State>,
    pub tokens: SimpleTokens,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) users: BTreeMap<String, User>,
    pub(super) roles: BTreeMap<String, Role>,
    /// Of users that asked since the last change.
    rights: BTreeMap<String, Arc<Rights>>,
}

/// All that is stored, as etcd's buckets hold it: for exporting and importing a whole state.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredAuth {
    pub enabled: bool,
    pub revision: u64,
    pub users: Vec<User>,
    pub roles: Vec<Role>,
}

/// What is kept in memory of a stored state.
pub struct LoadedAuth {
    state: State,
    enabled: bool,
    revision: u64,
}

impl LoadedAuth {
    /// Reads the users and roles in `contents`.
    pub fn of(contents: &dyn Contents) -> Result<LoadedAuth, Fatal> {
        let mut state = State::default();
        for (key, value) in contents.all(Bucket::AuthUsers)? {
            state.users.insert(name(&key)?, decode("user", value)?);
        }
        for (key, value) in contents.all(Bucket::AuthRoles)? {
            state.roles.insert(name(&key)?, decode("role", value)?);
        }
        let enabled = contents.get(Bucket::Auth, ENABLED_KEY)?.is_some_and(|on| on == ON);
        let revision = match contents.get(Bucket::Auth, REVISION_KEY)? {
            None => FIRST_REVISION,
            Some(stored) => {
                let bytes = stored[..].try_into();
                let bytes =
                    bytes.map_err(|_| Fatal::Backend(format!("revision {}", hex(&stored))))?;
                u64::from_be_bytes(bytes)
            }
        };
        Ok(LoadedAuth { state, enabled, revision })
    }
}

impl AuthStore {
    pub fn open(backend: Arc<Backend>) -> Result<AuthStore, Fatal> {
        let LoadedAuth { state, enabled, revision } = LoadedAuth::of(&*backend)?;
        Ok(AuthStore {
            backend,
            enabled: AtomicBool::new(enabled),
            revision: AtomicU64::new(revision),
            state: Mutex::new(state),
            tokens: SimpleTokens::default(),
        })
    }

    /// Makes `loaded` the state, which a raft snapshot brought.
    pub fn replace(&self, loaded: LoadedAuth) {
        *self.lock() = loaded.state;
        // Whose they are may have another password by now, or be somebody else of the same name.
        self.tokens.clear();
        self.revision.store(loaded.revision, Ordering::Release);
        self.set_enabled(loaded.enabled);
    }

    /// Everything, for an export.
    pub fn stored(&self) -> StoredAuth {
        let state = self.lock();
        StoredAuth {
            enabled: self.is_enabled(),
            revision: self.revision(),
            users: state.users.values().cloned().collect(),
            roles: state.roles.values().cloned().collect(),
        }
    }

    /// Writes what [`AuthStore::stored`] gave, or another etcd's buckets hold, into the buckets of
    /// `backend`, which holds nothing of it yet.
    pub fn import(backend: &Backend, stored: &StoredAuth) {
        let enabled = if stored.enabled { ON } else { OFF };
        backend.put(Bucket::Auth, ENABLED_KEY.into(), Bytes::from_static(enabled));
        put_revision(backend, stored.revision);
        for user in &stored.users {
            backend.put(Bucket::AuthUsers, user.name.clone(), user.encode_to_vec().into());
        }
        for role in &stored.roles {
            backend.put(Bucket::AuthRoles, role.name.clone(), role.encode_to_vec().into());
        }
    }

    pub fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    pub fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// What is stored of the user's password, unless the user may not log in with one; and the
    /// revision at which that held. AUTH-02.
    pub fn password_hash(&self, name: &str) -> Result<(Bytes, u64), Error> {
        let state = self.lock();
        if !self.is_enabled() {
            return Err(Error::AuthNotEnabled);
        }
        let user = state.users.get(name).ok_or(Error::AuthFailed)?;
        check_has_password(user)?;
        Ok((user.password.clone(), self.revision()))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_enabled(&self, enabled: bool) {
        if !enabled {
            self.tokens.clear();
        }
        self.enabled.store(enabled, Ordering::Release);
    }

    pub(super) fn store_enabled(&self, enabled: bool) {
        let value = Bytes::from_static(if enabled { ON } else { OFF });
        self.backend.put(Bucket::Auth, ENABLED_KEY.into(), value);
        self.set_enabled(enabled);
    }

    /// Stores a changed user and its rights' end.
    pub(super) fn put_user(&self, state: &mut State, user: User) {
        let name = text(&user.name);
        self.backend.put(Bucket::AuthUsers, user.name.clone(), user.encode_to_vec().into());
        state.users.insert(name, user);
    }

    pub(super) fn delete_user(&self, state: &mut State, name: &str) {
        self.backend.delete(Bucket::AuthUsers, Bytes::copy_from_slice(name.as_bytes()));
        state.users.remove(name);
    }

    pub(super) fn put_role(&self, state: &mut State, role: Role) {
        let name = text(&role.name);
        self.backend.put(Bucket::AuthRoles, role.name.clone(), role.encode_to_vec().into());
        state.roles.insert(name, role);
    }

    pub(super) fn delete_role(&self, state: &mut State, name: &str) {
        self.backend.delete(Bucket::AuthRoles, Bytes::copy_from_slice(name.as_bytes()));
        state.roles.remove(name);
    }

    /// What was permitted before may not be any more: a new revision. AUTH-04.
    pub(super) fn commit_revision(&self, state: &mut State) {
        state.rights.clear();
        let revision = self.revision() + 1;
        put_revision(&self.backend, revision);
        self.revision.store(revision, Ordering::Release);
    }
}

/// The checks. Each passes whoever needs no rights: everybody while authentication is off, and the
/// cluster itself.
impl AuthStore {
    /// Checks that `who` is somebody. AUTH-06.
    pub fn check_user(&self, who: &Identity) -> Result<(), Error> {
        self.rights_of(who).map(|_| ())
    }

    /// Checks that `who` has the role root. As in etcd, an old revision does not matter here: an
    /// administrator's own changes make its token old.
    pub fn check_admin(&self, who: &Identity) -> Result<(), Error> {
        if let Identity::User { name, .. } = who
            && !name.is_empty()
            && self.is_enabled()
            && !self.lock().users.contains_key(name)
        {
            return Err(Error::UserNotFound);
        }
        match self.rights_of(who)? {
            Some(rights) if !rights.is_admin() => Err(Error::PermissionDenied),
            _ => Ok(()),
        }
    }

    pub fn check_read(&self, who: &Identity, range: &KeyRange<'_>) -> Result<(), Error> {
        match self.current_rights(who)? {
            Some(rights) if !rights.may_read(range) => Err(Error::PermissionDenied),
            _ => Ok(()),
        }
    }

    /// The rights of `who` on keys; `None` where everything is permitted.
    pub fn current_rights(&self, who: &Identity) -> Result<Option<Arc<Rights>>, Error> {
        match self.is_enabled() && self.is_old(who) {
            true => Err(Error::AuthOldRevision),
            false => self.rights_of(who),
        }
    }

    /// Whether users or roles have changed since `who` was identified.
    pub fn is_old(&self, who: &Identity) -> bool {
        matches!(who, Identity::User { revision, .. } if *revision < self.revision())
    }

    /// After a read: whether what it was permitted by still holds. AUTH-07.
    pub fn check_unchanged(&self, who: &Identity) -> Result<(), Error> {
        match who {
            Identity::User { revision, .. } if *revision != self.revision() => {
                Err(Error::AuthOldRevision)
            }
            // Authentication may be on by now.
            Identity::Nobody => self.check_user(who),
            _ => Ok(()),
        }
    }

    /// The rights of `who` on keys, however old it is; `None` where everything is permitted.
    pub fn rights_of(&self, who: &Identity) -> Result<Option<Arc<Rights>>, Error> {
        if !self.is_enabled() {
            return Ok(None);
        }
        let name = match who {
            Identity::Internal => return Ok(None),
            Identity::Nobody => return Err(Error::UserEmpty),
            Identity::User { name, .. } if name.is_empty() => return Err(Error::UserEmpty),
            Identity::User { name, .. } => name,
        };
        let mut state = self.lock();
        if let Some(rights) = state.rights.get(name) {
            return Ok(Some(rights.clone()));
        }
        let user = state.users.get(name).ok_or(Error::PermissionDenied)?;
        let rights = Arc::new(Rights::of_roles(&user.roles, |role| state.roles.get(role)));
        state.rights.insert(name.clone(), rights.clone());
        Ok(Some(rights))
    }
}

/// Refuses the password of a user that was made without one. etcd has no code for it.
pub(super) fn check_has_password(user: &User) -> Result<(), Error> {
    match user.options.as_ref().is_some_and(|options| options.no_password) {
        true => Err(password_for_nobody()),
        false => Ok(()),
    }
}

/// What etcd says of a password that it cannot use.
pub(crate) fn password_for_nobody() -> Error {
    let text = "auth: authentication failed, password was given for no password user";
    Error::Other(crate::error::Code::Unknown, text.to_owned())
}

fn put_revision(backend: &Backend, revision: u64) {
    let value = Bytes::copy_from_slice(&revision.to_be_bytes());
    backend.put(Bucket::Auth, REVISION_KEY.into(), value);
}

fn name(key: &Bytes) -> Result<String, Fatal> {
    String::from_utf8(key.to_vec())
        .map_err(|_| Fatal::Backend(format!("the name {} of a user or role", hex(key))))
}

/// A stored name: it came from a request, where names are text, or was checked when read.
fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn decode<T: Message + Default>(what: &str, value: Bytes) -> Result<T, Fatal> {
    T::decode(value).map_err(|error| Fatal::Backend(format!("a stored {what}: {error}")))
}
