//! The Maintenance service: alarms, status, hashes, snapshots, defragmentation, leadership.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_channel::{mpsc, oneshot};
use futures_util::{SinkExt, StreamExt};

use super::Node;
use super::propose::mismatch;
use crate::api::coraclepb::command::Request as CommandRequest;
use crate::api::etcdserverpb as pb;
use crate::api::etcdserverpb::AlarmType;
use crate::api::etcdserverpb::alarm_request::AlarmAction;
use crate::apply::Reply;
use crate::auth::{Caller, Identity};
use crate::error::{Error, Fatal};
use crate::limits;
use crate::meters::Meters;
use crate::mvcc::{HashKv, HashSteps};
use crate::platform::{Platform, Worker};
use crate::raft::snapshot::{in_steps, on_worker};
use crate::raft::types::AsyncRuntime;
use crate::snapshot::{Export, Piece};

/// The release of etcd whose behaviour this is, as clients gate features on it.
pub const ETCD_VERSION: &str = "3.7.0";
/// The storage version reported beside it.
pub const STORAGE_VERSION: &str = "3.7.0";

impl<P: Platform> Node<P> {
    /// Maintenance.Alarm. MNT-01.
    pub async fn alarm(
        &self,
        by: &Caller,
        request: pb::AlarmRequest,
    ) -> Result<pb::AlarmResponse, Error> {
        let who = self.identify(by).await?;
        let alarms = match self.propose(&who, CommandRequest::Alarm(request)).await? {
            Reply::Alarm(response) => response.alarms,
            other => return Err(mismatch(other)),
        };
        Ok(pb::AlarmResponse { header: Some(self.header(self.store.current_revision())), alarms })
    }

    /// Refuses what would grow the backend beyond its quota, and raises the alarm. MNT-02.
    pub(super) async fn check_quota(&self, cost: u64) -> Result<(), Error> {
        if self.alarms.is_raised(AlarmType::Corrupt) {
            return Err(Error::Corrupt);
        }
        if self.alarms.is_raised(AlarmType::Nospace) {
            return Err(Error::NoSpace);
        }
        if self.quota.admits(self.backend.size(), cost) {
            return Ok(());
        }
        // Without a leader the alarm waits; this request is refused all the same.
        let _ = self.raise_no_space().await;
        Err(Error::NoSpace)
    }

