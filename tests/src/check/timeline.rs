//! The model: one change history, replayed into the state at every revision.
//!
//! For each key, the timeline holds its key-value after every change, so that the state at any
//! revision is a binary search per key:
//!
//! ```text
//!   key   revision 2          3                 4          5
//!   a     a=1 (version 1)                       deleted
//!   b                         b=7 (version 1)              b=8 (version 2)
//! ```
//!
//! Building it checks what a history must fulfil by itself (ETCD.md REV-01, REV-02, WATCH-06,
//! WATCH-07): no gap between revisions, create_revision and version as etcd counts them, and
//! previous values exactly those of the model.

use std::collections::BTreeMap;

use bytes::Bytes;
use coracle_core::api::mvccpb::event::EventType;
use coracle_core::api::mvccpb::{Event, KeyValue};

use super::{Final, Kind, Violations};

/// The revision of an empty store; the first change makes 2.
const FIRST_REVISION: i64 = 1;

/// The agreed change history, replayed.
pub struct Timeline {
    /// The events of revision `FIRST_REVISION + 1 + index`, in sub-revision order, with prev_kv.
    changes: Vec<Vec<Event>>,
    /// Per key, its state after each of its changes; `None` is a deletion.
    keys: BTreeMap<Bytes, Vec<(i64, Option<KeyValue>)>>,
}

impl Timeline {
    /// Replays `events` (of a watch of all keys from revision 1 with prev_kv).
    ///
    /// # Errors
    /// What is wrong with the first event that cannot follow those before it.
    pub fn replay(events: &[Event]) -> Result<Timeline, String> {
        let mut timeline = Timeline { changes: Vec::new(), keys: BTreeMap::new() };
        for event in events {
            timeline.append(event)?;
        }
        Ok(timeline)
    }

    fn append(&mut self, event: &Event) -> Result<(), String> {
        let kv = event.kv.as_ref().ok_or("an event without key-value")?;
        let revision = kv.mod_revision;
        let last = self.last_revision();
        if revision != last + 1 && (revision != last || revision == FIRST_REVISION) {
            return Err(format!("revision {revision} follows revision {last}"));
        }
        let former = self.value_at(&kv.key, revision - 1).cloned();
        if self
            .keys
            .get(&kv.key)
            .is_some_and(|states| states.last().is_some_and(|s| s.0 == revision))
        {
            return Err(format!("revision {revision} changes {:?} twice", kv.key));
        }
        if event.prev_kv != former {
            return Err(format!(
                "the event at revision {revision} has prev_kv {:?}, the key was {former:?}",
                event.prev_kv
            ));
        }
        let state = if event.r#type() == EventType::Put {
            let create = former.as_ref().map_or(revision, |former| former.create_revision);
            let version = former.as_ref().map_or(0, |former| former.version) + 1;
            if (kv.create_revision, kv.version) != (create, version) {
                return Err(format!(
                    "{kv:?} should have create_revision {create} and version {version}"
                ));
            }
            Some(kv.clone())
        } else {
            if former.is_none() {
                return Err(format!("revision {revision} deletes {:?}, which is missing", kv.key));
            }
            let tombstone =
                KeyValue { key: kv.key.clone(), mod_revision: revision, ..Default::default() };
            if *kv != tombstone {
                return Err(format!("a delete event holds more than its key: {kv:?}"));
            }
            None
        };
        self.keys.entry(kv.key.clone()).or_default().push((revision, state));
        if revision > last {
            self.changes.push(Vec::new());
        }
        if let Some(change) = self.changes.last_mut() {
            change.push(event.clone());
        }
        Ok(())
    }

    /// The newest revision.
    pub fn last_revision(&self) -> i64 {
        FIRST_REVISION + self.changes.len() as i64
    }

    /// The key-value of `key` at `revision`, if it was there.
    pub fn value_at(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        state_at(self.keys.get(key)?, revision)
    }

    /// The key-values of a range at `revision`, in key order.
    pub fn range_at(&self, key: &[u8], range_end: &[u8], revision: i64) -> Vec<&KeyValue> {
        if range_end.is_empty() {
            return self.value_at(key, revision).into_iter().collect();
        }
        self.keys
            .iter()
            .filter(|(candidate, _)| in_range(candidate, key, range_end))
            .filter_map(|(_, states)| state_at(states, revision))
            .collect()
    }

    /// The events of `revision`, in sub-revision order; none for a revision that is not there.
    pub fn events_at(&self, revision: i64) -> &[Event] {
        usize::try_from(revision - FIRST_REVISION - 1)
            .ok()
            .and_then(|index| self.changes.get(index))
            .map_or(&[], Vec::as_slice)
    }

    /// All events from `revision` on.
    pub fn events_from(&self, revision: i64) -> impl Iterator<Item = &Event> {
        let skipped = usize::try_from(revision - FIRST_REVISION - 1).unwrap_or(0);
        self.changes.iter().skip(skipped).flatten()
    }
}

fn state_at(states: &[(i64, Option<KeyValue>)], revision: i64) -> Option<&KeyValue> {
    let after = states.partition_point(|(changed, _)| *changed <= revision);
    states[..after].last()?.1.as_ref()
}

/// Whether `key` lies in the range that `start` and `range_end` name (ETCD.md KV-01).
pub fn in_range(key: &[u8], start: &[u8], range_end: &[u8]) -> bool {
    match range_end {
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < range_end,
    }
}

/// Replays each member's final word and compares them; `None` if there is no history to check by.
pub(super) fn of_finals(finals: &[Final], violations: &mut Violations) -> Option<Timeline> {
    let mut agreed: Option<(Timeline, &Final)> = None;
    for last in finals {
        let timeline = match Timeline::replay(&last.events) {
            Ok(timeline) => timeline,
            Err(detail) => {
                violations.add(Kind::BrokenTimeline, format!("{}: {detail}", last.member));
                continue;
            }
        };
        check_final_state(last, &timeline, violations);
        match &agreed {
            Some((_, first)) if first.events != last.events => {
                violations.add(Kind::MembersDiffer, difference(first, last));
            }
            Some(_) => {}
            None => agreed = Some((timeline, last)),
        }
    }
    if finals.is_empty() {
        violations.add(Kind::BrokenTimeline, "no member told its history");
    }
    agreed.map(|(timeline, _)| timeline)
}

fn check_final_state(last: &Final, timeline: &Timeline, violations: &mut Violations) {
    if last.revision != timeline.last_revision() {
        violations.add(
            Kind::MembersDiffer,
            format!(
                "{} is at revision {}, but its history ends at {}",
                last.member,
                last.revision,
                timeline.last_revision()
            ),
        );
    }
    let expected = timeline.range_at(b"\0", b"\0", last.revision);
    if !expected.iter().copied().eq(&last.kvs) {
        violations.add(
            Kind::MembersDiffer,
            format!("the keys of {} are not those of its own history", last.member),
        );
    }
}

fn difference(first: &Final, other: &Final) -> String {
    let at = first.events.iter().zip(&other.events).position(|(left, right)| left != right);
    match at {
        Some(at) => format!(
            "{} has {:?} where {} has {:?}",
            first.member, first.events[at], other.member, other.events[at]
        ),
        None => format!(
            "{} has {} events, {} has {}",
            first.member,
            first.events.len(),
            other.member,
            other.events.len()
        ),
    }
}
