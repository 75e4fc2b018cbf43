//! The conductor's worker: gives the conductor time, does its tasks, and talks with the page.
//!
//! One loop does everything. Requests are taken between two rounds of tasks, a round is over when
//! all nodes in it have answered, and the page gets a frame about 60 times a second. While the
//! conductor has nothing to do the loop waits for the next frame or a request; while time stands
//! still and all has been told, for a request alone.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use js_sys::Function;
use wasm_bindgen_futures::spawn_local;

use super::processes::Processes;
use super::storage::Storage;
use super::{scope, wire};
use crate::conductor::{Boot, Conductor};
use crate::protocol::{Report, Request, Settings, StorageKind};

/// Milliseconds between two frames, and where time races: no eye follows it then.
const FRAME_MS: f64 = 1000.0 / 60.0;
const RACING_FRAME_MS: f64 = 100.0;
/// No request has to wait longer than this while the conductor is busy.
const BREATH_MS: f64 = 8.0;
/// Racing time waits so long for what a script does about a command that has ended: else it would
/// have to write at another moment, long after.
const REPLY_MS: f64 = 10.0;
/// For the wait that only a request ends.
const FOREVER_MS: f64 = 1e9;

/// What comes in from outside, at any time.
#[derive(Default)]
struct Inbox {
    requests: RefCell<VecDeque<Request>>,
    /// Ends the loop's wait.
    wake: RefCell<Option<Function>>,
    /// Another tab took the disks.
    lost: Cell<bool>,
}

impl Inbox {
    fn push(&self, requests: Vec<Request>) {
        self.requests.borrow_mut().extend(requests);
        self.wake();
    }

    fn wake(&self) {
        if let Some(wake) = self.wake.take() {
            // The other end is a promise of ours, which takes anything.
            let _ = wake.call0(&wasm_bindgen::JsValue::NULL);
        }
    }

    /// Requests come in bursts, each as a message of its own; those of one burst shall find the
    /// same virtual moment, where their work is done at once.
    async fn collect(&self) {
        let mut known = 0;
        while self.requests.borrow().len() > known {
            known = self.requests.borrow().len();
            scope::breathe().await;
        }
    }

    async fn wait(&self, millis: f64) {
        if self.requests.borrow().is_empty() && !self.lost.get() {
            scope::sleep(millis, |wake| drop(self.wake.replace(Some(wake)))).await;
        }
    }
}

pub(super) fn main() {
    scope::on_panic(|panic| {
        tell(vec![Report::Fatal {
            sentence: format!(
                "The laboratory stopped by a fault of its own; reload the page to begin again. \
                 The fault: {panic}"
            ),
        }]);
    });
    let inbox = Rc::new(Inbox::default());
    let taken = inbox.clone();
    scope::listen(move |message| match wire::read(&message) {
        Ok(requests) => taken.push(requests),
        Err(error) => tell(vec![Report::Fatal {
            sentence: format!(
                "Page and engine are of different builds ({error}): reload the page."
            ),
        }]),
    });
    spawn_local(async move {
        let mut host = Host::start(inbox, false, Settings::default()).await;
        while host.turn().await {}
    });
}

/// Sends reports to the page, if there are any.
fn tell(reports: Vec<Report>) {
    if !reports.is_empty() {
        scope::post(&reports);
    }
}

/// The conductor with all that it needs from the browser.
struct Host {
    inbox: Rc<Inbox>,
    conductor: Conductor,
    processes: Rc<Processes>,
    storage: Storage,
    settings: Settings,
    visible: bool,
    /// When the page got its last frame.
    framed: f64,
    /// When requests could come in last.
    breathed: f64,
    /// Whether time stands still and the page knows everything.
    settled: bool,
    /// Whether the page was just told that a command ended.
    answered: bool,
}

