//! The commands that change users, roles and permissions, as applied; and the questions about them.
//!
//! Whether the asker may do so is checked before ([`crate::apply`]).

use bytes::Bytes;

use super::rights::is_range;
use super::store::check_has_password;
use super::{AuthStore, ROOT_ROLE, ROOT_USER};
use crate::api::authpb::{Permission, Role, User};
use crate::api::coraclepb::Authenticate;
use crate::api::etcdserverpb as pb;
use crate::error::Error;

impl AuthStore {
    /// AUTH-01.
    pub fn enable(&self) -> Result<(), Error> {
        let state = self.lock();
        if self.is_enabled() {
            return Ok(());
        }
        let root = state.users.get(ROOT_USER).ok_or(Error::RootUserNotExist)?;
        if !root.roles.iter().any(|role| role == ROOT_ROLE) {
            return Err(Error::RootRoleNotExist);
        }
        self.store_enabled(true);
        Ok(())
    }

    /// Forgets the tokens too. A second time changes nothing.
    pub fn disable(&self) {
        let mut state = self.lock();
        if self.is_enabled() {
            self.store_enabled(false);
            self.commit_revision(&mut state);
        }
    }

    /// Gives a token to a user whose password was checked; `index` is the entry's. AUTH-03.
    pub fn authenticate(&self, index: u64, request: &Authenticate) -> Result<String, Error> {
        let state = self.lock();
        if !self.is_enabled() {
            return Err(Error::AuthNotEnabled);
        }
        let user = state.users.get(&request.name).ok_or(Error::AuthFailed)?;
        check_has_password(user)?;
        Ok(self.tokens.create(index, &request.letters, &request.name))
    }

    /// The password comes hashed, or not at all.
    pub fn user_add(&self, request: pb::AuthUserAddRequest) -> Result<(), Error> {
        let mut state = self.lock();
        if request.name.is_empty() {
            return Err(Error::UserEmpty);
        }
        if state.users.contains_key(&request.name) {
            return Err(Error::UserAlreadyExist);
        }
        let options = request.options.unwrap_or_default();
        let password = match options.no_password {
            true => Bytes::new(),
            false => request.hashed_password.into(),
        };
        let name = request.name.into();
        let user = User { name, password, roles: Vec::new(), options: Some(options) };
        self.put_user(&mut state, user);
        self.commit_revision(&mut state);
        Ok(())
    }

    pub fn user_delete(&self, request: &pb::AuthUserDeleteRequest) -> Result<(), Error> {
        let mut state = self.lock();
        if self.is_enabled() && request.name == ROOT_USER {
            return Err(Error::InvalidAuthMgmt);
        }
        if !state.users.contains_key(&request.name) {
            return Err(Error::UserNotFound);
        }
        self.delete_user(&mut state, &request.name);
        self.commit_revision(&mut state);
        self.tokens.drop_user(&request.name);
        Ok(())
    }

    /// The password comes hashed. A user without password stays so, as in etcd.
    pub fn user_change_password(
        &self,
        request: pb::AuthUserChangePasswordRequest,
    ) -> Result<(), Error> {
        let mut state = self.lock();
        let mut user = state.users.get(&request.name).cloned().ok_or(Error::UserNotFound)?;
        if !user.options.as_ref().is_some_and(|options| options.no_password) {
            user.password = request.hashed_password.into();
        }
        self.put_user(&mut state, user);
        self.commit_revision(&mut state);
        self.tokens.drop_user(&request.name);
        Ok(())
    }

    /// Granting a second time changes nothing. AUTH-09.
    pub fn user_grant_role(&self, request: pb::AuthUserGrantRoleRequest) -> Result<(), Error> {
        let mut state = self.lock();
        let mut user = state.users.get(&request.user).cloned().ok_or(Error::UserNotFound)?;
        if request.role != ROOT_ROLE && !state.roles.contains_key(&request.role) {
            return Err(Error::RoleNotFound);
        }
        if user.roles.contains(&request.role) {
            return Ok(());
        }
        user.roles.push(request.role);
        user.roles.sort_unstable();
        self.put_user(&mut state, user);
        self.commit_revision(&mut state);
        Ok(())
    }

