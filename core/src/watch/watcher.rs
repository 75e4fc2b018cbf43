//! One watcher: what it wants, and how far it has come.

use super::key_range::KeyRange;
use crate::api::etcdserverpb::WatchCreateRequest;
use crate::api::etcdserverpb::watch_create_request::FilterType;
use crate::api::mvccpb::Event;
use crate::api::mvccpb::event::EventType;

/// A watcher of a stream. Its cursor is the stream's while it is synced.
pub(super) struct Watcher {
    /// The identifier that the client knows.
    pub(super) id: i64,
    pub(super) range: KeyRange,
    /// The first revision that it may see. While it is unsynced: the next one it has to see.
    pub(super) next: i64,
    /// Whether it sees what the stream's pass over the ring sees.
    pub(super) synced: bool,
    /// No progress is reported below this revision (WATCH-03, etcd #20221).
    pub(super) progress_floor: i64,
    pub(super) progress_notify: bool,
    /// No event was sent since the last tick of the progress timer.
    pub(super) quiet: bool,
    pub(super) prev_kv: bool,
    pub(super) fragment: bool,
    no_put: bool,
    no_delete: bool,
}

impl Watcher {
    /// The watcher of a request, created when the store was at revision `current`.
    pub(super) fn new(
        id: i64,
        range: KeyRange,
        request: &WatchCreateRequest,
        current: i64,
    ) -> Watcher {
        let filtered = |kind: FilterType| request.filters.contains(&(kind as i32));
        let start = request.start_revision;
        Watcher {
            id,
            range,
            next: if start == 0 { current + 1 } else { start },
            synced: false,
            progress_floor: if start == 0 { current } else { start },
            progress_notify: request.progress_notify,
            quiet: true,
            prev_kv: request.prev_kv,
            fragment: request.fragment,
            no_put: filtered(FilterType::Noput),
            no_delete: filtered(FilterType::Nodelete),
        }
    }

    /// Whether no filter drops `event`; its key is not looked at.
    pub(super) fn passes(&self, event: &Event) -> bool {
        match event.r#type() {
            EventType::Put => !self.no_put,
            EventType::Delete => !self.no_delete,
        }
    }
}
