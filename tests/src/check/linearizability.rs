//! Keys and values: every answer is right at its revision, every revision has one writer, and the
//! order of revisions agrees with real time. The module above tells why this is enough.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coracle_core::api::mvccpb::KeyValue;
use coracle_core::api::mvccpb::event::EventType;

use super::watch::revision_of;
use super::{
    Answer, Guard, History, Kind, Operation, Outcome, Report, Request, Timeline, Violations, Write,
};

/// Checks all operations of `history`, and that no watcher saw a change before it was asked for.
pub(super) fn check(
    history: &History,
    timeline: &Timeline,
    report: &mut Report,
    violations: &mut Violations,
) {
    let mut checker = Checker { timeline, report, violations, writers: BTreeMap::new() };
    let mut sightings = Vec::new();
    for operation in &history.operations {
        if let Outcome::Answered { revision, answer } = &operation.outcome {
            sightings.extend(checker.answer(operation, *revision, answer));
        }
    }
    check_real_time(&sightings, checker.violations);
    check_processes(&sightings, checker.violations);
    for log in &history.watches {
        for response in &log.responses {
            if let Some(newest) = response.events.iter().map(revision_of).max() {
                sightings.push(Sighting::of_watch(&log.name, response.received, newest));
            }
        }
    }
    let first_seen = FirstSeen::new(&sightings);
    checker.match_unknown(&history.operations, &first_seen);
    checker.check_seen_after_started(&first_seen);
}

/// Somebody was told a revision.
struct Sighting<'a> {
    name: &'a str,
    process: Option<u64>,
    started: Duration,
    ended: Duration,
    revision: i64,
    nature: Nature,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// It made the revision.
    Write,
    LinearizableRead,
    SerializableRead,
    /// A linearizable answer to a write that changed nothing; it comes from the leader's state.
    Unchanged,
    Watch,
}

impl<'a> Sighting<'a> {
    fn new(operation: &'a Operation, revision: i64, nature: Nature) -> Sighting<'a> {
        Sighting {
            name: &operation.client,
            process: operation.process,
            started: operation.started,
            ended: operation.ended,
            revision,
            nature,
        }
    }

    fn of_watch(name: &'a str, received: Duration, revision: i64) -> Sighting<'a> {
        let nature = Nature::Watch;
        Sighting { name, process: None, started: received, ended: received, revision, nature }
    }
}

struct Checker<'a, 'h> {
    timeline: &'a Timeline,
    report: &'a mut Report,
    violations: &'a mut Violations,
    /// The operation that made each revision.
    writers: BTreeMap<i64, &'h Operation>,
}

impl<'h> Checker<'_, 'h> {
    /// Checks one answer against the model at its revision.
    fn answer(
        &mut self,
        operation: &'h Operation,
        revision: i64,
        answer: &'h Answer,
    ) -> Option<Sighting<'h>> {
        let nature = match (&operation.request, answer) {
            (Request::Write { guard, writes }, Answer::Written { previous }) => {
                if changes_something(writes, previous) {
                    self.written(operation, revision, guard.as_ref(), writes, previous)?
                } else {
                    self.unchanged(operation, revision, guard.as_ref(), writes)?
                }
            }
            (Request::Write { guard: Some(guard), .. }, Answer::GuardFailed { current }) => {
                self.guard_failed(operation, revision, guard, current.as_ref())?
            }
            (Request::Read { key, range_end, serializable }, Answer::Read { kvs, count }) => {
                self.known(operation, revision)?;
                let expected = self.timeline.range_at(key, range_end, revision);
                if *count != expected.len() as i64 || !expected.iter().copied().eq(kvs) {
                    self.wrong(operation, revision, &format!("got {kvs:?}, not {expected:?}"));
                }
                if *serializable {
                    self.report.serializable_reads += 1;
                    Nature::SerializableRead
                } else {
                    self.report.linearizable_reads += 1;
                    Nature::LinearizableRead
                }
            }
            _ => {
                self.wrong(operation, revision, "the answer is to another kind of request");
                return None;
            }
        };
        Some(Sighting::new(operation, revision, nature))
    }

