//! One watch stream: its watchers, and the responses that its consumer pulls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::batch::Batch;
use super::catch_up::{CatchUp, Past, read_past};
use super::hub::{Hub, Position, StreamHandle};
use super::interests::Interests;
use super::key_range::KeyRange;
use super::watcher::Watcher;
use crate::api::etcdserverpb::watch_request::RequestUnion;
use crate::api::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse};
use crate::error::{Error, Fatal};
use crate::limits::{
    WATCH_BATCH_BYTES, WATCH_BATCH_EVENTS, WATCH_BATCH_REVISIONS, WATCH_FRAGMENTED_BATCH_BYTES,
    WATCH_STREAM_LAG, WATCH_STREAM_REPLIES,
};

/// The identifier in responses that belong to no watcher, or to all.
const NO_WATCHER: i64 = -1;
/// Passes that one poll makes before it lets other tasks run.
const PASSES_PER_POLL: usize = 8;
/// Up to this many unsynced watchers of one group are asked one by one whether they want an event.
const SMALL_GROUP: usize = 16;

/// A watch stream of one client: requests go in, responses are pulled out.
///
/// Nothing is computed before it is pulled. Of the response headers only the revision is set.
pub struct WatchStream {
    hub: Arc<Hub>,
    handle: StreamHandle,
    /// The next revision that synced watchers have to see.
    cursor: i64,
    watchers: BTreeMap<u64, Watcher>,
    /// Watchers by the identifier that the client knows.
    serials: BTreeMap<i64, u64>,
    /// Identifiers of watchers that a compaction canceled. As in etcd, each stays taken until the
    /// client cancels it, and that is answered.
    compacted_ids: BTreeSet<i64>,
    interests: Interests<u64>,
    catch_up: CatchUp,
    /// Whether unsynced watchers have had their turn, and the ring is next.
    ring_turn: bool,
    batch: Batch,
    /// Replies to requests, and cancellations.
    replies: VecDeque<WatchResponse>,
    /// Progress requests to answer: the revision that each must reach.
    progress_requests: VecDeque<i64>,
    /// Watchers that are due a progress notification.
    progress_due: BTreeSet<u64>,
    next_serial: u64,
    next_watch_id: i64,
}

/// What a pass did.
enum Pass {
    Worked,
    Idle,
    Closed,
}

/// Requests of the client.
impl WatchStream {
    pub(super) fn new(hub: Arc<Hub>, handle: StreamHandle, cursor: i64) -> WatchStream {
        WatchStream {
            hub,
            handle,
            cursor,
            watchers: BTreeMap::new(),
            serials: BTreeMap::new(),
            compacted_ids: BTreeSet::new(),
            interests: Interests::default(),
            catch_up: CatchUp::default(),
            ring_turn: true,
            batch: Batch::default(),
            replies: VecDeque::new(),
            progress_requests: VecDeque::new(),
            progress_due: BTreeSet::new(),
            next_serial: 0,
            next_watch_id: 0,
        }
    }

