//! `watch`, on the command line and interactively.
//!
//! All watches of a run share one stream. A stream that breaks is opened again, and each watch goes
//! on after the last revision that it has seen, so that no event is missed or told twice; a watch
//! ends only if the server cancels it (usually because its revision has been compacted), or if the
//! member has lost its leader: what it tells may be old then.
//!
//! `watch key -- command args` runs the command for each event, where the host can.

use std::time::Duration;

use coracle_core::api::etcdserverpb::watch_request::RequestUnion;
use coracle_core::api::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use coracle_core::api::mvccpb::Event;
use futures_util::StreamExt;
use futures_util::future::{Either, select};

use super::txn::split_words;
use super::{Context, Exit, Failure, INTERNAL, UNAVAILABLE, prefix_range};
use crate::args::{Command, Flag, FlagError, Kind, Parsed};
use crate::client::{Client, Duplex, RpcError};
use crate::format::Output;
use crate::go::{exit_text, quote};

pub(super) const COMMAND: Command = Command {
    name: "watch",
    usage: "[options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    short: "Watches events stream on keys or prefixes",
    long: "",
    flags: &FLAGS,
    subcommands: &[],
    run: Some(|context| Box::pin(watch(context))),
};

static FLAGS: [Flag; 5] = [
    Flag::switch("interactive", "Interactive mode").short('i'),
    Flag::switch("prefix", "Watch on a prefix if prefix is set"),
    Flag::switch("prev-kv", "get the previous key-value pair before the event happens"),
    Flag::switch("progress-notify", "get periodic watch progress notification from server"),
    Flag::new("rev", Kind::Int64, "0", "Revision to start watching"),
];

/// What a member says that has lost its leader.
const NO_LEADER: &str = "etcdserver: no leader";

/// Pause before a broken stream is opened again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

const COUNT: &str = "bad number of arguments";

async fn watch(context: &Context<'_>) -> Result<(), Failure> {
    let given = Given::from_environment(context)?;
    let mut client = None;
    let connect = async || context.patient_client(context.connection().await?).await;
    if !context.parsed.is_on("interactive") {
        let watcher = Watcher::parse(&context.parsed, &given)?.map_err(Failure::arguments)?;
        let client = client.insert(connect().await?);
        let mut watches = Watches::open(context, client.as_ref());
        watches.add(watcher);
        while !watches.is_empty() {
            let reply = watches.next().await;
            watches.take(reply).await?;
        }
        return Err(Failure::new(Exit::Interrupted, "watch is canceled by the server"));
    }
    let client = client.insert(connect().await?);
    let mut watches = Watches::open(context, client.as_ref());
    let mut line = context.environment.read_line();
    loop {
        // Input goes first, so that a flood of events cannot keep the user from being heard.
        let first = match select(line, Box::pin(watches.next())).await {
            Either::Left((input, _)) => Either::Left(input),
            Either::Right((reply, unread)) => Either::Right((reply, unread)),
        };
        match first {
            Either::Left(input) => {
                interact(context, &given, input, &mut watches)?;
                line = context.environment.read_line();
            }
            Either::Right((reply, unread)) => {
                watches.take(reply).await?;
                line = unread;
            }
        }
    }
}

