//! Who asks, and the Auth service.
//!
//! A client's token is looked at on the member that the client speaks to. What it shows is an
//! [`Identity`]; that travels with a write through the log, and its rights are judged when the
//! write is applied.

use std::sync::Arc;

use super::Node;
use super::propose::mismatch;
use crate::api::coraclepb::auth_command::Request as AuthRequest;
use crate::api::coraclepb::command::Request as CommandRequest;
use crate::api::coraclepb::{AuthCommand, Authenticate};
use crate::api::etcdserverpb as pb;
use crate::apply::{Permit, Reply};
use crate::auth::{Caller, Credentials, Identity, Lookup, SimpleTokens, password_for_nobody};
use crate::error::{Code, Error};
use crate::limits::MAX_PASSWORD_BYTES;
use crate::platform::{Passwords, Platform};
use crate::raft::types::AsyncRuntime;

impl<P: Platform> Node<P> {
    /// Whether rights are asked for at all.
    pub fn auth_enabled(&self) -> bool {
        self.auth.is_enabled()
    }

    /// Finds out who asks. Costs nothing to speak of while authentication is off.
    ///
    /// Fails with `InvalidAuthToken` for a token that is not known or has expired.
    pub(super) async fn identify(&self, by: &Caller) -> Result<Identity, Error> {
        let credentials = match by {
            Caller::Internal => return Ok(Identity::Internal),
            Caller::Client(_) if !self.auth.is_enabled() => return Ok(Identity::Nobody),
            Caller::Client(credentials) => credentials,
        };
        match self.identify_here(credentials) {
            Ok(Some(identity)) => Ok(identity),
            Ok(None) => {
                // The entry that gave the token out is on its way to this member, if there is one.
                self.linearize().await?;
                self.identify_here(credentials)?.ok_or(Error::InvalidAuthToken)
            }
            Err(error) => Err(error),
        }
    }

    /// As [`Node::identify`], from what is known here and now; `None` if that could change soon.
    pub(super) fn identify_here(
        &self,
        credentials: &Credentials,
    ) -> Result<Option<Identity>, Error> {
        // Read before the token: a user that is deleted and made anew is another user.
        let revision = self.auth.revision();
        let user = |name: String| Ok(Some(Identity::User { name, revision }));
        match (&credentials.token, &credentials.common_name) {
            (Some(token), _) => match self.platform.token_signer() {
                Some(signer) => {
                    let claims = signer.verify(token).ok_or(Error::InvalidAuthToken)?;
                    let (name, revision) = (claims.user, claims.revision);
                    Ok(Some(Identity::User { name, revision }))
                }
                None => match self.look_up_token(token) {
                    Lookup::User(name) => user(name),
                    Lookup::Unknown => Err(Error::InvalidAuthToken),
                    Lookup::Ahead => Ok(None),
                },
            },
            (None, Some(name)) if self.config.client_cert_auth && !name.is_empty() => {
                user(name.clone())
            }
            _ => Ok(Some(Identity::Nobody)),
        }
    }

    fn look_up_token(&self, token: &str) -> Lookup {
        let applied = self.shared.applied.get();
        let now = self.platform.monotonic();
        self.auth.tokens.look_up(token, applied, now, self.config.auth_token_ttl)
    }

    /// Lets tokens expire that nobody uses.
    pub(super) async fn expire_tokens(&self) {
        loop {
            P::Runtime::sleep(super::tasks::TOKEN_TICK).await;
            self.auth.tokens.tick(self.platform.monotonic(), self.config.auth_token_ttl);
        }
    }

    /// What `who` may do.
    pub(super) fn permit<'a>(&'a self, who: &'a Identity) -> Permit<'a> {
        Permit { auth: &self.auth, leases: &*self.lessor, who }
    }

    /// Refuses whoever has not the role root. AUTH-06.
    pub(super) async fn require_admin(&self, by: &Caller) -> Result<Identity, Error> {
        let who = self.identify(by).await?;
        self.auth.check_admin(&who)?;
        Ok(who)
    }

    /// Refuses whoever is nobody. AUTH-06.
    pub(super) async fn require_user(&self, by: &Caller) -> Result<Identity, Error> {
        let who = self.identify(by).await?;
        self.auth.check_user(&who)?;
        Ok(who)
    }

    /// Proposes a change of the auth store.
    async fn change_auth(&self, by: &Caller, request: AuthRequest) -> Result<(), Error> {
        let who = self.identify(by).await?;
        self.propose_auth(&who, request).await
    }

    async fn propose_auth(&self, who: &Identity, request: AuthRequest) -> Result<(), Error> {
        let command = CommandRequest::Auth(AuthCommand { request: Some(request) });
        match self.propose(who, command).await? {
            Reply::AuthChanged => Ok(()),
            other => Err(mismatch(other)),
        }
    }

