//! The member table: who belongs to the cluster, as applied from the log.
//!
//! It is kept apart from Raft's own membership on purpose. openraft's membership takes effect when
//! it is *appended*, etcd's when it is *applied*: adding a second member to a one-member cluster
//! must return before the new process runs, which openraft's voters cannot do. So the table is
//! ordinary replicated state, and the leader brings Raft's membership in line with it
//! (`node::reconcile`): a new member is a non-blocking Raft learner until it has caught up.
//!
//! Identifiers are etcd's (`server/etcdserver/api/membership`), so that scripts with fixed
//! identifiers match.

mod alarms;
mod identity;
mod version;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use prost::Message;

pub use alarms::Alarms;
pub(crate) use alarms::{alarm_key, alarm_of_key};
pub use identity::{bootstrap_members, cluster_id, member_id};
pub use version::{ClusterVersion, NoVersion, Version};

use crate::api::coraclepb::{MemberAdd, MemberPublish};
use crate::api::etcdserverpb::{
    Member, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
};
use crate::backend::{Backend, Bucket, Contents};
use crate::error::{Error, Fatal, hex};

/// The table, shared by apply (the only writer) and everybody who looks members up.
pub struct Members {
    backend: Arc<Backend>,
    table: RwLock<Table>,
}

#[derive(Default)]
struct Table {
    members: BTreeMap<u64, Member>,
    /// Identifiers that were removed and can never return.
    removed: BTreeSet<u64>,
    /// Members that this process saw removed: Raft's voters until the leader has taken them out.
    departed: BTreeMap<u64, Member>,
    /// Members known from flags or from the cluster that this one joins, before the log tells of
    /// them. They are looked up and listed, never stored.
    seeds: BTreeMap<u64, Member>,
    /// Whether the seeds form a new cluster: its first leader writes them into the log.
    seeds_are_new: bool,
}

impl Members {
    /// Reads the stored table; it is empty in a new data directory.
    pub fn open(backend: Arc<Backend>) -> Result<Members, Fatal> {
        let members = Members { backend, table: RwLock::new(Table::default()) };
        members.reload()?;
        Ok(members)
    }

    /// Reads the table again, after a raft snapshot replaced the backend.
    pub fn reload(&self) -> Result<(), Fatal> {
        let mut table = Table::default();
        for (key, value) in self.backend.all(Bucket::Members)? {
            let member = Member::decode(value)
                .map_err(|error| Fatal::Backend(format!("member record {}: {error}", hex(&key))))?;
            table.members.insert(member.id, member);
        }
        for (key, _) in self.backend.all(Bucket::MembersRemoved)? {
            let id: [u8; 8] = key[..]
                .try_into()
                .map_err(|_| Fatal::Backend(format!("removed member key {}", hex(&key))))?;
            table.removed.insert(u64::from_be_bytes(id));
        }
        let mut current = self.write();
        table.seeds = std::mem::take(&mut current.seeds);
        table.departed = std::mem::take(&mut current.departed);
        table.seeds_are_new = current.seeds_are_new;
        *current = table;
        Ok(())
    }

    /// Sets the members that are known before the log tells of them. `new` says that they form a
    /// new cluster, so that its first leader has to record them.
    pub fn seed(&self, members: Vec<Member>, new: bool) {
        let mut table = self.write();
        table.seeds = members.into_iter().map(|member| (member.id, member)).collect();
        table.seeds_are_new = new;
    }

    /// The first members of a new cluster that the log does not hold yet.
    pub fn unrecorded_seeds(&self) -> Vec<Member> {
        self.read().unrecorded_seeds().cloned().collect()
    }

    /// All members in the order of their identifiers, also those that a new cluster's first leader
    /// has not recorded yet.
    pub fn list(&self) -> Vec<Member> {
        let table = self.read();
        if table.members.is_empty() {
            return table.seeds.values().cloned().collect();
        }
        let mut all: Vec<Member> =
            table.members.values().chain(table.unrecorded_seeds()).cloned().collect();
        all.sort_unstable_by_key(|member| member.id);
        all
    }

    pub fn get(&self, id: u64) -> Option<Member> {
        let table = self.read();
        let seed = || table.seeds.get(&id).filter(|_| !table.removed.contains(&id));
        table.members.get(&id).or_else(seed).cloned()
    }

    /// Where Raft's messages for `id` go: also to a member that was removed a moment ago, whose
    /// acknowledgement what was appended before may need.
    pub fn raft_peer(&self, id: u64) -> Option<Member> {
        self.get(id).or_else(|| self.read().departed.get(&id).cloned())
    }

    /// Whether the log has told of no member yet.
    pub fn is_empty(&self) -> bool {
        self.read().members.is_empty()
    }

    pub fn is_removed(&self, id: u64) -> bool {
        self.read().removed.contains(&id)
    }

    pub fn removed(&self) -> Vec<u64> {
        self.read().removed.iter().copied().collect()
    }

    /// Applies `member add`. CL-01.
    pub fn add(&self, request: MemberAdd) -> Result<Vec<Member>, Error> {
        let member = request.member.ok_or(Error::MemberBadURLs)?;
        let mut table = self.write();
        if table.members.contains_key(&member.id) || table.removed.contains(&member.id) {
            return Err(Error::MemberExist);
        }
        table.check_urls_free(member.id, &member.peer_ur_ls)?;
        // Looked at again here: two requests at a time may each have found the last place free.
        let learners = table.members.values().filter(|member| member.is_learner).count() as u64;
        if member.is_learner && request.max_learners.is_some_and(|most| learners >= most) {
            return Err(Error::TooManyLearners);
        }
        self.store(&mut table, member);
        Ok(table.list())
    }

