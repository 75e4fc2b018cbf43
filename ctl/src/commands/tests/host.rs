//! A scripted host: virtual time, a client that records what it is asked and answers from a list.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::{Future, poll_fn, ready};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use coracle_core::api::etcdserverpb::*;
use futures_util::future::LocalBoxFuture;
use futures_util::{FutureExt, StreamExt, stream};

use crate::client::{Client, Duplex, Replies, Reply, Requests, RpcError};
use crate::environment::{Connection, Credentials, Environment, FileWriter};

/// What happened, in order: requests as they print, files, programs, connections that failed.
type Log = Rc<RefCell<Vec<String>>>;

/// Answers of one kind of stream: a list of streams, each a list of replies.
type Streams<T> = RefCell<VecDeque<Vec<Result<T, RpcError>>>>;

/// The scripted part.
#[derive(Default)]
pub(super) struct Script {
    pub(super) stdin: RefCell<VecDeque<&'static str>>,
    pub(super) variables: Vec<(&'static str, &'static str)>,
    /// The unary requests that fail, by the start of how they print.
    pub(super) errors: Vec<(&'static str, RpcError)>,
    /// The unary requests that take some time, by the start of how they print.
    pub(super) slow: Vec<(&'static str, Duration)>,
    /// What `range`, `status`, `alarm` and `member_add` answer; the others answer empty messages.
    pub(super) range: RangeResponse,
    pub(super) status: VecDeque<StatusResponse>,
    pub(super) alarms: Vec<AlarmMember>,
    pub(super) member_add: MemberAddResponse,
    pub(super) watches: Streams<WatchResponse>,
    pub(super) keep_alives: Streams<LeaseKeepAliveResponse>,
    pub(super) snapshot: RefCell<Vec<SnapshotResponse>>,
    /// Endpoints that refuse connections, for ever and until then.
    pub(super) unreachable: Vec<&'static str>,
    pub(super) reachable_from: Duration,
    pub(super) interrupt_at: Option<Duration>,
    /// How programs end.
    pub(super) program_ends: i32,
}

#[derive(Clone, Default)]
struct Clock {
    now: Rc<Cell<Duration>>,
    sleepers: Rc<RefCell<Vec<(Duration, Waker)>>>,
}

impl Clock {
    fn sleep(&self, duration: Duration) -> LocalBoxFuture<'static, ()> {
        let clock = self.clone();
        let deadline = clock.now.get() + duration;
        poll_fn(move |context| {
            if clock.now.get() >= deadline {
                return Poll::Ready(());
            }
            clock.sleepers.borrow_mut().push((deadline, context.waker().clone()));
            Poll::Pending
        })
        .boxed_local()
    }

    /// Lets the time pass until the next sleeper wakes.
    fn advance(&self) {
        let sleepers = self.sleepers.take();
        let later = sleepers.iter().map(|(at, _)| *at).filter(|at| *at > self.now.get());
        self.now.set(later.min().expect("the command waits for something that never comes"));
        for (_, waker) in sleepers {
            waker.wake();
        }
    }
}

pub(super) struct Host {
    script: Rc<Script>,
    clock: Clock,
    log: Log,
    stdout: RefCell<Vec<u8>>,
    stderr: RefCell<Vec<u8>>,
}

/// What a run left behind.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) log: Vec<String>,
    pub(super) took: Duration,
}

/// Runs a command line; its words are split at spaces, and `''` is an empty word.
pub(super) fn run(line: &str, script: Script) -> Ran {
    let words = line.split_whitespace().map(|word| word.replace("''", "").into_bytes()).collect();
    let host = Host {
        script: Rc::new(script),
        clock: Clock::default(),
        log: Log::default(),
        stdout: RefCell::default(),
        stderr: RefCell::default(),
    };
    let code = {
        let mut command = pin!(crate::run(words, &host));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(code) = command.as_mut().poll(&mut context) {
                break code;
            }
            host.clock.advance();
        }
    };
    let text = |bytes: RefCell<Vec<u8>>| String::from_utf8(bytes.into_inner()).unwrap();
    Ran {
        code,
        stdout: text(host.stdout),
        stderr: text(host.stderr),
        log: host.log.take(),
        took: host.clock.now.get(),
    }
}

impl Environment for Host {
    fn stdout(&self, data: &[u8]) {
        self.stdout.borrow_mut().extend_from_slice(data);
    }

