//! Tests of the lessor: both halves, with the time told.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;

use super::{Lessor, Renewal};
use crate::api::coraclepb::LeaseRecord;
use crate::api::etcdserverpb::LeaseCheckpoint;
use crate::error::Error;
use crate::limits::MAX_LEASE_TTL;

const NO_EXTENSION: Duration = Duration::ZERO;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A leader's lessor with these leases (id, ttl), all started at `now`.
fn leader(now: Duration, leases: &[(i64, i64)]) -> Lessor {
    let lessor = Lessor::default();
    for &(id, ttl) in leases {
        lessor.grant(id, ttl).unwrap();
    }
    lessor.promote(now, NO_EXTENSION);
    lessor
}

fn remaining(lessor: &Lessor, id: i64, now: Duration) -> i64 {
    lessor.time_to_live(id, now).unwrap().remaining
}

#[test]
fn lease_01_grant_refuses_zero_and_taken_ids_and_takes_negative_ones() {
    let lessor = Lessor::default();
    assert_eq!(lessor.grant(0, 10), Err(Error::LeaseNotFound));
    assert_eq!(lessor.grant(-7, 10), Ok(()));
    assert_eq!(lessor.grant(-7, 20), Err(Error::LeaseExist));
    assert!(lessor.exists(-7));
    assert!(!lessor.exists(7));
}

#[test]
fn lease_02_grant_refuses_a_too_large_ttl() {
    let lessor = Lessor::default();
    assert_eq!(lessor.grant(1, MAX_LEASE_TTL + 1), Err(Error::LeaseTTLTooLarge));
    assert_eq!(lessor.grant(1, MAX_LEASE_TTL), Ok(()));
    lessor.promote(at(1), at(1));
    assert_eq!(remaining(&lessor, 1, at(1)), MAX_LEASE_TTL + 1);
}

#[test]
fn lease_03_leases_expire_in_order_of_their_deadlines_and_within_the_limit() {
    let lessor = leader(at(100), &[(1, 30), (2, 10), (3, 20), (4, 20)]);
    assert_eq!(lessor.expired(at(109), 10), []);
    assert_eq!(lessor.expired(at(130), 3), [2, 3, 4]);
    assert_eq!(lessor.expired(at(130), 3), [1]);
    assert_eq!(lessor.expired(at(130), 3), []);
}

#[test]
fn lease_03_a_lease_whose_revoke_was_lost_is_reported_again() {
    let lessor = leader(at(0), &[(1, 2)]);
    assert_eq!(lessor.expired(at(2), 10), [1]);
    assert_eq!(lessor.expired(at(4), 10), []);
    assert_eq!(lessor.expired(at(5), 10), [1]);
    lessor.revoke(1).unwrap();
    assert_eq!(lessor.expired(at(100), 10), []);
}

#[test]
fn lease_03_only_the_leader_has_a_clock() {
    let lessor = leader(at(0), &[(1, 2)]);
    assert!(lessor.is_primary());
    lessor.demote();
    assert!(!lessor.is_primary());
    assert_eq!(lessor.expired(at(1000), 10), []);
    assert_eq!(lessor.renew(1, at(1)), Renewal::NotPrimary);
    assert_eq!(remaining(&lessor, 1, at(1000)), 2);
}

#[test]
fn lease_04_revoke_returns_the_keys_sorted() {
    let lessor = Lessor::default();
    lessor.grant(1, 10).unwrap();
    for key in ["c", "a", "b", "d"] {
        lessor.attach(1, Bytes::from(key));
    }
    lessor.detach(1, b"b");
    lessor.detach(1, b"unknown");
    assert_eq!(lessor.revoke(1).unwrap(), ["a", "c", "d"]);
    assert_eq!(lessor.revoke(1), Err(Error::LeaseNotFound));
}

#[test]
fn lease_04_keys_of_unknown_leases_are_left_alone() {
    let lessor = Lessor::default();
    lessor.attach(0, Bytes::from("a"));
    lessor.attach(9, Bytes::from("a"));
    lessor.detach(9, b"a");
    lessor.grant(9, 10).unwrap();
    assert_eq!(lessor.revoke(9).unwrap(), Vec::<Bytes>::new());
}

#[test]
fn lease_05_renewal_gives_the_full_ttl() {
    let lessor = leader(at(0), &[(1, 10)]);
    let renewed = Renewal::Renewed { ttl: 10, clear_checkpoint: false };
    assert_eq!(lessor.renew(1, at(9)), renewed);
    assert_eq!(lessor.expired(at(18), 10), []);
    assert_eq!(remaining(&lessor, 1, at(18)), 1);
    assert_eq!(lessor.expired(at(19), 10), [1]);
    assert_eq!(lessor.renew(2, at(9)), Renewal::NotFound);
}

#[test]
fn lease_05_an_expired_lease_does_not_revive() {
    let lessor = leader(at(0), &[(1, 10)]);
    assert_eq!(lessor.renew(1, at(10)), Renewal::Expired);
    assert_eq!(lessor.expired(at(10), 10), [1]);
    assert_eq!(lessor.renew(1, at(11)), Renewal::Expired);
    assert_eq!(remaining(&lessor, 1, at(12)), 0);
    lessor.revoke(1).unwrap();
    assert_eq!(lessor.renew(1, at(12)), Renewal::NotFound);
}

