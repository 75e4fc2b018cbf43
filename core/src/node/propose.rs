//! The way of a write: encode once, propose on the leader or forward to it, await the outcome.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::raft::types::AsyncRuntime;
use bytes::Bytes;
use prost::Message;

use super::Node;
use crate::api::coraclepb::command::Request as CommandRequest;
use crate::api::coraclepb::peer_request::Request as PeerMessage;
use crate::api::coraclepb::peer_response::Response as PeerAnswer;
use crate::api::coraclepb::{Command, Propose, ProposeResponse, ProposeResult, Status};
use crate::apply::{self, Outcome, Reply};
use crate::auth::Identity;
use crate::error::{Code, Error};
use crate::limits;
use crate::platform::{Platform, TransportError};
use crate::raft::ProposeError;

/// Pause before a refused proposal is tried again, unless the leader changes earlier.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What became of one attempt.
enum Attempt {
    Done(Outcome),
    /// Certainly not in any log: try again.
    Refused,
}

impl<P: Platform> Node<P> {
    /// Replicates and applies `request` for `who`; returns what applying it answered here.
    ///
    /// Fails with `RequestTooLarge`, `RequestTooManyRequests`, a timeout (the write may or may not
    /// take place; it names the leader's failure if there was another one meanwhile), etcd's
    /// `context deadline exceeded` (no leader ever took it), `Stopped`, or the error of the apply.
    pub(super) async fn propose(&self, who: &Identity, request: CommandRequest) -> Outcome {
        let id = self.next_command_id();
        let encoded = self.encode(id, who, request)?;
        let refused = AtomicBool::new(false);
        let leaders = self.leadership.changes_seen();
        match self.await_outcome(self.propose_until_accepted(id, encoded, &refused)).await {
            Err(Error::Timeout) if refused.into_inner() => {
                Err(Error::Other(Code::DeadlineExceeded, "context deadline exceeded".to_owned()))
            }
            Err(Error::Timeout) if self.leadership.changes_seen() != leaders => {
                Err(Error::TimeoutDueToLeaderFail)
            }
            outcome => outcome,
        }
    }

    /// Replicates and applies `request` for the cluster itself, if this member leads in `term`
    /// when the request comes to Raft. Once, and not by way of another leader: it follows from what
    /// only the leader of that term knows.
    pub(super) async fn propose_as_leader(&self, term: u64, request: CommandRequest) -> Outcome {
        let encoded = self.encode(self.next_command_id(), &Identity::Internal, request)?;
        let proposed = async {
            match self.consensus.propose_in_term(term, encoded).await {
                Ok((_, outcome)) => outcome,
                Err(ProposeError::NotAccepted) => Err(Error::NotLeader),
                Err(ProposeError::Unknown) => Err(Error::TimeoutDueToLeaderFail),
                Err(ProposeError::Stopped) => Err(Error::Stopped),
            }
        };
        self.await_outcome(proposed).await
    }

    /// The command as it goes to the log; refuses what is too large, and everything while this
    /// member applies too slowly.
    fn encode(&self, id: u64, who: &Identity, request: CommandRequest) -> Result<Bytes, Error> {
        let command = Command { id, request: Some(request), asker: who.to_asker() };
        if command.encoded_len() > self.config.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        check_backlog(self.committed_index(), self.shared.applied.get())?;
        Ok(command.encode_to_vec().into())
    }

    /// Waits for a proposal's outcome for as long as a request may take.
    async fn await_outcome(&self, proposed: impl Future<Output = Outcome> + Send) -> Outcome {
        self.counters.proposals_pending.fetch_add(1, Ordering::Relaxed);
        let outcome = P::Runtime::timeout(self.request_timeout(), proposed).await;
        self.counters.proposals_pending.fetch_sub(1, Ordering::Relaxed);
        outcome.unwrap_or_else(|_| {
            self.counters.proposals_failed.fetch_add(1, Ordering::Relaxed);
            Err(Error::Timeout)
        })
    }

    /// `refused` is set while the command is certainly in no log.
    async fn propose_until_accepted(
        &self,
        id: u64,
        command: Bytes,
        refused: &AtomicBool,
    ) -> Outcome {
        loop {
            let attempt = match self.live_leader() {
                Some(leader) if leader == self.member_id => {
                    self.propose_here(command.clone()).await
                }
                Some(leader) => self.forward(leader, id, command.clone()).await,
                // Raft may still name one that lost its quorum: a command that it takes waits for
                // that quorum, and falls if another leader comes first.
                None => Attempt::Refused,
            };
            match attempt {
                Attempt::Done(outcome) => return outcome,
                Attempt::Refused => {
                    refused.store(true, Ordering::Relaxed);
                    self.pause_for_leader().await?;
                    refused.store(false, Ordering::Relaxed);
                }
            }
        }
    }

    /// Waits a moment, or until somebody else leads, before the caller tries again. Fails when this
    /// member has stopped.
    pub(super) async fn pause_for_leader(&self) -> Result<(), Error> {
        // Either way the caller tries again.
        let _ = P::Runtime::timeout(RETRY_PAUSE, self.leadership.changed()).await;
        match self.stop.reason() {
            Some(_) => Err(Error::Stopped),
            None => Ok(()),
        }
    }

