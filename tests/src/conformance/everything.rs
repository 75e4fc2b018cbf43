//! One sequence of everything: the operations of [`super::generate`], some of them as command
//! lines, watchers in JSON, and sessions with users and rights.

use std::collections::VecDeque;

use bytes::Bytes;
use coracle_core::api::etcdserverpb::*;

use super::auth::People;
use super::dice::Dice;
use super::generate::Generator;
use super::model::Model;
use super::operation::Operation;
use crate::cli::Program;
use crate::cli::generate::Writer;

/// Of 100 operations that a command line can say, those that one says.
const LINES_PERCENT: usize = 3;
/// Of 100 things that people ask, those that they ask by a line if one can.
const LINES_OF_PEOPLE_PERCENT: usize = 15;
/// Of 100 rounds, those with a session of users and rights.
const SESSIONS_PERCENT: usize = 12;
/// What people ask in a session.
const SESSION: usize = 60;
/// Watchers in JSON after a round.
const WATCHERS_IN_JSON: usize = 2;

/// Which program is at which server: the reference and ours, and the other way round, and the same
/// at both.
const PROGRAMS: [[Program; 2]; 4] = [
    [Program::Etcdctl, Program::Coracle],
    [Program::Coracle, Program::Etcdctl],
    [Program::Etcdctl, Program::Etcdctl],
    [Program::Coracle, Program::Coracle],
];
/// How often each of them is chosen.
const WEIGHTS: [usize; 4] = [50, 25, 20, 5];

/// A source of operations of every kind.
pub struct Everything {
    dice: Dice,
    generator: Generator,
    writer: Writer,
    people: People,
    /// What follows without a choice.
    queue: VecDeque<Operation>,
}

impl Everything {
    /// The source of this seed.
    pub fn new(seed: u64) -> Everything {
        let mut seeds = Dice::new(seed.rotate_left(16));
        Everything {
            dice: Dice::new(seeds.bits()),
            generator: Generator::new(seed),
            writer: Writer::new(seeds.bits()),
            people: People::new(seeds.bits()),
            queue: VecDeque::new(),
        }
    }

    /// Not in the middle of a session: nobody could settle anything then.
    pub fn may_end(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next operation of a sequence that has led to `model`.
    pub fn next(&mut self, model: &Model) -> Operation {
        if let Some(operation) = self.queue.pop_front() {
            return match operation {
                // Chosen now, as the past is known when all has settled.
                Operation::WatchInJson(_) => self.watch_in_json(model),
                operation => operation,
            };
        }
        match self.generator.next(model) {
            Operation::Settle => self.end_of_round(),
            operation => self.perhaps_as_line(operation),
        }
    }

    /// Perhaps a session; then all settles, and watchers look back.
    fn end_of_round(&mut self) -> Operation {
        if self.dice.percent(SESSIONS_PERCENT) {
            for operation in self.people.session(SESSION) {
                let operation = self.perhaps_asked_by_line(operation);
                self.queue.push_back(operation);
            }
            self.queue.push_back(look_at_revision());
        }
        self.queue.push_back(Operation::Settle);
        let watch = Operation::WatchInJson(WatchCreateRequest::default());
        self.queue.extend(vec![watch; WATCHERS_IN_JSON]);
        self.queue.pop_front().unwrap_or(Operation::Settle)
    }

    /// A command prints no revision to rely on, so the next operation asks for it.
    fn perhaps_as_line(&mut self, operation: Operation) -> Operation {
        if !self.dice.percent(LINES_PERCENT) {
            return operation;
        }
        let Some((line, says)) = self.writer.line(operation.clone()) else { return operation };
        let programs = PROGRAMS[self.dice.weighted(&WEIGHTS)];
        self.queue.push_back(look_at_revision());
        Operation::Line { line, programs, says: Box::new(says) }
    }

    fn perhaps_asked_by_line(&mut self, operation: Operation) -> Operation {
        let Operation::Ask { asker, ask } = &operation else { return operation };
        if !self.dice.percent(LINES_OF_PEOPLE_PERCENT) {
            return operation;
        }
        let Some(line) = self.writer.line_of(asker, ask) else { return operation };
        let programs = PROGRAMS[self.dice.weighted(&WEIGHTS)];
        Operation::Line { line, programs, says: Box::new(operation) }
    }

    /// A watcher of the past, with any options; no deletion of the compacted revision is due to it
    /// (W-2), and none starts at a negative one (W-3).
    fn watch_in_json(&mut self, model: &Model) -> Operation {
        let mut request = self.generator.watch_request(model);
        let past = self.dice.between(1, model.revision);
        if request.start_revision < 0 || request.start_revision == model.compacted {
            request.start_revision = past;
        }
        if request.start_revision == model.compacted {
            request.start_revision += 1;
        }
        Operation::WatchInJson(request)
    }
}

/// A read whose header says where the store is.
fn look_at_revision() -> Operation {
    let key = Bytes::from_static(b"a");
    Operation::Range(RangeRequest { key, count_only: true, ..Default::default() })
}
