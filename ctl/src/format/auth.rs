//! `-w simple` of users and roles.

use std::io::Write;

use coracle_core::api::authpb::Permission;
use coracle_core::api::authpb::permission::Type;

use super::Output;
use crate::commands::prefix_end;

/// Prints into a buffer, which cannot fail.
macro_rules! line {
    ($buffer:expr, $($argument:tt)*) => {
        let _ = writeln!($buffer, $($argument)*);
    };
}

pub(super) fn simple(out: &mut Vec<u8>, output: &Output) {
    match output {
        Output::AuthChanged { text, .. } => {
            line!(out, "{text}");
        }
        Output::AuthStatus(response) => {
            line!(out, "Authentication Status: {}", response.enabled);
            line!(out, "AuthRevision: {}", response.auth_revision);
        }
        Output::UserGet(name, response) => {
            let roles: String = response.roles.iter().map(|role| format!(" {role}")).collect();
            line!(out, "User: {name}\nRoles:{roles}");
        }
        Output::UserList(response) => names(out, &response.users),
        Output::RoleList(response) => names(out, &response.roles),
        Output::RoleGet(name, response) => {
            line!(out, "Role {name}");
            for (heading, kind) in [("KV Read:", Type::Read), ("KV Write:", Type::Write)] {
                line!(out, "{heading}");
                let held = |each: &&Permission| [kind, Type::Readwrite].contains(&each.perm_type());
                response.perm.iter().filter(held).for_each(|each| permission(out, each));
            }
        }
        _ => {}
    }
}

fn names(out: &mut Vec<u8>, names: &[String]) {
    for name in names {
        line!(out, "{name}");
    }
}

/// One range, as `[from, to)`, and whether it is that of a prefix.
fn permission(out: &mut Vec<u8>, permission: &Permission) {
    let (key, end) = (&permission.key[..], &permission.range_end[..]);
    out.push(b'\t');
    if end.is_empty() {
        out.extend_from_slice(key);
    } else {
        out.push(b'[');
        out.extend_from_slice(key);
        match end {
            [0] => out.extend_from_slice(b", <open ended>"),
            _ => {
                out.extend_from_slice(b", ");
                out.extend_from_slice(end);
                out.push(b')');
            }
        }
        if prefix_end(key) == end {
            out.extend_from_slice(b" (prefix ");
            out.extend_from_slice(key);
            out.push(b')');
        }
    }
    out.push(b'\n');
}
