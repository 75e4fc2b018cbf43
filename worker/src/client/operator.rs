//! What an operator does to a cluster's membership, step by step, over the client's RPCs.

use std::time::Duration;

use coracle_core::api::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
};
use coracle_core::platform::step::StepRuntime;
use coracle_ctl::client::{Client, RpcError};
use futures_util::future::{Either, select};
use openraft_rt::AsyncRuntime;

use super::rpc::LabClient;
use crate::node::{member_url, node_name};
use crate::protocol::NodeNumber;

/// An operator gives up after so many attempts, one each [`PAUSE`].
const ATTEMPTS: u32 = 150;
const PAUSE: Duration = Duration::from_millis(200);
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// A change of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Records a new member; its process may then start.
    Add {
        node: NodeNumber,
    },
    /// Promotes a learner, once it has caught up.
    Promote {
        node: NodeNumber,
    },
    Remove {
        node: NodeNumber,
    },
    /// Removes the member that lost its disk, and records it anew.
    Replace {
        node: NodeNumber,
    },
}

/// Carries `operation` out; an error is a sentence.
pub(super) async fn operate(client: LabClient, operation: Operation) -> Result<(), String> {
    let mut last = String::new();
    for number in 0..ATTEMPTS {
        // A node that does not answer may be cut off: another one is asked first next time.
        let client = client.beginning_with(number as usize);
        let attempt = Box::pin(attempt(&client, operation));
        match select(attempt, StepRuntime::sleep(REQUEST_TIMEOUT)).await {
            Either::Left((Ok(()), _)) => return Ok(()),
            Either::Left((Err(Refusal::Final(reason)), _)) => return Err(reason),
            Either::Left((Err(Refusal::NotNow(reason)), _)) => last = reason,
            Either::Right(_) => last = "no member answered in time".to_owned(),
        }
        StepRuntime::sleep(PAUSE).await;
    }
    Err(format!("given up: {last}"))
}

enum Refusal {
    /// Worth another attempt: an election, an unhealthy cluster, a learner that lags.
    NotNow(String),
    Final(String),
}

impl From<RpcError> for Refusal {
    fn from(error: RpcError) -> Refusal {
        // FailedPrecondition, Unavailable, DeadlineExceeded: of the moment.
        match error.code {
            4 | 9 | 14 => Refusal::NotNow(error.message),
            _ => Refusal::Final(error.message),
        }
    }
}

async fn attempt(client: &LabClient, operation: Operation) -> Result<(), Refusal> {
    match operation {
        Operation::Add { node } => match member(client, node).await? {
            // An earlier attempt's answer was lost.
            Some(_) => Ok(()),
            None => add(client, node).await,
        },
        Operation::Promote { node } => {
            let found = member(client, node).await?;
            match found {
                Some(found) if found.is_learner => {
                    client.member_promote(MemberPromoteRequest { id: found.id }).await?;
                    Ok(())
                }
                Some(_) => Ok(()),
                None => Err(Refusal::Final(format!("{} is no member", node_name(node)))),
            }
        }
        Operation::Remove { node } => remove(client, node).await,
        Operation::Replace { node } => {
            // The one without a name is the new one: its process has not started.
            match member(client, node).await? {
                Some(found) if found.name.is_empty() => return Ok(()),
                Some(_) => remove(client, node).await?,
                None => {}
            }
            add(client, node).await
        }
    }
}

async fn add(client: &LabClient, node: NodeNumber) -> Result<(), Refusal> {
    let request = MemberAddRequest { peer_ur_ls: vec![member_url(node)], is_learner: true };
    client.member_add(request).await?;
    Ok(())
}

async fn remove(client: &LabClient, node: NodeNumber) -> Result<(), Refusal> {
    match member(client, node).await? {
        Some(found) => {
            client.member_remove(MemberRemoveRequest { id: found.id }).await?;
            Ok(())
        }
        None => Ok(()),
    }
}

/// The member at the node's peer URL.
async fn member(client: &LabClient, node: NodeNumber) -> Result<Option<Member>, Refusal> {
    let list = client.member_list(MemberListRequest { linearizable: true }).await?;
    let url = member_url(node);
    Ok(list.members.into_iter().find(|member| member.peer_ur_ls.contains(&url)))
}
