//! Watches: what a watcher was told must be the timeline, filtered by its range, from its first
//! revision on — in order, each event once, all events of a revision in one response, nothing
//! left out, with exact previous values — however often it reconnected (ETCD.md WATCH-06, -08,
//! -11, -14). Progress at revision r promises that everything up to r had been delivered.

use coracle_core::api::mvccpb::Event;

use super::{Kind, Report, Timeline, Violations, WatchLog, WatchResponse, in_range};

/// Checks one watcher's log; reports at most its first violation.
pub(super) fn check(
    log: &WatchLog,
    timeline: &Timeline,
    report: &mut Report,
    violations: &mut Violations,
) {
    let expected: Vec<&Event> = timeline
        .events_from(log.start_revision)
        .filter(|event| in_range(key_of(event), &log.key, &log.range_end))
        .collect();
    let mut follower = Follower { log, expected, next: 0, last_header: (0, 0) };
    for (index, response) in log.responses.iter().enumerate() {
        match follower.response(index, response) {
            Ok(()) if response.events.is_empty() => report.watch_progress += 1,
            Ok(()) => report.watch_events += response.events.len(),
            Err((kind, detail)) => {
                violations.add(kind, format!("watcher {}: {detail}", log.name));
                return;
            }
        }
    }
    if let Some(missing) = follower.expected.get(follower.next)
        && revision_of(missing) <= log.complete_through
    {
        let detail = format!("watcher {}: never got {missing:?}", log.name);
        violations.add(Kind::MissingEvent, detail);
    }
}

type Finding = (Kind, String);

/// Walks a log along the expected events.
struct Follower<'a> {
    log: &'a WatchLog,
    expected: Vec<&'a Event>,
    /// Index of the next expected event.
    next: usize,
    /// Connection and header revision of the last response.
    last_header: (usize, i64),
}

impl Follower<'_> {
    fn response(&mut self, index: usize, response: &WatchResponse) -> Result<(), Finding> {
        self.check_header(response)?;
        if let (Some(first), true) = (response.events.first(), self.next > 0)
            && revision_of(first) == revision_of(self.expected[self.next - 1])
            && self.expected.get(self.next).is_some_and(|next| is_same(next, first))
        {
            return Err((
                Kind::SplitRevision,
                format!("revision {} came in two responses", revision_of(first)),
            ));
        }
        for event in &response.events {
            self.event(index, event)?;
        }
        match self.expected.get(self.next) {
            Some(missing)
                if response.events.is_empty()
                    && revision_of(missing) <= response.header_revision =>
            {
                Err((
                    Kind::MissingEvent,
                    format!(
                        "was told of progress to {} before {missing:?}",
                        response.header_revision
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    fn check_header(&mut self, response: &WatchResponse) -> Result<(), Finding> {
        let revision = response.header_revision;
        let newest = response.events.iter().map(revision_of).max().unwrap_or(0);
        let (connection, last) = self.last_header;
        self.last_header = (response.connection, revision);
        if revision < newest {
            let detail = format!("header revision {revision}, but an event of {newest}");
            return Err((Kind::WrongWatchHeader, detail));
        }
        if connection == response.connection && revision < last {
            let detail = format!("header revision {revision} after {last}");
            return Err((Kind::WrongWatchHeader, detail));
        }
        Ok(())
    }

    fn event(&mut self, response: usize, event: &Event) -> Result<(), Finding> {
        match self.expected.get(self.next) {
            Some(expected) if is_same(expected, event) => {
                check_contents(expected, event, self.log.prev_kv)?;
                self.next += 1;
                Ok(())
            }
            _ => Err(self.diagnose(response, event)),
        }
    }

    /// Why `event` is not the next one.
    fn diagnose(&self, response: usize, event: &Event) -> Finding {
        let place = self.expected.iter().position(|expected| is_same(expected, event));
        match (place, self.expected.get(self.next)) {
            (None, _) => (Kind::WrongEvent, format!("got {event:?}, which never happened")),
            (Some(place), _) if place < self.next => {
                (Kind::DuplicateEvent, format!("got {event:?} again"))
            }
            (Some(_), Some(next)) if self.comes_later(response, next) => {
                (Kind::ReorderedEvent, format!("got {event:?} before {next:?}"))
            }
            (Some(_), next) => {
                (Kind::MissingEvent, format!("got {event:?}, but {next:?} comes first"))
            }
        }
    }

    fn comes_later(&self, response: usize, wanted: &Event) -> bool {
        let rest = &self.log.responses[response..];
        rest.iter().flat_map(|response| &response.events).any(|event| is_same(event, wanted))
    }
}

/// The same change: same revision, same key (a revision changes a key once).
fn is_same(left: &Event, right: &Event) -> bool {
    revision_of(left) == revision_of(right) && key_of(left) == key_of(right)
}

fn check_contents(expected: &Event, event: &Event, prev_kv: bool) -> Result<(), Finding> {
    if event.r#type != expected.r#type || event.kv != expected.kv {
        return Err((Kind::WrongEvent, format!("got {event:?} instead of {expected:?}")));
    }
    let former = if prev_kv { expected.prev_kv.as_ref() } else { None };
    if event.prev_kv.as_ref() != former {
        return Err((
            Kind::WrongPrevKv,
            format!("got prev_kv {:?} instead of {former:?}", event.prev_kv),
        ));
    }
    Ok(())
}

/// The revision of an event; 0 if it has no key-value.
pub(super) fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn key_of(event: &Event) -> &[u8] {
    event.kv.as_ref().map_or(&[], |kv| &kv.key)
}
