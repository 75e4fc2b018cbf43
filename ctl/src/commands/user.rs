//! `user add`, `delete`, `get`, `list`, `passwd`, `grant-role` and `revoke-role`.

use coracle_core::api::authpb::UserAddOptions;
use coracle_core::api::etcdserverpb::{
    AuthRoleGetRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
    AuthUserGetRequest, AuthUserGrantRoleRequest, AuthUserListRequest, AuthUserRevokeRoleRequest,
};

use super::{Context, Failure};
use crate::args::{Command, Flag, Kind};
use crate::format::Output;

/// A subcommand of `user`.
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
    name: "user",
    usage: "<subcommand>",
    short: "User related commands",
    long: "",
    flags: &[],
    subcommands: &[
        command!("add" "<user name or user:password> [options]" "Adds a new user" &ADD_FLAGS, add),
        command!("delete" "<user name>" "Deletes a user" &[], delete),
        command!(
            "get" "<user name> [options]" "Gets detailed information of a user" &GET_FLAGS, get
        ),
        command!("grant-role" "<user name> <role name>" "Grants a role to a user" &[], grant_role),
        command!("list" "" "Lists all users" &[], list),
        command!(
            "passwd" "<user name> [options]" "Changes password of user" &PASSWD_FLAGS, passwd
        ),
        command!(
            "revoke-role" "<user name> <role name>" "Revokes a role from a user" &[], revoke_role
        ),
    ],
    run: None,
};

const INTERACTIVE: Flag = Flag::new(
    "interactive",
    Kind::Bool,
    "true",
    "Read password from stdin instead of interactive terminal",
);
static ADD_FLAGS: [Flag; 3] = [
    INTERACTIVE,
    Flag::new("new-user-password", Kind::Text, "", "Supply password from the command line flag"),
    Flag::switch("no-password", "Create a user without password (CN based auth only)"),
];
static PASSWD_FLAGS: [Flag; 1] = [INTERACTIVE];
static GET_FLAGS: [Flag; 1] =
    [Flag::switch("detail", "Show permissions of roles granted to the user")];

async fn add(context: &Context<'_>) -> Result<(), Failure> {
    let argument = context.only_argument("user add command requires user name as its argument")?;
    let no_password = context.parsed.is_on("no-password");
    let from_flag = context.parsed.text("new-user-password");
    let (name, password) = if no_password {
        (argument, String::new())
    } else if !from_flag.is_empty() {
        (argument, from_flag.to_owned())
    } else if let Some((name, password)) = argument.split_once(':') {
        if name.is_empty() {
            return Err(Failure::arguments("empty user name is not allowed"));
        }
        (name.to_owned(), password.to_owned())
    } else {
        let password = new_password(context, &argument).await?;
        (argument, password)
    };
    let client = context.client().await?;
    let options = Some(UserAddOptions { no_password });
    let text = format!("User {name} created");
    let request = AuthUserAddRequest { name, password, options, hashed_password: String::new() };
    let added = context.within_timeout(context.auth(&*client)?.user_add(request)).await?;
    context.show(&Output::AuthChanged { text, header: added.header })
}

/// Asks for a new password, twice; or, without a terminal, takes a word of standard input.
async fn new_password(context: &Context<'_>, name: &str) -> Result<String, Failure> {
    if !context.parsed.is_on("interactive") {
        let line = context.environment.read_line().await;
        let line = line.map_err(Failure::arguments)?.unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        return Ok(line.split_whitespace().next().unwrap_or_default().to_owned());
    }
    let ask = async |prompt: String| {
        let answer = context.environment.read_password(&prompt).await;
        answer.map_err(|error| Failure::arguments(format!("failed to ask password: {error}")))
    };
    let password = ask(format!("Password of {name}: ")).await?;
    if password.is_empty() {
        return Err(Failure::arguments("empty password"));
    }
    let again = ask(format!("Type password of {name} again for confirmation: ")).await?;
    if again != password {
        return Err(Failure::arguments("given passwords are different"));
    }
    Ok(password)
}

async fn delete(context: &Context<'_>) -> Result<(), Failure> {
    let name = context.only_argument("user delete command requires user name as its argument")?;
    let client = context.client().await?;
    let text = format!("User {name} deleted");
    let request = AuthUserDeleteRequest { name };
    let deleted = context.within_timeout(context.auth(&*client)?.user_delete(request)).await?;
    context.show(&Output::AuthChanged { text, header: deleted.header })
}

async fn get(context: &Context<'_>) -> Result<(), Failure> {
    let name = context.only_argument("user get command requires user name as its argument")?;
    let client = context.client().await?;
    let auth = context.auth(&*client)?;
    let request = AuthUserGetRequest { name: name.clone() };
    let response = context.within_timeout(auth.user_get(request)).await?;
    if !context.parsed.is_on("detail") {
        return context.show(&Output::UserGet(name, response));
    }
    context.print(&format!("User: {name}"));
    for role in response.roles {
        context.print("");
        let request = AuthRoleGetRequest { role: role.clone() };
        let response = context.within_timeout(auth.role_get(request)).await?;
        context.show(&Output::RoleGet(role, response))?;
    }
    Ok(())
}

async fn list(context: &Context<'_>) -> Result<(), Failure> {
    context.no_arguments("user list command requires no arguments")?;
    let client = context.client().await?;
    let request = AuthUserListRequest {};
    let response = context.within_timeout(context.auth(&*client)?.user_list(request)).await?;
    context.show(&Output::UserList(response))
}

async fn passwd(context: &Context<'_>) -> Result<(), Failure> {
    let name = context.only_argument("user passwd command requires user name as its argument")?;
    let password = new_password(context, &name).await?;
    let client = context.client().await?;
    let hashed_password = String::new();
    let request = AuthUserChangePasswordRequest { name, password, hashed_password };
    let auth = context.auth(&*client)?;
    let changed = context.within_timeout(auth.user_change_password(request)).await?;
    let text = "Password updated".to_owned();
    context.show(&Output::AuthChanged { text, header: changed.header })
}

async fn grant_role(context: &Context<'_>) -> Result<(), Failure> {
    let complaint = "user grant command requires user name and role name as its argument";
    let [user, role] = context.two_arguments(complaint)?;
    let client = context.client().await?;
    let text = format!("Role {role} is granted to user {user}");
    let request = AuthUserGrantRoleRequest { user, role };
    let granted = context.within_timeout(context.auth(&*client)?.user_grant_role(request)).await?;
    context.show(&Output::AuthChanged { text, header: granted.header })
}

async fn revoke_role(context: &Context<'_>) -> Result<(), Failure> {
    let complaint = "user revoke-role requires user name and role name as its argument";
    let [name, role] = context.two_arguments(complaint)?;
    let client = context.client().await?;
    let text = format!("Role {role} is revoked from user {name}");
    let request = AuthUserRevokeRoleRequest { name, role };
    let revoked = context.within_timeout(context.auth(&*client)?.user_revoke_role(request)).await?;
    context.show(&Output::AuthChanged { text, header: revoked.header })
}
