//! One test per behaviour, named after its label in ETCD.md 2.7.

use bytes::Bytes;

use super::{Harness, from, on};
use crate::api::etcdserverpb::watch_create_request::FilterType;
use crate::api::etcdserverpb::{WatchCreateRequest, WatchRequest};
use crate::watch::WatchOptions;

#[test]
fn watch_01_created_comes_before_events_and_canceled_after_them() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.create(on("a"));
    client.create(on("b*"));
    harness.put("a", "1");
    harness.put("bb", "2");
    harness.put("c", "3");
    assert_eq!(client.shorts(), ["w0@1 created", "w1@1 created", "w0@2 PUT a=1", "w1@3 PUT bb=2"]);
    client.cancel(0);
    harness.put("a", "4");
    assert_eq!(client.shorts(), ["w0@4 canceled"]);
}

#[test]
fn watch_02_a_watcher_is_on_a_key_an_interval_a_tail_or_all_keys() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.watch(on("b"));
    client.watch(on("b*"));
    client.watch(WatchCreateRequest { range_end: Bytes::from_static(b"\0"), ..on("b") });
    client.watch(on("*"));
    client.watch(WatchCreateRequest { range_end: Bytes::from("c"), ..on("") });
    harness.put("a", "1");
    harness.put("b", "2");
    harness.put("bb", "3");
    harness.put("c", "4");
    let mut seen = [const { String::new() }; 5];
    for response in client.drain() {
        let kv = response.events[0].kv.as_ref().unwrap();
        let watcher = usize::try_from(response.watch_id).unwrap();
        seen[watcher] += std::str::from_utf8(&kv.value).unwrap();
    }
    assert_eq!(seen, ["2", "23", "234", "1234", "123"]);
}

#[test]
fn watch_02_an_empty_range_is_refused_and_the_stream_goes_on() {
    let harness = Harness::new();
    let mut client = harness.stream();
    for end in ["b", "a"] {
        client.create(WatchCreateRequest { range_end: Bytes::from(end), ..on("b") });
        let refused = "w-1@1 created canceled (mvcc: watcher range is empty)";
        assert_eq!(client.shorts(), [refused]);
    }
    assert_eq!(client.watch(on("b")), 0);
}

#[test]
fn watch_03_start_revisions_now_past_and_future() {
    let harness = Harness::new();
    for value in ["2", "3", "4"] {
        harness.put("a", value);
    }
    let mut client = harness.stream();
    client.watch(on("a"));
    client.watch(from(3, on("a")));
    client.watch(from(7, on("a")));
    assert_eq!(client.shorts(), ["w1@4 PUT a=3 PUT a=4"]);
    harness.put("a", "5");
    harness.put("a", "6");
    assert_eq!(client.shorts(), ["w0@5 PUT a=5", "w1@5 PUT a=5", "w0@6 PUT a=6", "w1@6 PUT a=6"]);
    harness.put("a", "7");
    assert_eq!(client.shorts(), ["w0@7 PUT a=7", "w1@7 PUT a=7", "w2@7 PUT a=7"]);
}

#[test]
fn watch_03_a_negative_start_revision_is_refused() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.create(from(-1, on("a")));
    let reason = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(client.shorts(), [format!("w-1@1 created canceled ({reason})")]);
}

#[test]
fn watch_04_ids_count_up_from_zero_and_skip_what_is_taken() {
    let harness = Harness::new();
    let mut client = harness.stream();
    let with_id = |watch_id| WatchCreateRequest { watch_id, ..on("a") };
    assert_eq!(client.watch(with_id(0)), 0);
    assert_eq!(client.watch(with_id(1)), 1);
    assert_eq!(client.watch(with_id(7)), 7);
    assert_eq!(client.watch(with_id(0)), 2);
    client.create(with_id(7));
    let reason = "mvcc: duplicate watch ID provided on the WatchStream";
    assert_eq!(client.shorts(), [format!("w-1@1 created canceled ({reason})")]);
    client.cancel(2);
    assert_eq!(client.shorts(), ["w2@1 canceled"]);
    assert_eq!(client.watch(with_id(0)), 3);
    assert_eq!(client.watch(with_id(2)), 2);
}

