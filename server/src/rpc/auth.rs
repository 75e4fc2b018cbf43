//! `etcdserverpb.Auth`: users, roles, permissions, tokens.

use super::{Method, unary};

pub(super) const METHODS: [Method; 17] = [
    unary!("etcdserverpb.Auth" "AuthEnable" auth_enable),
    unary!("etcdserverpb.Auth" "AuthDisable" auth_disable),
    unary!("etcdserverpb.Auth" "AuthStatus" auth_status),
    unary!("etcdserverpb.Auth" "Authenticate" authenticate),
    unary!("etcdserverpb.Auth" "UserAdd" user_add),
    unary!("etcdserverpb.Auth" "UserGet" user_get),
    unary!("etcdserverpb.Auth" "UserList" user_list),
    unary!("etcdserverpb.Auth" "UserDelete" user_delete),
    unary!("etcdserverpb.Auth" "UserChangePassword" user_change_password),
    unary!("etcdserverpb.Auth" "UserGrantRole" user_grant_role),
    unary!("etcdserverpb.Auth" "UserRevokeRole" user_revoke_role),
    unary!("etcdserverpb.Auth" "RoleAdd" role_add),
    unary!("etcdserverpb.Auth" "RoleGet" role_get),
    unary!("etcdserverpb.Auth" "RoleList" role_list),
    unary!("etcdserverpb.Auth" "RoleDelete" role_delete),
    unary!("etcdserverpb.Auth" "RoleGrantPermission" role_grant_permission),
    unary!("etcdserverpb.Auth" "RoleRevokePermission" role_revoke_permission),
];
