//! Slow consumers, large backlogs, many watchers (WATCH-15).

use std::sync::atomic::Ordering;

use super::{Harness, from, on, short};
use crate::limits::{WATCH_RING_BYTES, WATCH_RING_REVISIONS, WATCH_STREAM_LAG};
use crate::watch::WatchOptions;

#[test]
fn watch_15_a_stream_that_nobody_pulls_neither_blocks_nor_grows() {
    let harness = Harness::new();
    let mut stuck = harness.stream();
    stuck.watch(on("a"));
    for value in 0..20_000 {
        harness.put("a", &value.to_string());
    }
    let (revisions, bytes) = harness.hub.ring_size();
    assert_eq!(revisions, WATCH_RING_REVISIONS);
    assert!(bytes <= WATCH_RING_BYTES);
    assert!(!stuck.stream.is_backlogged());
    // It comes back and gets everything, from history and then from the ring.
    let events: usize = stuck.drain().iter().map(|response| response.events.len()).sum();
    assert_eq!(events, 20_000);
}

#[test]
fn watch_15_the_ring_is_bounded_in_bytes_and_keeps_the_newest_revision() {
    let options = WatchOptions { ring_bytes: 10_000, ..WatchOptions::default() };
    let harness = Harness::with(options);
    for _ in 0..100 {
        harness.put("a", &"x".repeat(1_000));
        assert!(harness.hub.ring_size().1 <= 10_000);
    }
    assert!(harness.hub.ring_size().0 > 5);
    harness.put("a", &"x".repeat(20_000));
    assert_eq!(harness.hub.ring_size().0, 1);
}

#[test]
fn watch_15_a_long_backlog_does_not_keep_the_other_watchers_waiting() {
    let harness = Harness::with_ring(16);
    for value in 2..=50_000 {
        harness.put("a", &value.to_string());
    }
    let mut client = harness.stream();
    client.watch(from(2, on("a")));
    client.watch(from(49_000, on("b")));
    client.watch(on("b"));
    harness.put("b", "now");
    let responses: Vec<_> = client.drain().iter().map(short).collect();
    let first = |watcher: &str| responses.iter().position(|r| r.starts_with(watcher)).unwrap();
    assert!(first("w2@50001 PUT b=now") <= 1);
    assert!(first("w1@50001 PUT b=now") <= 3);
    assert!(responses.len() > 40);
}

#[test]
fn watch_15_watchers_that_stand_together_are_served_by_one_read() {
    let harness = Harness::with_ring(1);
    for value in 2..=3_000 {
        harness.put("a", &value.to_string());
    }
    let reads = |watchers: i64| {
        let mut client = harness.stream();
        for watcher in 0..watchers {
            client.watch(from(2 + watcher % 7, on("a")));
        }
        let before = harness.store.reads.load(Ordering::Relaxed);
        let events: usize = client.drain().iter().map(|response| response.events.len()).sum();
        assert_eq!(events, (0..watchers).map(|w| usize::try_from(2_999 - w % 7).unwrap()).sum());
        harness.store.reads.load(Ordering::Relaxed) - before
    };
    let alone = reads(1);
    let together = reads(40);
    // More turns, because a batch is bounded in events, but far from one read per watcher.
    assert!(together < 6 * alone, "{alone} reads for one watcher, {together} for 40");
}

#[test]
fn watch_15_a_stream_that_lags_gets_several_revisions_in_one_response() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.watch(on("a"));
    for _ in 0..WATCH_STREAM_LAG {
        harness.put("a", "1");
    }
    assert_eq!(client.drain().len(), WATCH_STREAM_LAG);
    for _ in 0..WATCH_STREAM_LAG + 1 {
        harness.put("a", "1");
    }
    let responses = client.drain();
    assert_eq!(responses.len(), 1);
    assert_eq!(responses[0].events.len(), WATCH_STREAM_LAG + 1);
}

#[test]
fn watch_15_who_asks_without_listening_is_stopped() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.watch(on("a"));
    let asked = (0..).take_while(|_| {
        client.request_progress();
        !client.stream.is_backlogged()
    });
    assert!(asked.count() < 1_000);
    client.drain();
    assert!(!client.stream.is_backlogged());
}

#[test]
fn watch_15_ten_thousand_watchers_on_one_stream_see_an_event_each() {
    let harness = Harness::new();
    let mut client = harness.stream();
    for watcher in 0..10_000 {
        client.watch(match watcher % 3 {
            0 => on("a"),
            1 => on("a*"),
            _ => on(&format!("b{watcher}*")),
        });
    }
    harness.put("a", "1");
    assert_eq!(client.drain().len(), 6_667);
}
