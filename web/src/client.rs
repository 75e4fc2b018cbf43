//! The engine as the page sees it: the only file that knows that there is a worker.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use coracle_core::small_map::SmallMap;
use coracle_worker::protocol::{Answer, NodeNumber, Report, Request, Stream};
use futures_channel::oneshot;
use js_sys::{Array, Reflect, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{ErrorEvent, Event, MessageEvent, VisibilityState, Window, Worker};

/// The property of the window with the conductor's worker, which `www/boot.js` starts before the
/// page, and with what came from it until now.
const STARTED: &str = "engine";

/// Code, standard output, standard error.
pub(crate) type Outcome = (i32, String, String);

/// The laboratory's engine. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Engine(Rc<Inner>);

struct Inner {
    on_reports: Box<dyn Fn(Vec<Report>)>,
    worker: RefCell<Option<Worker>>,
    /// Requests that go as one message, when the scripts that make them have had their turn; those
    /// from before the worker is taken over wait for it.
    outbox: RefCell<Vec<Request>>,
    is_leaving: Cell<bool>,
    last_id: Cell<u64>,
    answers: RefCell<SmallMap<u64, oneshot::Sender<Result<Answer, String>>>>,
    commands: RefCell<SmallMap<u64, Command>>,
    readiness: RefCell<Readiness>,
}

/// A command whose output is collected.
struct Command {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// It is interrupted after so many lines of output.
    lines: Option<usize>,
    ended: oneshot::Sender<Outcome>,
}

/// Whether the first frame has come, or none will.
enum Readiness {
    Awaited(Vec<oneshot::Sender<Result<(), String>>>),
    Known(Result<(), String>),
}

impl Engine {
    /// Takes over the conductor's worker; `on_reports` gets all reports but those that somebody
    /// waited for.
    pub(crate) fn start(on_reports: impl Fn(Vec<Report>) + 'static) -> Engine {
        let engine = Engine(Rc::new(Inner {
            on_reports: Box::new(on_reports),
            worker: RefCell::new(None),
            outbox: RefCell::default(),
            is_leaving: Cell::new(false),
            last_id: Cell::new(0),
            answers: RefCell::default(),
            commands: RefCell::default(),
            readiness: RefCell::new(Readiness::Awaited(Vec::new())),
        }));
        let started = engine.clone();
        // The page shall hear of it when it is there itself.
        spawn_local(async move {
            if let Err(error) = started.take_over() {
                let reason = error.as_string().unwrap_or_default();
                started.take(vec![Report::Fatal { sentence: cannot_start(&reason) }]);
            }
        });
        engine
    }

    pub(crate) fn send(&self, request: Request) {
        self.0.outbox.borrow_mut().push(request);
        if !self.0.is_leaving.replace(true) {
            let engine = self.clone();
            spawn_local(async move { engine.post() });
        }
    }

    /// Sends what is in the outbox, if there is somebody to send it to.
    fn post(&self) {
        self.0.is_leaving.set(false);
        let worker = self.0.worker.borrow();
        let Some(worker) = &*worker else { return };
        // Our own types turn into bytes without exception.
        if let Ok(bytes) = coracle_worker::encode(&self.0.outbox.take()) {
            let array = Uint8Array::from(bytes.as_slice());
            let _ = worker.post_message_with_transfer(&array, &Array::of1(&array.buffer()));
        }
    }

    /// A fresh id for a request.
    pub(crate) fn next_id(&self) -> u64 {
        self.0.last_id.set(self.0.last_id.get() + 1);
        self.0.last_id.get()
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, make: impl FnOnce(u64) -> Request) -> Result<Answer, String> {
        self.check()?;
        let id = self.next_id();
        let (sender, answer) = oneshot::channel();
        self.0.answers.borrow_mut().insert(id, sender);
        self.send(make(id));
        answer.await.unwrap_or_else(|_| Err(self.end()))
    }

    /// Runs a command to its end, for which paused time moves on, and collects its output: code,
    /// standard output, standard error. It is given a standard input, and ended by Ctrl-C after so
    /// many lines of output.
    pub(crate) async fn exec_with(
        &self,
        line: &str,
        node: Option<NodeNumber>,
        input: &str,
        lines: Option<usize>,
    ) -> Result<Outcome, String> {
        self.check()?;
        let id = self.next_id();
        let (ended, outcome) = oneshot::channel();
        let command = Command { stdout: Vec::new(), stderr: Vec::new(), lines, ended };
        self.0.commands.borrow_mut().insert(id, command);
        // All at once: a run must not depend on when a later message of the page comes in.
        let input = Some(input.lines().map(str::to_owned).collect());
        self.send(Request::Exec { id, line: line.to_owned(), node, input, advance: true });
        outcome.await.map_err(|_| self.end())
    }

    /// Waits until the cluster is on the page, or cannot be.
    pub(crate) async fn ready(&self) -> Result<(), String> {
        let known = match &mut *self.0.readiness.borrow_mut() {
            Readiness::Known(result) => return result.clone(),
            Readiness::Awaited(waiting) => {
                let (sender, known) = oneshot::channel();
                waiting.push(sender);
                known
            }
        };
        known.await.unwrap_or_else(|_| Err(self.end()))
    }

    /// Fails when the engine has stopped for good.
    fn check(&self) -> Result<(), String> {
        match &*self.0.readiness.borrow() {
            Readiness::Known(result) => result.clone(),
            Readiness::Awaited(_) => Ok(()),
        }
    }

    /// Why nobody answers any more.
    fn end(&self) -> String {
        self.check().err().unwrap_or_else(|| "the engine has stopped".to_owned())
    }

    fn take_over(&self) -> Result<(), JsValue> {
        let window = web_sys::window().ok_or("there is no window")?;
        let started = Reflect::get(&window, &STARTED.into())?;
        let worker = Reflect::get(&started, &"worker".into())?.dyn_into::<Worker>().ok();
        if let Some(worker) = &worker {
            self.listen(worker);
        }
        self.0.worker.replace(worker);
        self.post();
        for message in Array::from(&Reflect::get(&started, &"early".into())?) {
            self.hear(&message);
        }
        self.watch_visibility(&window);
        Ok(())
    }

    fn listen(&self, worker: &Worker) {
        let engine = self.clone();
        let on_message = Closure::<dyn FnMut(_)>::new(move |event: MessageEvent| {
            engine.hear(&event.data());
        });
        let engine = self.clone();
        let on_error = Closure::<dyn FnMut(_)>::new(move |event: Event| {
            // A script that cannot be run, as where workers are no modules, says nothing.
            let message = event.dyn_ref::<ErrorEvent>().map(ErrorEvent::message);
            let message = message.unwrap_or_else(|| "its script does not run".into());
            engine.hear(&message.into());
        });
        worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
        // The page has one engine, as long as it lives.
        on_message.forget();
        on_error.forget();
    }

    /// Takes what the worker says: reports, or a text that says why there will be none.
    fn hear(&self, message: &JsValue) {
        let Some(reason) = message.as_string() else {
            return self.take(reports(&Uint8Array::new(message)));
        };
        let has_begun = matches!(*self.0.readiness.borrow(), Readiness::Known(_));
        let sentence = if has_begun { failed(&reason) } else { cannot_start(&reason) };
        self.take(vec![Report::Fatal { sentence }]);
    }

    /// A hidden tab's timers are throttled: its time stands still instead.
    fn watch_visibility(&self, window: &Window) {
        let Some(document) = window.document() else {
            return;
        };
        let engine = self.clone();
        let watched = document.clone();
        let tell = move || {
            let visible = watched.visibility_state() != VisibilityState::Hidden;
            engine.send(Request::Visible(visible));
        };
        if document.visibility_state() == VisibilityState::Hidden {
            tell();
        }
        let on_change = Closure::<dyn FnMut()>::new(tell);
        let listener = on_change.as_ref().unchecked_ref();
        // Without it time runs on in a hidden tab, slowly: not worth an error.
        let _ = document.add_event_listener_with_callback("visibilitychange", listener);
        on_change.forget();
    }

    /// Gives each report to whoever waits for it, and the others to the page.
    fn take(&self, mut reports: Vec<Report>) {
        reports.retain(|report| match report {
            Report::Done { id, result } => self.answered(*id, result),
            Report::Output { id, stream, data } => !self.printed(*id, *stream, data),
            Report::Exit { id, code } => !self.ended(*id, *code),
            Report::Frame(_) => {
                self.know(Ok(()));
                true
            }
            Report::Fatal { sentence } => {
                self.know(Err(sentence.clone()));
                // Nobody will answer: whoever waits is told so.
                self.0.answers.borrow_mut().clear();
                self.0.commands.borrow_mut().clear();
                true
            }
            Report::Storage { .. } | Report::File { .. } => true,
        });
        if !reports.is_empty() {
            (self.0.on_reports)(reports);
        }
    }

    /// Returns whether the page has to know too: of what failed.
    fn answered(&self, id: u64, result: &Result<Answer, String>) -> bool {
        if let Some(sender) = self.0.answers.borrow_mut().remove(&id) {
            let _ = sender.send(result.clone());
        }
        result.is_err()
    }

    /// Collects what a command printed, if it is one whose output is collected.
    fn printed(&self, id: u64, stream: Stream, data: &[u8]) -> bool {
        let mut commands = self.0.commands.borrow_mut();
        let Some(command) = commands.get_mut(&id) else { return false };
        match stream {
            Stream::Stdout => command.stdout.extend_from_slice(data),
            Stream::Stderr => command.stderr.extend_from_slice(data),
        }
        let Some(lines) = command.lines else { return true };
        if command.stdout.iter().filter(|byte| **byte == b'\n').count() >= lines {
            command.lines = None;
            self.send(Request::Interrupt { id });
        }
        true
    }

    /// Gives a collected command to whoever ran it.
    fn ended(&self, id: u64, code: i32) -> bool {
        let Some(command) = self.0.commands.borrow_mut().remove(&id) else { return false };
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let outcome = (code, text(command.stdout), text(command.stderr));
        let _ = command.ended.send(outcome);
        true
    }

    fn know(&self, result: Result<(), String>) {
        let before = self.0.readiness.replace(Readiness::Known(result.clone()));
        if let Readiness::Awaited(waiting) = before {
            for sender in waiting {
                let _ = sender.send(result.clone());
            }
        }
    }
}

fn reports(message: &Uint8Array) -> Vec<Report> {
    coracle_worker::decode(&message.to_vec()).unwrap_or_else(|error| {
        let sentence =
            format!("Page and engine are of different builds ({error}): reload the page.");
        vec![Report::Fatal { sentence }]
    })
}

fn failed(reason: &str) -> String {
    format!("The laboratory stopped by a fault of its own ({reason}); reload the page.")
}

fn cannot_start(reason: &str) -> String {
    format!(
        "The cluster does not start ({reason}): it takes WebAssembly and Web Workers of type \
         module, which browsers of 2023 and later have. The server and its documentation work \
         without."
    )
}