    fn written(
        &mut self,
        operation: &'h Operation,
        revision: i64,
        guard: Option<&Guard>,
        writes: &[Write],
        previous: &[Vec<KeyValue>],
    ) -> Option<Nature> {
        self.report.acknowledged_writes += 1;
        let events = self.timeline.events_at(revision);
        if !is_effect(self.timeline, guard, writes, revision) {
            self.violations.add(
                Kind::LostWrite,
                format!(
                    "{} was acknowledged at revision {revision}, where the history has {events:?}: \
                     {operation:?}",
                    operation.client
                ),
            );
            return None;
        }
        let expected = writes.iter().map(|write| victims(self.timeline, write, revision - 1));
        if !expected.eq(previous.iter().map(|kvs| kvs.iter().collect::<Vec<_>>())) {
            self.wrong(operation, revision, &format!("previous values are not {previous:?}"));
        }
        if let Some(other) = self.writers.insert(revision, operation) {
            self.violations.add(
                Kind::TwoWriters,
                format!("revision {revision} was given to {other:?} and to {operation:?}"),
            );
        }
        Some(Nature::Write)
    }

    /// A delete that found nothing: it is a read of that nothing.
    fn unchanged(
        &mut self,
        operation: &Operation,
        revision: i64,
        guard: Option<&Guard>,
        writes: &[Write],
    ) -> Option<Nature> {
        self.known(operation, revision)?;
        self.report.linearizable_reads += 1;
        let holds = guard.is_none_or(|guard| holds(self.timeline, guard, revision));
        if !holds || writes.iter().any(|w| !victims(self.timeline, w, revision).is_empty()) {
            self.wrong(operation, revision, "there was something to change");
        }
        Some(Nature::Unchanged)
    }

    fn guard_failed(
        &mut self,
        operation: &Operation,
        revision: i64,
        guard: &Guard,
        current: Option<&KeyValue>,
    ) -> Option<Nature> {
        self.known(operation, revision)?;
        self.report.linearizable_reads += 1;
        let expected = self.timeline.value_at(&guard.key, revision);
        if holds(self.timeline, guard, revision) || expected != current {
            self.wrong(operation, revision, &format!("the key was {expected:?}"));
        }
        Some(Nature::Unchanged)
    }

    fn known(&mut self, operation: &Operation, revision: i64) -> Option<()> {
        if revision >= 1 && revision <= self.timeline.last_revision() {
            return Some(());
        }
        self.violations.add(
            Kind::UnknownRevision,
            format!(
                "{operation:?} answered at revision {revision}; the history ends at {}",
                self.timeline.last_revision()
            ),
        );
        None
    }

    fn wrong(&mut self, operation: &Operation, revision: i64, detail: &str) {
        self.violations
            .add(Kind::WrongAnswer, format!("at revision {revision}, {detail}: {operation:?}"));
    }

    /// Finds a writer of unknown outcome for every revision that nobody was acknowledged for.
    ///
    /// Several deletes may have the same effect, so this is a matching: an earlier choice is
    /// revised if another delete would do as well (Kuhn's algorithm).
    fn match_unknown(&mut self, operations: &'h [Operation], first_seen: &FirstSeen) {
        let unknown: Vec<&Operation> = operations
            .iter()
            .filter(|operation| matches!(operation.outcome, Outcome::Unknown))
            .filter(|operation| matches!(operation.request, Request::Write { .. }))
            .collect();
        let mut matching = Matching { candidates: BTreeMap::new(), chosen: BTreeMap::new() };
        for revision in 2..=self.timeline.last_revision() {
            if self.writers.contains_key(&revision) {
                continue;
            }
            let (_, seen) = first_seen.of(revision);
            let candidates = (0..unknown.len())
                .filter(|index| unknown[*index].started < seen)
                .filter(|index| has_effect(self.timeline, unknown[*index], revision))
                .collect();
            matching.candidates.insert(revision, candidates);
            if !matching.place(revision, &mut BTreeSet::new()) {
                self.violations.add(
                    Kind::PhantomWrite,
                    format!(
                        "nobody can have written revision {revision}: {:?}",
                        self.timeline.events_at(revision)
                    ),
                );
            }
        }
        self.report.unknown_writes_found = matching.chosen.len();
        self.report.unknown_writes_absent = unknown.len() - matching.chosen.len();
        for (index, revision) in matching.chosen {
            self.writers.insert(revision, unknown[index]);
        }
    }