    async fn propose_here(&self, command: Bytes) -> Attempt {
        match self.consensus.propose(command).await {
            Ok((_, outcome)) => Attempt::Done(outcome),
            Err(ProposeError::NotAccepted) => Attempt::Refused,
            Err(ProposeError::Unknown) if self.stop.reason().is_none() => {
                Attempt::Done(Err(Error::TimeoutDueToLeaderFail))
            }
            Err(ProposeError::Unknown | ProposeError::Stopped) => {
                Attempt::Done(Err(Error::Stopped))
            }
        }
    }

    /// Hands the command to the leader and waits until it is applied *here*: the client then reads
    /// its own write on this member, and the outcome is this member's own.
    async fn forward(&self, leader: u64, id: u64, command: Bytes) -> Attempt {
        let applied_here = self.shared.forwarded.register(id);
        let forgotten = ForgetOnDrop { node: self, id };
        let message = PeerMessage::Propose(Propose { commands: vec![command] });
        let attempt = match self.call_peer(leader, message, self.request_timeout()).await {
            Ok(PeerAnswer::Propose(answer)) => match answer.results.into_iter().next() {
                Some(ProposeResult { error: None, .. }) => None,
                Some(ProposeResult { error: Some(status), .. }) => refusal(status),
                None => Some(Attempt::Refused),
            },
            Ok(PeerAnswer::Error(status)) => refusal(status),
            Err(TransportError::Unreachable(_)) | Err(TransportError::Refused(_)) => {
                Some(Attempt::Refused)
            }
            // The leader may have appended it: what is applied here decides, within the deadline.
            Ok(_) | Err(TransportError::Timeout(_)) | Err(TransportError::Broken(_)) => None,
        };
        let attempt = match attempt {
            Some(attempt) => attempt,
            None => match applied_here.await {
                Ok(outcome) => Attempt::Done(outcome),
                Err(_) => Attempt::Done(Err(Error::TimeoutDueToConnectionLost)),
            },
        };
        drop(forgotten);
        attempt
    }

    /// Answers a member that forwards proposals: each is proposed here and never passed on.
    pub(super) async fn handle_propose(&self, message: Propose) -> ProposeResponse {
        let proposals = message.commands.into_iter().map(|command| async move {
            if let Err(error) = self.check_on_leader(&command) {
                return ProposeResult { index: 0, error: Some(status(&error)) };
            }
            match self.consensus.propose(command).await {
                // An error of the apply is found by the forwarding member's own apply.
                Ok((index, _)) => ProposeResult { index, error: None },
                // It is in no log: whoever leads next may have it.
                Err(ProposeError::NotAccepted | ProposeError::Stopped) => {
                    ProposeResult { index: 0, error: Some(status(&Error::NotLeader)) }
                }
                Err(ProposeError::Unknown) => {
                    ProposeResult { index: 0, error: Some(status(&Error::TimeoutDueToLeaderFail)) }
                }
            }
        });
        ProposeResponse { results: futures_util::future::join_all(proposals).await }
    }

    /// What only the leader can check: that the command can be applied at all, and whether a
    /// learner has caught up enough to be promoted.
    fn check_on_leader(&self, command: &Bytes) -> Result<(), Error> {
        if !self.leadership.role().is_leader {
            return Err(Error::NotLeader);
        }
        match apply::decode(command.clone())?.request {
            Some(CommandRequest::MemberPromote(request)) => self.check_learner_ready(request.id),
            _ => Ok(()),
        }
    }
}

/// Takes a forwarded proposal off the list when its caller gives up in the middle.
struct ForgetOnDrop<'a, P: Platform> {
    node: &'a Node<P>,
    id: u64,
}

impl<P: Platform> Drop for ForgetOnDrop<'_, P> {
    fn drop(&mut self) {
        self.node.shared.forwarded.forget(self.id);
    }
}

/// Whether a write may join those that are committed and wait to be applied. LIM-02.
fn check_backlog(committed: u64, applied: u64) -> Result<(), Error> {
    match committed.saturating_sub(applied) > limits::MAX_COMMIT_APPLY_GAP {
        true => Err(Error::RequestTooManyRequests),
        false => Ok(()),
    }
}

/// What the leader's refusal means for the forwarding member; nothing where the leader may have
/// appended the command, so that only its apply can tell.
fn refusal(status: Status) -> Option<Attempt> {
    match Error::from_wire(status.code, status.message) {
        Error::NotLeader => Some(Attempt::Refused),
        Error::TimeoutDueToLeaderFail | Error::Stopped => None,
        error => Some(Attempt::Done(Err(error))),
    }
}

/// An error as it travels between members.
pub(super) fn status(error: &Error) -> Status {
    Status { code: error.code() as u32, message: error.message().to_owned() }
}

/// The reply was of another kind than the command's: apply and the node disagree.
pub(super) fn mismatch(reply: Reply) -> Error {
    tracing::error!(?reply, "a command was answered with another command's reply");
    Error::Other(Code::Internal, "mismatched reply of apply".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lim_02_five_thousand_writes_may_wait() {
        assert_eq!(check_backlog(5_000, 0), Ok(()));
        assert_eq!(check_backlog(5_001, 0), Err(Error::RequestTooManyRequests));
        // A member that has just taken a snapshot in may have applied more than it knows of.
        assert_eq!(check_backlog(7, 9), Ok(()));
    }
}
