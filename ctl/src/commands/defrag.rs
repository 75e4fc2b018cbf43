//! `defrag`.

use coracle_core::api::etcdserverpb::DefragmentRequest;

use super::{Context, Failure, endpoint, told};
use crate::args::{Command, Flag};

pub(super) const COMMAND: Command = Command {
    name: "defrag",
    usage: "",
    short: "Defragments the storage of the etcd members with given endpoints",
    long: "",
    flags: &FLAGS,
    subcommands: &[],
    run: Some(|context| Box::pin(defrag(context))),
};

static FLAGS: [Flag; 1] = [endpoint::CLUSTER];

async fn defrag(context: &Context<'_>) -> Result<(), Failure> {
    let mut has_failed = false;
    let connection = context.connection().await?;
    for endpoint in endpoint::endpoints(context, &connection).await? {
        let client = context.client_if_reachable(connection.to(&endpoint)).await?;
        let defragmented =
            async { context.within_timeout(client?.defragment(DefragmentRequest {})).await };
        match defragmented.await {
            Ok(_) => context.print(&format!("Finished defragmenting etcd member[{endpoint}]")),
            Err(error) => {
                has_failed = true;
                let error = told(error);
                context
                    .complain(&format!("Failed to defragment etcd member[{endpoint}] ({error})"));
            }
        }
    }
    if has_failed { Err(Failure::silent()) } else { Ok(()) }
}
