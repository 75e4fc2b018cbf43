//! `auth enable`, `disable` and `status`.

use coracle_core::api::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthStatusRequest,
    AuthUserGrantRoleRequest,
};
use coracle_core::error::Error;

use super::{Context, Failure};
use crate::args::Command;
use crate::format::Output;

pub(super) const COMMAND: Command = Command {
    name: "auth",
    usage: "<enable or disable>",
    short: "Enable or disable authentication",
    long: "",
    flags: &[],
    subcommands: &[
        Command {
            name: "disable",
            usage: "",
            short: "Disables authentication",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(disable(context))),
        },
        Command {
            name: "enable",
            usage: "",
            short: "Enables authentication",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(enable(context))),
        },
        Command {
            name: "status",
            usage: "",
            short: "Returns authentication status",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(status(context))),
        },
    ],
    run: None,
};

/// Where the user root lacks its role, gives it the role first.
async fn enable(context: &Context<'_>) -> Result<(), Failure> {
    context.no_arguments("auth enable command does not accept any arguments")?;
    let client = context.client().await?;
    let auth = context.auth(&*client)?;
    loop {
        match context.within_timeout(auth.auth_enable(AuthEnableRequest {})).await {
            Ok(_) => break,
            Err(error) if error.message == Error::RootRoleNotExist.message() => {
                let root = || "root".to_owned();
                let add = AuthRoleAddRequest { name: root() };
                context.within_timeout(auth.role_add(add)).await?;
                let grant = AuthUserGrantRoleRequest { user: root(), role: root() };
                context.within_timeout(auth.user_grant_role(grant)).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    context.print("Authentication Enabled");
    Ok(())
}

async fn disable(context: &Context<'_>) -> Result<(), Failure> {
    context.no_arguments("auth disable command does not accept any arguments")?;
    let client = context.client().await?;
    let auth = context.auth(&*client)?;
    context.within_timeout(auth.auth_disable(AuthDisableRequest {})).await?;
    context.print("Authentication Disabled");
    Ok(())
}

async fn status(context: &Context<'_>) -> Result<(), Failure> {
    context.no_arguments("auth status command does not accept any arguments")?;
    let client = context.client().await?;
    let auth = context.auth(&*client)?;
    let response = context.within_timeout(auth.auth_status(AuthStatusRequest {})).await?;
    context.show(&Output::AuthStatus(response))
}
