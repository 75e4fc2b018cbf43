//! What other members ask of this one.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::propose::status;
use super::{ETCD_VERSION, Node, StopReason};
use crate::api::coraclepb as pb;
use crate::api::coraclepb::append_entries_response::Kind;
use crate::api::coraclepb::peer_request::Request;
use crate::api::coraclepb::peer_response::Response;
use crate::auth::Identity;
use crate::backend::Restorer;
use crate::cluster::Version;
use crate::error::{Code, Error, Fatal};
use crate::platform::{PeerTarget, Platform, TransportError};
use crate::raft::network::REMOVED_TEXT;
use crate::raft::snapshot::on_worker;

/// A raft snapshot that is being received; one at a time.
#[derive(Default)]
pub(super) struct IncomingSnapshot {
    transfer: Mutex<Option<Transfer>>,
}

struct Transfer {
    from: u64,
    id: u64,
    next_offset: u64,
    restorer: Restorer,
    begun: Duration,
}

impl<P: Platform> Node<P> {
    /// Answers a request of member `from` (0 for a process that has not joined yet).
    pub async fn handle_peer(&self, from: u64, request: pb::PeerRequest) -> pb::PeerResponse {
        let response = match request.request {
            _ if self.members.is_removed(from) && !self.may_still_lead(from, &request.request) => {
                error(Code::FailedPrecondition, REMOVED_TEXT)
            }
            Some(message) => {
                let who = Identity::from_asker(request.asker);
                self.answer(from, &who, message).await
            }
            None => error(Code::InvalidArgument, "an empty request"),
        };
        pb::PeerResponse { response: Some(response) }
    }

    /// Whether a removed member sends entries as a leader that is still among Raft's voters: one of
    /// the entries has to be that it no longer is.
    fn may_still_lead(&self, from: u64, request: &Option<Request>) -> bool {
        matches!(request, Some(Request::AppendEntries(_)))
            && self.consensus.status().voters.contains(&from)
    }

    async fn answer(&self, from: u64, who: &Identity, request: Request) -> Response {
        let raft = |text: String| error(Code::Unavailable, &text);
        match request {
            Request::AppendEntries(message) => {
                let silence = message.quorum_silence_millis;
                let answer = self.consensus.append_entries(message).await;
                if answer.as_ref().is_ok_and(|answer| answer.kind() != Kind::HigherVote) {
                    let now = self.platform.monotonic().as_millis() as u64;
                    self.leader_heard_millis.store(now.saturating_sub(silence), Ordering::Relaxed);
                }
                answer.map_or_else(raft, Response::AppendEntries)
            }
            Request::Vote(message) => {
                self.consensus.vote(message).await.map_or_else(raft, Response::Vote)
            }
            Request::PreVote(message) => {
                self.consensus.pre_vote(message).await.map_or_else(raft, Response::PreVote)
            }
            Request::TransferLeader(message) => {
                let taken = self.consensus.take_over(message).await;
                taken.map_or_else(raft, |()| Response::TransferLeader(pb::Empty {}))
            }
            Request::Snapshot(chunk) => {
                let received = self.receive_snapshot(from, chunk).await;
                received.map_or_else(raft, |vote| {
                    Response::Snapshot(pb::SnapshotResponse { vote: Some(vote) })
                })
            }
            Request::Propose(message) => Response::Propose(self.handle_propose(message).await),
            Request::ReadIndex(_) => reply(self.handle_read_index().await, |index| {
                Response::ReadIndex(pb::ReadIndexResponse { index })
            }),
            Request::LeaseKeepAlive(message) => {
                reply(self.handle_lease_keep_alive(who, message.id).await, Response::LeaseKeepAlive)
            }
            Request::LeaseTimeToLive(message) => reply(
                self.handle_lease_time_to_live(who, &message).await,
                Response::LeaseTimeToLive,
            ),
            Request::Members(_) => Response::Members(pb::MembersResponse {
                cluster_id: self.cluster_id,
                members: self.members.list(),
                removed: self.members.removed(),
                server_version: ETCD_VERSION.to_owned(),
                cluster_version: self.version.get().map(Version::full).unwrap_or_default(),
                up_millis: self.time_up_here().as_millis() as u64,
            }),
            // Of what is there, always: that is what may be corrupt.
            Request::HashKv(message) => {
                let hash = self.own_hash(message.revision).await;
                reply(hash.map(|hash| self.hash_kv_response(hash)), Response::HashKv)
            }
            Request::MoveLeader(_) => error(Code::Unimplemented, "not a request between members"),
        }
    }

