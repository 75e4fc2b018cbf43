//! The nodes' workers, as the conductor's worker sees them: made, asked, and terminated.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use coracle_core::small_map::SmallMap;
use futures_channel::oneshot;
use futures_util::future::{Either, join_all, select};
use wasm_bindgen::prelude::*;
use web_sys::{Event, MessageEvent, Worker, WorkerOptions, WorkerType};

use super::scope;
use super::storage::Disks;
use super::wire::{self, Boot, FromNode, ToNode};
use crate::conductor::{DiskImage, Task};
use crate::protocol::{NodeNumber, StepInput, StepOutput};

/// For what a panicked node's memory still says of its disk.
const LAST_WORDS_MS: f64 = 1000.0;

/// The result of a step, or why the node died.
pub(super) type Outcome = (NodeNumber, Result<StepOutput, String>);

/// All nodes that have a worker, and the disks in memory of those that have none.
#[derive(Default)]
pub(super) struct Processes {
    /// Where disks are; `None` is in memory.
    disks: RefCell<Option<Disks>>,
    running: RefCell<SmallMap<NodeNumber, Rc<Process>>>,
    /// Made before it was known for which nodes.
    spares: RefCell<Vec<Process>>,
    images: RefCell<SmallMap<NodeNumber, DiskImage>>,
}

impl Processes {
    /// Makes workers for so many nodes: they load while the disks are looked for.
    pub(super) fn prepare(&self, count: NodeNumber) {
        // One that cannot be made now is made, or missed, when it is needed.
        self.spares.borrow_mut().extend((0..count).filter_map(|_| Process::make().ok()));
    }

    /// Says where the disks of nodes are that are made from now on.
    pub(super) fn store_in(&self, disks: Option<Disks>) {
        self.disks.replace(disks);
    }

    /// Does all tasks: those of one node in their order, different nodes in parallel.
    pub(super) async fn perform(&self, tasks: Vec<Task>) -> Vec<Outcome> {
        let mut of_nodes: SmallMap<NodeNumber, Vec<Task>> = SmallMap::new();
        for task in tasks {
            match &task {
                Task::Spawn { node, .. }
                | Task::Kill { node }
                | Task::Discard { node }
                | Task::Step { node, .. } => {
                    of_nodes.get_or_insert_with(*node, Vec::new).push(task)
                }
                Task::Remember(text) => self.remember(text),
            }
        }
        let all = of_nodes.into_iter().map(|(node, tasks)| self.perform_of(node, tasks));
        let outcomes = join_all(all).await.into_iter().flatten().collect();
        // The first tasks make all nodes that there are.
        self.spares.borrow_mut().clear();
        outcomes
    }

    /// Losing it costs what a reload would bring back, and nothing now: no reason to stop.
    fn remember(&self, text: &str) {
        if let Some(disks) = &*self.disks.borrow() {
            let _ = disks.remember(text);
        }
    }

    async fn perform_of(&self, node: NodeNumber, tasks: Vec<Task>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for task in tasks {
            let done = match task {
                Task::Spawn { image, .. } => self.spawn(node, image).await.map(|()| None),
                Task::Step { input, .. } => self.step(node, input).await.map(Some),
                Task::Discard { .. } => self.discard(node).await.map(|()| None),
                Task::Kill { .. } => {
                    self.kill(node).await;
                    Ok(None)
                }
                Task::Remember(_) => Ok(None),
            };
            match done {
                Ok(None) => {}
                Ok(Some(output)) => outcomes.push((node, Ok(output))),
                Err(reason) => {
                    self.kill(node).await;
                    outcomes.push((node, Err(reason)));
                    break;
                }
            }
        }
        outcomes
    }

    async fn spawn(&self, node: NodeNumber, image: Option<DiskImage>) -> Result<(), String> {
        self.kill(node).await;
        let in_memory = self.disks.borrow().is_none();
        let kept = self.images.borrow_mut().remove(&node);
        let image = if in_memory { image.or(kept) } else { image };
        let folder = Disks::folder(node);
        let spare = self.spares.borrow_mut().pop();
        let process = spare.map_or_else(Process::make, Ok).map_err(|error| {
            format!("the browser does not make a worker: {}", scope::text(&error))
        })?;
        process.in_memory.set(in_memory);
        let process = Rc::new(process);
        self.running.borrow_mut().insert(node, process.clone());
        let folder = (!in_memory).then_some(folder);
        match process.ask(&ToNode::Boot(Boot { folder, image })).await? {
            FromNode::Ready => Ok(()),
            _ => Err(OUT_OF_TURN.to_owned()),
        }
    }