/// Does what a line of interactive input says.
fn interact(
    context: &Context<'_>,
    given: &Given,
    input: Result<Option<Vec<u8>>, String>,
    watches: &mut Watches<'_>,
) -> Result<(), Failure> {
    let unreadable = |error: String| {
        let message = format!("error reading watch request line: {error}");
        Failure::new(Exit::InvalidInput, message)
    };
    let Some(line) = input.map_err(unreadable)?.filter(|line| line.ends_with(b"\n")) else {
        return Err(unreadable("EOF".into()));
    };
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let shown = String::from_utf8_lossy(line);
    let words = split_words(line)?;
    match words.split_first().map(|(name, rest)| (name.as_slice(), rest)) {
        None => {
            context.complain(&format!("Invalid command: {shown} (watch and progress supported)"));
        }
        Some((b"watch", [])) if given.key.is_empty() => {
            context.complain(&format!(
                "Invalid command {shown} (command type or key is not provided)"
            ));
        }
        Some((b"watch", words)) => {
            let parsed = Parsed::parse(&[&FLAGS], words).map_err(|error| match error {
                FlagError::Bad(message) => Failure::arguments(message),
                FlagError::Help => Failure::arguments("pflag: help requested"),
            })?;
            match Watcher::parse(&parsed, given)? {
                Ok(watcher) => watches.add(watcher),
                Err(error) => context.complain(&format!("Invalid command {shown} ({error})")),
            }
        }
        Some((b"progress", _)) => watches.request_progress(),
        Some(_) => {
            context.complain(&format!("Invalid command {shown} (only support watch)"));
        }
    }
    Ok(())
}

/// The range given by the environment; empty if not.
struct Given {
    key: Vec<u8>,
    range_end: Vec<u8>,
}

impl Given {
    fn from_environment(context: &Context<'_>) -> Result<Given, Failure> {
        let variable = |name| context.environment.variable(name).unwrap_or_default().into_bytes();
        let key = variable("ETCDCTL_WATCH_KEY");
        let range_end = variable("ETCDCTL_WATCH_RANGE_END");
        if key.is_empty() && !range_end.is_empty() {
            return Err(Failure::arguments(format!(
                "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={}",
                quote(&range_end)
            )));
        }
        Ok(Given { key, range_end })
    }
}

/// One watch: what it asks for, and where it is.
struct Watcher {
    request: WatchCreateRequest,
    /// What to run for each event, or nothing.
    command: Vec<String>,
    /// Whether the server has answered it.
    is_created: bool,
}

impl Watcher {
    /// The watch that the arguments mean. The inner error is one that an interactive watch
    /// survives.
    fn parse(parsed: &Parsed, given: &Given) -> Result<Result<Watcher, &'static str>, Failure> {
        let arguments = parsed.arguments.as_slice();
        let (words, command) = match parsed.before_dashes {
            Some(index) => arguments.split_at(index),
            None => (arguments, &[][..]),
        };
        if parsed.before_dashes.is_some() && command.is_empty() {
            let message = format!("{COUNT} (found separator --, but no commands)");
            return Err(Failure::arguments(message));
        }
        let mut range = vec![given.key.as_slice(), given.range_end.as_slice()];
        range.retain(|word| !word.is_empty());
        if !range.is_empty() && !words.is_empty() {
            let message = format!("{COUNT} (found conflicting environment key)");
            return Err(Failure::arguments(message));
        }
        range.extend(words.iter().map(Vec::as_slice));
        let prefix = parsed.is_on("prefix");
        let (key, range_end) = match range.as_slice() {
            [] => return Err(Failure::arguments(COUNT)),
            [_, _] if prefix => {
                return Ok(Err("`range_end` and `--prefix` are mutually exclusive"));
            }
            [key, end] => (key.to_vec(), end.to_vec()),
            [key, ..] if prefix => prefix_range(key),
            [key, ..] => (key.to_vec(), Vec::new()),
        };
        let text = |word: &Vec<u8>| String::from_utf8_lossy(word).into_owned();
        Ok(Ok(Watcher {
            request: WatchCreateRequest {
                key: key.into(),
                range_end: range_end.into(),
                start_revision: parsed.int64("rev"),
                progress_notify: parsed.is_on("progress-notify"),
                filters: Vec::new(),
                prev_kv: parsed.is_on("prev-kv"),
                watch_id: 0,
                fragment: false,
            },
            command: command.iter().map(text).collect(),
            is_created: false,
        }))
    }
}

