//! openraft's types to the messages of `peer.proto` and back.
//!
//! One encoding serves the log on disk, the raft snapshots and the protocol between members. To a
//! message the way never fails. Back, the bytes come from outside (another member, a disk): what a
//! correct member cannot have written is [`Malformed`], never a panic.
//!
//! A committed leader is its term alone ([`CommittedLeaderId`]), since one term has one leader; so
//! `coraclepb.LogId.node_id` is written as 0 and not read. Commands are handed on as [`Bytes`],
//! without a copy.
//!
//! [`Bytes`]: bytes::Bytes

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;
use openraft::impls::EmptyNode;
use openraft::vote::RaftLeaderId;

use super::types::{
    CommittedLeaderId, Entry, LeaderId, LogId, Membership, ProposedCommand, StoredMembership, Vote,
};
use crate::api::coraclepb as pb;

/// A message that no correct member writes: what is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct Malformed(pub &'static str);

impl From<LogId> for pb::LogId {
    fn from(id: LogId) -> Self {
        pb::LogId { term: id.leader_id.term, node_id: 0, index: id.index }
    }
}

impl From<pb::LogId> for LogId {
    fn from(id: pb::LogId) -> Self {
        LogId { leader_id: CommittedLeaderId::new(id.term), index: id.index }
    }
}

impl From<Vote> for pb::Vote {
    fn from(vote: Vote) -> Self {
        pb::Vote {
            term: vote.leader_id.term,
            node_id: vote.leader_id.voted_for,
            committed: vote.committed,
        }
    }
}

impl From<pb::Vote> for Vote {
    fn from(vote: pb::Vote) -> Self {
        Vote { leader_id: LeaderId::new(vote.term, vote.node_id), committed: vote.committed }
    }
}

/// The message of a membership that stands in the log entry `log_id`, if it stands in one.
pub fn membership_message(membership: &Membership, log_id: Option<LogId>) -> pb::Membership {
    let configs = membership.get_joint_config().iter();
    pb::Membership {
        log_id: log_id.map(pb::LogId::from),
        configs: configs
            .map(|voters| pb::VoterSet { voters: voters.iter().copied().collect() })
            .collect(),
        nodes: membership.nodes().map(|(id, _)| *id).collect(),
    }
}

impl TryFrom<pb::Membership> for Membership {
    type Error = Malformed;

    fn try_from(message: pb::Membership) -> Result<Self, Malformed> {
        let configs: Vec<BTreeSet<u64>> =
            message.configs.into_iter().map(|set| set.voters.into_iter().collect()).collect();
        let nodes: BTreeMap<u64, EmptyNode> =
            message.nodes.into_iter().map(|id| (id, EmptyNode {})).collect();
        Membership::new(configs, nodes)
            .map_err(|_| Malformed("a voter set is empty, or names an unknown node"))
    }
}

impl From<&StoredMembership> for pb::Membership {
    fn from(stored: &StoredMembership) -> Self {
        membership_message(stored.membership(), *stored.log_id())
    }
}

impl TryFrom<pb::Membership> for StoredMembership {
    type Error = Malformed;

    fn try_from(message: pb::Membership) -> Result<Self, Malformed> {
        let log_id = message.log_id.map(LogId::from);
        Ok(StoredMembership::new(log_id, Membership::try_from(message)?))
    }
}

impl From<Entry> for pb::Entry {
    fn from(entry: Entry) -> Self {
        let payload = match entry.payload {
            EntryPayload::Blank => pb::entry::Payload::Blank(pb::Blank {}),
            EntryPayload::Normal(command) => pb::entry::Payload::Command(command.0),
            EntryPayload::Membership(membership) => {
                pb::entry::Payload::Membership(membership_message(&membership, None))
            }
        };
        pb::Entry { log_id: Some(entry.log_id.into()), payload: Some(payload) }
    }
}

impl TryFrom<pb::Entry> for Entry {
    type Error = Malformed;

    fn try_from(message: pb::Entry) -> Result<Self, Malformed> {
        let log_id = message.log_id.ok_or(Malformed("an entry has no log id"))?.into();
        let payload = match message.payload.ok_or(Malformed("an entry has no payload"))? {
            pb::entry::Payload::Blank(pb::Blank {}) => EntryPayload::Blank,
            pb::entry::Payload::Command(bytes) => EntryPayload::Normal(ProposedCommand(bytes)),
            pb::entry::Payload::Membership(membership) => {
                EntryPayload::Membership(membership.try_into()?)
            }
        };
        Ok(Entry { log_id, payload })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use prost::Message;

    use super::*;

    fn log_id(term: u64, index: u64) -> LogId {
        LogId { leader_id: CommittedLeaderId::new(term), index }
    }

    fn joint() -> Membership {
        let configs = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])];
        Membership::new_with_defaults(configs, [5])
    }

    #[test]
    fn votes_and_log_ids_survive_the_way_there_and_back() {
        for vote in [Vote::new(7, 3), Vote::new_committed(u64::MAX, 1)] {
            assert_eq!(Vote::from(pb::Vote::from(vote)), vote);
        }
        assert_eq!(LogId::from(pb::LogId::from(log_id(3, 9))), log_id(3, 9));
    }

    #[test]
    fn every_payload_survives_encoding() {
        let payloads = [
            EntryPayload::Blank,
            EntryPayload::Normal(ProposedCommand(Bytes::from_static(b"command"))),
            EntryPayload::Normal(ProposedCommand(Bytes::new())),
            EntryPayload::Membership(joint()),
        ];
        for payload in payloads {
            let entry = Entry { log_id: log_id(2, 5), payload };
            let bytes = pb::Entry::from(entry.clone()).encode_to_vec();
            let decoded = pb::Entry::decode(Bytes::from(bytes)).unwrap();
            assert_eq!(Entry::try_from(decoded), Ok(entry));
        }
    }

    #[test]
    fn a_stored_membership_keeps_its_log_id_and_may_be_empty() {
        for stored in
            [StoredMembership::new(Some(log_id(1, 2)), joint()), StoredMembership::default()]
        {
            assert_eq!(StoredMembership::try_from(pb::Membership::from(&stored)), Ok(stored));
        }
    }

    #[test]
    fn malformed_messages_are_errors() {
        let empty_set = pb::Membership { configs: vec![pb::VoterSet::default()], ..<_>::default() };
        assert!(Membership::try_from(empty_set).is_err());
        let unknown = pb::VoterSet { voters: vec![1] };
        let unknown = pb::Membership { configs: vec![unknown], ..<_>::default() };
        assert!(Membership::try_from(unknown).is_err());
        assert!(Entry::try_from(pb::Entry::default()).is_err());
        let no_payload = pb::Entry { log_id: Some(<_>::default()), payload: None };
        assert!(Entry::try_from(no_payload).is_err());
    }
}
