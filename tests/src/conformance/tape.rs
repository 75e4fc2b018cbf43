//! The tape: everything that happened, as one watcher on all keys saw it, and what each other
//! watcher has to receive of it.
//!
//! A watcher that receives nothing more proves nothing by its silence. The tape is complete when
//! it holds the store's newest revision, because every revision has an event; from it follows how
//! many events each watcher is owed, and both servers are waited for until they have paid.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use coracle_core::api::etcdserverpb::*;
use coracle_core::api::mvccpb::Event;
use coracle_core::api::mvccpb::event::EventType;

use super::Speech;
use super::generate::STREAMS;
use super::model::Model;
use super::operation::{Answer, Operation, Received};
use super::ranges;
use super::server::Server;
use super::watch::Due;

/// The stream of the tape, after those of the sequence.
const TAPE_STREAM: usize = STREAMS;
/// The tape's watch id: the first that a server picks.
const TAPE_ID: i64 = 0;

/// The watch id of the probe (see [`Tape::probe`]).
const PROBE_ID: i64 = 1_000_000;

/// See the module.
pub struct Tape {
    entries: Vec<Entry>,
    watchers: Vec<Watcher>,
    /// Some watcher started in the past since the last settling.
    catching_up: bool,
}

struct Entry {
    key: Bytes,
    revision: i64,
    deletion: bool,
}

/// A watcher of the sequence, as its request described it.
struct Watcher {
    stream: usize,
    watch_id: i64,
    request: WatchCreateRequest,
    /// The first revision it is owed.
    from: i64,
    /// It starts below the compacted revision, so it is only owed its cancellation.
    compacted: bool,
    /// Entries of the tape that it has been compared on.
    compared: usize,
    /// Deletions of this revision are not counted (difference W-2).
    ignored_deletions: Option<i64>,
}

impl Tape {
    /// A blank tape.
    pub fn new() -> Tape {
        Tape { entries: Vec::new(), watchers: Vec::new(), catching_up: false }
    }

    /// Puts the tape's watcher on both servers.
    pub async fn start(&mut self, reference: &mut Server, subject: &mut Server) -> Result<()> {
        let everything = Operation::WatchCreate {
            stream: TAPE_STREAM,
            request: WatchCreateRequest {
                key: Bytes::from_static(b"\0"),
                range_end: Bytes::from_static(b"\0"),
                start_revision: 1,
                prev_kv: true,
                ..Default::default()
            },
        };
        for server in [reference, subject] {
            let answer = server.execute(&everything, Speech::Grpc).await?;
            if !answer.is_ok() {
                bail!("a watcher on everything was refused: {answer:?}");
            }
        }
        Ok(())
    }

    /// Keeps account of watchers that come and go. Called before the model learns of it.
    pub fn follow(&mut self, operation: &Operation, answer: &Answer, model: &Model) {
        match (operation, answer) {
            (Operation::WatchCreate { stream, request }, Answer::Watch(created))
                if !created.canceled =>
            {
                let watcher = self.watcher(*stream, created.watch_id, request.clone(), model);
                self.catching_up |= watcher.from <= model.revision;
                self.watchers.push(watcher);
            }
            (Operation::WatchCancel { stream, watch_id }, Answer::Watch(_)) => {
                self.watchers
                    .retain(|watcher| (watcher.stream, watcher.watch_id) != (*stream, *watch_id));
            }
            (Operation::WatchReset { stream }, _) => {
                self.watchers.retain(|watcher| watcher.stream != *stream);
            }
            _ => {}
        }
    }

    fn watcher(
        &self,
        stream: usize,
        watch_id: i64,
        request: WatchCreateRequest,
        model: &Model,
    ) -> Watcher {
        let from = match request.start_revision {
            0 => model.revision + 1,
            start => start,
        };
        let at_compaction = model.compacted > 0 && from == model.compacted;
        Watcher {
            stream,
            watch_id,
            request,
            from,
            compacted: from < model.compacted,
            compared: self.entries.partition_point(|entry| entry.revision < from),
            ignored_deletions: at_compaction.then_some(from),
        }
    }

    /// What a watcher that begins now is due, when everything has settled.
    pub fn due(&self, request: &WatchCreateRequest, model: &Model) -> Due {
        self.watcher(0, 0, request.clone(), model).due(&self.entries)
    }