/// The watches of this run, over one stream.
pub(super) struct Watches<'a> {
    context: &'a Context<'a>,
    client: &'a dyn Client,
    needs_leader: bool,
    stream: Duplex<WatchRequest, WatchResponse>,
    /// The stream has ended: it must be opened again before it is read.
    is_broken: bool,
    watchers: Vec<Watcher>,
    last_id: i64,
}

impl<'a> Watches<'a> {
    /// Watches that end when their member has no leader.
    fn open(context: &'a Context<'a>, client: &'a dyn Client) -> Watches<'a> {
        Watches::over(context, client, true)
    }

    /// Watches that wait until there is a leader again.
    #[cfg(feature = "native")]
    pub(super) fn open_without_leader(
        context: &'a Context<'a>,
        client: &'a dyn Client,
    ) -> Watches<'a> {
        Watches::over(context, client, false)
    }

    fn over(context: &'a Context<'a>, client: &'a dyn Client, needs_leader: bool) -> Watches<'a> {
        let stream = open_stream(client, needs_leader);
        let watchers = Vec::new();
        Watches { context, client, needs_leader, stream, is_broken: false, watchers, last_id: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watchers.is_empty()
    }

    /// Adds a watch whose replies are not shown by [`Watches::take`] but looked at by the caller.
    #[cfg(feature = "native")]
    pub(super) fn follow(&mut self, request: WatchCreateRequest) {
        self.add(Watcher { request, command: Vec::new(), is_created: false });
    }

    fn add(&mut self, mut watcher: Watcher) {
        // The IDs are ours, so that replies need not be matched to requests by their order.
        self.last_id += 1;
        watcher.request.watch_id = self.last_id;
        self.send(RequestUnion::CreateRequest(watcher.request.clone()));
        self.watchers.push(watcher);
    }

    fn request_progress(&mut self) {
        if !self.watchers.is_empty() {
            self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        }
    }

    fn send(&mut self, request: RequestUnion) {
        // A stream that takes no requests has ended; that is found out where it is read.
        let _ = self.stream.requests.send(WatchRequest { request_union: Some(request) });
    }

    /// The next reply; an error is one that ends all watches. Does not end while the stream is
    /// only interrupted, or nothing is watched. Safe to drop and call again.
    pub(super) async fn next(&mut self) -> Result<WatchResponse, RpcError> {
        loop {
            if self.watchers.is_empty() {
                std::future::pending::<()>().await;
            }
            if self.is_broken {
                self.reopen().await;
            }
            match self.stream.replies.next().await {
                Some(Ok(response)) => return Ok(response),
                Some(Err(error)) if self.is_final(&error) => return Err(error),
                _ => self.is_broken = true,
            }
        }
    }

    fn is_final(&self, error: &RpcError) -> bool {
        !matches!(error.code, UNAVAILABLE | INTERNAL)
            || self.needs_leader && error.message == NO_LEADER
    }

    async fn reopen(&mut self) {
        self.context.environment.sleep(RETRY_PAUSE).await;
        self.stream = open_stream(self.client, self.needs_leader);
        self.is_broken = false;
        for index in 0..self.watchers.len() {
            self.watchers[index].is_created = false;
            let request = self.watchers[index].request.clone();
            self.send(RequestUnion::CreateRequest(request));
        }
    }

    /// Shows a reply, and drops the watch that it cancels.
    async fn take(&mut self, reply: Result<WatchResponse, RpcError>) -> Result<(), Failure> {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                let canceled = WatchResponse { canceled: true, ..WatchResponse::default() };
                for _ in std::mem::take(&mut self.watchers) {
                    self.context.complain(&format!("watch was canceled ({error})"));
                    self.context.show(&Output::Watch(canceled.clone()))?;
                }
                return Ok(());
            }
        };
        let indexes = self.addressees(&reply);
        for index in indexes {
            if !reply.created || reply.canceled {
                self.show(&reply, index).await?;
            }
        }
        self.settle(&reply);
        Ok(())
    }

