//! Watch requests: creation in free rounds, control once everything has settled.

use super::*;

/// Streams with watchers on them.
pub const STREAMS: usize = 3;
/// Watchers on one stream above which it is reset.
const CROWDED: usize = 8;
/// Watch ids that the generator picks itself.
const OWN_IDS: [i64; 4] = [1, 5, 77, -3];
/// A filter that etcd does not define, and ignores.
const UNKNOWN_FILTER: i32 = 5;

impl Generator {
    pub(super) fn watch_create(&mut self, model: &Model) -> Operation {
        let stream = self.dice.below(STREAMS);
        let mut request = self.watch_request(model);
        let taken = model.watchers.iter().find(|watcher| watcher.0 == stream);
        if let (true, Some(watcher)) = (self.dice.percent(15), taken) {
            request.watch_id = watcher.1;
        }
        Operation::WatchCreate { stream, request }
    }

    /// A request for a watcher of any kind.
    pub fn watch_request(&mut self, model: &Model) -> WatchCreateRequest {
        let (key, range_end) = self.bounds();
        let mut filters = Vec::new();
        if self.dice.percent(25) {
            filters.push(watch_create_request::FilterType::Noput as i32);
        }
        if self.dice.percent(25) {
            filters.push(watch_create_request::FilterType::Nodelete as i32);
        }
        if self.dice.percent(3) {
            filters.push(UNKNOWN_FILTER);
        }
        let start_revision = match self.dice.weighted(&[25, 22, 24, 12, 17]) {
            0 => 0,
            1 => self.dice.between(model.compacted.max(1), model.revision),
            2 => self.dice.between(1, model.compacted.max(1)),
            3 => model.revision + self.dice.between(1, 30),
            _ => -self.dice.between(1, 5),
        };
        let watch_id = match self.dice.percent(60) {
            true => 0,
            false => *self.dice.pick(&OWN_IDS),
        };
        WatchCreateRequest {
            key: if self.dice.percent(3) { Bytes::new() } else { key },
            range_end,
            start_revision,
            progress_notify: self.dice.percent(20),
            filters,
            prev_kv: self.dice.percent(40),
            watch_id,
            fragment: self.dice.percent(25),
        }
    }

    /// Progress requests, cancellations, resets. Progress first: it needs a stream on which no
    /// watcher waits for a future revision.
    pub(super) fn queue_watch_control(&mut self, model: &Model) {
        for stream in 0..STREAMS {
            let watchers: Vec<i64> = model
                .watchers
                .iter()
                .filter(|watcher| watcher.0 == stream)
                .map(|watcher| watcher.1)
                .collect();
            if watchers.is_empty() {
                continue;
            }
            if !model.waits_for_future(stream) && self.dice.percent(60) {
                self.queue.push_back(Operation::WatchProgress { stream });
            }
            if watchers.len() > CROWDED || self.dice.percent(10) {
                self.queue.push_back(Operation::WatchReset { stream });
                continue;
            }
            for watch_id in &watchers {
                if self.dice.percent(25) {
                    self.queue.push_back(Operation::WatchCancel { stream, watch_id: *watch_id });
                }
            }
            if self.dice.percent(10) {
                self.queue.push_back(Operation::WatchCancel { stream, watch_id: 4_711 });
            }
        }
    }
}