    /// Waits until every watcher created so far has caught up, also those that are owed nothing.
    ///
    /// etcd brings all watchers that start in the past up to date in one round, every 100 ms, and
    /// a compaction before that round would cancel them. Once one more of them, whose event is
    /// known to exist, has been served, so have the others.
    async fn probe(server: &mut Server, revision: i64) -> Result<()> {
        let probe = Operation::WatchCreate {
            stream: TAPE_STREAM,
            request: WatchCreateRequest {
                key: Bytes::from_static(b"\0"),
                range_end: Bytes::from_static(b"\0"),
                start_revision: revision,
                watch_id: PROBE_ID,
                ..Default::default()
            },
        };
        server.execute(&probe, Speech::Grpc).await?;
        let received = take(server, TAPE_STREAM, PROBE_ID, Due::Through(revision)).await?;
        if received.events.is_empty() {
            bail!("a watcher from revision {revision} received no event of it");
        }
        let cancel = Operation::WatchCancel { stream: TAPE_STREAM, watch_id: PROBE_ID };
        server.execute(&cancel, Speech::Grpc).await?;
        Ok(())
    }

    /// Waits until both servers have delivered everything up to the model's revision, and
    /// returns what
    /// their watchers received since the last time.
    pub async fn settle(
        &mut self,
        reference: &mut Server,
        subject: &mut Server,
        model: &Model,
    ) -> Result<(Answer, Answer)> {
        let revision = model.revision;
        if std::mem::take(&mut self.catching_up) && revision > model.compacted.max(1) {
            for server in [&mut *reference, &mut *subject] {
                Tape::probe(server, revision).await?;
            }
        }
        let last = self.entries.last().map_or(1, |entry| entry.revision);
        let due = if revision > last { Due::Through(revision) } else { Due::Events(0) };
        let mut expected = vec![take(reference, TAPE_STREAM, TAPE_ID, due).await?];
        let mut actual = vec![take(subject, TAPE_STREAM, TAPE_ID, due).await?];
        self.entries.extend(expected[0].events.iter().map(Entry::new));
        let end = self.entries.last().map_or(1, |entry| entry.revision);
        if end != revision {
            bail!("the reference's events end at revision {end}, its store at {revision}");
        }
        for watcher in &mut self.watchers {
            let due = watcher.due(&self.entries);
            watcher.compared = self.entries.len().max(watcher.compared);
            expected.push(take(reference, watcher.stream, watcher.watch_id, due).await?);
            actual.push(take(subject, watcher.stream, watcher.watch_id, due).await?);
            let got = expected.last().map_or(0, |received| received.events.len());
            if matches!(due, Due::Events(count) if count != got) {
                bail!("the reference sent {got} events, {due:?} were due to {:?}", watcher.request);
            }
        }
        self.watchers.retain(|watcher| !watcher.compacted);
        let (mut expected, mut actual) = (Answer::Settled(expected), Answer::Settled(actual));
        reference.leases.from_server(&mut expected);
        subject.leases.from_server(&mut actual);
        Ok((expected, actual))
    }
}

impl Default for Tape {
    fn default() -> Self {
        Tape::new()
    }
}

impl Entry {
    fn new(event: &Event) -> Entry {
        let kv = event.kv.clone().unwrap_or_default();
        let deletion = event.r#type() == EventType::Delete;
        Entry { key: kv.key, revision: kv.mod_revision, deletion }
    }
}

impl Watcher {
    fn due(&self, tape: &[Entry]) -> Due {
        if self.compacted {
            return Due::Cancellation;
        }
        let fresh = tape.get(self.compared..).unwrap_or_default();
        Due::Events(fresh.iter().filter(|entry| self.is_owed(entry)).count())
    }

    fn is_owed(&self, entry: &Entry) -> bool {
        let filtered = self.request.filters.contains(&i32::from(entry.deletion));
        let ignored = entry.deletion && self.ignored_deletions == Some(entry.revision);
        let watched = ranges::contains(&self.request.key, &self.request.range_end, &entry.key);
        watched && entry.revision >= self.from && !filtered && !ignored
    }
}

/// What a watcher received.
async fn take(server: &mut Server, stream: usize, watch_id: i64, due: Due) -> Result<Received> {
    let name = server.name;
    let (events, canceled) = server
        .take(stream, watch_id, due)
        .await
        .with_context(|| format!("watcher {watch_id} of stream {stream} of {name}"))?;
    Ok(Received { stream, watch_id, events, canceled })
}