    fn check_seen_after_started(&mut self, first_seen: &FirstSeen) {
        for (revision, writer) in &self.writers {
            let (name, seen) = first_seen.of(*revision);
            if seen < writer.started {
                self.violations.add(
                    Kind::SeenBeforeWritten,
                    format!(
                        "{name} saw revision {revision} or later at {seen:?}, before {writer:?}"
                    ),
                );
            }
        }
    }
}

/// Linearizable answers never fall behind what was known when they were asked for.
fn check_real_time(sightings: &[Sighting<'_>], violations: &mut Violations) {
    for_each_with_known(sightings.iter().collect(), |sighting, known| {
        let (kind, broken) = match sighting.nature {
            Nature::Write => (Kind::RevisionWentBack, sighting.revision <= known.revision),
            Nature::LinearizableRead | Nature::Unchanged => {
                (Kind::StaleRead, sighting.revision < known.revision)
            }
            Nature::SerializableRead | Nature::Watch => return,
        };
        if broken {
            violations.add(kind, behind(sighting, known));
        }
    });
}

/// The reads that one process answers from its own state never go back.
fn check_processes(sightings: &[Sighting<'_>], violations: &mut Violations) {
    let mut reads: BTreeMap<u64, Vec<&Sighting<'_>>> = BTreeMap::new();
    for sighting in sightings {
        let is_read =
            matches!(sighting.nature, Nature::LinearizableRead | Nature::SerializableRead);
        if let (true, Some(process)) = (is_read, sighting.process) {
            reads.entry(process).or_default().push(sighting);
        }
    }
    for of_one_process in reads.into_values() {
        for_each_with_known(of_one_process, |sighting, known| {
            if sighting.nature == Nature::SerializableRead && sighting.revision < known.revision {
                violations.add(Kind::SerializableWentBack, behind(sighting, known));
            }
        });
    }
}

/// Calls `judge` with each sighting and the newest one that had ended before it started.
fn for_each_with_known<'s, 'a>(
    mut by_start: Vec<&'s Sighting<'a>>,
    mut judge: impl FnMut(&Sighting<'a>, &Sighting<'a>),
) {
    by_start.sort_by_key(|sighting| sighting.started);
    let mut by_end = by_start.clone();
    by_end.sort_by_key(|sighting| sighting.ended);
    let mut ended = by_end.into_iter().peekable();
    let mut newest: Option<&'s Sighting<'a>> = None;
    for sighting in by_start {
        while let Some(earlier) = ended.next_if(|earlier| earlier.ended < sighting.started) {
            if newest.is_none_or(|newest| newest.revision < earlier.revision) {
                newest = Some(earlier);
            }
        }
        if let Some(known) = newest {
            judge(sighting, known);
        }
    }
}

fn behind(sighting: &Sighting<'_>, known: &Sighting<'_>) -> String {
    format!(
        "{} began at {:?} and got revision {}; {} had got {} at {:?}",
        sighting.name, sighting.started, sighting.revision, known.name, known.revision, known.ended
    )
}

/// For each revision, who was first told of it or of a later one, and when.
struct FirstSeen<'a> {
    /// By ascending revision, with falling instants towards the front.
    steps: BTreeMap<i64, (&'a str, Duration)>,
}

impl<'a> FirstSeen<'a> {
    fn new(sightings: &[Sighting<'a>]) -> FirstSeen<'a> {
        let mut newest_first: Vec<&Sighting<'a>> = sightings.iter().collect();
        newest_first.sort_by_key(|sighting| -sighting.revision);
        let mut steps = BTreeMap::new();
        let mut earliest = ("nobody", Duration::MAX);
        for sighting in newest_first {
            if sighting.ended < earliest.1 {
                earliest = (sighting.name, sighting.ended);
            }
            steps.insert(sighting.revision, earliest);
        }
        FirstSeen { steps }
    }

    fn of(&self, revision: i64) -> (&'a str, Duration) {
        self.steps.range(revision..).next().map_or(("nobody", Duration::MAX), |(_, seen)| *seen)
    }
}

/// Which unknown operation made which revision.
struct Matching {
    /// Per revision, the operations that may have made it.
    candidates: BTreeMap<i64, Vec<usize>>,
    /// Per operation, the revision it is chosen for.
    chosen: BTreeMap<usize, i64>,
}

impl Matching {
    /// Finds an operation for `revision`, moving others if need be.
    fn place(&mut self, revision: i64, tried: &mut BTreeSet<usize>) -> bool {
        for index in self.candidates.get(&revision).cloned().unwrap_or_default() {
            if !tried.insert(index) {
                continue;
            }
            let is_free = match self.chosen.get(&index).copied() {
                Some(other) => self.place(other, tried),
                None => true,
            };
            if is_free {
                self.chosen.insert(index, revision);
                return true;
            }
        }
        false
    }
}

fn has_effect(timeline: &Timeline, operation: &Operation, revision: i64) -> bool {
    match &operation.request {
        Request::Write { guard, writes } => is_effect(timeline, guard.as_ref(), writes, revision),
        Request::Read { .. } => false,
    }
}

/// Whether `revision` holds exactly what these writes do to the state before it.
fn is_effect(timeline: &Timeline, guard: Option<&Guard>, writes: &[Write], revision: i64) -> bool {
    let before = revision - 1;
    if guard.is_some_and(|guard| !holds(timeline, guard, before)) {
        return false;
    }
    let mut events = timeline.events_at(revision).iter();
    let mut next_is = |kind: EventType, key: &[u8], value: &[u8]| {
        events.next().is_some_and(|event| {
            event.r#type() == kind
                && event.kv.as_ref().is_some_and(|kv| kv.key == key && kv.value == value)
        })
    };
    for write in writes {
        let matches = match write {
            Write::Put { key, value } => next_is(EventType::Put, key, value),
            Write::Delete { .. } => victims(timeline, write, before)
                .iter()
                .all(|victim| next_is(EventType::Delete, &victim.key, b"")),
        };
        if !matches {
            return false;
        }
    }
    // An effect has at least one event, and no others than these.
    events.next().is_none() && !timeline.events_at(revision).is_empty()
}

/// The key-values at `revision` that `write` replaces or deletes.
fn victims<'t>(timeline: &'t Timeline, write: &Write, revision: i64) -> Vec<&'t KeyValue> {
    match write {
        Write::Put { key, .. } => timeline.range_at(key, b"", revision),
        Write::Delete { key, range_end } => timeline.range_at(key, range_end, revision),
    }
}

fn holds(timeline: &Timeline, guard: &Guard, revision: i64) -> bool {
    let current = timeline.value_at(&guard.key, revision).map_or(0, |kv| kv.mod_revision);
    current == guard.mod_revision
}

fn changes_something(writes: &[Write], previous: &[Vec<KeyValue>]) -> bool {
    writes.iter().any(|write| matches!(write, Write::Put { .. }))
        || previous.iter().any(|kvs| !kvs.is_empty())
}