    /// Takes a request; its reply, if any, comes out of [`WatchStream::next`]. A request without
    /// content is ignored (WATCH-20).
    pub fn request(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.request_progress(),
            None => {}
        }
    }

    /// Answers a request for a watcher that the client may not have. WATCH-17.
    pub fn refuse_create(&mut self, reason: &str) {
        self.refuse(self.hub.history.current_revision(), reason);
    }

    /// Whether so many replies wait that the caller should pull some before it reads another
    /// request: a client that asks without listening must not fill the memory.
    pub fn is_backlogged(&self) -> bool {
        self.replies.len() + self.progress_requests.len() >= WATCH_STREAM_REPLIES
    }

    /// Makes every watcher that asked for it, is synced, and had no event since the last tick due
    /// for a progress notification (WATCH-13).
    pub fn progress_tick(&mut self) {
        let current = self.hub.history.current_revision();
        for (&serial, watcher) in &mut self.watchers {
            let known = watcher.synced && watcher.progress_floor <= current;
            if watcher.progress_notify && watcher.quiet && known {
                self.progress_due.insert(serial);
            }
            watcher.quiet = true;
        }
    }

    fn create(&mut self, request: WatchCreateRequest) {
        let current = self.hub.history.current_revision();
        if request.start_revision < 0 {
            return self.refuse(current, Error::Compacted.message());
        }
        let Some(range) = KeyRange::parse(request.key.clone(), request.range_end.clone()) else {
            return self.refuse(current, "mvcc: watcher range is empty");
        };
        let Some(id) = self.choose_id(request.watch_id) else {
            return self.refuse(current, "mvcc: duplicate watch ID provided on the WatchStream");
        };
        let serial = self.next_serial;
        self.next_serial += 1;
        let mut watcher = Watcher::new(id, range, &request, current);
        self.interests.add(&watcher.range, &serial);
        // From here on, what is published for the watcher is pending. What was published before
        // and is not behind the stream's cursor is still to be seen by all its watchers.
        self.cursor = self.hub.join(&self.handle, &watcher.range);
        watcher.synced = watcher.next >= self.cursor;
        if !watcher.synced {
            self.catch_up.insert(watcher.next, serial);
            self.hub.count_slow(1, 0);
        }
        self.serials.insert(id, serial);
        self.watchers.insert(serial, watcher);
        self.replies.push_back(WatchResponse { created: true, ..reply(current, id) });
    }

    /// The identifier for a new watcher: what the client asked for, or the next free one where it
    /// asked for none (0). `None` if it is taken.
    fn choose_id(&mut self, requested: i64) -> Option<i64> {
        if requested != 0 {
            return (!self.is_taken(requested)).then_some(requested);
        }
        while self.is_taken(self.next_watch_id) {
            self.next_watch_id += 1;
        }
        self.next_watch_id += 1;
        Some(self.next_watch_id - 1)
    }

    fn is_taken(&self, id: i64) -> bool {
        self.serials.contains_key(&id) || self.compacted_ids.contains(&id)
    }

    fn refuse(&mut self, current: i64, reason: &str) {
        self.replies.push_back(WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: reason.to_owned(),
            ..reply(current, NO_WATCHER)
        });
    }

    fn cancel(&mut self, id: i64) {
        // An unknown watcher gets no reply (WATCH-10).
        let serial = self.serials.get(&id).copied();
        if let Some(serial) = serial {
            self.remove(serial);
        }
        if self.compacted_ids.remove(&id) || serial.is_some() {
            let current = self.hub.history.current_revision();
            self.replies.push_back(WatchResponse { canceled: true, ..reply(current, id) });
        }
    }

    fn remove(&mut self, serial: u64) {
        let Some(watcher) = self.watchers.remove(&serial) else { return };
        self.serials.remove(&watcher.id);
        self.interests.remove(&watcher.range, &serial);
        self.hub.leave(&self.handle, &watcher.range);
        self.progress_due.remove(&serial);
        if self.batch.next_serial() == Some(serial) {
            self.batch.skip();
        }
        if !watcher.synced {
            self.catch_up.remove(watcher.next, serial);
            self.hub.count_slow(0, 1);
        }
    }

    /// Answers once everything up to the current revision is out, if all watchers are synced; else
    /// not at all: the client asks again (WATCH-11).
    fn request_progress(&mut self) {
        let current = self.hub.history.current_revision();
        let known = |watcher: &Watcher| watcher.synced && watcher.progress_floor <= current;
        if !self.watchers.is_empty() && self.watchers.values().all(known) {
            self.progress_requests.push_back(current);
        }
    }
}