#[derive(Default)]
struct CountingWaker(AtomicUsize);

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn lease_05_who_renews_an_expired_lease_waits_until_it_is_revoked() {
    let lessor = leader(at(0), &[(1, 10), (2, 10)]);
    let count = Arc::new(CountingWaker::default());
    let waker = Waker::from(count.clone());
    let mut context = Context::from_waker(&waker);
    let mut first = pin!(lessor.settled(1));
    let mut second = pin!(lessor.settled(2));
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    lessor.revoke(1).unwrap();
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(first.as_mut().poll(&mut context).is_ready());
    assert!(second.as_mut().poll(&mut context).is_pending());
    // A new leader decides about the other one.
    lessor.demote();
    assert_eq!(count.0.load(Ordering::Relaxed), 2);
    assert!(second.as_mut().poll(&mut context).is_ready());
}

#[test]
fn lease_08_the_clock_of_a_new_term_takes_the_place_of_the_old_one() {
    let lessor = leader(at(0), &[(1, 10)]);
    let mut settled = pin!(lessor.settled(1));
    let count = Arc::new(CountingWaker::default());
    let waker = Waker::from(count.clone());
    let mut context = Context::from_waker(&waker);
    assert_eq!(lessor.renew(1, at(10)), Renewal::Expired);
    assert!(settled.as_mut().poll(&mut context).is_pending());
    lessor.promote(at(11), NO_EXTENSION);
    assert_eq!(remaining(&lessor, 1, at(11)), 10);
    // Who waited for the revocation by the old clock asks again.
    assert_eq!(count.0.load(Ordering::Relaxed), 1);
    assert!(settled.as_mut().poll(&mut context).is_ready());
    let renewed = lessor.renew(1, at(12));
    assert_eq!(renewed, Renewal::Renewed { ttl: 10, clear_checkpoint: false });
}

#[test]
fn lease_06_time_to_live_counts_whole_seconds_and_sorts_keys() {
    let lessor = leader(at(0), &[(1, 10)]);
    lessor.attach(1, Bytes::from("b"));
    lessor.attach(1, Bytes::from("a"));
    let known = lessor.time_to_live(1, Duration::from_millis(500)).unwrap();
    assert_eq!((known.granted, known.remaining), (10, 9));
    assert_eq!(known.keys, ["a", "b"]);
    assert_eq!(remaining(&lessor, 1, Duration::from_millis(9_999)), 0);
    assert_eq!(remaining(&lessor, 1, at(20)), 0);
    assert_eq!(lessor.time_to_live(2, at(0)), None);
}

#[test]
fn lease_07_the_leader_lists_the_next_to_expire_first() {
    let lessor = leader(at(0), &[(1, 30), (2, 10), (3, 20)]);
    assert_eq!(lessor.leases(), [2, 3, 1]);
    assert_eq!(lessor.count(), 3);
    lessor.renew(2, at(9));
    lessor.renew(2, at(18));
    assert_eq!(lessor.leases(), [3, 2, 1]);
    lessor.demote();
    assert_eq!(lessor.leases(), [1, 2, 3]);
    // Of those that end together, the first that was granted.
    let lessor = leader(at(0), &[(5, 10), (3, 10), (4, 10)]);
    assert_eq!(lessor.leases(), [5, 3, 4]);
}

#[test]
fn lease_08_a_new_leader_starts_every_lease_over_plus_one_election_timeout() {
    let lessor = leader(at(0), &[(1, 10)]);
    lessor.demote();
    lessor.promote(at(100), at(1));
    assert_eq!(lessor.expired(at(110), 10), []);
    assert_eq!(lessor.expired(at(111), 10), [1]);
}

#[test]
fn lease_08_a_checkpointed_lease_starts_at_what_was_left() {
    let lessor = leader(at(0), &[(1, 1000)]);
    assert_eq!(lessor.due_checkpoints(at(299), 10), []);
    let checkpoints = lessor.due_checkpoints(at(300), 10);
    assert_eq!(checkpoints, [LeaseCheckpoint { id: 1, remaining_ttl: 700 }]);
    lessor.checkpoint(1, 700);
    assert_eq!(lessor.records(), [LeaseRecord { id: 1, ttl: 1000, remaining_ttl: 700 }]);
    lessor.demote();
    lessor.promote(at(5000), NO_EXTENSION);
    assert_eq!(remaining(&lessor, 1, at(5000)), 700);
    // A renewal asks for the note to be taken back, which is another entry.
    assert_eq!(lessor.renew(1, at(5001)), Renewal::Renewed { ttl: 1000, clear_checkpoint: true });
    assert_eq!(remaining(&lessor, 1, at(5001)), 1000);
    lessor.checkpoint(1, 0);
    assert_eq!(lessor.renew(1, at(5002)), Renewal::Renewed { ttl: 1000, clear_checkpoint: false });
}

