//! `role add`, `delete`, `get`, `list`, `grant-permission` and `revoke-permission`.

use coracle_core::api::authpb::Permission;
use coracle_core::api::authpb::permission::Type;
use coracle_core::api::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGetRequest, AuthRoleGrantPermissionRequest,
    AuthRoleListRequest, AuthRoleRevokePermissionRequest,
};

use super::{Context, Failure, from_key_range, prefix_range};
use crate::args::{Command, Flag, Parsed};
use crate::format::Output;

/// A subcommand of `role`.
macro_rules! command {
    ($name:literal $usage:literal $short:literal $flags:expr, $run:ident) => {
        Command {
            name: $name,
            usage: $usage,
            short: $short,
            long: "",
            flags: $flags,
            subcommands: &[],
            run: Some(|context| Box::pin($run(context))),
        }
    };
}

pub(super) const COMMAND: Command = Command {
    name: "role",
    usage: "<subcommand>",
    short: "Role related commands",
    long: "",
    flags: &[],
    subcommands: &[
        command!("add" "<role name>" "Adds a new role" &[], add),
        command!("delete" "<role name>" "Deletes a role" &[], delete),
        command!("get" "<role name>" "Gets detailed information of a role" &[], get),
        command!(
            "grant-permission" "[options] <role name> <permission type> <key> [endkey]"
            "Grants a key to a role" &GRANT_FLAGS, grant_permission
        ),
        command!("list" "" "Lists all roles" &[], list),
        command!(
            "revoke-permission" "<role name> <key> [endkey]" "Revokes a key from a role"
            &REVOKE_FLAGS, revoke_permission
        ),
    ],
    run: None,
};

static GRANT_FLAGS: [Flag; 2] = [
    Flag::switch(
        "from-key",
        "grant a permission of keys that are greater than or equal to the given key using byte \
         compare",
    ),
    Flag::switch("prefix", "grant a prefix permission"),
];
static REVOKE_FLAGS: [Flag; 2] = [
    Flag::switch(
        "from-key",
        "revoke a permission of keys that are greater than or equal to the given key using byte \
         compare",
    ),
    Flag::switch("prefix", "revoke a prefix permission"),
];

async fn add(context: &Context<'_>) -> Result<(), Failure> {
    let name = context.only_argument("role add command requires role name as its argument")?;
    let client = context.client().await?;
    let text = format!("Role {name} created");
    let request = AuthRoleAddRequest { name };
    let added = context.within_timeout(context.auth(&*client)?.role_add(request)).await?;
    context.show(&Output::AuthChanged { text, header: added.header })
}

async fn delete(context: &Context<'_>) -> Result<(), Failure> {
    let role = context.only_argument("role delete command requires role name as its argument")?;
    let client = context.client().await?;
    let text = format!("Role {role} deleted");
    let request = AuthRoleDeleteRequest { role };
    let deleted = context.within_timeout(context.auth(&*client)?.role_delete(request)).await?;
    context.show(&Output::AuthChanged { text, header: deleted.header })
}

async fn get(context: &Context<'_>) -> Result<(), Failure> {
    let role = context.only_argument("role get command requires role name as its argument")?;
    let client = context.client().await?;
    let request = AuthRoleGetRequest { role: role.clone() };
    let response = context.within_timeout(context.auth(&*client)?.role_get(request)).await?;
    context.show(&Output::RoleGet(role, response))
}

async fn list(context: &Context<'_>) -> Result<(), Failure> {
    context.no_arguments("role list command requires no arguments")?;
    let client = context.client().await?;
    let request = AuthRoleListRequest {};
    let response = context.within_timeout(context.auth(&*client)?.role_list(request)).await?;
    context.show(&Output::RoleList(response))
}

async fn grant_permission(context: &Context<'_>) -> Result<(), Failure> {
    let [role, kind, range @ ..] = context.arguments() else {
        return Err(grant_complaint());
    };
    if range.is_empty() {
        return Err(grant_complaint());
    }
    let (name, kind) = (text(role), text(kind));
    // As in Go's client, in any case.
    let kind_named = match kind.to_ascii_uppercase().as_str() {
        "READ" => Type::Read,
        "WRITE" => Type::Write,
        "READWRITE" => Type::Readwrite,
        _ => return Err(Failure::arguments(format!("invalid permission type: {kind}"))),
    };
    let (key, range_end) = permission_range(&context.parsed, range)?;
    let client = context.client().await?;
    let done = format!("Role {name} updated");
    let (key, range_end) = (key.into(), range_end.into());
    let perm = Some(Permission { perm_type: kind_named as i32, key, range_end });
    let request = AuthRoleGrantPermissionRequest { name, perm };
    let auth = context.auth(&*client)?;
    let granted = context.within_timeout(auth.role_grant_permission(request)).await?;
    context.show(&Output::AuthChanged { text: done, header: granted.header })
}

fn grant_complaint() -> Failure {
    Failure::arguments(
        "role grant command requires role name, permission type, and key [endkey] as its argument",
    )
}

async fn revoke_permission(context: &Context<'_>) -> Result<(), Failure> {
    let complaint =
        "role revoke-permission command requires role name and key [endkey] as its argument";
    let [role, range @ ..] = context.arguments() else {
        return Err(Failure::arguments(complaint));
    };
    if range.is_empty() {
        return Err(Failure::arguments(complaint));
    }
    let role = text(role);
    let (key, range_end) = permission_range(&context.parsed, range)?;
    let client = context.client().await?;
    // etcdctl's words have the key as it was given.
    let (first, end) = (text(&range[0]), text(&range_end));
    let done = match end.as_str() {
        "" => format!("Permission of key {first} is revoked from role {role}"),
        "\0" => format!("Permission of range [{first}, <open ended> is revoked from role {role}"),
        _ => format!("Permission of range [{first}, {end}) is revoked from role {role}"),
    };
    let (key, range_end) = (key.into(), range_end.into());
    let request = AuthRoleRevokePermissionRequest { role, key, range_end };
    let auth = context.auth(&*client)?;
    let revoked = context.within_timeout(auth.role_revoke_permission(request)).await?;
    context.show(&Output::AuthChanged { text: done, header: revoked.header })
}

/// The range that `key`, an optional end key and the flags mean. The empty key stands for the
/// first one.
fn permission_range(parsed: &Parsed, arguments: &[Vec<u8>]) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (prefix, from_key) = (parsed.is_on("prefix"), parsed.is_on("from-key"));
    let exclusive = "--from-key and --prefix flags are mutually exclusive";
    match arguments {
        [_] | [] if prefix && from_key => Err(Failure::arguments(exclusive)),
        [key, ..] if key.is_empty() => {
            Ok((vec![0], if prefix || from_key { vec![0] } else { Vec::new() }))
        }
        [key] if prefix => Ok(prefix_range(key)),
        [key] if from_key => Ok(from_key_range(key)),
        [key] => Ok((key.clone(), Vec::new())),
        [_, _, ..] if prefix => {
            Err(Failure::arguments("unexpected endkey argument with --prefix flag"))
        }
        [_, _, ..] if from_key => {
            Err(Failure::arguments("unexpected endkey argument with --from-key flag"))
        }
        [key, end, ..] => Ok((key.clone(), end.clone())),
        [] => Err(grant_complaint()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
