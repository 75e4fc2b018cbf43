//! Corruption checks: members compare hashes of what they hold. MNT-03.
//!
//! Three checks ask the same question of the peers, at different times and revisions:
//!
//! * *initial* (gate `InitialCorruptCheck`): before a member serves, at its own revision.
//! * *periodic* (`--corrupt-check-time`): the leader, at its own revision.
//! * *compact* (gate `CompactHashCheck`): the leader, at the compact revision, whose hash cannot
//!   change any more. Here a majority can be counted, so that the minority is blamed, the leader
//!   included.
//!
//! A mismatch raises the alarm CORRUPT for the member that is blamed; from then on no member takes
//! writes, until an operator has dealt with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use super::{Node, StartError};
use crate::api::coraclepb::command::Request as CommandRequest;
use crate::api::coraclepb::peer_request::Request as PeerMessage;
use crate::api::coraclepb::peer_response::Response as PeerAnswer;
use crate::api::etcdserverpb as pb;
use crate::api::etcdserverpb::alarm_request::AlarmAction;
use crate::api::etcdserverpb::{AlarmType, HashKvRequest, HashKvResponse};
use crate::auth::Identity;
use crate::error::Error;
use crate::mvcc::{HashKv, HashKvSteps};
use crate::platform::Platform;
use crate::raft::snapshot::in_steps;
use crate::raft::types::AsyncRuntime;

/// How long a peer may take to hash all that it holds.
const PEER_HASH_TIMEOUT: Duration = Duration::from_secs(30);

/// A peer's answer, without what the checks do not look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PeerHash {
    member: u64,
    hash: u32,
    /// The peer's revision when it answered.
    revision: i64,
    compact_revision: i64,
}

impl<P: Platform> Node<P> {
    /// With the gate `InitialCorruptCheck`, compares this member's data with its peers'. The host
    /// calls it when the peers are served, before any client is. Peers that do not answer, or are
    /// elsewhere, say nothing; a new member has nothing to compare.
    pub async fn check_before_serving(&self) -> Result<(), StartError> {
        if !self.config.initial_corrupt_check || self.shared.applied.get() == 0 {
            return Ok(());
        }
        let (id, timeout) = (self.member_id, self.request_timeout());
        tracing::info!(local_member_id = format!("{id:x}"), "starting initial corruption check");
        let own = self.own_hash(0).await.map_err(|error| StartError::Config(error.to_string()))?;
        let peers = self.peer_hashes(own.hash_revision, timeout).await;
        let differ: Vec<_> = peers
            .iter()
            .filter(|peer| peer.compact_revision == own.compact_revision && peer.hash != own.hash)
            .collect();
        for peer in &differ {
            tracing::warn!(
                local_member_id = format!("{id:x}"),
                local_member_hash = own.hash,
                local_member_revision = own.hash_revision,
                remote_peer_id = format!("{:x}", peer.member),
                remote_peer_hash = peer.hash,
                remote_peer_revision = peer.revision,
                "found different hash values from remote peer"
            );
        }
        if !differ.is_empty() {
            return Err(StartError::Config(format!("{id:x} found data inconsistency with peers")));
        }
        tracing::info!(
            local_member_id = format!("{id:x}"),
            "initial corruption checking passed; no corruption"
        );
        Ok(())
    }

    /// The leader compares its data with its peers' every `--corrupt-check-time`.
    pub(super) async fn check_corruption_periodically(self: &Arc<Self>) {
        let interval = self.config.corrupt_check_time;
        if interval.is_zero() {
            return;
        }
        tracing::info!(interval = format!("{interval:?}"), "enabled corruption checking");
        loop {
            P::Runtime::sleep(interval).await;
            if self.leadership.role().is_leader
                && let Err(error) = self.check_corruption_now().await
            {
                tracing::warn!(%error, "failed to check hash KV");
            }
        }
    }

    async fn check_corruption_now(&self) -> Result<(), Error> {
        self.linearize().await?;
        let first = self.own_hash(0).await?;
        let peers = self.peer_hashes(first.hash_revision, PEER_HASH_TIMEOUT).await;
        self.linearize().await?;
        let second = self.own_hash(0).await?;
        match blame_of_one_moment(self.member_id, first, second, &peers) {
            Some(member) => self.raise_corrupt(member).await,
            None => tracing::info!(
                number_of_peers_checked = peers.len(),
                "finished peer corruption check"
            ),
        }
        Ok(())
    }

    /// The leader compares compacted data, each compaction once.
    pub(super) async fn check_compact_hashes(self: &Arc<Self>) {
        let Some(interval) = self.config.compact_hash_check else { return };
        let mut checked = 0;
        loop {
            P::Runtime::sleep(interval).await;
            let revision = self.store.compact_revision();
            if !self.leadership.role().is_leader || revision <= 0 || revision == checked {
                continue;
            }
            match self.check_compact_hash(revision).await {
                Ok(true) => {
                    checked = revision;
                    tracing::info!(number_of_hashes_checked = 1, "finished compaction hash check");
                }
                Ok(false) => tracing::warn!(
                    revision,
                    "skipped revision in compaction hash check; was not able to check all peers"
                ),
                Err(error) => tracing::warn!(%error, "failed compact hash check"),
            }
        }
    }

    /// Whether every member could be compared.
    async fn check_compact_hash(&self, revision: i64) -> Result<bool, Error> {
        let own = self.own_hash(revision).await?;
        let mut hashes = BTreeMap::from([(self.member_id, own.hash)]);
        for peer in self.peer_hashes(revision, PEER_HASH_TIMEOUT).await {
            if peer.compact_revision == own.compact_revision {
                hashes.insert(peer.member, peer.hash);
            }
        }
        let members = self.members.list().len();
        for member in blame_minority(&hashes, members) {
            self.raise_corrupt(member).await;
        }
        Ok(hashes.len() == members)
    }