    fn stderr(&self, data: &[u8]) {
        self.stderr.borrow_mut().extend_from_slice(data);
    }

    /// A line `...` of the script is a pause of a second.
    fn read_line(&self) -> LocalBoxFuture<'_, Result<Option<Vec<u8>>, String>> {
        let line = self.script.stdin.borrow_mut().pop_front();
        if line == Some("...") {
            let pause = self.clock.sleep(Duration::from_secs(1));
            return pause.then(|()| self.read_line()).boxed_local();
        }
        ready(Ok(line.map(|line| line.as_bytes().to_vec()))).boxed_local()
    }

    fn read_password(&self, _: &str) -> LocalBoxFuture<'_, Result<String, String>> {
        ready(Ok("secret".to_string())).boxed_local()
    }

    fn variable(&self, name: &str) -> Option<String> {
        let mut variables = self.script.variables.iter();
        variables.find(|(key, _)| *key == name).map(|(_, value)| value.to_string())
    }

    fn now(&self) -> Duration {
        self.clock.now.get()
    }

    fn sleep(&self, duration: Duration) -> LocalBoxFuture<'static, ()> {
        self.clock.sleep(duration)
    }

    fn create_file(&self, path: &str) -> LocalBoxFuture<'_, Result<Box<dyn FileWriter>, String>> {
        self.log.borrow_mut().push(format!("create {path}"));
        let file = File { log: self.log.clone(), size: 0 };
        ready(Ok(Box::new(file) as Box<dyn FileWriter>)).boxed_local()
    }

    fn discover(
        &self,
        domain: &str,
        name: &str,
    ) -> LocalBoxFuture<'_, Result<Vec<String>, String>> {
        self.log.borrow_mut().push(format!("discover {domain} {name}"));
        let found = match domain {
            "nowhere" => Err("dns lookup errors: no such host".to_owned()),
            _ => Ok(vec![format!("https://m1.{domain}:1"), format!("http://m2.{domain}:2")]),
        };
        ready(found).boxed_local()
    }

    fn connect(
        &self,
        connection: Connection,
    ) -> LocalBoxFuture<'_, Result<Box<dyn Client>, RpcError>> {
        let endpoints = connection.endpoints.join(" ");
        let is_there = self.clock.now.get() >= self.script.reachable_from;
        if self.script.unreachable.contains(&endpoints.as_str()) || !is_there {
            let message = format!("{endpoints} refuses");
            return ready(Err(RpcError { code: 14, message })).boxed_local();
        }
        if endpoints != "127.0.0.1:2379" {
            self.log.borrow_mut().push(format!("connect {endpoints}"));
        }
        if let Some(credentials) = connection.credentials {
            let shown = match credentials {
                Credentials::User(name, password) => format!("as {:?}", (name, password)),
                Credentials::Token(token) => format!("with {token}"),
            };
            self.log.borrow_mut().push(shown);
        }
        let (script, clock, log) = (self.script.clone(), self.clock.clone(), self.log.clone());
        let client = Scripted { script, clock, log };
        ready(Ok(Box::new(client) as Box<dyn Client>)).boxed_local()
    }

    fn execute(
        &self,
        command: &[String],
        variables: &[(String, String)],
    ) -> LocalBoxFuture<'_, Result<i32, String>> {
        self.log.borrow_mut().push(format!("execute {command:?} {variables:?}"));
        ready(Ok(self.script.program_ends)).boxed_local()
    }

    fn interrupted(&self) -> LocalBoxFuture<'static, ()> {
        match self.script.interrupt_at {
            Some(at) => self.clock.sleep(at),
            None => std::future::pending().boxed_local(),
        }
    }
}

struct File {
    log: Log,
    size: usize,
}

impl FileWriter for File {
    fn write(&mut self, data: Bytes) -> LocalBoxFuture<'_, Result<(), String>> {
        self.size += data.len();
        ready(Ok(())).boxed_local()
    }

    fn finish(self: Box<Self>) -> LocalBoxFuture<'static, Result<(), String>> {
        self.log.borrow_mut().push(format!("finish {} bytes", self.size));
        ready(Ok(())).boxed_local()
    }
}

struct Scripted {
    script: Rc<Script>,
    clock: Clock,
    log: Log,
}

