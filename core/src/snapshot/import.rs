//! In: the entries of an etcd snapshot as a new member's backend.
//!
//! What a restored member keeps is the state: every revision, the compactions, leases, users,
//! roles and alarms, as etcd's own restore keeps them. What it does not keep is who had it: the
//! members and their cluster are new, and with them Raft's log. The log of the new cluster begins
//! behind an entry for each member, which nobody has any more; so a member that joins later is sent
//! a snapshot, and does not replay a log from which the restored state is missing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::api::coraclepb as pb;
use crate::api::etcdserverpb::{AlarmMember, Member};
use crate::api::mvccpb::KeyValue;
use crate::backend::{Bucket, Restorer};
use crate::cluster::{alarm_key, bootstrap_members, cluster_id, member_record};
use crate::error::{Fatal, hex};
use crate::mvcc::{Change, FINISHED_COMPACTION, SCHEDULED_COMPACTION};
use crate::node::{identity_record, own_member};
use crate::platform::Disk;
use crate::raft::snapshot::applied_record;

/// Buckets whose content belongs to the cluster that the snapshot is of, or to nobody.
const LEFT_BEHIND: [&str; 4] = ["cluster", "members", "members_removed", "meta"];

/// The newest revision, version and creation that a store can have and still count on from. No etcd
/// has come near it.
const LAST_NUMBER: i64 = i64::MAX / 2;

/// Why a snapshot is not restored.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The snapshot holds what etcd cannot have put there.
    #[error("the bucket {bucket} holds {detail}")]
    Entry { bucket: String, detail: String },
    #[error("{0}")]
    Cluster(String),
    #[error(transparent)]
    Disk(#[from] Fatal),
}

/// The cluster that a restored member belongs to.
pub struct NewCluster {
    /// All its members, with their identifiers.
    members: Vec<Member>,
    /// The identifier of the member that is restored.
    own: u64,
    /// How much to move the newest revision forward; history up to there is compacted then, so
    /// that whoever watched the old cluster is told to begin anew.
    pub bump_revision: Option<u64>,
}

impl NewCluster {
    /// The cluster of `members`, among them `own`, which goes on under its identifiers.
    pub fn of(members: Vec<Member>, own: u64) -> NewCluster {
        NewCluster { members, own, bump_revision: None }
    }

    /// The cluster of the `initial` members (name and peer URL), among them the one called `name`
    /// with the peer URLs `advertised`. etcd's errors where they do not fit together.
    pub fn new(
        initial: &[(String, String)],
        token: &str,
        name: &str,
        advertised: &[String],
    ) -> Result<NewCluster, ImportError> {
        let members = bootstrap_members(initial, token);
        let own = own_member(&members, name, advertised).map_err(ImportError::Cluster)?.id;
        Ok(NewCluster::of(members, own))
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }
}

/// A backend that is being filled. Without [`Import::finish`] it leaves nothing behind.
pub struct Import {
    restorer: Restorer,
    /// The newest revision seen.
    latest: i64,
    /// Buckets that this store does not know, with their entries.
    unknown: BTreeMap<String, u64>,
}

impl Import {
    /// Begins a backend on an empty `disk`.
    pub fn create(disk: Arc<dyn Disk>) -> Result<Import, Fatal> {
        let restorer = Restorer::create(disk)?;
        Ok(Import { restorer, latest: 1, unknown: BTreeMap::new() })
    }

    /// Takes an entry of the snapshot's bucket `name`.
    pub fn entry(&mut self, name: &str, key: Bytes, value: Bytes) -> Result<(), ImportError> {
        let failed = |detail| ImportError::Entry { bucket: name.to_owned(), detail };
        let bucket = Bucket::ALL.into_iter().find(|bucket| bucket.name() == name);
        match bucket {
            Some(Bucket::Key) => {
                let change = check_change(&key, &value).map_err(failed)?;
                self.latest = self.latest.max(change.main);
            }
            Some(Bucket::Lease) => check_lease(&key, &value).map_err(failed)?,
            Some(Bucket::Alarm) => {
                let alarm = AlarmMember::decode(key).map_err(|error| failed(error.to_string()))?;
                let key = alarm_key((alarm.alarm, alarm.member_id));
                self.restorer.record(Bucket::Alarm, key, Bytes::new())?;
                return Ok(());
            }
            Some(Bucket::Meta) if is_compaction(&key) => {
                check_revision(&value).map_err(failed)?;
            }
            _ if LEFT_BEHIND.contains(&name) => return Ok(()),
            Some(_) => {}
            None => {
                *self.unknown.entry(name.to_owned()).or_default() += 1;
                return Ok(());
            }
        }
        if let Some(bucket) = bucket {
            self.restorer.record(bucket, key, value)?;
        }
        Ok(())
    }