    fn auth_header(&self) -> Option<pb::ResponseHeader> {
        Some(self.header(self.store.current_revision()))
    }

    /// A password as it is stored. Hashing is slow on purpose, so only those who may use the
    /// result get it. AUTH-10.
    async fn hash_password(&self, by: &Caller, password: String) -> Result<String, Error> {
        self.linearize().await?;
        self.require_admin(by).await?;
        if password.len() > MAX_PASSWORD_BYTES {
            let text = format!("bcrypt: password length exceeds {MAX_PASSWORD_BYTES} bytes");
            return Err(Error::Other(Code::Unknown, text));
        }
        self.passwords()?.hash(password).await
    }

    /// A password that its client has hashed, in base64.
    async fn take_hash(&self, by: &Caller, user: &str, hashed: &str) -> Result<String, Error> {
        self.linearize().await?;
        self.require_admin(by).await?;
        match self.passwords()?.decode(hashed) {
            Some(hash) => Ok(hash),
            // Who does not exist is told first.
            None => self.auth.user_roles(user).and_then(|_| Err(password_for_nobody())),
        }
    }

    fn passwords(&self) -> Result<Arc<dyn Passwords>, Error> {
        self.platform.passwords().ok_or_else(|| {
            let text = "passwords are not available on this host";
            Error::Other(Code::Unimplemented, text.to_owned())
        })
    }
}

