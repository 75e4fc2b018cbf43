//! The history checker, checked: correct histories pass, and each planted fault is found.
//!
//! [`Scribe`] is a tiny sequential store that writes a correct history of clients that seem to
//! run at once: each operation takes effect at its own instant and begins and ends around it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use coracle_core::api::mvccpb::event::EventType;
use coracle_core::api::mvccpb::{Event, KeyValue};
use coracle_tests::check::{
    Answer, Final, Guard, History, Kind, Operation, Outcome, Request, Timeline, WatchLog,
    WatchResponse, Write, check, in_range,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const KEYS: usize = 4;
const OPERATIONS: usize = 300;

struct Scribe {
    random: StdRng,
    revision: i64,
    state: BTreeMap<Bytes, KeyValue>,
    events: Vec<Event>,
    operations: Vec<Operation>,
}

impl Scribe {
    /// A correct history of random operations.
    fn history(seed: u64) -> History {
        let mut scribe = Scribe {
            random: StdRng::seed_from_u64(seed),
            revision: 1,
            state: BTreeMap::new(),
            events: Vec::new(),
            operations: Vec::new(),
        };
        for number in 0..OPERATIONS {
            scribe.step(number);
        }
        scribe.finish()
    }

    fn step(&mut self, number: usize) {
        let request = self.request(number);
        let instant = Duration::from_millis(1000 + 10 * number as u64);
        let started = instant - Duration::from_millis(self.random.random_range(1..40));
        let ended = instant + Duration::from_millis(self.random.random_range(1..40));
        let is_unknown = self.random.random_ratio(1, 10);
        let outcome = if is_unknown {
            if self.random.random_bool(0.5) {
                self.perform(&request);
            }
            Outcome::Unknown
        } else {
            self.perform(&request)
        };
        let process = Some(number as u64 % 3);
        let client = format!("c{}", number % 5);
        self.operations.push(Operation { client, process, request, started, ended, outcome });
    }

    fn request(&mut self, number: usize) -> Request {
        let key = self.key();
        let put = Write::Put { key: key.clone(), value: format!("value {number}").into() };
        let delete = Write::Delete { key: key.clone(), range_end: Bytes::new() };
        let current = self.state.get(&key).map_or(0, |kv| kv.mod_revision);
        match self.random.random_range(0..10) {
            0..=3 => Request::Write { guard: None, writes: vec![put] },
            4 => Request::Write { guard: None, writes: vec![delete] },
            5 => {
                let mod_revision = current - i64::from(self.random.random_bool(0.3));
                Request::Write { guard: Some(Guard { key, mod_revision }), writes: vec![put] }
            }
            6 => {
                let value = format!("other value {number}").into();
                let other = Write::Put { key: "pair".into(), value };
                Request::Write { guard: None, writes: vec![put, other] }
            }
            7 => Request::Read { key, range_end: Bytes::new(), serializable: false },
            8 => Request::Read { key, range_end: Bytes::new(), serializable: true },
            _ => Request::Read {
                key: Bytes::from_static(b"\0"),
                range_end: Bytes::from_static(b"\0"),
                serializable: false,
            },
        }
    }

    fn key(&mut self) -> Bytes {
        format!("k{}", self.random.random_range(0..KEYS)).into()
    }

    fn perform(&mut self, request: &Request) -> Outcome {
        let answer = match request {
            Request::Read { key, range_end, .. } => {
                let kvs: Vec<KeyValue> = self.range(key, range_end);
                Answer::Read { count: kvs.len() as i64, kvs }
            }
            Request::Write { guard: Some(guard), .. } if !self.holds(guard) => {
                Answer::GuardFailed { current: self.state.get(&guard.key).cloned() }
            }
            Request::Write { writes, .. } => Answer::Written { previous: self.write(writes) },
        };
        Outcome::Answered { revision: self.revision, answer }
    }

    fn holds(&self, guard: &Guard) -> bool {
        self.state.get(&guard.key).map_or(0, |kv| kv.mod_revision) == guard.mod_revision
    }

    fn range(&self, key: &[u8], range_end: &[u8]) -> Vec<KeyValue> {
        self.state.values().filter(|kv| in_range(&kv.key, key, range_end)).cloned().collect()
    }

    fn write(&mut self, writes: &[Write]) -> Vec<Vec<KeyValue>> {
        let revision = self.revision + 1;
        let mut previous = Vec::new();
        for write in writes {
            let replaced = match write {
                Write::Put { key, value } => {
                    let replaced = self.range(key, b"");
                    self.put(revision, key, value);
                    replaced
                }
                Write::Delete { key, range_end } => {
                    let deleted = self.range(key, range_end);
                    for kv in &deleted {
                        self.delete(revision, &kv.key);
                    }
                    deleted
                }
            };
            previous.push(replaced);
        }
        if self.events.last().is_some_and(|event| revision_of(event) == revision) {
            self.revision = revision;
        }
        previous
    }

    fn put(&mut self, revision: i64, key: &Bytes, value: &Bytes) {
        let former = self.state.get(key).cloned();
        let kv = KeyValue {
            key: key.clone(),
            value: value.clone(),
            create_revision: former.as_ref().map_or(revision, |former| former.create_revision),
            mod_revision: revision,
            version: former.as_ref().map_or(0, |former| former.version) + 1,
            lease: 0,
        };
        self.state.insert(key.clone(), kv.clone());
        let r#type = EventType::Put as i32;
        self.events.push(Event { r#type, kv: Some(kv), prev_kv: former });
    }

    fn delete(&mut self, revision: i64, key: &Bytes) {
        let former = self.state.remove(key);
        let kv = KeyValue { key: key.clone(), mod_revision: revision, ..Default::default() };
        let r#type = EventType::Delete as i32;
        self.events.push(Event { r#type, kv: Some(kv), prev_kv: former });
    }

    fn finish(mut self) -> History {
        let watches = vec![
            self.watch("all", b"\0", b"\0", 2, true),
            self.watch("one key", b"k1", b"", 2, false),
            self.watch("late", b"k", b"l", 50, true),
        ];
        let last = |member: &str| Final {
            member: member.to_string(),
            revision: self.revision,
            events: self.events.clone(),
            kvs: self.state.values().cloned().collect(),
        };
        let finals = vec![last("n1"), last("n2"), last("n3")];
        History { operations: self.operations, watches, finals }
    }

    /// A watcher that got the events in random batches of whole revisions, and some progress.
    fn watch(
        &mut self,
        name: &str,
        key: &'static [u8],
        range_end: &'static [u8],
        start_revision: i64,
        prev_kv: bool,
    ) -> WatchLog {
        let mut log = WatchLog {
            name: name.to_string(),
            key: Bytes::from_static(key),
            range_end: Bytes::from_static(range_end),
            start_revision,
            prev_kv,
            complete_through: self.revision,
            ..Default::default()
        };
        // Long after all operations: when an event came is looked at in a test of its own.
        let received = Duration::from_secs(3600);
        let mut batch: Vec<Event> = Vec::new();
        let events = self.events.iter().filter(|event| {
            revision_of(event) >= start_revision
                && in_range(&event.kv.as_ref().unwrap().key, key, range_end)
        });
        for event in events {
            let revision = revision_of(event);
            let newest = batch.last().map_or(0, revision_of);
            if revision > newest && !batch.is_empty() && self.random.random_bool(0.5) {
                let events = std::mem::take(&mut batch);
                let connection = log.reconnects;
                let response =
                    WatchResponse { received, connection, header_revision: newest, events };
                log.responses.push(response.clone());
                if self.random.random_bool(0.2) {
                    let header_revision = revision - 1;
                    let events = Vec::new();
                    log.responses.push(WatchResponse { header_revision, events, ..response });
                }
                log.reconnects += usize::from(self.random.random_bool(0.1));
            }
            let mut event = event.clone();
            event.prev_kv = event.prev_kv.filter(|_| prev_kv);
            batch.push(event);
        }
        let header_revision = self.revision;
        let connection = log.reconnects;
        log.responses.push(WatchResponse { received, connection, header_revision, events: batch });
        log
    }
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().unwrap().mod_revision
}

/// Plants a fault into a correct history and returns what the checker says of it.
fn kinds_after(plant: impl FnOnce(&mut History)) -> Vec<Kind> {
    let mut history = Scribe::history(7);
    plant(&mut history);
    match check(&history) {
        Ok(report) => panic!("the planted fault was not found: {report}"),
        Err(violations) => violations.iter().map(|violation| violation.kind).collect(),
    }
}

#[track_caller]
fn assert_found(kind: Kind, plant: impl FnOnce(&mut History)) {
    let kinds = kinds_after(plant);
    assert!(kinds.contains(&kind), "{kind:?} is not among {kinds:?}");
}

/// The first acknowledged operation from `from` on whose answer `accepts`.
fn find(
    history: &mut History,
    from: usize,
    accepts: impl Fn(&Request, &Answer) -> bool,
) -> &mut Operation {
    history.operations[from..]
        .iter_mut()
        .find(|operation| match &operation.outcome {
            Outcome::Answered { answer, .. } => accepts(&operation.request, answer),
            _ => false,
        })
        .unwrap()
}

fn is_put(request: &Request, answer: &Answer) -> bool {
    let is_put = |write: &Write| matches!(write, Write::Put { .. });
    matches!(answer, Answer::Written { .. })
        && matches!(request, Request::Write { guard: None, writes } if writes.iter().all(is_put))
}

fn is_read_of_all(request: &Request, _: &Answer) -> bool {
    matches!(request, Request::Read { range_end, .. } if !range_end.is_empty())
}

fn revision_answered(operation: &mut Operation) -> &mut i64 {
    match &mut operation.outcome {
        Outcome::Answered { revision, .. } => revision,
        _ => unreachable!("find() returns answered operations"),
    }
}

/// The watch of all keys.
fn watch(history: &mut History) -> &mut WatchLog {
    &mut history.watches[0]
}

/// Index of a response with more than `count` events, not the first one.
fn long_response(log: &WatchLog, count: usize) -> usize {
    1 + log.responses[1..].iter().position(|response| response.events.len() > count).unwrap()
}

#[test]
fn correct_histories_pass() {
    for seed in 0..200 {
        let history = Scribe::history(seed);
        let report = check(&history).unwrap_or_else(|violations| {
            let lines: Vec<String> = violations.iter().map(ToString::to_string).collect();
            panic!("seed {seed}:\n{}", lines.join("\n"));
        });
        assert!(report.acknowledged_writes > 50, "{report}");
        assert!(report.unknown_writes_found > 0, "{report}");
        assert!(report.linearizable_reads > 20 && report.serializable_reads > 5, "{report}");
        assert!(report.watch_events > 100 && report.watch_progress > 0, "{report}");
    }
}

#[test]
fn an_empty_store_passes() {
    let last = Final { member: "n1".to_string(), revision: 1, ..Default::default() };
    let history = History { finals: vec![last], ..Default::default() };
    assert_eq!(check(&history).unwrap().revisions, 1);
}

#[test]
fn a_history_without_a_final_word_is_refused() {
    assert_found(Kind::BrokenTimeline, |history| history.finals.clear());
}

#[test]
fn lost_write_at_the_end() {
    // The newest write vanishes everywhere, as after a crash that forgot it.
    assert_found(Kind::LostWrite, |history| {
        let newest = history.finals[0].revision;
        for last in &mut history.finals {
            last.events.retain(|event| revision_of(event) < newest);
            last.revision = newest - 1;
            let timeline = Timeline::replay(&last.events).unwrap();
            last.kvs = timeline.range_at(b"\0", b"\0", newest - 1).into_iter().cloned().collect();
        }
        for log in &mut history.watches {
            log.complete_through = newest - 1;
            for response in &mut log.responses {
                response.events.retain(|event| revision_of(event) < newest);
            }
        }
        let newest_writer = Operation {
            client: "c9".to_string(),
            process: None,
            request: Request::Write {
                guard: None,
                writes: vec![Write::Put { key: "k0".into(), value: "vanished".into() }],
            },
            started: Duration::from_secs(100),
            ended: Duration::from_secs(101),
            outcome: Outcome::Answered {
                revision: newest,
                answer: Answer::Written { previous: vec![Vec::new()] },
            },
        };
        history.operations.push(newest_writer);
    });
}

#[test]
fn lost_write_in_the_middle() {
    // An acknowledged put is not what the history holds at its revision.
    assert_found(Kind::LostWrite, |history| {
        let operation = find(history, 100, is_put);
        if let Request::Write { writes, .. } = &mut operation.request
            && let Write::Put { value, .. } = &mut writes[0]
        {
            *value = "another value".into();
        }
    });
}

#[test]
fn write_acknowledged_twice_at_one_revision() {
    assert_found(Kind::TwoWriters, |history| {
        let operation = find(history, 100, is_put).clone();
        history.operations.push(operation);
    });
}

#[test]
fn write_that_nobody_asked_for() {
    assert_found(Kind::PhantomWrite, |history| {
        find(history, 100, is_put).outcome = Outcome::Refused;
    });
}

#[test]
fn write_of_unknown_outcome_carried_out_twice() {
    // The same put took effect at two revisions: a retry that was not idempotent.
    assert_found(Kind::PhantomWrite, |history| {
        let operation = find(history, 100, is_put);
        operation.outcome = Outcome::Unknown;
        let repeated = operation.request.clone();
        let other = find(history, 150, is_put);
        other.outcome = Outcome::Unknown;
        other.request = repeated;
    });
}

#[test]
fn stale_read() {
    // The read began after a later write had been acknowledged, yet shows the state before it.
    assert_found(Kind::StaleRead, |history| {
        let read = find(history, 100, is_read_of_all);
        let length = read.ended - read.started;
        read.started += Duration::from_millis(500);
        read.ended = read.started + length;
    });
}

#[test]
fn serializable_read_may_be_stale_but_not_on_the_same_process_as_before() {
    let is_serializable =
        |request: &Request, _: &Answer| matches!(request, Request::Read { serializable: true, .. });
    let mut history = Scribe::history(7);
    let read = find(&mut history, 100, is_serializable);
    read.started += Duration::from_millis(500);
    read.ended += Duration::from_millis(500);
    read.process = Some(99);
    check(&history).unwrap();

    assert_found(Kind::SerializableWentBack, |history| {
        let read = find(history, 100, is_serializable);
        read.started += Duration::from_millis(500);
        read.ended += Duration::from_millis(500);
    });
}

#[test]
fn revision_going_backwards() {
    assert_found(Kind::RevisionWentBack, |history| {
        let write = find(history, 100, is_put);
        write.started += Duration::from_millis(500);
        write.ended += Duration::from_millis(500);
    });
}

#[test]
fn change_seen_before_it_was_asked_for() {
    assert_found(Kind::SeenBeforeWritten, |history| {
        let response = &mut watch(history).responses[20];
        response.received = Duration::from_millis(1);
    });
}

#[test]
fn answer_from_a_revision_that_is_gone() {
    assert_found(Kind::UnknownRevision, |history| {
        let read = find(history, 100, is_read_of_all);
        *revision_answered(read) = 1_000_000;
    });
}

#[test]
fn wrong_value_in_a_read() {
    assert_found(Kind::WrongAnswer, |history| {
        let read = find(history, 100, is_read_of_all);
        if let Outcome::Answered { answer: Answer::Read { kvs, .. }, .. } = &mut read.outcome {
            kvs[0].value = "wrong".into();
        }
    });
}

#[test]
fn read_that_is_not_atomic() {
    // All keys at their revision except one, which is from an earlier one.
    assert_found(Kind::WrongAnswer, |history| {
        let read = find(history, 150, is_read_of_all);
        if let Outcome::Answered { answer: Answer::Read { kvs, count }, .. } = &mut read.outcome {
            kvs.remove(0);
            *count -= 1;
        }
    });
}

#[test]
fn wrong_previous_value_of_a_put() {
    assert_found(Kind::WrongAnswer, |history| {
        let put = find(history, 100, is_put);
        if let Outcome::Answered { answer: Answer::Written { previous }, .. } = &mut put.outcome {
            previous[0].clear();
        }
    });
}

#[test]
fn guard_that_should_have_held() {
    assert_found(Kind::WrongAnswer, |history| {
        let operation = find(history, 50, |_, answer| {
            matches!(answer, Answer::GuardFailed { current: Some(_) })
        });
        if let (
            Request::Write { guard: Some(guard), .. },
            Outcome::Answered { answer: Answer::GuardFailed { current: Some(current) }, .. },
        ) = (&mut operation.request, &operation.outcome)
        {
            guard.mod_revision = current.mod_revision;
        }
    });
}

#[test]
fn members_that_differ() {
    assert_found(Kind::MembersDiffer, |history| {
        let Final { events, kvs, .. } = &mut history.finals[1];
        let event =
            events.iter_mut().find(|event| revision_of(event) == kvs[0].mod_revision).unwrap();
        kvs[0].value = "only here".into();
        event.kv = Some(kvs[0].clone());
    });
    assert_found(Kind::MembersDiffer, |history| {
        history.finals[2].kvs.pop();
    });
}

#[test]
fn history_with_a_gap() {
    assert_found(Kind::BrokenTimeline, |history| {
        history.finals[0].events.remove(50);
    });
}

#[test]
fn duplicated_event() {
    assert_found(Kind::DuplicateEvent, |history| {
        let log = watch(history);
        let repeated = log.responses[10].clone();
        log.responses.insert(11, repeated);
    });
}

#[test]
fn event_repeated_after_a_reconnect() {
    assert_found(Kind::DuplicateEvent, |history| {
        let log = watch(history);
        let at = log.responses.windows(2).position(|pair| pair[0].connection != pair[1].connection);
        let at = at.unwrap();
        let mut repeated = log.responses[at].clone();
        repeated.connection += 1;
        log.responses.insert(at + 1, repeated);
    });
}

#[test]
fn missing_event() {
    assert_found(Kind::MissingEvent, |history| {
        let log = watch(history);
        let at = long_response(log, 1);
        log.responses[at].events.remove(0);
    });
}

#[test]
fn missing_last_event() {
    assert_found(Kind::MissingEvent, |history| {
        watch(history).responses.last_mut().unwrap().events.pop();
    });
}

#[test]
fn progress_before_the_event() {
    assert_found(Kind::MissingEvent, |history| {
        let log = watch(history);
        let mut progress = log.responses[10].clone();
        progress.events.clear();
        log.responses.insert(10, progress);
    });
}

#[test]
fn reordered_events() {
    assert_found(Kind::ReorderedEvent, |history| {
        let log = watch(history);
        let at = long_response(log, 1);
        log.responses[at].events.reverse();
    });
}

#[test]
fn revision_in_two_responses() {
    assert_found(Kind::SplitRevision, |history| {
        let log = watch(history);
        let at = log.responses.iter().position(|response| {
            response.events.len() > 1
                && revision_of(&response.events[0]) == revision_of(&response.events[1])
        });
        let at = at.unwrap();
        let mut second = log.responses[at].clone();
        second.events.remove(0);
        log.responses[at].events.truncate(1);
        log.responses.insert(at + 1, second);
    });
}

#[test]
fn wrong_value_in_an_event() {
    assert_found(Kind::WrongEvent, |history| {
        let event = &mut watch(history).responses[10].events[0];
        event.kv.as_mut().unwrap().value = "wrong".into();
    });
}

#[test]
fn event_that_never_happened() {
    assert_found(Kind::WrongEvent, |history| {
        let event = &mut watch(history).responses[10].events[0];
        event.kv.as_mut().unwrap().key = "no such key".into();
    });
}

#[test]
fn wrong_prev_kv() {
    assert_found(Kind::WrongPrevKv, |history| {
        let events = watch(history).responses.iter_mut().flat_map(|response| &mut response.events);
        let event = events.skip(20).find(|event| event.prev_kv.is_some()).unwrap();
        event.prev_kv.as_mut().unwrap().value = "wrong".into();
    });
}

#[test]
fn header_older_than_its_events() {
    assert_found(Kind::WrongWatchHeader, |history| {
        watch(history).responses[10].header_revision = 3;
    });
}