#[test]
fn watch_05_filters_drop_puts_or_deletes_and_nothing_is_sent_for_nothing() {
    let harness = Harness::new();
    let mut client = harness.stream();
    let filtered = |filters: Vec<i32>| WatchCreateRequest { filters, ..on("*") };
    client.watch(filtered(vec![FilterType::Noput as i32]));
    client.watch(filtered(vec![FilterType::Nodelete as i32, 77]));
    client.watch(filtered(vec![FilterType::Noput as i32, FilterType::Nodelete as i32]));
    harness.put("a", "1");
    harness.delete("a");
    harness.apply(&[("a", Some("2")), ("b", None)]);
    assert_eq!(client.shorts(), ["w1@2 PUT a=1", "w0@3 DELETE a", "w0@4 DELETE b", "w1@4 PUT a=2"]);
}

#[test]
fn watch_06_prev_kv_is_the_value_before_and_absent_for_creates() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.watch(WatchCreateRequest { prev_kv: true, ..on("a") });
    client.watch(on("a"));
    harness.put("a", "1");
    harness.put("a", "2");
    harness.delete("a");
    harness.put("a", "3");
    assert_eq!(
        client.shorts(),
        [
            "w0@2 PUT a=1",
            "w1@2 PUT a=1",
            "w0@3 PUT a=2 [was 1]",
            "w1@3 PUT a=2",
            "w0@4 DELETE a [was 2]",
            "w1@4 DELETE a",
            "w0@5 PUT a=3",
            "w1@5 PUT a=3"
        ]
    );
}

#[test]
fn watch_06_prev_kv_is_silently_absent_when_compacted() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.watch(WatchCreateRequest { prev_kv: true, ..on("a") });
    harness.put("a", "1");
    harness.put("a", "2");
    harness.store.compact(3);
    assert_eq!(client.shorts(), ["w0@2 PUT a=1", "w0@3 PUT a=2"]);
}

#[test]
fn watch_08_all_events_of_a_revision_come_in_one_response_in_order() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.watch(on("*"));
    harness.apply(&[("c", Some("1")), ("a", Some("2")), ("b", None)]);
    assert_eq!(client.shorts(), ["w0@2 PUT c=1 PUT a=2 DELETE b"]);
    client.watch(from(2, on("*")));
    assert_eq!(client.shorts(), ["w1@2 PUT c=1 PUT a=2 DELETE b"]);
}

/// Limits responses to 100 bytes above the transport's overhead of 512 KiB.
fn small_responses() -> Harness {
    Harness::with(WatchOptions { max_request_bytes: 100, ..WatchOptions::default() })
}

#[test]
fn watch_08_a_large_revision_is_split_only_for_who_takes_fragments() {
    let harness = small_responses();
    let mut client = harness.stream();
    client.watch(on("*"));
    client.watch(WatchCreateRequest { fragment: true, ..on("*") });
    let value = "x".repeat(200 * 1024);
    harness.apply(&["a", "b", "c", "d", "e"].map(|key| (key, Some(value.as_str()))));
    let shapes: Vec<_> =
        client.drain().iter().map(|r| (r.watch_id, r.events.len(), r.fragment)).collect();
    assert_eq!(shapes, [(0, 5, false), (1, 2, true), (1, 2, true), (1, 1, false)]);
}

#[test]
fn watch_08_one_large_event_and_small_revisions_are_never_fragments() {
    let harness = small_responses();
    let mut client = harness.stream();
    client.watch(WatchCreateRequest { fragment: true, ..on("*") });
    harness.put("a", &"x".repeat(1024 * 1024));
    harness.put("a", "1");
    let shapes: Vec<_> = client.drain().iter().map(|r| (r.events.len(), r.fragment)).collect();
    assert_eq!(shapes, [(1, false), (1, false)]);
}

