//! The lessor: all leases, the keys attached to them, and on the leader their clock.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::clock::Clock;
use crate::api::coraclepb::LeaseRecord;
use crate::api::etcdserverpb::LeaseCheckpoint;
use crate::error::Error;
use crate::limits::MAX_LEASE_TTL;

/// All leases of the cluster. Internally synchronised; every call is short.
///
/// Times are durations since an arbitrary start of the host's monotonic clock. Times to live are
/// in seconds.
#[derive(Default)]
pub struct Lessor {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    leases: BTreeMap<i64, Lease>,
    /// Present on the leader only ("primary" in etcd).
    clock: Option<Clock>,
    /// How often a clock was started. Who waits for the end of a lease by an earlier clock has
    /// nothing to wait for.
    clocks: u64,
    /// Granted on the leader since the last call that told the time; they have no deadline yet.
    unclocked: Vec<i64>,
    /// Leases granted here since the start.
    grants: u64,
    /// Whose checkpoint was given out to be proposed and is not applied yet.
    checkpointing: BTreeSet<i64>,
    /// Who waits until an expired lease is gone.
    waiting: BTreeMap<i64, Vec<Waker>>,
}

#[derive(Default)]
struct Lease {
    ttl: i64,
    /// How many were granted here before it; those of a former start count as one.
    granted: u64,
    /// Seconds left at the last checkpoint; 0 means the full time to live.
    remaining_ttl: i64,
    keys: BTreeSet<Bytes>,
}

/// What became of a request to renew a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease lives on for its full time to live, in seconds. With `clear_checkpoint` the
    /// caller must propose a checkpoint with a remaining time of 0, or a new leader would start
    /// from the old one.
    Renewed { ttl: i64, clear_checkpoint: bool },
    /// The lease is over, and only its revocation is not applied yet. The caller waits for
    /// [`Lessor::settled`] and then answers a time to live of 0: it must not revive.
    Expired,
    /// No such lease: the answer is a time to live of 0.
    NotFound,
    /// This member is not the leader (any more); another member has the clock.
    NotPrimary,
}

/// What is known about a lease and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// The time to live of the grant, in seconds.
    pub granted: i64,
    /// Whole seconds left, rounded down; 0 when it has expired. On a member without the clock:
    /// what it would start with if it became leader.
    pub remaining: i64,
    /// The attached keys, sorted.
    pub keys: Vec<Bytes>,
}

/// The replicated half: the same calls in the same order on every member.
impl Lessor {
    /// The lessor of the stored `records`, with `attachments` of keys as found in the key space.
    /// It is not primary.
    pub fn open(
        records: impl IntoIterator<Item = LeaseRecord>,
        attachments: impl IntoIterator<Item = (i64, Bytes)>,
    ) -> Lessor {
        let lessor = Lessor::default();
        lessor.restore(records, attachments);
        lessor
    }

    /// Replaces everything, as after installing a raft snapshot. This member is not primary then.
    pub fn restore(
        &self,
        records: impl IntoIterator<Item = LeaseRecord>,
        attachments: impl IntoIterator<Item = (i64, Bytes)>,
    ) {
        self.demote();
        let mut state = self.lock();
        state.leases.clear();
        for LeaseRecord { id, ttl, remaining_ttl } in records {
            state.leases.insert(id, Lease { ttl, remaining_ttl, ..Lease::default() });
        }
        for (id, key) in attachments {
            state.attach(id, key);
        }
    }

    /// Creates lease `id` for `ttl` seconds. The caller has chosen the identifier and raised the
    /// time to live to the cluster's minimum before proposing.
    pub fn grant(&self, id: i64, ttl: i64) -> Result<(), Error> {
        if id == 0 {
            return Err(Error::LeaseNotFound);
        }
        if ttl > MAX_LEASE_TTL {
            return Err(Error::LeaseTTLTooLarge);
        }
        let mut state = self.lock();
        if state.leases.contains_key(&id) {
            return Err(Error::LeaseExist);
        }
        state.grants += 1;
        let granted = state.grants;
        state.leases.insert(id, Lease { ttl, granted, ..Lease::default() });
        if state.clock.is_some() {
            state.unclocked.push(id);
        }
        Ok(())
    }