#[test]
fn lease_08_a_checkpoint_under_way_does_not_outlive_a_renewal() {
    let lessor = leader(at(0), &[(1, 1000)]);
    assert_eq!(lessor.due_checkpoints(at(300), 10).len(), 1);
    // It is proposed and not applied yet: what takes it back has to come behind it in the log.
    let renewed = |clear_checkpoint| Renewal::Renewed { ttl: 1000, clear_checkpoint };
    assert_eq!(lessor.renew(1, at(301)), renewed(true));
    lessor.checkpoint(1, 700);
    lessor.checkpoint(1, 0);
    assert_eq!(lessor.renew(1, at(302)), renewed(false));
    // Another leader's log may hold it, or not: what counts there is what it has applied.
    assert_eq!(lessor.due_checkpoints(at(602), 10).len(), 1);
    lessor.promote(at(603), NO_EXTENSION);
    assert_eq!(lessor.renew(1, at(604)), renewed(false));
}

#[test]
fn lease_08_checkpoints_come_every_five_minutes_while_more_is_left() {
    let lessor = leader(at(0), &[(1, 300), (2, 700), (3, 901)]);
    assert_eq!(lessor.due_checkpoints(at(300), 1), [LeaseCheckpoint { id: 2, remaining_ttl: 400 }]);
    assert_eq!(lessor.due_checkpoints(at(300), 9), [LeaseCheckpoint { id: 3, remaining_ttl: 601 }]);
    assert_eq!(lessor.due_checkpoints(at(599), 9), []);
    let second = lessor.due_checkpoints(at(600), 9);
    assert_eq!(
        second.iter().map(|c| (c.id, c.remaining_ttl)).collect::<Vec<_>>(),
        [(2, 100), (3, 301)]
    );
    let third = lessor.due_checkpoints(at(900), 9);
    assert_eq!(third, [LeaseCheckpoint { id: 3, remaining_ttl: 1 }]);
    assert_eq!(lessor.due_checkpoints(at(2000), 9), []);
}

#[test]
fn lease_08_what_is_renewed_in_time_is_never_written_down() {
    let lessor = leader(at(0), &[(1, 600)]);
    for renewal in 1..20 {
        lessor.renew(1, at(200 * renewal));
        assert_eq!(lessor.due_checkpoints(at(200 * renewal + 199), 9), []);
    }
}

#[test]
fn lease_08_after_a_promotion_at_most_750_leases_expire_in_a_second() {
    let lessor = Lessor::default();
    for id in 1..=5000 {
        lessor.grant(id, if id % 10 == 0 { 12 } else { 10 }).unwrap();
    }
    lessor.promote(at(0), NO_EXTENSION);
    let mut per_tick = Vec::new();
    for tick in 0..400 {
        let now = Duration::from_millis(50 * tick);
        let expired = lessor.expired(now, usize::MAX);
        assert!(expired.is_empty() || now >= at(10));
        for &id in &expired {
            assert!(id % 10 != 0 || now >= at(12));
            lessor.revoke(id).unwrap();
        }
        per_tick.push(expired.len());
    }
    assert_eq!(per_tick.iter().sum::<usize>(), 5000);
    assert!(per_tick.windows(20).all(|second| second.iter().sum::<usize>() <= 750));
}

#[test]
fn lease_08_a_lease_granted_on_the_leader_lives_its_ttl_at_least() {
    let lessor = leader(at(0), &[]);
    lessor.grant(1, 10).unwrap();
    lessor.tick(at(5));
    lessor.grant(2, 10).unwrap();
    assert_eq!(lessor.expired(at(14), 10), []);
    assert_eq!(lessor.expired(at(15), 10), [1]);
    assert_eq!(lessor.expired(at(23), 10), [1]);
    assert_eq!(lessor.expired(at(24), 10), [2]);
}

#[test]
fn lease_records_and_attachments_survive_a_restart() {
    let lessor = Lessor::default();
    lessor.grant(2, 20).unwrap();
    lessor.grant(1, 10).unwrap();
    lessor.checkpoint(2, 7);
    let records = lessor.records();
    assert_eq!(lessor.record(2), Some(records[1]));
    assert_eq!(lessor.record(3), None);
    let attachments = [(2, Bytes::from("b")), (2, Bytes::from("a")), (99, Bytes::from("x"))];
    let lessor = Lessor::open(records, attachments);
    assert!(!lessor.is_primary());
    lessor.promote(at(0), NO_EXTENSION);
    assert_eq!(remaining(&lessor, 2, at(0)), 7);
    assert_eq!(lessor.revoke(2).unwrap(), ["a", "b"]);
    assert_eq!(lessor.revoke(99), Err(Error::LeaseNotFound));
}

#[test]
fn lease_restore_replaces_everything() {
    let lessor = leader(at(0), &[(1, 10), (2, 10)]);
    lessor.attach(1, Bytes::from("old"));
    lessor.restore([LeaseRecord { id: 1, ttl: 30, remaining_ttl: 0 }], [(1, Bytes::from("new"))]);
    assert!(!lessor.is_primary());
    assert_eq!(lessor.leases(), [1]);
    assert_eq!(lessor.time_to_live(1, at(0)).unwrap().keys, ["new"]);
}