    /// Applies `member remove`: the identifier can never return. CL-03.
    pub fn remove(&self, request: &MemberRemoveRequest) -> Result<Vec<Member>, Error> {
        let mut table = self.write();
        let member = table.members.remove(&request.id).ok_or(Error::MemberNotFound)?;
        table.removed.insert(request.id);
        table.departed.insert(request.id, member);
        self.backend.delete(Bucket::Members, key(request.id));
        self.backend.put(Bucket::MembersRemoved, key(request.id), Bytes::new());
        Ok(table.list())
    }

    /// Applies `member update`: new peer URLs. CL-03.
    pub fn update(&self, request: MemberUpdateRequest) -> Result<Vec<Member>, Error> {
        let mut table = self.write();
        let member = table.members.get(&request.id).cloned().ok_or(Error::MemberNotFound)?;
        table.check_urls_free(request.id, &request.peer_ur_ls)?;
        self.store(&mut table, Member { peer_ur_ls: request.peer_ur_ls, ..member });
        Ok(table.list())
    }

    /// Applies `member promote`: the learner becomes a voter. CL-04.
    pub fn promote(&self, request: &MemberPromoteRequest) -> Result<Vec<Member>, Error> {
        let mut table = self.write();
        let member = table.members.get(&request.id).cloned().ok_or(Error::MemberNotFound)?;
        if !member.is_learner {
            return Err(Error::MemberNotLearner);
        }
        self.store(&mut table, Member { is_learner: false, ..member });
        Ok(table.list())
    }

    /// Applies what a started member tells of itself; nothing if it was removed meanwhile.
    pub fn publish(&self, request: MemberPublish) -> Vec<Member> {
        let mut table = self.write();
        if let Some(member) = table.members.get(&request.id).cloned() {
            let published =
                Member { name: request.name, client_ur_ls: request.client_urls, ..member };
            self.store(&mut table, published);
        }
        table.list()
    }

    fn store(&self, table: &mut Table, member: Member) {
        let (key, record) = member_record(&member);
        self.backend.put(Bucket::Members, key, record);
        table.members.insert(member.id, member);
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn unrecorded_seeds(&self) -> impl Iterator<Item = &Member> {
        let is_known = |id: &u64| self.members.contains_key(id) || self.removed.contains(id);
        let seeds = self.seeds.values().filter(|_| self.seeds_are_new);
        seeds.filter(move |seed| !is_known(&seed.id))
    }

    fn list(&self) -> Vec<Member> {
        self.members.values().cloned().collect()
    }

    fn check_urls_free(&self, id: u64, urls: &[String]) -> Result<(), Error> {
        let taken = self
            .members
            .values()
            .filter(|member| member.id != id)
            .any(|member| member.peer_ur_ls.iter().any(|url| urls.contains(url)));
        if taken { Err(Error::PeerURLExist) } else { Ok(()) }
    }
}

/// A member's stored key and value.
pub(crate) fn member_record(member: &Member) -> (Bytes, Bytes) {
    (key(member.id), member.encode_to_vec().into())
}

fn key(id: u64) -> Bytes {
    Bytes::copy_from_slice(&id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BackendOptions;
    use crate::platform::MemoryDisk;

    fn members() -> Members {
        let disk = Arc::new(MemoryDisk::default());
        let backend = Arc::new(Backend::open(disk, BackendOptions::default()).unwrap());
        Members::open(backend).unwrap()
    }

    #[test]
    fn cl_05_a_new_cluster_has_all_its_members_while_they_are_recorded() {
        let members = members();
        let seeds: Vec<Member> = [3, 1, 2].map(|id| Member { id, ..Member::default() }).to_vec();
        members.seed(seeds.clone(), true);
        let ids = || members.list().into_iter().map(|member| member.id).collect::<Vec<u64>>();
        assert_eq!(ids(), [1, 2, 3]);
        for seed in seeds {
            members.add(MemberAdd { member: Some(seed), max_learners: None }).unwrap();
            assert_eq!(ids(), [1, 2, 3]);
        }
        members.remove(&MemberRemoveRequest { id: 2 }).unwrap();
        assert_eq!(ids(), [1, 3]);
    }

    #[test]
    fn cl_01_one_learner_too_many_is_refused_where_it_is_applied() {
        let members = members();
        let add = |id: u64, is_learner, max_learners| {
            let peer_ur_ls = vec![format!("http://127.0.0.1:{id}")];
            let member = Member { id, is_learner, peer_ur_ls, ..Member::default() };
            members.add(MemberAdd { member: Some(member), max_learners }).map(|all| all.len())
        };
        assert_eq!(add(1, false, Some(1)), Ok(1));
        // Both were proposed while there was none.
        assert_eq!(add(2, true, Some(1)), Ok(2));
        assert_eq!(add(3, true, Some(1)), Err(Error::TooManyLearners));
        assert_eq!(add(4, false, Some(1)), Ok(3), "a voter is no learner");
        assert_eq!(add(5, true, Some(2)), Ok(4));
        assert_eq!(add(6, true, None), Ok(5), "of a time without the limit in the log");
    }
}