    pub fn user_revoke_role(&self, request: &pb::AuthUserRevokeRoleRequest) -> Result<(), Error> {
        let mut state = self.lock();
        // AUTH-08: without its role, root could not disable authentication any more.
        if self.is_enabled() && request.name == ROOT_USER && request.role == ROOT_ROLE {
            return Err(Error::InvalidAuthMgmt);
        }
        let mut user = state.users.get(&request.name).cloned().ok_or(Error::UserNotFound)?;
        let before = user.roles.len();
        user.roles.retain(|role| *role != request.role);
        if user.roles.len() == before {
            return Err(Error::RoleNotGranted);
        }
        self.put_user(&mut state, user);
        self.commit_revision(&mut state);
        Ok(())
    }

    pub fn role_add(&self, request: pb::AuthRoleAddRequest) -> Result<(), Error> {
        let mut state = self.lock();
        if request.name.is_empty() {
            return Err(Error::RoleEmpty);
        }
        if state.roles.contains_key(&request.name) {
            return Err(Error::RoleAlreadyExist);
        }
        let role = Role { name: request.name.into(), key_permission: Vec::new() };
        self.put_role(&mut state, role);
        self.commit_revision(&mut state);
        Ok(())
    }

    /// Takes the role away from everybody who has it.
    pub fn role_delete(&self, request: &pb::AuthRoleDeleteRequest) -> Result<(), Error> {
        let mut state = self.lock();
        if self.is_enabled() && request.role == ROOT_ROLE {
            return Err(Error::InvalidAuthMgmt);
        }
        if !state.roles.contains_key(&request.role) {
            return Err(Error::RoleNotFound);
        }
        self.delete_role(&mut state, &request.role);
        let holders: Vec<User> = state
            .users
            .values()
            .filter(|user| user.roles.contains(&request.role))
            .cloned()
            .collect();
        for mut user in holders {
            user.roles.retain(|role| *role != request.role);
            self.put_user(&mut state, user);
        }
        self.commit_revision(&mut state);
        Ok(())
    }

    /// The type of a permission on the same range is replaced. AUTH-05.
    pub fn role_grant_permission(
        &self,
        request: pb::AuthRoleGrantPermissionRequest,
    ) -> Result<(), Error> {
        let mut state = self.lock();
        let granted = request.perm.ok_or(Error::PermissionNotGiven)?;
        if !is_range(&granted.key, &granted.range_end) {
            return Err(Error::InvalidAuthMgmt);
        }
        let mut role = state.roles.get(&request.name).cloned().ok_or(Error::RoleNotFound)?;
        let range =
            |permission: &Permission| (permission.key.clone(), permission.range_end.clone());
        let same = role.key_permission.iter_mut().find(|known| range(known) == range(&granted));
        match same {
            Some(known) => known.perm_type = granted.perm_type,
            None => {
                role.key_permission.push(granted);
                role.key_permission.sort_by(|one, other| one.key.cmp(&other.key));
            }
        }
        self.put_role(&mut state, role);
        self.commit_revision(&mut state);
        Ok(())
    }

    pub fn role_revoke_permission(
        &self,
        request: &pb::AuthRoleRevokePermissionRequest,
    ) -> Result<(), Error> {
        let mut state = self.lock();
        let mut role = state.roles.get(&request.role).cloned().ok_or(Error::RoleNotFound)?;
        let before = role.key_permission.len();
        role.key_permission
            .retain(|known| known.key != request.key || known.range_end != request.range_end);
        if role.key_permission.len() == before {
            return Err(Error::PermissionNotGranted);
        }
        self.put_role(&mut state, role);
        self.commit_revision(&mut state);
        Ok(())
    }
}

/// Questions.
impl AuthStore {
    /// The roles of a user, sorted.
    pub fn user_roles(&self, name: &str) -> Result<Vec<String>, Error> {
        self.lock().users.get(name).map(|user| user.roles.clone()).ok_or(Error::UserNotFound)
    }

    /// The names of all users, sorted.
    pub fn users(&self) -> Vec<String> {
        self.lock().users.keys().cloned().collect()
    }

    /// The permissions of a role. Root's are not among them: it has no need of any.
    pub fn role_permissions(&self, name: &str) -> Result<Vec<Permission>, Error> {
        let state = self.lock();
        let role = state.roles.get(name).ok_or(Error::RoleNotFound)?;
        Ok(role.key_permission.clone())
    }

    /// The names of all roles, sorted.
    pub fn roles(&self) -> Vec<String> {
        self.lock().roles.keys().cloned().collect()
    }

    /// Whether the user has the role.
    pub fn has_role(&self, user: &str, role: &str) -> bool {
        let state = self.lock();
        state.users.get(user).is_some_and(|user| user.roles.iter().any(|name| name == role))
    }
}
