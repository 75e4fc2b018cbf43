//! The laboratory's client: the terminal's commands and the operator, in virtual time.
//!
//! It is a process like a node, without a disk and without faults: packets come in, commands run
//! until they wait, packets and output go out.

mod operator;
mod rpc;
mod terminal;
mod words;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use coracle_core::platform::step::Executor;
use coracle_core::small_map::SmallMap;
use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, StreamExt};

pub(crate) use self::operator::Operation;
pub(crate) use self::rpc::REFUSED;
use self::rpc::{LabClient, SharedWire};
use self::terminal::{Keyboard, Outbox, Terminal};
use crate::protocol::{Body, Nanos, NodeNumber, Report, Stream};

/// Words that may stand in front of a command, since people are used to them.
const PROGRAM_NAMES: [&str; 2] = ["etcdctl", "coracle-ctl"];

/// What ended.
pub(crate) enum Ended {
    /// A command, with its exit code; it is reported.
    Command {
        id: u64,
    },
    Operation(Operation, Result<(), String>),
}

/// The client's process.
pub(crate) struct ClientProcess {
    executor: Executor,
    wire: SharedWire,
    outbox: Outbox,
    keyboards: SmallMap<u64, Rc<RefCell<Keyboard>>>,
    work: FuturesUnordered<LocalBoxFuture<'static, Ended>>,
    woken: Arc<Woken>,
}

/// Whether some of the work can go on.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

impl ClientProcess {
    pub(crate) fn new(seed: u64) -> ClientProcess {
        ClientProcess {
            executor: Executor::new(seed),
            wire: SharedWire::default(),
            outbox: Outbox::default(),
            keyboards: SmallMap::new(),
            work: FuturesUnordered::new(),
            woken: Arc::new(Woken(AtomicBool::new(false))),
        }
    }

    /// Begins a command. `nodes` are asked unless it names endpoints; `input` is all of its
    /// standard input, if that is known.
    pub(crate) fn exec(
        &mut self,
        id: u64,
        line: &str,
        nodes: Vec<NodeNumber>,
        input: Option<Vec<String>>,
    ) {
        let mut words = match words::split(line) {
            Ok(words) => words,
            Err(sentence) => return self.refuse(id, &sentence),
        };
        if words.first().is_some_and(|word| PROGRAM_NAMES.contains(&word.as_str())) {
            words.remove(0);
        }
        let mut keyboard = Keyboard::default();
        if let Some(lines) = input {
            lines.into_iter().for_each(|line| keyboard.type_line(Some(line)));
            keyboard.type_line(None);
        }
        let keyboard = Rc::new(RefCell::new(keyboard));
        self.keyboards.insert(id, keyboard.clone());
        let (outbox, wire) = (self.outbox.clone(), self.wire.clone());
        let terminal = Terminal { id, outbox: outbox.clone(), keyboard, wire, nodes };
        let command = async move {
            let words = words.into_iter().map(String::into_bytes).collect();
            let code = coracle_ctl::run(words, &terminal).await;
            outbox.borrow_mut().push(Report::Exit { id, code });
            Ended::Command { id }
        };
        self.add(command.boxed_local());
    }

    fn refuse(&mut self, id: u64, sentence: &str) {
        let data = format!("Error: {sentence}\n").into_bytes();
        {
            let mut outbox = self.outbox.borrow_mut();
            outbox.push(Report::Output { id, stream: Stream::Stderr, data });
            outbox.push(Report::Exit { id, code: 128 });
        }
        self.add(std::future::ready(Ended::Command { id }).boxed_local());
    }

    /// Begins a change of the membership, over `nodes`.
    pub(crate) fn operate(&mut self, operation: Operation, nodes: Vec<NodeNumber>) {
        let client = LabClient::new(self.wire.clone(), nodes);
        let work = async move {
            let result = operator::operate(client, operation).await;
            Ended::Operation(operation, result)
        };
        self.add(work.boxed_local());
    }

    fn add(&mut self, work: LocalBoxFuture<'static, Ended>) {
        self.work.push(work);
        self.woken.0.store(true, Ordering::Release);
    }

    /// Types a line for a running command, or the end of its input.
    pub(crate) fn input(&mut self, id: u64, line: Option<String>) {
        if let Some(keyboard) = self.keyboards.get(&id) {
            keyboard.borrow_mut().type_line(line);
        }
    }

    pub(crate) fn interrupt(&mut self, id: u64) {
        if let Some(keyboard) = self.keyboards.get(&id) {
            keyboard.borrow_mut().interrupt();
        }
    }

    pub(crate) fn receive(&mut self, node: NodeNumber, body: Body) {
        self.wire.borrow_mut().receive(node, body);
    }

    /// The node's process ended, and the connections to it.
    pub(crate) fn disconnect(&mut self, node: NodeNumber) {
        self.wire.borrow_mut().disconnect(node);
    }

    /// Whether a command is running.
    pub(crate) fn is_running(&self, id: u64) -> bool {
        self.keyboards.contains_key(&id)
    }

    /// Runs everything that can go on at `now`; returns what ended.
    pub(crate) fn run(&mut self, now: Nanos) -> Vec<Ended> {
        self.executor.advance_to(Duration::from_nanos(now));
        let mut ended = Vec::new();
        let waker = Waker::from(self.woken.clone());
        let executor = self.executor.clone();
        while self.woken.0.swap(false, Ordering::AcqRel) {
            let mut context = Context::from_waker(&waker);
            executor.enter(0, || {
                while let Poll::Ready(Some(done)) = self.work.poll_next_unpin(&mut context) {
                    if let Ended::Command { id } = &done {
                        self.keyboards.remove(id);
                    }
                    ended.push(done);
                }
            });
        }
        ended
    }

    /// When it wants to run next by itself: at once, at a time, or never.
    pub(crate) fn next(&self, now: Nanos) -> Option<Nanos> {
        if self.woken.0.load(Ordering::Acquire) {
            return Some(now);
        }
        let timer = self.executor.next_timer()?;
        Some(u64::try_from(timer.as_nanos()).unwrap_or(Nanos::MAX).max(now))
    }

    /// Packets to be sent, in order.
    pub(crate) fn packets(&mut self) -> Vec<(NodeNumber, Body)> {
        self.wire.borrow_mut().outgoing.drain(..).collect()
    }

    /// Output, files and exit codes for the page, in order.
    pub(crate) fn reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut *self.outbox.borrow_mut())
    }
}