    /// Takes one chunk; with the last one the received state replaces this member's own.
    async fn receive_snapshot(
        &self,
        from: u64,
        chunk: pb::SnapshotChunk,
    ) -> Result<pb::Vote, String> {
        let (first, done) = (chunk.offset == 0, chunk.done);
        let peer = self.meters.peer(from);
        if first {
            peer.snapshots_receiving.set(1);
        }
        let taken = self.take_chunk(from, chunk).await;
        if done || taken.is_err() {
            peer.snapshots_receiving.set(0);
        }
        match &taken {
            Ok(_) if done => peer.snapshots_received.add(1),
            Ok(_) => {}
            Err(_) => peer.snapshots_receive_failed.add(1),
        }
        taken
    }

    async fn take_chunk(&self, from: u64, chunk: pb::SnapshotChunk) -> Result<pb::Vote, String> {
        let transfer = self.current_transfer(from, &chunk)?;
        let begun = transfer.begun;
        if !chunk.done {
            let data = chunk.data.clone();
            let written = on_worker(&self.shared.worker, move || {
                let mut transfer = transfer;
                transfer.restorer.write_chunk(&data)?;
                transfer.next_offset += data.len() as u64;
                Ok(transfer)
            });
            let transfer = written.await.map_err(|fatal| fatal.to_string())?;
            *self.incoming.lock() = Some(transfer);
            return Ok(chunk.vote.unwrap_or_else(|| self.consensus.current_vote()));
        }
        let installed = self.consensus.install_received(chunk, transfer.restorer).await;
        self.meters.peer(from).snapshot_receive.took(self.meters.since(begun));
        installed
    }

    /// Takes the transfer that `chunk` belongs to out of its place; a first chunk begins one.
    fn current_transfer(&self, from: u64, chunk: &pb::SnapshotChunk) -> Result<Transfer, String> {
        let mut incoming = self.incoming.lock();
        if chunk.offset == 0 {
            let restorer = self.backend.restorer();
            let restorer = restorer.map_err(|fatal: Fatal| fatal.to_string())?;
            let begun = self.meters.now();
            let id = chunk.transfer;
            *incoming = Some(Transfer { from, id, next_offset: 0, restorer, begun });
        }
        // A stray chunk of a transfer that was given up is no reason to lose a good one.
        let continued = incoming.take_if(|transfer| {
            transfer.from == from
                && transfer.id == chunk.transfer
                && transfer.next_offset == chunk.offset
        });
        continued.ok_or_else(|| "this chunk does not continue the transfer under way".to_owned())
    }

    /// Sends `request` to member `id`, for nobody in particular.
    pub(super) async fn call_peer(
        &self,
        id: u64,
        request: Request,
        timeout: Duration,
    ) -> Result<Response, TransportError> {
        self.call_peer_for(&Identity::Nobody, id, request, timeout).await
    }

    /// Sends `request` to member `id`, for `who`.
    pub(super) async fn call_peer_for(
        &self,
        who: &Identity,
        id: u64,
        request: Request,
        timeout: Duration,
    ) -> Result<Response, TransportError> {
        let Some(member) = self.members.get(id) else {
            return Err(TransportError::Unreachable(format!("member {id:x} is not known")));
        };
        let target = PeerTarget { id, urls: member.peer_ur_ls };
        let request = pb::PeerRequest { request: Some(request), asker: who.to_asker() };
        let answer = self.transport.call(target, request, timeout).await?;
        match answer.response {
            Some(Response::Error(status)) if status.message == REMOVED_TEXT => {
                self.stop.stop(StopReason::Removed);
                Err(TransportError::Refused(status.message))
            }
            Some(response) => Ok(response),
            None => Err(TransportError::Broken("an empty answer".to_owned())),
        }
    }
}

impl IncomingSnapshot {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Transfer>> {
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn reply<T>(result: Result<T, Error>, wrap: impl FnOnce(T) -> Response) -> Response {
    match result {
        Ok(value) => wrap(value),
        Err(error) => Response::Error(status(&error)),
    }
}

fn error(code: Code, text: &str) -> Response {
    Response::Error(pb::Status { code: code as u32, message: text.to_owned() })
}
