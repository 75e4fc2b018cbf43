//! What one pass over some revisions found for a stream's watchers, until it is pulled.
//!
//! A batch holds the revisions once and, for each watcher, the positions of its events in them.
//! Responses are made one at a time, when the consumer asks for the next: previous values are read
//! then, and nothing is copied for a consumer that does not come.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::watcher::Watcher;
use super::{History, RevisionEvents};
use crate::api::etcdserverpb::{ResponseHeader, WatchResponse};
use crate::api::mvccpb::event::EventType;
use crate::api::mvccpb::{Event, KeyValue};
use crate::error::Fatal;
use crate::limits::{GRPC_OVERHEAD_BYTES, WATCH_BATCH_BYTES};
use prost::Message;

/// What protobuf adds to a message inside a list, in bytes: a tag and a length.
const FRAMING_BYTES: usize = 6;
/// A response without events, in bytes, at most.
const EMPTY_RESPONSE_BYTES: usize = 64;

/// Events of some revisions, to be delivered to some watchers.
#[derive(Default)]
pub(super) struct Batch {
    entries: Vec<Arc<RevisionEvents>>,
    deliveries: VecDeque<Delivery>,
    /// Fragments of the first delivery are out, and more follow.
    fragmented: bool,
    previous: PreviousValues,
}

/// What one watcher gets: one response, or several where it is too large.
struct Delivery {
    /// The watcher, by the stream's own number for it: identifiers are used again.
    serial: u64,
    events: VecDeque<Place>,
    /// All of the watcher's events up to this revision are delivered with the last of these.
    revision: i64,
}

/// The position of an event: the index of its revision, and its own in there.
type Place = (usize, usize);

/// Previous values that several watchers of a stream may ask for; bounded in bytes.
#[derive(Default)]
struct PreviousValues {
    values: BTreeMap<Place, Option<KeyValue>>,
    bytes: usize,
}

impl Batch {
    pub(super) fn new(entries: Vec<Arc<RevisionEvents>>) -> Batch {
        Batch { entries, ..Batch::default() }
    }

    /// Adds what each watcher gets out of the same pass, which covers all up to `revision`.
    pub(super) fn deliver(&mut self, found: BTreeMap<u64, VecDeque<Place>>, revision: i64) {
        let deliveries = found.into_iter();
        self.deliveries.extend(deliveries.map(|(serial, events)| Delivery {
            serial,
            events,
            revision,
        }));
    }

    /// The watcher whose turn it is.
    pub(super) fn next_serial(&self) -> Option<u64> {
        self.deliveries.front().map(|delivery| delivery.serial)
    }

    /// Whether the next response must be the next fragment, with nothing in between: clients join
    /// fragments as they come (Go's drops what it has when another watcher's response intervenes).
    pub(super) fn is_fragmented(&self) -> bool {
        self.fragmented
    }

    /// Drops the delivery whose turn it is: its watcher is gone.
    pub(super) fn skip(&mut self) {
        self.deliveries.pop_front();
        self.fragmented = false;
        self.release();
    }

    /// The next response of `watcher`, whose turn it is. It is cut before it grows beyond
    /// `max_request_bytes` and the transport's overhead: between revisions or, for a watcher that
    /// takes fragments, between any two events.
    pub(super) fn respond(
        &mut self,
        watcher: &Watcher,
        history: &dyn History,
        max_request_bytes: usize,
    ) -> Result<Option<WatchResponse>, Fatal> {
        let Some(mut delivery) = self.deliveries.pop_front() else { return Ok(None) };
        let limit = max_request_bytes + GRPC_OVERHEAD_BYTES;
        let mut size = EMPTY_RESPONSE_BYTES;
        let mut events: Vec<Event> = Vec::new();
        // How many events there were at the last place where the response may be cut.
        let mut cut = 0;
        while let Some(&place) = delivery.events.get(events.len()) {
            let event = self.event(place, watcher, history)?;
            size += event.encoded_len() + FRAMING_BYTES;
            let new_revision = events.last().is_some_and(|last| revision(last) != revision(&event));
            if watcher.fragment || new_revision {
                cut = events.len();
            }
            if size >= limit && cut > 0 {
                events.truncate(cut);
                break;
            }
            events.push(event);
        }
        delivery.events.drain(..events.len());
        let more = !delivery.events.is_empty();
        let covered = match events.last() {
            Some(last) if more && !watcher.fragment => revision(last),
            _ => delivery.revision,
        };
        if more {
            self.deliveries.push_front(delivery);
        }
        self.fragmented = more && watcher.fragment;
        let fragment = self.fragmented;
        self.release();
        Ok(Some(WatchResponse {
            header: Some(ResponseHeader { revision: covered, ..ResponseHeader::default() }),
            watch_id: watcher.id,
            fragment,
            events,
            ..WatchResponse::default()
        }))
    }

    fn event(
        &mut self,
        place: Place,
        watcher: &Watcher,
        history: &dyn History,
    ) -> Result<Event, Fatal> {
        let event = &self.entries[place.0].events[place.1];
        let prev_kv =
            if watcher.prev_kv { self.previous.read(place, event, history)? } else { None };
        Ok(Event { prev_kv, ..event.clone() })
    }

    /// Frees the revisions once everything is delivered.
    fn release(&mut self) {
        if self.deliveries.is_empty() {
            *self = Batch::default();
        }
    }
}

impl PreviousValues {
    /// What the key of `event` was before it (WATCH-06): nothing if it was created, or if that is
    /// compacted.
    fn read(
        &mut self,
        place: Place,
        event: &Event,
        history: &dyn History,
    ) -> Result<Option<KeyValue>, Fatal> {
        let Some(kv) = &event.kv else { return Ok(None) };
        if event.r#type() == EventType::Put && kv.create_revision == kv.mod_revision {
            return Ok(None);
        }
        if let Some(known) = self.values.get(&place) {
            return Ok(known.clone());
        }
        let value = history.value_at(&kv.key, kv.mod_revision - 1)?;
        let bytes = value.as_ref().map_or(0, |kv| kv.key.len() + kv.value.len());
        if self.bytes + bytes <= WATCH_BATCH_BYTES {
            self.bytes += bytes;
            self.values.insert(place, value.clone());
        }
        Ok(value)
    }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}