    async fn raise_no_space(&self) -> Result<(), Error> {
        let (quota, size) = (self.quota.bytes(), self.backend.size());
        tracing::warn!(quota, size, "message exceeded backend quota; raising alarm");
        let raise = pb::AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id: self.member_id,
            alarm: AlarmType::Nospace as i32,
        };
        self.propose(&Identity::Internal, CommandRequest::Alarm(raise)).await.map(|_| ())
    }

    /// Raises the alarm when this member has applied what its own quota has no room for: the member
    /// that was asked has another one. MNT-02.
    pub(super) async fn watch_quota(&self) {
        loop {
            self.quota.exceeded.notified().await;
            while !self.alarms.is_raised(AlarmType::Nospace) && self.raise_no_space().await.is_err()
            {
                if self.pause_for_leader().await.is_err() {
                    return;
                }
            }
        }
    }

    /// Maintenance.Status. MNT-04.
    pub async fn status(
        &self,
        by: &Caller,
        _request: pb::StatusRequest,
    ) -> Result<pb::StatusResponse, Error> {
        self.require_user(by).await?;
        let info = self.info();
        let mut errors = Vec::new();
        if info.leader == 0 {
            errors.push(Error::NoLeader.message().to_owned());
        }
        errors.extend(info.alarms.iter().map(|alarm| {
            // As Go prints a message: without what has its default.
            let member = match alarm.member_id {
                0 => String::new(),
                id => format!("memberID:{id} "),
            };
            format!("{member}alarm:{} ", alarm.alarm().as_str_name())
        }));
        Ok(pb::StatusResponse {
            header: Some(self.header(info.revision)),
            version: ETCD_VERSION.to_owned(),
            db_size: info.db_size as i64,
            leader: info.leader,
            raft_index: info.committed,
            raft_term: info.term,
            raft_applied_index: info.applied,
            errors,
            db_size_in_use: info.db_size_in_use as i64,
            is_learner: info.is_learner,
            storage_version: self.storage_version(),
            db_size_quota: info.db_quota as i64,
            downgrade_info: Some(self.downgrade_info()),
        })
    }

    /// Maintenance.Defragment: gives free space back without stopping reads or writes for long.
    /// etcd answers it without a header. MNT-05.
    pub async fn defragment(
        &self,
        by: &Caller,
        _request: pb::DefragmentRequest,
    ) -> Result<pb::DefragmentResponse, Error> {
        self.require_admin(by).await?;
        let (backend, meters) = (self.backend.clone(), self.meters.clone());
        let (shared, stop) = (self.shared.clone(), self.stop.clone());
        let step = move || -> Result<Option<()>, Fatal> {
            // What is half done when the node stops is removed at the next start.
            let goes_on = stop.reason().is_none() && backend.defragment_step()?;
            Ok((!goes_on).then_some(()))
        };
        let (sender, done) = oneshot::channel();
        // A task of its own: it is carried to its end, whether or not the caller waits for that.
        drop(P::Runtime::spawn(async move {
            let start = meters.now();
            meters.defrag_inflight.add(1);
            let done = in_steps(&shared.worker, step).await;
            meters.defrag_inflight.subtract(1);
            meters.backend_defrag.took(meters.since(start));
            let done = done.map_err(|fatal| {
                (shared.on_fatal)(fatal);
                Error::Stopped
            });
            // The caller may be gone.
            let _ = sender.send(done);
        }));
        done.await.unwrap_or(Err(Error::Stopped))?;
        Ok(pb::DefragmentResponse { header: None })
    }

    /// Maintenance.Hash, of the whole backend. MNT-06.
    pub async fn hash(
        &self,
        by: &Caller,
        _request: pb::HashRequest,
    ) -> Result<pb::HashResponse, Error> {
        self.require_admin(by).await?;
        let backend = self.backend.clone();
        let start = self.meters.now();
        let hash = async {
            let view = on_worker(&self.shared.worker, move || backend.view()).await?;
            let mut steps = HashSteps::new(view);
            in_steps(&self.shared.worker, move || steps.step()).await
        };
        let hash = hash.await;
        self.meters.hash.took(self.meters.since(start));
        let hash = self.or_stop(hash)?;
        Ok(pb::HashResponse { header: Some(self.header(self.store.current_revision())), hash })
    }

    /// Maintenance.HashKV, equal on all members at one revision. MNT-06.
    pub async fn hash_kv(
        &self,
        by: &Caller,
        request: pb::HashKvRequest,
    ) -> Result<pb::HashKvResponse, Error> {
        self.require_admin(by).await?;
        let start = self.meters.now();
        let hash = match self.store.hash_before_compaction(request.revision) {
            Some(hash) => Ok(hash),
            None => self.own_hash(request.revision).await,
        };
        self.meters.hash_kv.took(self.meters.since(start));
        hash.map(|hash| self.hash_kv_response(hash))
    }

    pub(super) fn hash_kv_response(&self, hash: HashKv) -> pb::HashKvResponse {
        pb::HashKvResponse {
            header: Some(self.header(self.store.current_revision())),
            hash: hash.hash,
            compact_revision: hash.compact_revision,
            hash_revision: hash.hash_revision,
        }
    }

    /// Maintenance.MoveLeader: only the leader serves it. MNT-08.
    pub async fn move_leader(
        &self,
        by: &Caller,
        request: pb::MoveLeaderRequest,
    ) -> Result<pb::MoveLeaderResponse, Error> {
        self.require_admin(by).await?;
        if self.live_leader() != Some(self.member_id) {
            return Err(Error::NotLeader);
        }
        if !self.consensus.status().voters.contains(&request.target_id) {
            return Err(Error::BadLeaderTransferee);
        }
        if request.target_id != self.member_id {
            self.transfer_leadership(request.target_id).await?;
        }
        Ok(pb::MoveLeaderResponse { header: None })
    }

    /// Hands leadership to `target` and waits until it leads.
    pub(super) async fn transfer_leadership(&self, target: u64) -> Result<(), Error> {
        let moved = async {
            while self.leadership.role().leader != Some(target) {
                self.consensus.transfer_leadership(target).await;
                let pause = self.config.election_timeout;
                // The loop asks again where the target could not take over at once.
                let _ = P::Runtime::timeout(pause, self.leadership.changed()).await;
            }
        };
        let moved = P::Runtime::timeout(self.request_timeout(), moved).await;
        moved.map_err(|_| Error::TimeoutLeaderTransfer)
    }

    /// Maintenance.Snapshot: a consistent copy of the state as an etcd database file, then its
    /// SHA-256. MNT-07.
    pub async fn snapshot(&self, by: &Caller) -> Result<MaintenanceSnapshot, Error> {
        self.require_admin(by).await?;
        let backend = self.backend.clone();
        let begin = move || Export::new(backend.view()?);
        let export = self.or_stop(on_worker(&self.shared.worker, begin).await)?;
        let (sender, blobs) = mpsc::channel(1);
        drop(P::Runtime::spawn(send_export(export, self.shared.worker.clone(), sender)));
        let measured = Some((self.meters.clone(), self.meters.now()));
        Ok(MaintenanceSnapshot { blobs, measured })
    }

    /// Fails the node: what stops it is told once, by log and by [`Node::stopped`].
    pub(super) fn fail(&self, fatal: Fatal) {
        (self.shared.on_fatal)(fatal);
    }
}