/// Responses to the client.
impl WatchStream {
    /// The next response; `None` when the hub is closed. Dropping the future loses nothing.
    ///
    /// # Errors
    /// History could not be read: the member must stop.
    pub async fn next(&mut self) -> Option<Result<WatchResponse, Fatal>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`WatchStream::next`], for a caller with a poll function of its own.
    pub fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<WatchResponse, Fatal>>> {
        self.handle.0.waker.register(context.waker());
        for _ in 0..PASSES_PER_POLL {
            if !self.batch.is_fragmented()
                && let Some(reply) = self.replies.pop_front()
            {
                return Poll::Ready(Some(Ok(reply)));
            }
            match self.next_of_batch() {
                Ok(None) => {}
                found => return Poll::Ready(found.transpose()),
            }
            match self.pass() {
                Ok(Pass::Worked) => {}
                Ok(Pass::Idle) => return Poll::Pending,
                Ok(Pass::Closed) => return Poll::Ready(None),
                Err(fatal) => return Poll::Ready(Some(Err(fatal))),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn next_of_batch(&mut self) -> Result<Option<WatchResponse>, Fatal> {
        while let Some(serial) = self.batch.next_serial() {
            let Some(watcher) = self.watchers.get_mut(&serial) else {
                self.batch.skip();
                continue;
            };
            watcher.quiet = false;
            let max_request_bytes = self.hub.options.max_request_bytes;
            return self.batch.respond(watcher, &*self.hub.history, max_request_bytes);
        }
        Ok(None)
    }

    /// Makes the next batch or reply, with nothing left of the last one.
    fn pass(&mut self) -> Result<Pass, Fatal> {
        let mut pending = false;
        match self.hub.position(&self.handle) {
            Position::Closed => return Ok(Pass::Closed),
            Position::CaughtUp(cursor) => self.cursor = cursor,
            Position::Pending(cursor) => {
                self.cursor = cursor;
                pending = true;
            }
            Position::Behind { from, cursor } => self.fall_behind(from, cursor),
        }
        if self.report_progress() {
            return Ok(Pass::Worked);
        }
        if pending && (self.ring_turn || self.catch_up.is_empty()) {
            self.ring_turn = false;
            self.follow_ring();
        } else if !self.catch_up.is_empty() {
            self.ring_turn = true;
            self.follow_history()?;
        } else {
            let awaited = self.progress_requests.front();
            if awaited.is_none_or(|&revision| !self.hub.await_revision(&self.handle, revision)) {
                return Ok(Pass::Idle);
            }
        }
        Ok(Pass::Worked)
    }

    /// Queues progress that is due. All before the cursor is out, to every synced watcher.
    fn report_progress(&mut self) -> bool {
        let revision = self.cursor - 1;
        let before = self.replies.len();
        while let Some(serial) = self.progress_due.pop_first() {
            let Some(watcher) = self.watchers.get(&serial) else { continue };
            if watcher.synced && watcher.quiet && watcher.progress_floor <= revision {
                self.replies.push_back(reply(revision, watcher.id));
            }
        }
        let due = self.progress_requests.front().is_some_and(|&reached| reached <= revision);
        if due && self.catch_up.is_empty() {
            self.progress_requests.pop_front();
            let known = |watcher: &Watcher| watcher.progress_floor <= revision;
            if !self.watchers.is_empty() && self.watchers.values().all(known) {
                self.replies.push_back(reply(revision, NO_WATCHER));
            }
            return true;
        }
        self.replies.len() > before
    }

    /// Makes all synced watchers unsynced: they have to see what is between `from` and `cursor`,
    /// which is not in the ring any more.
    fn fall_behind(&mut self, from: i64, cursor: i64) {
        let mut count = 0;
        for (&serial, watcher) in &mut self.watchers {
            if watcher.synced && watcher.next < cursor {
                watcher.synced = false;
                watcher.next = watcher.next.max(from);
                self.catch_up.insert(watcher.next, serial);
                count += 1;
            }
        }
        self.cursor = cursor;
        self.hub.count_slow(count, 0);
    }

    /// Makes a batch for the synced watchers out of the ring. A stream that keeps up gets one
    /// response per revision, as in etcd; one that lags gets several revisions in one.
    fn follow_ring(&mut self) {
        let max_revisions = WATCH_BATCH_REVISIONS;
        let slice = self.hub.take_pending(&self.handle, max_revisions, WATCH_BATCH_BYTES);
        let lags = slice.backlog > WATCH_STREAM_LAG;
        let mut batch = Batch::new(slice.entries.clone());
        let mut found: BTreeMap<u64, VecDeque<_>> = BTreeMap::new();
        let mut total = 0;
        for (index, entry) in slice.entries.iter().enumerate() {
            if total > WATCH_BATCH_EVENTS {
                self.hub.return_pending(&self.handle, entry.revision);
                break;
            }
            for (place, event) in entry.events.iter().enumerate() {
                let Some(kv) = &event.kv else { continue };
                self.interests.visit(&kv.key, &mut |serial| {
                    let Some(watcher) = self.watchers.get(serial) else { return };
                    if watcher.synced && watcher.next <= entry.revision && watcher.passes(event) {
                        found.entry(*serial).or_default().push_back((index, place));
                        total += 1;
                    }
                });
            }
            self.cursor = entry.revision + 1;
            if !lags {
                batch.deliver(std::mem::take(&mut found), entry.revision);
            }
        }
        batch.deliver(found, self.cursor - 1);
        self.batch = batch;
    }

    /// Makes a batch for one group of unsynced watchers, and moves them on.
    fn follow_history(&mut self) -> Result<(), Fatal> {
        let Some((from, until, group)) = self.catch_up.take_turn(self.cursor) else {
            return Ok(());
        };
        let fragment = |serial: &u64| self.watchers.get(serial).is_some_and(|w| w.fragment);
        let max_bytes = if group.iter().any(fragment) {
            WATCH_FRAGMENTED_BATCH_BYTES
        } else {
            WATCH_BATCH_BYTES
        };
        match read_past(&self.hub, from, until, max_bytes)? {
            Past::Compacted(compact_revision) => self.cancel_compacted(group, compact_revision),
            Past::Slice { entries, next } => {
                let next = self.match_past(from, next, &group, entries);
                self.move_on(group, next);
                self.catch_up.end_turn(next);
            }
        }
        Ok(())
    }

    /// Makes a batch for `group`, which stands at `from`, out of `entries`, which go up to before
    /// `next`. Returns how far it got.
    fn match_past(
        &mut self,
        from: i64,
        next: i64,
        group: &BTreeSet<u64>,
        entries: Vec<Arc<super::RevisionEvents>>,
    ) -> i64 {
        let mut found: BTreeMap<u64, VecDeque<_>> = BTreeMap::new();
        let mut total = 0;
        let mut reached = next;
        for (index, entry) in entries.iter().enumerate() {
            if total > WATCH_BATCH_EVENTS {
                reached = entry.revision;
                break;
            }
            for (place, event) in entry.events.iter().enumerate() {
                let Some(kv) = &event.kv else { continue };
                let mut add = |serial: &u64, watcher: &Watcher| {
                    if watcher.passes(event) {
                        found.entry(*serial).or_default().push_back((index, place));
                        total += 1;
                    }
                };
                if group.len() <= SMALL_GROUP {
                    let members = group.iter().filter_map(|s| Some((s, self.watchers.get(s)?)));
                    members
                        .filter(|(_, watcher)| watcher.range.contains(&kv.key))
                        .for_each(|(serial, watcher)| add(serial, watcher));
                } else {
                    self.interests.visit(&kv.key, &mut |serial| {
                        let Some(watcher) = self.watchers.get(serial) else { return };
                        if !watcher.synced && watcher.next == from {
                            add(serial, watcher);
                        }
                    });
                }
            }
        }
        let mut batch = Batch::new(entries);
        batch.deliver(found, reached - 1);
        self.batch = batch;
        reached
    }

    /// Lets `group` stand at `next`; who has reached the stream's cursor is synced.
    fn move_on(&mut self, group: BTreeSet<u64>, next: i64) {
        let synced = next >= self.cursor;
        let mut caught_up = 0;
        for serial in group {
            let Some(watcher) = self.watchers.get_mut(&serial) else { continue };
            watcher.next = next;
            watcher.synced = synced;
            if synced {
                caught_up += 1;
            } else {
                self.catch_up.insert(next, serial);
            }
        }
        self.hub.count_slow(0, caught_up);
    }

    /// Ends the watchers of `group`, whose next revision is compacted (WATCH-09): no reason, no
    /// revision in the header, but the revision from which on the client can watch again.
    fn cancel_compacted(&mut self, group: BTreeSet<u64>, compact_revision: i64) {
        for serial in group {
            let Some(id) = self.watchers.get(&serial).map(|watcher| watcher.id) else { continue };
            self.remove(serial);
            self.compacted_ids.insert(id);
            self.replies.push_back(WatchResponse {
                canceled: true,
                compact_revision,
                ..reply(0, id)
            });
        }
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        while let Some((&serial, _)) = self.watchers.first_key_value() {
            self.remove(serial);
        }
        self.hub.remove(&self.handle);
    }
}

/// A response about watcher `id` with this revision in its header, and nothing else.
fn reply(revision: i64, id: i64) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader { revision, ..ResponseHeader::default() }),
        watch_id: id,
        ..WatchResponse::default()
    }
}
