//! Applies commands of the Auth service.

use super::{Applier, Outcome, Reply};
use crate::api::coraclepb::auth_command::Request;

impl Applier {
    /// `index` is the entry's: a token is known by it.
    pub(super) fn auth_command(&self, index: u64, request: Request) -> Outcome {
        let auth = &self.auth;
        match request {
            Request::Authenticate(request) => {
                return auth.authenticate(index, &request).map(Reply::token);
            }
            Request::Enable(_) => auth.enable(),
            Request::Disable(_) => {
                auth.disable();
                Ok(())
            }
            Request::UserAdd(request) => auth.user_add(request),
            Request::UserDelete(request) => auth.user_delete(&request),
            Request::UserChangePassword(request) => auth.user_change_password(request),
            Request::UserGrantRole(request) => auth.user_grant_role(request),
            Request::UserRevokeRole(request) => auth.user_revoke_role(&request),
            Request::RoleAdd(request) => auth.role_add(request),
            Request::RoleDelete(request) => auth.role_delete(&request),
            Request::RoleGrantPermission(request) => auth.role_grant_permission(request),
            Request::RoleRevokePermission(request) => auth.role_revoke_permission(&request),
        }
        .map(|()| Reply::AuthChanged)
    }
}