    /// Removes lease `id` and returns its keys, sorted: the caller deletes them in one revision.
    pub fn revoke(&self, id: i64) -> Result<Vec<Bytes>, Error> {
        let mut state = self.lock();
        let lease = state.leases.remove(&id).ok_or(Error::LeaseNotFound)?;
        state.checkpointing.remove(&id);
        if let Some(clock) = &mut state.clock {
            clock.remove(id);
        }
        let waiting = state.waiting.remove(&id);
        drop(state);
        waiting.into_iter().flatten().for_each(Waker::wake);
        Ok(lease.keys.into_iter().collect())
    }

    /// Attaches `key` to lease `id`. The caller has checked that the lease exists; like etcd, a
    /// key that names an unknown lease is left alone (lease 0 means "no lease").
    pub fn attach(&self, id: i64, key: Bytes) {
        self.lock().attach(id, key);
    }

    /// Detaches `key` from lease `id`, if it was attached.
    pub fn detach(&self, id: i64, key: &[u8]) {
        if let Some(lease) = self.lock().leases.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// Whether `holds` is true of every key on lease `id`; an unknown lease has none.
    pub fn every_key(&self, id: i64, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let state = self.lock();
        state.leases.get(&id).is_none_or(|lease| lease.keys.iter().all(|key| holds(key)))
    }

    /// Whether lease `id` is granted and not revoked.
    pub fn exists(&self, id: i64) -> bool {
        self.lock().leases.contains_key(&id)
    }

    /// Notes that lease `id` had `remaining_ttl` seconds left; 0 takes the note back. An unknown
    /// lease is ignored: it was revoked in the meantime.
    pub fn checkpoint(&self, id: i64, remaining_ttl: i64) {
        let mut state = self.lock();
        state.checkpointing.remove(&id);
        if let Some(lease) = state.leases.get_mut(&id) {
            lease.remaining_ttl = remaining_ttl;
        }
    }

    /// The record of lease `id`, to be stored after a grant or a checkpoint.
    pub fn record(&self, id: i64) -> Option<LeaseRecord> {
        self.lock().leases.get(&id).map(|lease| lease.record(id))
    }

    /// The records of all leases, by identifier.
    pub fn records(&self) -> Vec<LeaseRecord> {
        self.lock().leases.iter().map(|(&id, lease)| lease.record(id)).collect()
    }

    /// How many leases there are.
    pub fn count(&self) -> usize {
        self.lock().leases.len()
    }

    /// The identifiers of all leases: on the leader the next to expire first, of several the one
    /// granted first; elsewhere by number.
    pub fn leases(&self) -> Vec<i64> {
        let state = self.lock();
        let mut leases: Vec<_> =
            state.leases.iter().map(|(&id, lease)| (id, lease.granted)).collect();
        if let Some(clock) = &state.clock {
            leases.sort_by_key(|&(id, granted)| {
                (clock.deadline(id).unwrap_or(Duration::MAX), granted)
            });
        }
        leases.into_iter().map(|(id, _)| id).collect()
    }
}

/// The leader's half: the clock.
impl Lessor {
    /// Starts the clock on the leader of a new term, in place of one of an earlier term: every
    /// lease ends after what is left of it, plus `extend` (one election timeout) for the time
    /// without a leader.
    pub fn promote(&self, now: Duration, extend: Duration) {
        let mut state = self.lock();
        let left =
            state.leases.iter().map(|(&id, lease)| (id, lease.left().saturating_add(extend)));
        state.clock = Some(Clock::promoted(now, left));
        state.clocks += 1;
        state.unclocked.clear();
        state.checkpointing.clear();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().flatten().for_each(Waker::wake);
    }

    /// Stops the clock: another member leads, or nobody. Wakes everyone in [`Lessor::settled`].
    pub fn demote(&self) {
        let mut state = self.lock();
        state.clock = None;
        state.unclocked.clear();
        state.checkpointing.clear();
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().flatten().for_each(Waker::wake);
    }

    /// Whether this member has the clock.
    pub fn is_primary(&self) -> bool {
        self.lock().clock.is_some()
    }

    /// Starts the time of leases granted since the last call. Every other call that is told the
    /// time does so too; a call of its own after a grant makes the start exact.
    pub fn tick(&self, now: Duration) {
        self.lock().tick(now);
    }