/// A maintenance snapshot that is being read; the reader sets the pace.
pub struct MaintenanceSnapshot {
    blobs: mpsc::Receiver<Result<pb::SnapshotResponse, Error>>,
    /// Who is told how long it took, and since when; nobody, once it was told.
    measured: Option<(Arc<Meters>, Duration)>,
}

impl MaintenanceSnapshot {
    /// The next message of the stream; none after the checksum.
    pub async fn next(&mut self) -> Option<Result<pb::SnapshotResponse, Error>> {
        let blob = self.blobs.next().await;
        if blob.is_none()
            && let Some((meters, start)) = self.measured.take()
        {
            meters.backend_snapshot.took(meters.since(start));
        }
        blob
    }
}

type BlobSender = mpsc::Sender<Result<pb::SnapshotResponse, Error>>;

/// Sends the snapshot in blobs, as fast as they are taken. Each step of the work is a job of its
/// own for the worker, which flushes in between.
async fn send_export(mut export: Export, worker: Arc<dyn Worker>, mut sender: BlobSender) {
    loop {
        // A client that went away waits for nothing, not even for the measuring.
        if sender.is_closed() {
            return;
        }
        let step = move || {
            let piece = export.step()?;
            Ok((export, piece))
        };
        let piece = match on_worker(&worker, step).await {
            Ok((rest, piece)) => {
                export = rest;
                piece
            }
            Err(fatal) => {
                let error = Error::Other(crate::error::Code::Internal, fatal.to_string());
                // The client went away: there is nobody to tell.
                let _ = sender.send(Err(error)).await;
                return;
            }
        };
        match piece {
            Piece::Measuring => {}
            Piece::Bytes { mut bytes, remaining } => {
                while !bytes.is_empty() {
                    let blob = bytes.split_to(bytes.len().min(limits::SNAPSHOT_CHUNK_BYTES));
                    let message = blob_message(blob, remaining + bytes.len() as u64);
                    if sender.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
            }
            Piece::Checksum(checksum) => {
                let _ = sender.send(Ok(blob_message(checksum, 0))).await;
                return;
            }
        }
    }
}

fn blob_message(blob: Bytes, remaining_bytes: u64) -> pb::SnapshotResponse {
    pb::SnapshotResponse {
        header: None,
        remaining_bytes,
        blob,
        version: STORAGE_VERSION.to_owned(),
    }
}