#[test]
fn watch_08_a_large_backlog_is_cut_between_revisions() {
    let harness = small_responses();
    let value = "x".repeat(100 * 1024);
    for _ in 0..8 {
        harness.apply(&[("a", Some(&value)), ("b", Some(&value))]);
    }
    let mut client = harness.stream();
    client.watch(from(2, on("*")));
    let shapes: Vec<_> = client
        .drain()
        .iter()
        .map(|r| (r.events.len(), r.fragment, r.header.as_ref().unwrap().revision))
        .collect();
    assert_eq!(shapes, [(4, false, 3), (4, false, 5), (4, false, 7), (4, false, 9)]);
}

#[test]
fn watch_08_what_follows_revisions_that_end_a_read_early_is_not_skipped() {
    let harness = Harness::new();
    let megabyte = "x".repeat(1024 * 1024);
    harness.store.commit(&[("a", Some(&megabyte.repeat(3)))]);
    for _ in 0..9 {
        harness.store.commit(&[("a", Some(&megabyte))]);
    }
    harness.store.commit(&[("b", Some("last"))]);
    // As after a restart: all of it is in history only.
    harness.hub.reset(12);
    for fragment in [false, true] {
        let mut client = harness.stream();
        client.watch(WatchCreateRequest { fragment, ..from(2, on("*")) });
        let responses = client.drain();
        let events = responses.iter().flat_map(|response| &response.events);
        let seen: Vec<i64> = events.map(|event| event.kv.as_ref().unwrap().mod_revision).collect();
        assert_eq!(seen, (2..=12).collect::<Vec<i64>>(), "fragment: {fragment}");
        assert_eq!(responses.last().unwrap().header.as_ref().unwrap().revision, 12);
    }
}

#[test]
fn watch_09_a_compacted_start_is_created_and_then_canceled() {
    let harness = Harness::new();
    for value in ["2", "3", "4", "5"] {
        harness.put("a", value);
    }
    harness.store.compact(4);
    let mut client = harness.stream();
    client.create(from(3, on("a")));
    client.create(from(4, on("a")));
    assert_eq!(
        client.shorts(),
        ["w0@5 created", "w1@5 created", "w0@0 canceled compacted=4", "w1@5 PUT a=4 PUT a=5"]
    );
    // Its identifier is taken until the client gives it back, as in etcd.
    client.cancel(0);
    assert_eq!(client.shorts(), ["w0@5 canceled"]);
    client.cancel(0);
    assert_eq!(client.shorts(), Vec::<String>::new());
}

#[test]
fn watch_09_a_watcher_that_fell_behind_is_canceled_by_compaction() {
    let harness = Harness::with_ring(2);
    let mut client = harness.stream();
    client.watch(on("a"));
    client.watch(on("b"));
    for value in ["2", "3", "4", "5", "6"] {
        harness.put("a", value);
    }
    harness.store.compact(5);
    // Which of the watchers missed something is not known any more: both are out.
    let canceled = ["w0@0 canceled compacted=5", "w1@0 canceled compacted=5"];
    assert_eq!(client.shorts(), canceled);
    assert_eq!(harness.hub.stats().slow_watchers, 0);
}

#[test]
fn watch_10_canceling_an_unknown_watcher_gets_no_reply() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.cancel(0);
    client.watch(on("a"));
    client.cancel(1);
    assert_eq!(client.shorts(), Vec::<String>::new());
}

#[test]
fn watch_10_a_canceled_watcher_gets_nothing_that_was_already_found() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.watch(on("a"));
    client.watch(on("a"));
    harness.put("a", "1");
    assert_eq!(super::short(&client.pull().unwrap()), "w0@2 PUT a=1");
    client.cancel(1);
    client.create(WatchCreateRequest { watch_id: 1, ..on("a") });
    assert_eq!(client.shorts(), ["w1@2 canceled", "w1@2 created"]);
}