    /// Buckets that were not taken over because this store does not know them, with how many
    /// entries they had.
    pub fn unknown(&self) -> &BTreeMap<String, u64> {
        &self.unknown
    }

    /// Makes the backend that of a member of `cluster`, durable and complete.
    pub fn finish(mut self, cluster: &NewCluster) -> Result<(), ImportError> {
        if let Some(amount) = cluster.bump_revision {
            self.bump(amount)?;
        }
        let (name, record) = identity_record(cluster.own, cluster_id(&cluster.members));
        self.restorer.record(Bucket::Meta, name, record)?;
        let (name, record) = applied_record(&first_state(&cluster.members));
        self.restorer.record(Bucket::Meta, name, record)?;
        for member in &cluster.members {
            let (key, record) = member_record(member);
            self.restorer.record(Bucket::Members, key, record)?;
        }
        Ok(self.restorer.complete()?)
    }

    /// Moves the newest revision forward and compacts up to it. Like etcd, with a change of no key
    /// at the new revision.
    fn bump(&mut self, amount: u64) -> Result<(), ImportError> {
        let bumped = i64::try_from(amount).ok().and_then(|amount| self.latest.checked_add(amount));
        let bumped = bumped
            .filter(|bumped| *bumped <= LAST_NUMBER)
            .ok_or_else(|| ImportError::Cluster(format!("the revision cannot grow by {amount}")))?;
        let change = Bytes::from(Change::put(bumped, 0).stored_key());
        self.restorer.record(Bucket::Key, change.clone(), Bytes::new())?;
        let name = Bytes::from_static(SCHEDULED_COMPACTION);
        self.restorer.record(Bucket::Meta, name, change)?;
        Ok(())
    }
}

fn is_compaction(key: &[u8]) -> bool {
    key == SCHEDULED_COMPACTION || key == FINISHED_COMPACTION
}

fn check_change(key: &[u8], value: &Bytes) -> Result<Change, String> {
    let change = check_revision(key)?;
    let kv =
        KeyValue::decode(value.clone()).map_err(|error| format!("at {change} no key: {error}"))?;
    if !(0..=change.main).contains(&kv.create_revision) || !(0..=LAST_NUMBER).contains(&kv.version)
    {
        return Err(format!("at {change} a key of no possible history"));
    }
    Ok(change)
}

/// The revision that `key` stands for, if there can be one like it.
fn check_revision(key: &[u8]) -> Result<Change, String> {
    Change::from_stored_key(key)
        .filter(|change| (1..=LAST_NUMBER).contains(&change.main))
        .ok_or_else(|| format!("{}, which is no revision", hex(key)))
}

fn check_lease(key: &[u8], value: &Bytes) -> Result<(), String> {
    let lease = pb::LeaseRecord::decode(value.clone())
        .map_err(|error| format!("at {} no lease: {error}", hex(key)))?;
    if key != lease.id.to_be_bytes() {
        return Err(format!("at {} the lease {:x}", hex(key), lease.id));
    }
    Ok(())
}

/// What is applied in a cluster that was just restored: as many entries as it has members.
fn first_state(members: &[Member]) -> pb::AppliedState {
    let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    let log_id = |index| Some(pb::LogId { term: 0, node_id: 0, index });
    pb::AppliedState {
        last_applied: log_id(ids.len() as u64),
        membership: Some(pb::Membership {
            log_id: log_id(0),
            configs: vec![pb::VoterSet { voters: ids.clone() }],
            nodes: ids,
        }),
    }
}
