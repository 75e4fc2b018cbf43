//! Writing: one transaction at a time, at one new revision.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use bytes::Bytes;
use prost::Message;

use super::index::Ended;
use super::key_range::KeyRange;
use super::range::View;
use super::revision::Change;
use super::store::Store;
use crate::api::mvccpb::event::EventType;
use crate::api::mvccpb::{Event, KeyValue};
use crate::backend::Bucket;
use crate::limits::RANGE_SLICE_KEYS;

/// A write transaction: sees its own changes; others see them once it commits.
///
/// There is no way back: check everything that may refuse the request before the first change. A
/// transaction that is dropped with changes in it stops the backend from ever storing them.
pub struct WriteTxn<'a> {
    store: &'a Store,
    _writer: MutexGuard<'a, ()>,
    begin: i64,
    events: Vec<Event>,
}

/// What a transaction changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Committed {
    /// The store's revision after the transaction; the one before if nothing changed.
    pub revision: i64,
    /// The changes in their order; `mod_revision` is `revision` in all of them.
    pub events: Vec<Event>,
}

/// A key whose life a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    pub key: Bytes,
    /// The lease that it was attached to; 0 if none.
    pub lease: i64,
}

impl<'a> WriteTxn<'a> {
    pub(super) fn begin(store: &'a Store) -> WriteTxn<'a> {
        let writer = store.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = store.current_revision();
        WriteTxn { store, _writer: writer, begin, events: Vec::new() }
    }

    /// The revision that a response inside the transaction reports: the one before it, or the
    /// new one as soon as there is a change.
    pub fn revision(&self) -> i64 {
        self.begin + i64::from(!self.events.is_empty())
    }

    /// The state with the transaction's changes so far.
    pub fn view(&self) -> View<'a> {
        View { store: self.store, revision: self.revision() }
    }

    /// Sets `key` to `value`, attached to `lease` (0: none). Returns the lease it was attached to
    /// before, 0 if none.
    pub fn put(&mut self, key: Bytes, value: Bytes, lease: i64) -> i64 {
        let main = self.begin + 1;
        let change = Change::put(main, self.next_sub());
        let (life, previous) = self.store.index_mut().put(&key, change, lease);
        let kv = KeyValue {
            key,
            create_revision: life.created,
            mod_revision: main,
            version: life.version,
            value,
            lease,
        };
        let kv = self.write(change, &kv);
        self.events.push(Event { r#type: EventType::Put as i32, kv: Some(kv), prev_kv: None });
        previous
    }

    /// Ends the life of every key in `range`; returns them in key order.
    pub fn delete_range(&mut self, range: &KeyRange<'_>) -> Vec<Deleted> {
        let main = self.begin + 1;
        let mut victims = Vec::new();
        let mut after: Option<Box<[u8]>> = None;
        loop {
            let sub = self.next_sub();
            let (deleted, last) = match *range {
                KeyRange::Key(key) => (self.delete_key(key, Change::tombstone(main, sub)), None),
                _ => {
                    let tombstone = |n: usize| Change::tombstone(main, sub + n as u32);
                    let after = after.as_deref();
                    self.store.index_mut().delete(range, after, RANGE_SLICE_KEYS, tombstone)
                }
            };
            for (key, change, lease) in deleted {
                let kv = KeyValue { key: Bytes::from(key), ..Default::default() };
                // Stored with the key alone, told with the revision (as etcd does).
                let kv = KeyValue { mod_revision: main, ..self.write(change, &kv) };
                victims.push(Deleted { key: kv.key.clone(), lease });
                let r#type = EventType::Delete as i32;
                self.events.push(Event { r#type, kv: Some(kv), prev_kv: None });
            }
            after = last;
            if after.is_none() {
                return victims;
            }
        }
    }

    fn delete_key(&self, key: &[u8], change: Change) -> Vec<Ended> {
        self.store.index_mut().delete(&KeyRange::Key(key), None, 1, |_| change).0
    }

    fn next_sub(&self) -> u32 {
        u32::try_from(self.events.len()).unwrap_or(u32::MAX)
    }

    /// Stores `kv` as the value of `change`; returns it with its bytes in the stored ones, so
    /// that nothing keeps the request alive.
    fn write(&self, change: Change, kv: &KeyValue) -> KeyValue {
        let stored = Bytes::from(kv.encode_to_vec());
        let field = |bytes: &Bytes, end: usize| stored.slice(end - bytes.len()..end);
        // The key is the first field, the value follows the numbers; find both by their ends.
        let key_end = 1 + prost::length_delimiter_len(kv.key.len()) + kv.key.len();
        let lease_length = KeyValue { lease: kv.lease, ..Default::default() }.encoded_len();
        let value_end = stored.len() - lease_length;
        let shared = KeyValue {
            key: if kv.key.is_empty() { Bytes::new() } else { field(&kv.key, key_end) },
            value: if kv.value.is_empty() { Bytes::new() } else { field(&kv.value, value_end) },
            ..*kv
        };
        self.store.backend.put(Bucket::Key, change.stored_key().into(), stored);
        shared
    }

    /// Makes the changes visible to everyone.
    pub fn commit(mut self) -> Committed {
        let committed =
            Committed { revision: self.revision(), events: std::mem::take(&mut self.events) };
        self.store.current.store(committed.revision, Ordering::Release);
        committed
    }
}

impl Drop for WriteTxn<'_> {
    fn drop(&mut self) {
        if !self.events.is_empty() {
            // Half a transaction is in memory now; it must never become durable.
            self.store.backend.fail();
        }
    }
}