impl Scripted {
    fn answer<Q: Debug, A: 'static>(&self, request: &Q, answer: A) -> Reply<'static, A> {
        let shown = format!("{request:?}");
        let mut errors = self.script.errors.iter();
        let error = errors.find(|(start, _)| shown.starts_with(start));
        let mut slow = self.script.slow.iter();
        let pause = slow.find(|(start, _)| shown.starts_with(start)).map(|(_, pause)| *pause);
        self.log.borrow_mut().push(shown);
        let answer = error.map_or(Ok(answer), |(_, error)| Err(error.clone()));
        match pause {
            Some(pause) => self.clock.sleep(pause).map(|()| answer).boxed_local(),
            None => ready(answer).boxed_local(),
        }
    }

    /// The next stream of the script; when the list is empty, one that never answers.
    fn open<Q: Debug + 'static, A: 'static>(&self, streams: &Streams<A>) -> Duplex<Q, A> {
        let replies = match streams.borrow_mut().pop_front() {
            Some(replies) => stream::iter(replies).boxed_local(),
            None => stream::pending().boxed_local(),
        };
        Duplex { requests: Box::new(Sink(self.log.clone())), replies }
    }
}

struct Sink(Log);

impl<Q: Debug> Requests<Q> for Sink {
    fn send(&self, request: Q) -> Result<(), RpcError> {
        self.0.borrow_mut().push(format!("{request:?}"));
        Ok(())
    }
}

macro_rules! unary {
    ($($method:ident $request:ident $reply:ident;)*) => {$(
        fn $method(&self, request: $request) -> Reply<'_, $reply> {
            self.answer(&request, $reply::default())
        }
    )*};
}

impl Client for Scripted {
    unary! {
        put PutRequest PutResponse;
        delete_range DeleteRangeRequest DeleteRangeResponse;
        txn TxnRequest TxnResponse;
        compact CompactionRequest CompactionResponse;
        lease_grant LeaseGrantRequest LeaseGrantResponse;
        lease_revoke LeaseRevokeRequest LeaseRevokeResponse;
        lease_time_to_live LeaseTimeToLiveRequest LeaseTimeToLiveResponse;
        lease_leases LeaseLeasesRequest LeaseLeasesResponse;
        member_remove MemberRemoveRequest MemberRemoveResponse;
        member_update MemberUpdateRequest MemberUpdateResponse;
        member_list MemberListRequest MemberListResponse;
        member_promote MemberPromoteRequest MemberPromoteResponse;
        defragment DefragmentRequest DefragmentResponse;
        hash_kv HashKvRequest HashKvResponse;
        move_leader MoveLeaderRequest MoveLeaderResponse;
        downgrade DowngradeRequest DowngradeResponse;
    }

    fn range(&self, request: RangeRequest) -> Reply<'_, RangeResponse> {
        self.answer(&request, self.script.range.clone())
    }

    fn member_add(&self, request: MemberAddRequest) -> Reply<'_, MemberAddResponse> {
        self.answer(&request, self.script.member_add.clone())
    }

    fn status(&self, request: StatusRequest) -> Reply<'_, StatusResponse> {
        let asked = self.log.borrow().iter().filter(|line| *line == "StatusRequest").count();
        let status = self.script.status.get(asked).cloned().unwrap_or_default();
        self.answer(&request, status)
    }

    fn alarm(&self, request: AlarmRequest) -> Reply<'_, AlarmResponse> {
        let is_deactivate = request.action() == alarm_request::AlarmAction::Deactivate;
        let is_it = |alarm: &&AlarmMember| {
            !is_deactivate || alarm.member_id == request.member_id && alarm.alarm == request.alarm
        };
        let alarms = self.script.alarms.iter().filter(is_it).cloned().collect();
        self.answer(&request, AlarmResponse { header: None, alarms })
    }

    fn watch(&self) -> Duplex<WatchRequest, WatchResponse> {
        self.open(&self.script.watches)
    }

    fn watch_without_leader(&self) -> Duplex<WatchRequest, WatchResponse> {
        self.log.borrow_mut().push("a leader is not needed".to_owned());
        self.open(&self.script.watches)
    }

    fn lease_keep_alive(&self) -> Duplex<LeaseKeepAliveRequest, LeaseKeepAliveResponse> {
        self.open(&self.script.keep_alives)
    }

    fn snapshot(&self, request: SnapshotRequest) -> Replies<SnapshotResponse> {
        self.log.borrow_mut().push(format!("{request:?}"));
        stream::iter(self.script.snapshot.take().into_iter().map(Ok)).boxed_local()
    }
}