    /// Notes where the watches that `reply` is for go on, and drops what it cancels.
    pub(super) fn settle(&mut self, reply: &WatchResponse) {
        for index in self.addressees(reply).into_iter().rev() {
            let watcher = &mut self.watchers[index];
            watcher.is_created |= reply.created;
            if let Some(revision) = next_revision(reply, watcher.request.start_revision) {
                watcher.request.start_revision = revision;
            }
            if reply.canceled {
                self.watchers.remove(index);
            }
        }
    }

    /// Those whom a reply is for. Without an id it is the answer to a progress request, for every
    /// watch, or the refusal of the oldest watch that has not been answered yet.
    fn addressees(&self, reply: &WatchResponse) -> Vec<usize> {
        let refused = self.watchers.iter().position(|watcher| !watcher.is_created);
        let is_for = |(index, watcher): &(usize, &Watcher)| match (reply.watch_id, reply.created) {
            (-1, true) => refused == Some(*index),
            (-1, false) => true,
            (id, _) => watcher.request.watch_id == id,
        };
        self.watchers.iter().enumerate().filter(is_for).map(|(index, _)| index).collect()
    }

    async fn show(&self, reply: &WatchResponse, index: usize) -> Result<(), Failure> {
        if reply.canceled {
            self.context.complain(&format!("watch was canceled ({})", reason(reply)));
        }
        let revision = reply.header.unwrap_or_default().revision;
        if !reply.canceled && reply.events.is_empty() && revision != 0 {
            self.context.print(&format!("progress notify: {revision}"));
        }
        self.context.show(&Output::Watch(reply.clone()))?;
        let command = &self.watchers[index].command;
        if !command.is_empty() {
            for event in &reply.events {
                self.execute(command, revision, event).await?;
            }
        }
        Ok(())
    }

    async fn execute(
        &self,
        command: &[String],
        revision: i64,
        event: &Event,
    ) -> Result<(), Failure> {
        let kv = event.kv.clone().unwrap_or_default();
        let variables = [
            ("ETCD_WATCH_REVISION".to_string(), revision.to_string()),
            ("ETCD_WATCH_EVENT_TYPE".into(), quote(event.r#type().as_str_name().as_bytes())),
            ("ETCD_WATCH_KEY".into(), quote(&kv.key)),
            ("ETCD_WATCH_VALUE".into(), quote(&kv.value)),
        ];
        let error = match self.context.environment.execute(command, &variables).await {
            Ok(0) => return Ok(()),
            Ok(code) => exit_text(code),
            Err(error) => error,
        };
        let words: Vec<_> = command.iter().map(|word| quote(word.as_bytes())).collect();
        self.context.complain(&format!("command [{}] error ({error})", words.join(" ")));
        Err(Failure::silent())
    }
}

fn open_stream(client: &dyn Client, needs_leader: bool) -> Duplex<WatchRequest, WatchResponse> {
    if needs_leader { client.watch() } else { client.watch_without_leader() }
}

/// Where a watch goes on after `reply`.
fn next_revision(reply: &WatchResponse, start_revision: i64) -> Option<i64> {
    let revision = reply.header.unwrap_or_default().revision;
    if let Some(event) = reply.events.last() {
        return event.kv.as_ref().map(|kv| kv.mod_revision + 1);
    }
    if reply.canceled || reply.created && start_revision != 0 {
        return None;
    }
    // Created at the current revision, or all up to this revision has been told.
    Some(start_revision.max(revision + 1))
}

/// Why the server has canceled a watch.
fn reason(reply: &WatchResponse) -> &str {
    if reply.compact_revision != 0 {
        "etcdserver: mvcc: required revision has been compacted"
    } else if !reply.cancel_reason.is_empty() {
        &reply.cancel_reason
    } else {
        "etcdserver: mvcc: required revision is a future revision"
    }
}