    /// The hash of what this member holds up to `revision` (0: now).
    pub(super) async fn own_hash(&self, revision: i64) -> Result<HashKv, Error> {
        let store = self.store.clone();
        let mut steps = HashKvSteps::new(revision);
        let hash = in_steps(&self.shared.worker, move || steps.step(&store)).await;
        self.or_stop(hash)?
    }

    /// The hashes of all peers that can tell theirs of `revision`.
    async fn peer_hashes(&self, revision: i64, timeout: Duration) -> Vec<PeerHash> {
        let peers = self.members.list().into_iter().filter(|member| member.id != self.member_id);
        let asked = peers.map(|peer| self.peer_hash(peer.id, revision, timeout));
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn peer_hash(&self, peer: u64, revision: i64, timeout: Duration) -> Option<PeerHash> {
        let question = PeerMessage::HashKv(HashKvRequest { revision });
        let remote_peer_id = format!("{peer:x}");
        match self.call_peer(peer, question, timeout).await {
            Ok(PeerAnswer::HashKv(answer)) => return Some(peer_hash(peer, &answer)),
            // It is behind, or has compacted further: nothing to compare.
            Ok(_) => {
                tracing::warn!(remote_peer_id, revision, "the peer has no hash of this revision");
            }
            Err(error) => tracing::warn!(remote_peer_id, %error, "failed hash kv request"),
        }
        None
    }

    async fn raise_corrupt(&self, member_id: u64) {
        tracing::error!(
            member_id = format!("{member_id:x}"),
            "found data inconsistency; raising alarm CORRUPT"
        );
        let raise = pb::AlarmRequest {
            action: AlarmAction::Activate as i32,
            member_id,
            alarm: AlarmType::Corrupt as i32,
        };
        if let Err(error) = self.propose(&Identity::Internal, CommandRequest::Alarm(raise)).await {
            tracing::warn!(%error, "the alarm could not be raised; the next check does it");
        }
    }
}

fn peer_hash(member: u64, answer: &HashKvResponse) -> PeerHash {
    PeerHash {
        member,
        hash: answer.hash,
        revision: answer.header.as_ref().map_or(0, |header| header.revision),
        compact_revision: answer.compact_revision,
    }
}

/// Who differs, by the hashes that the leader took of itself before and after asking its `peers`
/// for theirs. A follower can be neither ahead of the leader nor compacted further than it.
fn blame_of_one_moment(
    leader: u64,
    first: HashKv,
    second: HashKv,
    peers: &[PeerHash],
) -> Option<u64> {
    let same_state = first.hash_revision == second.hash_revision
        && first.compact_revision == second.compact_revision;
    if same_state && first.hash != second.hash {
        return Some(leader);
    }
    let differs = |peer: &&PeerHash| {
        peer.revision > second.hash_revision
            || peer.compact_revision > second.compact_revision
            || (peer.compact_revision == first.compact_revision && peer.hash != first.hash)
    };
    peers.iter().find(differs).map(|peer| peer.member)
}

/// Those whose hash is not the one of a majority of all `members`. If no hash has a majority it
/// cannot be told who is right: the member 0 stands for that, as in etcd.
fn blame_minority(hashes: &BTreeMap<u64, u32>, members: usize) -> Vec<u64> {
    let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
    for hash in hashes.values() {
        *counts.entry(*hash).or_default() += 1;
    }
    if counts.len() < 2 {
        return Vec::new();
    }
    let majority = counts.iter().find(|(_, count)| **count > members / 2);
    match majority {
        Some((right, _)) => {
            hashes.iter().filter(|(_, hash)| *hash != right).map(|(member, _)| *member).collect()
        }
        None => vec![0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(hash: u32, hash_revision: i64, compact_revision: i64) -> HashKv {
        HashKv { hash, compact_revision, hash_revision }
    }

    fn peer(member: u64, hash: u32, revision: i64, compact_revision: i64) -> PeerHash {
        PeerHash { member, hash, revision, compact_revision }
    }

    #[test]
    fn mnt_03_the_periodic_check_blames_who_differs() {
        let (first, second) = (own(7, 10, 3), own(8, 12, 3));
        for (peers, blamed) in [
            (vec![], None),
            (vec![peer(2, 7, 10, 3), peer(3, 7, 12, 3)], None),
            (vec![peer(2, 7, 10, 3), peer(3, 9, 10, 3)], Some(3)),
            (vec![peer(2, 9, 10, 2)], None),
            (vec![peer(2, 7, 13, 3)], Some(2)),
            (vec![peer(2, 9, 10, 4)], Some(2)),
        ] {
            assert_eq!(blame_of_one_moment(1, first, second, &peers), blamed, "{peers:?}");
        }
        assert_eq!(blame_of_one_moment(1, first, own(8, 10, 3), &[]), Some(1));
    }

    #[test]
    fn mnt_03_the_compact_check_blames_the_minority() {
        for (hashes, members, blamed) in [
            (vec![(1, 7), (2, 7), (3, 7)], 3, vec![]),
            (vec![(1, 7), (2, 9), (3, 7)], 3, vec![2]),
            (vec![(1, 9), (2, 7), (3, 7)], 3, vec![1]),
            (vec![(1, 7), (2, 9)], 3, vec![0]),
            (vec![(1, 7), (2, 8), (3, 9)], 3, vec![0]),
            (vec![(1, 7)], 3, vec![]),
            (vec![(1, 7), (2, 7), (3, 7), (4, 8), (5, 9)], 5, vec![4, 5]),
        ] {
            assert_eq!(blame_minority(&hashes.into_iter().collect(), members), blamed);
        }
    }
}