#[test]
fn watch_11_progress_is_reported_after_all_events_before_it() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.request_progress();
    assert_eq!(client.shorts(), Vec::<String>::new(), "no watchers, no reply");
    client.watch(on("a"));
    client.request_progress();
    assert_eq!(client.shorts(), ["w-1@1"]);
    harness.put("b", "1");
    harness.put("a", "2");
    harness.put("b", "3");
    client.request_progress();
    assert_eq!(client.shorts(), ["w0@3 PUT a=2", "w-1@4"]);
}

#[test]
fn watch_11_no_progress_while_a_watcher_is_unsynced_or_in_the_future() {
    let harness = Harness::new();
    harness.put("a", "2");
    let mut client = harness.stream();
    client.watch(from(2, on("a")));
    client.request_progress();
    assert_eq!(client.shorts(), ["w0@2 PUT a=2"]);
    client.watch(from(4, on("a")));
    client.request_progress();
    assert_eq!(client.shorts(), Vec::<String>::new());
    harness.put("b", "3");
    harness.put("b", "4");
    client.request_progress();
    assert_eq!(client.shorts(), ["w-1@4"]);
}

#[test]
fn watch_11_progress_waits_for_what_is_committed_but_not_published() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.watch(on("a"));
    let entry = harness.store.commit(&[("b", Some("2"))]);
    client.request_progress();
    assert_eq!(client.shorts(), Vec::<String>::new());
    harness.hub.publish(entry);
    assert_eq!(client.shorts(), ["w-1@2"]);
}

#[test]
fn watch_12_the_header_of_a_catch_up_batch_never_runs_ahead_of_its_events() {
    let harness = Harness::with_ring(1);
    for value in 2..=1_500 {
        harness.put("a", &value.to_string());
    }
    let mut client = harness.stream();
    client.watch(from(2, on("a")));
    let responses = client.drain();
    assert_eq!(responses.len(), 2);
    let mut next = 2;
    for response in &responses {
        next += i64::try_from(response.events.len()).unwrap();
        assert_eq!(response.header.as_ref().unwrap().revision, next - 1);
    }
    assert_eq!(next, 1_501);
    assert_eq!(responses[0].events.len(), 1_000);
}

#[test]
fn watch_13_quiet_watchers_that_asked_for_it_are_told_the_progress() {
    let harness = Harness::new();
    let mut client = harness.stream();
    let notified = |key| WatchCreateRequest { progress_notify: true, ..on(key) };
    client.watch(notified("a"));
    client.watch(on("a"));
    client.watch(notified("b"));
    client.watch(from(5, notified("b")));
    harness.put("a", "2");
    assert_eq!(client.shorts(), ["w0@2 PUT a=2", "w1@2 PUT a=2"]);
    client.tick();
    assert_eq!(client.shorts(), ["w2@2"]);
    harness.put("c", "3");
    client.tick();
    assert_eq!(client.shorts(), ["w0@3", "w2@3"]);
    harness.put("c", "4");
    harness.put("c", "5");
    client.tick();
    assert_eq!(client.shorts(), ["w0@5", "w2@5", "w3@5"]);
}

#[test]
fn watch_13_ticks_on_a_stream_that_nobody_pulls_do_not_pile_up() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.watch(WatchCreateRequest { progress_notify: true, ..on("a") });
    (0..100).for_each(|_| client.tick());
    assert_eq!(client.shorts(), ["w0@1"]);
}

