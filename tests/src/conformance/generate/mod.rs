//! Random operations, biased towards the corners of etcd's contract.
//!
//! A sequence is made of *rounds*: some sixty free operations (reads, writes, leases, watches),
//! then one [`Operation::Settle`], then the operations that are only comparable while every
//! watcher has received its events: cancellations, progress requests, compactions. Waiting for
//! watchers takes etcd up to 100 ms, so it happens once per round.
//!
//! Requests are valid most of the time: keys come from a small alphabet so that they meet, and
//! about one request in four carries something that etcd refuses. Nothing may depend on time: a
//! lease outlives its sequence, or is revoked by the next operation.

mod kv;
mod lease;
mod txn;
mod watch;

pub use watch::STREAMS;

use std::collections::VecDeque;

use bytes::Bytes;
use coracle_core::api::etcdserverpb::alarm_request::AlarmAction;
use coracle_core::api::etcdserverpb::*;

use super::dice::Dice;
use super::model::Model;
use super::operation::{OWN_PEER_URL, Operation};

/// Operations of a round before it settles.
const ROUND: usize = 60;
/// Member ids that no cluster has.
const UNKNOWN_MEMBERS: [u64; 3] = [1, 0xdead_beef, u64::MAX];

/// Keys with a meaning to somebody: bytes at both ends, prefixes of each other, text that is
/// Latin-1, UTF-8 and neither.
const SPECIAL_KEYS: [&[u8]; 18] = [
    b"\0",
    b"\0\x01",
    b"a",
    b"a\0",
    b"a\0b",
    b"a/",
    b"a/b",
    b"a/b/c",
    b"a/c",
    b"a\xff",
    b"b",
    b"b/\xff",
    b"b/\xff\xff",
    b"caf\xc3\xa9",
    b"\xc3\x28",
    b"\xe9t\xe9",
    b"\xff",
    b"\xff\xff",
];
/// Plain keys `k00`, `k01`, … beside the special ones.
const PLAIN_KEYS: usize = 16;

/// Whether the sequence of `seed` leaves the servers' stored bytes equal.
pub fn hashes_comparable(seed: u64) -> bool {
    seed.is_multiple_of(2)
}

/// A source of operations.
pub struct Generator {
    dice: Dice,
    keys: Vec<Bytes>,
    /// What follows without a choice.
    queue: VecDeque<Operation>,
    /// Whether keys get leases whose ids the servers picked. The ids are part of the stored
    /// values, and differ: without them, HashKV is comparable.
    attach_chosen_ids: bool,
    /// Operations since the round began.
    free_operations: usize,
}

impl Generator {
    /// The generator of this seed.
    pub fn new(seed: u64) -> Generator {
        let mut keys: Vec<Bytes> = SPECIAL_KEYS.iter().map(|key| Bytes::from_static(key)).collect();
        keys.extend((0..PLAIN_KEYS).map(|number| Bytes::from(format!("k{number:02}"))));
        Generator {
            dice: Dice::new(seed),
            keys,
            queue: VecDeque::new(),
            attach_chosen_ids: !hashes_comparable(seed),
            free_operations: 0,
        }
    }

    /// The next operation of a sequence that has led to `model`.
    pub fn next(&mut self, model: &Model) -> Operation {
        if let Some(operation) = self.queue.pop_front() {
            return operation;
        }
        if self.free_operations == ROUND {
            self.free_operations += 1;
            return Operation::Settle;
        }
        if self.free_operations > ROUND {
            self.free_operations = 0;
            return self.settled_operations(model);
        }
        self.free_operations += 1;
        // range, put, delete, txn, lease, watch, cluster, maintenance, alarm window
        match self.dice.weighted(&[260, 225, 72, 200, 155, 122, 130, 48, 8]) {
            0 => Operation::Range(self.range(model)),
            1 => Operation::Put(self.put(model)),
            2 => Operation::DeleteRange(self.delete_range()),
            3 => Operation::Txn(self.txn(model)),
            4 => self.lease(model),
            5 => self.watch_create(model),
            6 => self.cluster(),
            7 => self.maintenance(model),
            _ => self.alarm_window(model),
        }
    }

    /// After a settling: what would race with undelivered events at any other time.
    fn settled_operations(&mut self, model: &Model) -> Operation {
        self.queue_watch_control(model);
        for _ in 0..2 {
            let compaction = self.compaction(model);
            self.queue.push_back(compaction);
        }
        Operation::LeaseLeases
    }

    fn compaction(&mut self, model: &Model) -> Operation {
        let revision = match self.dice.weighted(&[50, 15, 15, 10, 10]) {
            0 => self.dice.between(model.compacted + 1, model.revision),
            1 => self.dice.between(1, model.compacted.max(1)),
            2 => model.revision + self.dice.between(1, 100),
            3 => 0,
            _ => -self.dice.between(1, 5),
        };
        let physical = self.dice.percent(50);
        Operation::Compact(CompactionRequest { revision, physical })
    }