    async fn step(&self, node: NodeNumber, input: StepInput) -> Result<StepOutput, String> {
        let process = self.running.borrow().get(&node).cloned();
        let process = process.ok_or("it has no worker")?;
        match process.ask(&ToNode::Step(input)).await? {
            FromNode::Stepped(output) => Ok(output),
            _ => Err(OUT_OF_TURN.to_owned()),
        }
    }

    /// Ends a node's worker between two instructions. A disk in memory is fetched before.
    async fn kill(&self, node: NodeNumber) {
        let process = self.running.borrow_mut().remove(&node);
        let Some(process) = process else {
            return;
        };
        if process.in_memory.get()
            && let Some(image) = process.image().await
        {
            self.images.borrow_mut().insert(node, image);
        }
    }

    async fn discard(&self, node: NodeNumber) -> Result<(), String> {
        self.running.borrow_mut().remove(&node);
        self.images.borrow_mut().remove(&node);
        let disks = self.disks.borrow().clone();
        match disks {
            Some(disks) => disks.discard(node).await.map_err(|error| scope::text(&error)),
            None => Ok(()),
        }
    }

    /// Ends everything at once, and lets go of the disks.
    pub(super) fn end(&self) {
        for (_, process) in std::mem::take(&mut *self.running.borrow_mut()) {
            process.state.died("it was ended".to_owned());
        }
        self.images.borrow_mut().clear();
        if let Some(disks) = self.disks.take() {
            disks.close();
        }
    }
}

const OUT_OF_TURN: &str = "its worker answered something else than what it was asked";

/// A node's worker; dropping it terminates it.
struct Process {
    worker: Worker,
    /// Where its disk is, once it has one.
    in_memory: Cell<bool>,
    state: Rc<State>,
    /// They are called as long as the worker lives.
    _listeners: (Closure<dyn FnMut(MessageEvent)>, Closure<dyn FnMut(Event)>),
}

/// What came from the worker.
#[derive(Default)]
struct State {
    /// Who waits for an answer.
    asker: Cell<Option<oneshot::Sender<Result<FromNode, String>>>>,
    /// Why it will take no further step.
    death: RefCell<Option<String>>,
}

impl State {
    fn answered(&self, answer: Result<FromNode, String>) {
        if let Some(asker) = self.asker.take() {
            // Whoever asked may have stopped waiting.
            let _ = asker.send(answer);
        }
    }

    /// A panic is told twice: by the node itself, in words, and then by the browser.
    fn died(&self, reason: String) {
        if self.death.borrow().is_none() {
            self.death.replace(Some(reason.clone()));
            self.answered(Err(reason));
        }
    }
}

impl Process {
    fn make() -> Result<Process, JsValue> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        options.set_name("node");
        let worker = Worker::new_with_options("worker.js", &options)?;
        let state = Rc::new(State::default());
        let told = state.clone();
        let on_message =
            Closure::<dyn FnMut(_)>::new(move |event: MessageEvent| {
                match wire::read(&event.data()) {
                    Ok(FromNode::Died(reason)) => told.died(reason),
                    Err(reason) => told.died(format!("its program failed: {reason}")),
                    Ok(message) => told.answered(Ok(message)),
                }
            });
        let told = state.clone();
        let on_error = Closure::<dyn FnMut(_)>::new(move |event: Event| {
            event.prevent_default();
            told.died(format!("its worker failed: {}", scope::message(&event)));
        });
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        worker.post_message(&wasm_bindgen::module())?;
        let in_memory = Cell::new(false);
        Ok(Process { worker, in_memory, state, _listeners: (on_message, on_error) })
    }

    async fn ask(&self, message: &ToNode) -> Result<FromNode, String> {
        if let Some(death) = &*self.state.death.borrow() {
            return Err(death.clone());
        }
        self.post(message)?.await.unwrap_or_else(|_| Err(OUT_OF_TURN.to_owned()))
    }

    /// What its disk holds; also of a node that panicked, if its memory can still be asked.
    async fn image(&self) -> Option<DiskImage> {
        let answer = self.post(&ToNode::Image).ok()?;
        let limit = Box::pin(scope::sleep(LAST_WORDS_MS, |_| ()));
        match select(answer, limit).await {
            Either::Left((Ok(Ok(FromNode::Image(image))), _)) => Some(image),
            _ => None,
        }
    }

    fn post(
        &self,
        message: &ToNode,
    ) -> Result<oneshot::Receiver<Result<FromNode, String>>, String> {
        let (asker, answer) = oneshot::channel();
        self.state.asker.set(Some(asker));
        let (bytes, moved) = wire::write(message)?;
        self.worker
            .post_message_with_transfer(&bytes, &moved)
            .map_err(|error| scope::text(&error))?;
        Ok(answer)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // What is still on its way from it would come to listeners that are gone.
        self.worker.set_onmessage(None);
        self.worker.set_onerror(None);
        self.worker.terminate();
    }
}
