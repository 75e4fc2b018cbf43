//! The host of one command of the terminal: output, input, virtual time, connections.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use coracle_core::platform::step::{Executor, StepRuntime};
use coracle_ctl::client::{Client, RpcError};
use coracle_ctl::environment::{Connection, Environment, FileWriter};
use futures_util::future::LocalBoxFuture;
use openraft_rt::AsyncRuntime;

use super::rpc::{LabClient, SharedWire};
use crate::node::node_name;
use crate::protocol::{MAX_NODES, NodeNumber, Report, Stream};

/// gRPC's code for arguments that make no sense.
const INVALID_ARGUMENT: u32 = 3;
/// The command line's variable for `--endpoints`.
const ENDPOINTS: &str = "ETCDCTL_ENDPOINTS";

/// What commands have to say to the page.
pub(super) type Outbox = Rc<RefCell<Vec<Report>>>;

/// The keyboard of one command.
#[derive(Default)]
pub(super) struct Keyboard {
    lines: VecDeque<Vec<u8>>,
    ended: bool,
    interrupted: bool,
    waiting: Vec<Waker>,
}

impl Keyboard {
    /// Types a line, or the end of input.
    pub(super) fn type_line(&mut self, line: Option<String>) {
        match line {
            Some(line) => self.lines.push_back(format!("{line}\n").into_bytes()),
            None => self.ended = true,
        }
        self.wake();
    }

    pub(super) fn interrupt(&mut self) {
        self.interrupted = true;
        self.wake();
    }

    fn wake(&mut self) {
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

pub(super) struct Terminal {
    pub(super) id: u64,
    pub(super) outbox: Outbox,
    pub(super) keyboard: Rc<RefCell<Keyboard>>,
    pub(super) wire: SharedWire,
    /// Whom the command asks unless it names endpoints.
    pub(super) nodes: Vec<NodeNumber>,
}

impl Terminal {
    fn write(&self, stream: Stream, data: &[u8]) {
        let report = Report::Output { id: self.id, stream, data: data.to_vec() };
        self.outbox.borrow_mut().push(report);
    }

    async fn line(&self) -> Option<Vec<u8>> {
        std::future::poll_fn(|context| {
            let mut keyboard = self.keyboard.borrow_mut();
            if let Some(line) = keyboard.lines.pop_front() {
                return Poll::Ready(Some(line));
            }
            if keyboard.ended {
                return Poll::Ready(None);
            }
            keyboard.waiting.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Environment for Terminal {
    fn stdout(&self, data: &[u8]) {
        self.write(Stream::Stdout, data);
    }

    fn stderr(&self, data: &[u8]) {
        self.write(Stream::Stderr, data);
    }

    fn read_line(&self) -> LocalBoxFuture<'_, Result<Option<Vec<u8>>, String>> {
        Box::pin(async { Ok(self.line().await) })
    }

    fn read_password(&self, prompt: &str) -> LocalBoxFuture<'_, Result<String, String>> {
        self.stderr(prompt.as_bytes());
        Box::pin(async {
            let line = self.line().await.unwrap_or_default();
            let text = String::from_utf8_lossy(&line);
            Ok(text.trim_end_matches('\n').to_owned())
        })
    }

    fn variable(&self, name: &str) -> Option<String> {
        let endpoints = || {
            let all = self.nodes.iter().map(|node| format!("{}:2379", node_name(*node)));
            all.collect::<Vec<_>>().join(",")
        };
        (name == ENDPOINTS).then(endpoints)
    }

    fn now(&self) -> Duration {
        Executor::current().now()
    }

    fn sleep(&self, duration: Duration) -> LocalBoxFuture<'static, ()> {
        Box::pin(StepRuntime::sleep(duration))
    }

    fn create_file(&self, path: &str) -> LocalBoxFuture<'_, Result<Box<dyn FileWriter>, String>> {
        let name = path.rsplit('/').next().unwrap_or(path).to_owned();
        let file = PageFile { id: self.id, name, data: Vec::new(), outbox: self.outbox.clone() };
        Box::pin(async { Ok(Box::new(file) as Box<dyn FileWriter>) })
    }

    fn connect(
        &self,
        connection: Connection,
    ) -> LocalBoxFuture<'_, Result<Box<dyn Client>, RpcError>> {
        let nodes: Result<Vec<NodeNumber>, RpcError> =
            connection.endpoints.iter().map(|endpoint| node_at(endpoint)).collect();
        let client = nodes
            .map(|nodes| Box::new(LabClient::new(self.wire.clone(), nodes)) as Box<dyn Client>);
        Box::pin(async { client })
    }

    fn interrupted(&self) -> LocalBoxFuture<'static, ()> {
        let keyboard = self.keyboard.clone();
        Box::pin(std::future::poll_fn(move |context| {
            let mut keyboard = keyboard.borrow_mut();
            if keyboard.interrupted {
                return Poll::Ready(());
            }
            keyboard.waiting.push(context.waker().clone());
            Poll::Pending
        }))
    }
}

/// The node that an endpoint names.
fn node_at(endpoint: &str) -> Result<NodeNumber, RpcError> {
    let address = endpoint.split_once("://").map_or(endpoint, |(_, address)| address);
    let host = address.split([':', '/']).next().unwrap_or_default();
    let number = (1..=MAX_NODES).find(|number| node_name(*number) == host);
    number.ok_or_else(|| RpcError {
        code: INVALID_ARGUMENT,
        message: format!(
            "no node at the endpoint {endpoint}: here they are node1:2379 to node{MAX_NODES}:2379"
        ),
    })
}

/// A file that becomes a download.
struct PageFile {
    id: u64,
    name: String,
    data: Vec<u8>,
    outbox: Outbox,
}

impl FileWriter for PageFile {
    fn write(&mut self, data: Bytes) -> LocalBoxFuture<'_, Result<(), String>> {
        self.data.extend_from_slice(&data);
        Box::pin(async { Ok(()) })
    }

    fn finish(self: Box<Self>) -> LocalBoxFuture<'static, Result<(), String>> {
        let PageFile { id, name, data, outbox } = *self;
        outbox.borrow_mut().push(Report::File { id, name, data });
        Box::pin(async { Ok(()) })
    }
}
