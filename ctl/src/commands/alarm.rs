//! `alarm list` and `alarm disarm`.

use coracle_core::api::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, AlarmType, alarm_request::AlarmAction,
};

use super::{Context, Failure};
use crate::args::Command;
use crate::client::{Client, RpcError};
use crate::format::Output;

pub(super) const COMMAND: Command = Command {
    name: "alarm",
    usage: "<subcommand>",
    short: "Alarm related commands",
    long: "",
    flags: &[],
    subcommands: &[
        Command {
            name: "disarm",
            usage: "",
            short: "Disarms all alarms",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(disarm(context))),
        },
        Command {
            name: "list",
            usage: "",
            short: "Lists all alarms",
            long: "",
            flags: &[],
            subcommands: &[],
            run: Some(|context| Box::pin(list(context))),
        },
    ],
    run: None,
};

async fn list(context: &Context<'_>) -> Result<(), Failure> {
    context.no_arguments("alarm list command accepts no arguments")?;
    let client = context.client().await?;
    let response = alarms(context, client.as_ref()).await?;
    context.show(&Output::Alarm(response))
}

/// All alarms of the cluster.
pub(super) async fn alarms(
    context: &Context<'_>,
    client: &dyn Client,
) -> Result<AlarmResponse, RpcError> {
    let request = AlarmRequest {
        action: AlarmAction::Get.into(),
        member_id: 0,
        alarm: AlarmType::None.into(),
    };
    context.within_timeout(client.alarm(request)).await
}

/// Disarms the alarms one by one, and shows those that were raised until now.
async fn disarm(context: &Context<'_>) -> Result<(), Failure> {
    context.no_arguments("alarm disarm command accepts no arguments")?;
    let client = context.client().await?;
    let raised = alarms(context, client.as_ref()).await?;
    let mut disarmed = AlarmResponse { header: None, alarms: Vec::new() };
    for AlarmMember { member_id, alarm } in raised.alarms {
        let action = AlarmAction::Deactivate.into();
        let request = AlarmRequest { action, member_id, alarm };
        let response = context.within_timeout(client.alarm(request)).await?;
        disarmed.alarms.extend(response.alarms);
    }
    context.show(&Output::Alarm(disarmed))
}