    fn key(&mut self) -> Bytes {
        self.dice.pick(&self.keys).clone()
    }

    /// A key that probably exists.
    fn existing_key(&mut self, model: &Model) -> Bytes {
        if model.keys.is_empty() {
            return self.key();
        }
        let index = self.dice.below(model.keys.len());
        model.keys.iter().nth(index).cloned().unwrap_or_default()
    }

    /// A value: mostly short, sometimes empty, binary, or some KiB long.
    fn value(&mut self) -> Bytes {
        match self.dice.weighted(&[10, 50, 20, 15, 5]) {
            0 => Bytes::new(),
            1 => Bytes::from(format!("v{}", self.dice.below(10))),
            2 => Bytes::from_static(b"\0\xff\0"),
            3 => {
                let length = self.dice.below(24);
                (0..length).map(|_| self.dice.bits() as u8).collect()
            }
            _ => vec![b'x'; self.dice.below(4096)].into(),
        }
    }

    /// A revision around the store's: now, past, compacted, future.
    fn revision(&mut self, model: &Model) -> i64 {
        match self.dice.weighted(&[55, 28, 6, 5, 6]) {
            0 => 0,
            1 => self.dice.between(model.compacted.max(1), model.revision),
            2 => self.dice.between(1, model.compacted.max(1)),
            3 => model.revision + self.dice.between(1, 1000),
            _ => -self.dice.between(1, 5),
        }
    }

    /// Membership calls that a single member refuses or answers without changing.
    fn cluster(&mut self) -> Operation {
        let id = *self.dice.pick(&UNKNOWN_MEMBERS);
        let peer_urls = vec![match self.dice.below(4) {
            0 => "localhost:2380".to_string(),
            1 => "ftp://127.0.0.1:2380".to_string(),
            2 => "http://127.0.0.1".to_string(),
            _ => "http://127.0.0.1:2380/path".to_string(),
        }];
        match self.dice.below(7) {
            0 => Operation::MemberList(MemberListRequest { linearizable: self.dice.percent(50) }),
            1 => Operation::MemberAdd(MemberAddRequest {
                peer_ur_ls: peer_urls,
                is_learner: self.dice.percent(30),
            }),
            2 => Operation::MemberAdd(MemberAddRequest {
                peer_ur_ls: vec![OWN_PEER_URL.to_string()],
                is_learner: self.dice.percent(30),
            }),
            3 => Operation::MemberRemove(MemberRemoveRequest { id }),
            // An update does not look at its URLs before it looks for the member.
            4 => Operation::MemberUpdate(MemberUpdateRequest { id, peer_ur_ls: peer_urls }),
            5 => Operation::MemberPromote(MemberPromoteRequest { id }),
            _ => Operation::MoveLeader(MoveLeaderRequest { target_id: id }),
        }
    }

    fn maintenance(&mut self, model: &Model) -> Operation {
        match self.dice.weighted(&[40, 40, 1, 19]) {
            0 => {
                let revision = match self.dice.below(4) {
                    0 => model.revision + self.dice.between(1, 10),
                    1 if model.compacted > 1 => self.dice.between(1, model.compacted - 1),
                    _ => 0,
                };
                // 3.5.1 does not remember these hashes (H-2).
                let revision = if model.compactions.contains(&revision) { 0 } else { revision };
                Operation::HashKv(HashKvRequest { revision })
            }
            1 => Operation::Status,
            2 => Operation::Defragment,
            _ => Operation::Alarm { action: AlarmAction::Get, alarm: AlarmType::None },
        }
    }

    /// Some writes under an alarm, which is lifted at the end.
    fn alarm_window(&mut self, model: &Model) -> Operation {
        let alarm = *self.dice.pick(&[AlarmType::Nospace, AlarmType::Corrupt]);
        for _ in 0..8 {
            let operation = match self.dice.below(6) {
                0 | 1 => Operation::Put(self.valid_put()),
                2 => Operation::DeleteRange(self.delete_range()),
                3 => Operation::Txn(self.flat_txn(model)),
                4 => Operation::LeaseGrant(self.lease_grant(model)),
                _ => Operation::Range(self.range(model)),
            };
            self.queue.push_back(operation);
        }
        self.queue.push_back(Operation::Alarm { action: AlarmAction::Get, alarm: AlarmType::None });
        self.queue.push_back(Operation::Alarm { action: AlarmAction::Deactivate, alarm });
        Operation::Alarm { action: AlarmAction::Activate, alarm }
    }
}