/// A method that proposes a change as it came and answers with a header.
macro_rules! changes {
    ($($(#[$doc:meta])* $method:ident $command:ident $request:ident $response:ident;)*) => {
        impl<P: Platform> Node<P> {$(
            $(#[$doc])*
            pub async fn $method(
                &self,
                by: &Caller,
                request: pb::$request,
            ) -> Result<pb::$response, Error> {
                self.change_auth(by, AuthRequest::$command(request)).await?;
                Ok(pb::$response { header: self.auth_header() })
            }
        )*}
    };
}

changes! {
    /// Auth.AuthEnable. AUTH-01.
    auth_enable Enable AuthEnableRequest AuthEnableResponse;
    /// Auth.AuthDisable.
    auth_disable Disable AuthDisableRequest AuthDisableResponse;
    /// Auth.UserDelete.
    user_delete UserDelete AuthUserDeleteRequest AuthUserDeleteResponse;
    /// Auth.UserGrantRole.
    user_grant_role UserGrantRole AuthUserGrantRoleRequest AuthUserGrantRoleResponse;
    /// Auth.UserRevokeRole.
    user_revoke_role UserRevokeRole AuthUserRevokeRoleRequest AuthUserRevokeRoleResponse;
    /// Auth.RoleAdd.
    role_add RoleAdd AuthRoleAddRequest AuthRoleAddResponse;
    /// Auth.RoleDelete.
    role_delete RoleDelete AuthRoleDeleteRequest AuthRoleDeleteResponse;
    /// Auth.RoleGrantPermission. AUTH-05.
    role_grant_permission RoleGrantPermission
        AuthRoleGrantPermissionRequest AuthRoleGrantPermissionResponse;
    /// Auth.RoleRevokePermission.
    role_revoke_permission RoleRevokePermission
        AuthRoleRevokePermissionRequest AuthRoleRevokePermissionResponse;
}

/// What takes more than a proposal.
impl<P: Platform> Node<P> {
    /// Auth.AuthStatus: for everybody. AUTH-04.
    pub async fn auth_status(
        &self,
        _by: &Caller,
        _request: pb::AuthStatusRequest,
    ) -> Result<pb::AuthStatusResponse, Error> {
        self.linearize().await?;
        Ok(pb::AuthStatusResponse {
            header: self.auth_header(),
            enabled: self.auth.is_enabled(),
            auth_revision: self.auth.revision(),
        })
    }

    /// Auth.Authenticate: a token for a name and its password. AUTH-02, AUTH-03.
    ///
    /// Comparing the password takes a while; if the store changed meanwhile, the password may have
    /// too, and it is compared again.
    pub async fn authenticate(
        &self,
        _by: &Caller,
        request: pb::AuthenticateRequest,
    ) -> Result<pb::AuthenticateResponse, Error> {
        self.linearize().await?;
        let passwords = self.passwords()?;
        loop {
            let known = self.auth.password_hash(&request.name);
            // An unknown name must not be answered faster than a wrong password.
            let hash = match &known {
                Ok((hash, _)) => Some(hash.clone()),
                Err(Error::AuthFailed) => None,
                Err(error) => return Err(error.clone()),
            };
            let matches = passwords.verify(request.password.clone(), hash).await?;
            let (_, revision) = known?;
            if !matches {
                tracing::warn!(user = request.name, "invalid authentication was requested");
                return Err(Error::AuthFailed);
            }
            let token = match self.platform.token_signer() {
                Some(signer) => signer.sign(&request.name, revision)?,
                None => self.give_out_token(&request.name).await?,
            };
            if self.auth.revision() == revision {
                return Ok(pb::AuthenticateResponse { header: self.auth_header(), token });
            }
        }
    }

    async fn give_out_token(&self, name: &str) -> Result<String, Error> {
        let letters = SimpleTokens::letters(|| self.platform.random());
        let request = AuthRequest::Authenticate(Authenticate { name: name.to_owned(), letters });
        let command = CommandRequest::Auth(AuthCommand { request: Some(request) });
        match self.propose(&Identity::Nobody, command).await? {
            Reply::Token(token) => Ok(token.0),
            other => Err(mismatch(other)),
        }
    }

    /// Auth.UserAdd.
    pub async fn user_add(
        &self,
        by: &Caller,
        mut request: pb::AuthUserAddRequest,
    ) -> Result<pb::AuthUserAddResponse, Error> {
        let password = std::mem::take(&mut request.password);
        request.hashed_password = match request.options {
            Some(options) if options.no_password => String::new(),
            _ => self.hash_password(by, password).await?,
        };
        self.change_auth(by, AuthRequest::UserAdd(request)).await?;
        Ok(pb::AuthUserAddResponse { header: self.auth_header() })
    }

    /// Auth.UserChangePassword.
    pub async fn user_change_password(
        &self,
        by: &Caller,
        mut request: pb::AuthUserChangePasswordRequest,
    ) -> Result<pb::AuthUserChangePasswordResponse, Error> {
        let password = std::mem::take(&mut request.password);
        let hashed = std::mem::take(&mut request.hashed_password);
        // As in etcd, an empty password is none: nobody logs in with it.
        request.hashed_password = match (password.is_empty(), hashed.is_empty()) {
            (true, true) => String::new(),
            (true, false) => self.take_hash(by, &request.name, &hashed).await?,
            (false, _) => self.hash_password(by, password).await?,
        };
        self.change_auth(by, AuthRequest::UserChangePassword(request)).await?;
        Ok(pb::AuthUserChangePasswordResponse { header: self.auth_header() })
    }

    /// Auth.UserGet: anybody may ask about themselves. AUTH-06.
    pub async fn user_get(
        &self,
        by: &Caller,
        request: pb::AuthUserGetRequest,
    ) -> Result<pb::AuthUserGetResponse, Error> {
        let roles = self.ask_auth(by, |who| {
            let own = matches!(who, Identity::User { name, .. } if *name == request.name);
            if !own {
                self.auth.check_admin(who)?;
            }
            self.auth.user_roles(&request.name)
        });
        let roles = roles.await?;
        Ok(pb::AuthUserGetResponse { header: self.auth_header(), roles })
    }

    /// Auth.UserList.
    pub async fn user_list(
        &self,
        by: &Caller,
        _request: pb::AuthUserListRequest,
    ) -> Result<pb::AuthUserListResponse, Error> {
        let users = self.ask_auth(by, |who| self.auth.check_admin(who).map(|()| self.auth.users()));
        let users = users.await?;
        Ok(pb::AuthUserListResponse { header: self.auth_header(), users })
    }

    /// Auth.RoleGet: anybody may ask about a role of their own. AUTH-06.
    pub async fn role_get(
        &self,
        by: &Caller,
        request: pb::AuthRoleGetRequest,
    ) -> Result<pb::AuthRoleGetResponse, Error> {
        let permissions = self.ask_auth(by, |who| {
            let own = matches!(
                who, Identity::User { name, .. } if self.auth.has_role(name, &request.role)
            );
            if !own {
                self.auth.check_admin(who)?;
            }
            self.auth.role_permissions(&request.role)
        });
        let perm = permissions.await?;
        Ok(pb::AuthRoleGetResponse { header: self.auth_header(), perm })
    }

    /// Auth.RoleList.
    pub async fn role_list(
        &self,
        by: &Caller,
        _request: pb::AuthRoleListRequest,
    ) -> Result<pb::AuthRoleListResponse, Error> {
        let roles = self.ask_auth(by, |who| self.auth.check_admin(who).map(|()| self.auth.roles()));
        let roles = roles.await?;
        Ok(pb::AuthRoleListResponse { header: self.auth_header(), roles })
    }

    /// Answers a question about users and roles as of now. (etcd asks through its log.)
    async fn ask_auth<T>(
        &self,
        by: &Caller,
        answer: impl Fn(&Identity) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.linearize().await?;
        answer(&self.identify(by).await?)
    }
}