#[test]
fn watch_14_watchers_go_on_through_history_after_a_raft_snapshot() {
    let harness = Harness::new();
    let (mut client, mut behind) = (harness.stream(), harness.stream());
    client.watch(on("a"));
    behind.watch(on("a"));
    harness.put("a", "2");
    assert_eq!(client.shorts(), ["w0@2 PUT a=2"]);
    // The snapshot brings revisions that were never published here.
    harness.store.commit(&[("a", Some("3"))]);
    harness.store.commit(&[("b", Some("4"))]);
    harness.hub.reset(4);
    assert_eq!(client.shorts(), ["w0@4 PUT a=3"]);
    harness.put("a", "5");
    assert_eq!(client.shorts(), ["w0@5 PUT a=5"]);
    // The other one had not even seen revision 2, which is compacted now.
    harness.store.compact(4);
    assert_eq!(behind.shorts(), ["w0@0 canceled compacted=4"]);
}

#[test]
fn watch_14_a_raft_snapshot_of_the_same_revision_changes_nothing() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.watch(on("a"));
    harness.hub.reset(1);
    assert_eq!(client.shorts(), Vec::<String>::new());
    harness.put("a", "2");
    assert_eq!(client.shorts(), ["w0@2 PUT a=2"]);
}

#[test]
fn watch_15_only_streams_with_an_interest_are_woken() {
    let harness = Harness::new();
    let mut clients = [harness.stream(), harness.stream(), harness.stream()];
    clients[0].watch(on("a"));
    clients[1].watch(on("b*"));
    for client in &mut clients {
        assert_eq!(client.drain(), []);
        assert!(!client.is_woken());
    }
    harness.apply(&[("bb", Some("1")), ("bc", Some("1"))]);
    assert_eq!([false, true, false], [0, 1, 2].map(|client| clients[client].is_woken()));
    assert_eq!(clients[1].shorts(), ["w0@2 PUT bb=1 PUT bc=1"]);
    clients[1].cancel(0);
    assert_eq!(clients[1].shorts(), ["w0@2 canceled"]);
    harness.put("bb", "2");
    assert!(!clients[1].is_woken());
}

#[test]
fn watch_16_a_watch_created_between_commit_and_publication_sees_an_event_once() {
    let harness = Harness::new();
    let mut client = harness.stream();
    let entry = harness.store.commit(&[("a", Some("2"))]);
    client.create(on("a"));
    client.create(from(2, on("a")));
    harness.hub.publish(entry);
    harness.put("a", "3");
    assert_eq!(
        client.shorts(),
        ["w0@2 created", "w1@2 created", "w1@2 PUT a=2", "w0@3 PUT a=3", "w1@3 PUT a=3"]
    );
}

#[test]
fn watch_18_closing_the_hub_ends_the_streams() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.watch(on("a"));
    assert_eq!(client.drain(), []);
    harness.hub.close();
    assert!(client.is_woken());
    assert_eq!(client.pull(), None);
    assert!(!client.is_woken());
}

#[test]
fn watch_20_a_request_without_content_is_ignored() {
    let harness = Harness::new();
    let mut client = harness.stream();
    client.stream.request(WatchRequest::default());
    assert_eq!(client.shorts(), Vec::<String>::new());
    assert_eq!(client.watch(on("a")), 0);
}

#[test]
fn watch_stats_count_streams_watchers_and_events() {
    let harness = Harness::with_ring(1);
    let mut client = harness.stream();
    client.watch(on("a"));
    client.watch(from(1, on("b")));
    harness.apply(&[("a", Some("2")), ("b", Some("2"))]);
    let stats = harness.hub.stats();
    assert_eq!((stats.streams, stats.watchers, stats.slow_watchers, stats.events), (1, 2, 1, 2));
    client.drain();
    assert_eq!(harness.hub.stats().slow_watchers, 0);
    drop(client);
    let stats = harness.hub.stats();
    assert_eq!((stats.streams, stats.watchers), (0, 0));
}

#[test]
#[should_panic(expected = "revisions are published once, in order")]
fn watch_a_gap_in_publication_panics() {
    let harness = Harness::new();
    harness.store.commit(&[("a", Some("2"))]);
    harness.hub.publish(harness.store.commit(&[("a", Some("3"))]));
}
