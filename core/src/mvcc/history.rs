//! History for watchers: the events of past revisions.

use super::revision::Change;
use super::store::{Store, change_of, decode};
use crate::api::mvccpb::event::EventType;
use crate::api::mvccpb::{Event, KeyValue};
use crate::backend::{Bucket, Pages};
use crate::error::{Answer, Error};
use crate::limits::WATCH_BATCH_BYTES;

/// Everything that one revision changed, in order.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionEvents {
    pub revision: i64,
    /// Puts and deletes without their previous key-values.
    pub events: Vec<Event>,
}

impl Store {
    /// The events of the revisions from `from` on, oldest first: of at most `max_revisions`, and
    /// of no more than make up about [`WATCH_BATCH_BYTES`].
    ///
    /// Fails with [`Error::Compacted`] if `from` is, or becomes meanwhile, older than the compact
    /// revision.
    pub fn events(&self, from: i64, max_revisions: usize) -> Answer<Vec<RevisionEvents>> {
        let current = self.current_revision();
        let mut revisions: Vec<RevisionEvents> = Vec::new();
        let mut bytes = 0;
        let mut pages = Pages::new(Bucket::Key, Change::put(from.max(0), 0).stored_key());
        'pages: loop {
            let page = pages.next(&*self.backend)?;
            if page.is_empty() {
                break;
            }
            for (key, stored) in page {
                let change = change_of(&key)?;
                // A transaction that is under way is not history yet.
                if change.main > current {
                    break 'pages;
                }
                let length = stored.len();
                let event = event_of(change, decode(change, stored)?);
                let full = revisions.len() >= max_revisions || bytes >= WATCH_BATCH_BYTES;
                match revisions.last_mut().filter(|last| last.revision == change.main) {
                    Some(last) => last.events.push(event),
                    None if full => break 'pages,
                    None => revisions
                        .push(RevisionEvents { revision: change.main, events: vec![event] }),
                }
                bytes += length;
            }
        }
        // Asked at the end: what was read may have been removed piece by piece.
        if from < self.compact_revision() {
            return Ok(Err(Error::Compacted));
        }
        Ok(Ok(revisions))
    }
}

fn event_of(change: Change, kv: KeyValue) -> Event {
    let (r#type, kv) = if change.is_tombstone() {
        (EventType::Delete, KeyValue { mod_revision: change.main, ..kv })
    } else {
        (EventType::Put, kv)
    };
    Event { r#type: r#type as i32, kv: Some(kv), prev_kv: None }
}