    /// Lets lease `id` live for its full time to live from `now` on.
    pub fn renew(&self, id: i64, now: Duration) -> Renewal {
        let mut state = self.lock();
        state.tick(now);
        let State { leases, clock, checkpointing, .. } = &mut *state;
        let Some(clock) = clock else { return Renewal::NotPrimary };
        let Some(lease) = leases.get(&id) else { return Renewal::NotFound };
        if clock.deadline(id).is_some_and(|deadline| deadline <= now) {
            return Renewal::Expired;
        }
        clock.set(id, now, now.saturating_add(seconds(lease.ttl)));
        let clear_checkpoint = lease.remaining_ttl > 0 || checkpointing.contains(&id);
        Renewal::Renewed { ttl: lease.ttl, clear_checkpoint }
    }

    /// Resolves once lease `id` does not exist, or the clock by which it expired is gone: when its
    /// fate is decided, or another clock's business.
    pub async fn settled(&self, id: i64) {
        let clock = self.lock().clocks;
        poll_fn(|context| self.poll_settled(id, clock, context)).await;
    }

    /// Time and keys of lease `id`; `None` if there is no such lease.
    pub fn time_to_live(&self, id: i64, now: Duration) -> Option<TimeToLive> {
        let mut state = self.lock();
        state.tick(now);
        let lease = state.leases.get(&id)?;
        let deadline = state.clock.as_ref().and_then(|clock| clock.deadline(id));
        let left = match deadline {
            Some(deadline) => deadline.saturating_sub(now),
            None => lease.left(),
        };
        Some(TimeToLive {
            granted: lease.ttl,
            remaining: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            keys: lease.keys.iter().cloned().collect(),
        })
    }

    /// Up to `limit` expired leases to propose the revocation of, the earliest first. A lease that
    /// still exists some seconds later is returned again: its proposal was lost.
    pub fn expired(&self, now: Duration, limit: usize) -> Vec<i64> {
        let mut state = self.lock();
        state.tick(now);
        state.clock.as_mut().map_or_else(Vec::new, |clock| clock.take_expired(now, limit))
    }

    /// Up to `limit` checkpoints to propose: every five minutes for each lease that has more than
    /// that left.
    pub fn due_checkpoints(&self, now: Duration, limit: usize) -> Vec<LeaseCheckpoint> {
        let mut state = self.lock();
        state.tick(now);
        let State { leases, clock, checkpointing, .. } = &mut *state;
        let due = clock.as_mut().map_or_else(Vec::new, |clock| clock.take_checkpoints(now, limit));
        due.into_iter()
            // What `promote` added is not part of the lease: nothing is used up yet.
            .filter(|(id, left)| leases.get(id).is_some_and(|lease| *left < lease.ttl))
            .inspect(|(id, _)| _ = checkpointing.insert(*id))
            .map(|(id, remaining_ttl)| LeaseCheckpoint { id, remaining_ttl })
            .collect()
    }

    fn poll_settled(&self, id: i64, clock: u64, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.clock.is_none() || state.clocks != clock || !state.leases.contains_key(&id) {
            return Poll::Ready(());
        }
        let wakers = state.waiting.entry(id).or_default();
        if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            wakers.push(context.waker().clone());
        }
        Poll::Pending
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn attach(&mut self, id: i64, key: Bytes) {
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.keys.insert(key);
        }
    }

    /// Gives fresh leases their deadline. They start late rather than early: a lease may live a
    /// little longer than promised, never shorter.
    fn tick(&mut self, now: Duration) {
        let State { leases, clock: Some(clock), unclocked, .. } = self else { return };
        for id in unclocked.drain(..) {
            if let Some(lease) = leases.get(&id) {
                clock.set(id, now, now.saturating_add(seconds(lease.ttl)));
            }
        }
    }
}

impl Lease {
    fn left(&self) -> Duration {
        seconds(if self.remaining_ttl > 0 { self.remaining_ttl } else { self.ttl })
    }

    fn record(&self, id: i64) -> LeaseRecord {
        LeaseRecord { id, ttl: self.ttl, remaining_ttl: self.remaining_ttl }
    }
}

/// A time to live as a duration; what is below zero has no time left.
fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}