impl Host {
    /// Begins on whatever the disks hold. `steal`: takes them from another tab.
    async fn start(inbox: Rc<Inbox>, steal: bool, mut settings: Settings) -> Host {
        let processes = Rc::new(Processes::default());
        processes.prepare(settings.nodes);
        let losing = inbox.clone();
        let storage = Storage::open(steal, move || {
            losing.lost.set(true);
            losing.wake();
        })
        .await;
        let mut boot = Boot { settings: settings.clone(), ..Boot::default() };
        if let Storage::Browser(disks) = &storage {
            processes.store_in(Some(disks.clone()));
            boot.memory = disks.remembered();
            // Disks that cannot be read are found by the nodes themselves, and reported.
            boot.disks = disks.images().await.unwrap_or_default();
            settings.storage = StorageKind::Browser;
        } else {
            settings.storage = StorageKind::Memory;
        }
        boot.settings.storage = settings.storage;
        tell(vec![storage.report(StorageKind::Browser)]);
        Host {
            inbox,
            conductor: Conductor::new(boot),
            processes,
            storage,
            settings,
            visible: true,
            framed: 0.0,
            breathed: scope::now(),
            settled: false,
            answered: false,
        }
    }

    /// One turn of the loop; false when there is none after it.
    async fn turn(&mut self) -> bool {
        if self.inbox.lost.get() {
            self.give_up();
            return false;
        }
        self.inbox.collect().await;
        let requests = self.inbox.requests.take();
        for request in requests {
            self.settled = false;
            self.request(request).await;
        }
        if self.visible {
            self.conductor.tick(scope::now());
        }
        let tasks = self.conductor.next_tasks();
        let idle = tasks.is_empty();
        if !idle {
            self.settled = false;
            for (node, outcome) in self.processes.perform(tasks).await {
                match outcome {
                    Ok(output) => self.conductor.stepped(node, output),
                    Err(reason) => self.conductor.died(node, reason),
                }
            }
        }
        self.tell_page();
        self.rest(idle).await;
        true
    }

    async fn request(&mut self, request: Request) {
        match request {
            Request::TakeOver => {
                self.processes.end();
                *self = Host::start(self.inbox.clone(), true, self.settings.clone()).await;
            }
            Request::Start { mut settings } => {
                let report = self.storage.report(settings.storage);
                let disks = match &self.storage {
                    Storage::Browser(disks) if settings.storage == StorageKind::Browser => {
                        Some(disks.clone())
                    }
                    _ => None,
                };
                if disks.is_none() {
                    settings.storage = StorageKind::Memory;
                }
                self.processes.store_in(disks);
                self.settings = settings.clone();
                tell(vec![report]);
                self.conductor.request(Request::Start { settings });
            }
            request => {
                if let Request::Visible(visible) = request {
                    self.visible = visible;
                }
                self.conductor.request(request);
            }
        }
    }

    fn tell_page(&mut self) {
        let now = scope::now();
        let frame_ms = if self.conductor.is_racing() { RACING_FRAME_MS } else { FRAME_MS };
        let due = self.visible && !self.settled && now - self.framed >= frame_ms;
        let reports = self.conductor.reports(due);
        self.answered = reports.iter().any(|report| matches!(report, Report::Exit { .. }));
        if due {
            self.framed = now;
            let still =
                |report: &Report| matches!(report, Report::Frame(frame) if frame.lab.is_paused());
            self.settled = reports.iter().any(still);
        }
        tell(reports);
    }

    /// Lets requests come in, and waits as long as nothing is to be done.
    async fn rest(&mut self, idle: bool) {
        let now = scope::now();
        if idle && !self.conductor.is_busy() {
            let still = self.settled || !self.visible;
            let next_frame = (self.framed + FRAME_MS - now).max(1.0);
            self.inbox.wait(if still { FOREVER_MS } else { next_frame }).await;
        } else if self.answered && self.conductor.is_racing() {
            self.inbox.wait(REPLY_MS).await;
        } else if now - self.breathed > BREATH_MS {
            scope::breathe().await;
        } else {
            return;
        }
        self.breathed = scope::now();
    }

    /// Another tab has the disks: they are let go at once, for it is waiting for them.
    fn give_up(&mut self) {
        self.processes.end();
        tell(vec![Report::Fatal {
            sentence: "Another tab took this browser's disks over, so the cluster here was \
                       stopped; reload this page to take them back."
                .to_owned(),
        }]);
    }
}
