//! The commands: the tree of them, what each is given, and how one fails.
//!
//! A command is an async function over a [`Context`]. It checks its arguments first (exit code
//! 128), then connects, makes its requests, and shows what came back. That order is visible from
//! outside and kept: a mistake in the arguments is told even if no member can be reached.

mod alarm;
#[cfg(feature = "native")]
mod auth;
#[cfg(feature = "native")]
mod check;
mod compaction;
#[cfg(feature = "native")]
mod completion;
mod defrag;
mod del;
#[cfg(feature = "native")]
mod downgrade;
#[cfg(feature = "native")]
mod elect;
mod endpoint;
mod get;
mod lease;
#[cfg(feature = "native")]
mod lock;
#[cfg(feature = "native")]
mod make_mirror;
mod member;
mod move_leader;
#[cfg(feature = "native")]
mod options;
mod put;
#[cfg(feature = "native")]
mod role;
#[cfg(feature = "native")]
mod session;
mod snapshot;
#[cfg(test)]
mod tests;
mod txn;
#[cfg(feature = "native")]
mod user;
mod version;
mod watch;

use std::cell::{Cell, RefCell};
use std::time::Duration;

use futures_util::future::{Either, LocalBoxFuture, select};

use crate::args::{Command, Parsed};
#[cfg(feature = "native")]
use crate::client::AuthClient;
use crate::client::{Client, Reply, RpcError};
use crate::environment::{Connection, Credentials, Environment, Tls};
use crate::format::{Format, Output, Style, render};
use crate::go::{parse_i64, parse_u64};

/// The release of etcdctl whose commands these are, and of the API they speak.
pub(crate) const VERSION: &str = "3.7.0";
pub(crate) const API_VERSION: &str = "3.7";

pub(crate) static ROOT: Command = Command {
    name: "etcdctl",
    usage: "",
    short: "A simple command line client for etcd3.",
    long: "",
    flags: &[],
    subcommands: &[
        alarm::COMMAND,
        #[cfg(feature = "native")]
        check::COMMAND,
        #[cfg(feature = "native")]
        auth::COMMAND,
        compaction::COMMAND,
        #[cfg(feature = "native")]
        completion::COMMAND,
        defrag::COMMAND,
        del::COMMAND,
        #[cfg(feature = "native")]
        downgrade::COMMAND,
        #[cfg(feature = "native")]
        elect::COMMAND,
        endpoint::COMMAND,
        get::COMMAND,
        Command {
            name: "help",
            usage: "[command]",
            short: "Help about any command",
            long: "Help provides help for any command in the application.\n\
                   Simply type etcdctl help [path to command] for full details.",
            flags: &[],
            subcommands: &[],
            run: None,
        },
        lease::COMMAND,
        #[cfg(feature = "native")]
        lock::COMMAND,
        #[cfg(feature = "native")]
        make_mirror::COMMAND,
        member::COMMAND,
        move_leader::COMMAND,
        #[cfg(feature = "native")]
        options::COMMAND,
        put::COMMAND,
        #[cfg(feature = "native")]
        role::COMMAND,
        snapshot::COMMAND,
        txn::COMMAND,
        #[cfg(feature = "native")]
        user::COMMAND,
        version::COMMAND,
        watch::COMMAND,
    ],
    run: None,
};

/// A command's function.
pub(crate) type Run = for<'a> fn(&'a Context<'a>) -> LocalBoxFuture<'a, Result<(), Failure>>;

/// The exit codes of etcdctl (CTL-02).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Error,
    BadConnection,
    /// What was read from standard input, or a transaction, made no sense.
    InvalidInput,
    /// An unknown value of a flag, an unknown or unsupported format.
    BadFeature,
    /// Ended before its time by the server or by an error on the way.
    Interrupted,
    BadArguments,
    /// That of the program which the command ran.
    #[cfg(feature = "native")]
    Program(i32),
}

impl Exit {
    pub(crate) fn code(self) -> i32 {
        match self {
            Exit::Error => 1,
            Exit::BadConnection => 2,
            Exit::InvalidInput => 3,
            Exit::BadFeature => 4,
            Exit::Interrupted => 5,
            Exit::BadArguments => 128,
            #[cfg(feature = "native")]
            Exit::Program(code) => code,
        }
    }
}

/// Why a command ends with an exit code other than 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Printed as `Error: ...`; `None` if everything has been said.
    pub(crate) message: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: Some(message.into()) }
    }

    pub(crate) fn arguments(message: impl Into<String>) -> Failure {
        Failure::new(Exit::BadArguments, message)
    }

    /// A failure that has printed its reasons already.
    pub(crate) fn silent() -> Failure {
        Failure { exit: Exit::Error, message: None }
    }
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Failure {
        Failure::new(Exit::Error, told(error))
    }
}

/// An error in the words of Go's client, which shows the code of those that it does not know.
fn told(error: RpcError) -> String {
    match error.code {
        UNKNOWN if !error.message.starts_with("etcdserver: ") => {
            format!("rpc error: code = Unknown desc = {}", error.message)
        }
        RESOURCE_EXHAUSTED if !error.message.starts_with("etcdserver: ") => {
            format!("rpc error: code = ResourceExhausted desc = {}", error.message)
        }
        _ => error.message,
    }
}

/// gRPC status codes that the commands look at.
const UNKNOWN: u32 = 2;
pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
const RESOURCE_EXHAUSTED: u32 = 8;
pub(crate) const UNIMPLEMENTED: u32 = 12;
pub(crate) const INTERNAL: u32 = 13;
pub(crate) const UNAVAILABLE: u32 = 14;

/// Pause before a connection is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// What a command is given: its parsed arguments and its host.
pub(crate) struct Context<'a> {
    pub(crate) environment: &'a dyn Environment,
    pub(crate) parsed: Parsed,
    /// Whether the command ends by itself when it is interrupted, with an exit code of its own.
    pub(crate) handles_interrupts: Cell<bool>,
}

impl Context<'_> {
    pub(crate) fn arguments(&self) -> &[Vec<u8>] {
        &self.parsed.arguments
    }

    /// The only argument as text, or an error with `complaint` if there is not exactly one.
    pub(crate) fn only_argument(&self, complaint: &str) -> Result<String, Failure> {
        match self.arguments() {
            [argument] => Ok(String::from_utf8_lossy(argument).into_owned()),
            _ => Err(Failure::arguments(complaint)),
        }
    }

    /// The only two arguments as text.
    pub(crate) fn two_arguments(&self, complaint: &str) -> Result<[String; 2], Failure> {
        match self.arguments() {
            [one, other] => {
                Ok([one, other].map(|argument| String::from_utf8_lossy(argument).into_owned()))
            }
            _ => Err(Failure::arguments(complaint)),
        }
    }

    /// The Auth service of a client, where its host has one.
    #[cfg(feature = "native")]
    pub(crate) fn auth<'c>(&self, client: &'c dyn Client) -> Result<&'c dyn AuthClient, Failure> {
        client
            .auth()
            .ok_or_else(|| Failure::new(Exit::Error, "users and roles are not available here"))
    }

    pub(crate) fn no_arguments(&self, complaint: &str) -> Result<(), Failure> {
        match self.arguments() {
            [] => Ok(()),
            _ => Err(Failure::arguments(complaint)),
        }
    }

    pub(crate) fn format(&self) -> Result<Format, Failure> {
        Format::parse(self.parsed.text("write-out"))
            .ok_or_else(|| Failure::new(Exit::BadFeature, "unsupported output format"))
    }

    /// A client of all the endpoints given.
    pub(crate) async fn client(&self) -> Result<Box<dyn Client>, Failure> {
        self.client_of(self.connection().await?).await
    }

    pub(crate) async fn client_of(
        &self,
        connection: Connection,
    ) -> Result<Box<dyn Client>, Failure> {
        self.connect(connection).await.map_err(|error| match error.code {
            DEADLINE_EXCEEDED => error.into(),
            _ => Failure::new(Exit::BadConnection, told(error)),
        })
    }

    /// A client, or why nothing answers. A member that refuses whoever asks ends the command: the
    /// others would do the same.
    pub(crate) async fn client_if_reachable(
        &self,
        connection: Connection,
    ) -> Result<Result<Box<dyn Client>, RpcError>, Failure> {
        match self.connect(connection).await {
            Err(error) if !matches!(error.code, UNAVAILABLE | DEADLINE_EXCEEDED) => {
                Err(Failure::new(Exit::BadConnection, told(error)))
            }
            outcome => Ok(outcome),
        }
    }

    /// Connects; tries again until `--command-timeout` if nothing answers, as a member may just be
    /// starting.
    pub(crate) async fn connect(
        &self,
        connection: Connection,
    ) -> Result<Box<dyn Client>, RpcError> {
        let refusal = RefCell::new(None);
        let note = |error| drop(refusal.replace(Some(error)));
        let attempts = self.attempts(connection, &note);
        let outcome = self.within_timeout(Box::pin(attempts)).await;
        // The deadline alone would not tell what is wrong.
        if outcome.is_err()
            && let Some(refusal) = refusal.take()
        {
            self.complain(&refusal.message);
        }
        outcome
    }

    /// A client for a command that lives long. As etcdctl, it waits for a member however long that
    /// takes: a service may be started before its cluster. What is in the way is told once.
    #[cfg(feature = "native")]
    pub(crate) async fn patient_client(
        &self,
        connection: Connection,
    ) -> Result<Box<dyn Client>, Failure> {
        let is_told = Cell::new(false);
        let tell = |error: RpcError| {
            if !is_told.replace(true) {
                self.complain(&error.message);
            }
        };
        loop {
            match self.attempts(connection.clone(), &tell).await {
                Ok(client) => return Ok(client),
                // It has taken its time already.
                Err(error) if error.code == DEADLINE_EXCEEDED => tell(error),
                Err(error) => return Err(Failure::new(Exit::BadConnection, told(error))),
            }
        }
    }

    /// Where members are not started by others there is nobody to wait for.
    #[cfg(not(feature = "native"))]
    pub(crate) async fn patient_client(
        &self,
        connection: Connection,
    ) -> Result<Box<dyn Client>, Failure> {
        self.client_of(connection).await
    }

    /// Connects, again and again as long as nobody is there, of which `refused` hears.
    async fn attempts(
        &self,
        connection: Connection,
        refused: &dyn Fn(RpcError),
    ) -> Result<Box<dyn Client>, RpcError> {
        loop {
            match self.environment.connect(connection.clone()).await {
                Err(error) if error.code == UNAVAILABLE => {
                    refused(error);
                    self.environment.sleep(RECONNECT_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// How to connect to the endpoints given; asks for the password if need be.
    pub(crate) async fn connection(&self) -> Result<Connection, Failure> {
        let parsed = &self.parsed;
        self.format()?;
        let mut endpoints = self.discovered().await?;
        if endpoints.is_empty() {
            endpoints = parsed.list("endpoints");
        }
        if endpoints.is_empty() {
            let message = "etcdclient: no available endpoints";
            return Err(Failure::new(Exit::BadConnection, message));
        }
        let tls = self.tls()?;
        self.environment.check_tls(&tls).map_err(Failure::arguments)?;
        let bytes = |name| usize::try_from(parsed.int64(name)).unwrap_or_default();
        Ok(Connection {
            endpoints,
            dial_timeout: parsed.duration("dial-timeout"),
            keepalive_time: parsed.duration("keepalive-time"),
            keepalive_timeout: parsed.duration("keepalive-timeout"),
            max_request_bytes: bytes("max-request-bytes"),
            max_receive_bytes: bytes("max-recv-bytes"),
            tls,
            credentials: match parsed.text("auth-jwt-token") {
                "" => self.credentials("user", "password").await?,
                _ if !parsed.text("user").is_empty() => {
                    let message = "--auth-jwt-token and --user cannot be used together";
                    return Err(Failure::arguments(message));
                }
                token => Some(Credentials::Token(token.to_owned())),
            },
        })
    }

    /// The endpoints of `--discovery-srv`; none if it was not given.
    async fn discovered(&self) -> Result<Vec<String>, Failure> {
        let (domain, name) =
            (self.parsed.text("discovery-srv"), self.parsed.text("discovery-srv-name"));
        if domain.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.environment.discover(domain, name).await;
        let mut endpoints = found.map_err(|error| Failure::new(Exit::Error, error))?;
        if !self.parsed.is_on("insecure-discovery") {
            endpoints.retain(|endpoint| {
                let insecure = endpoint.starts_with("http://");
                if insecure {
                    self.complain(&format!("ignoring discovered insecure endpoint {endpoint:?}"));
                }
                !insecure
            });
        }
        Ok(endpoints)
    }

    fn tls(&self) -> Result<Tls, Failure> {
        let parsed = &self.parsed;
        let path = |name| match parsed.text(name) {
            "" if parsed.is_set(name) => {
                Err(Failure::arguments(format!("empty string is passed to --{name} option")))
            }
            "" => Ok(None),
            path => Ok(Some(path.to_string())),
        };
        let (certificate, key) = (path("cert")?, path("key")?);
        if certificate.is_some() != key.is_some() {
            return Err(Failure::arguments(format!(
                "KeyFile and CertFile must both be present[key: {}, cert: {}]",
                key.unwrap_or_default(),
                certificate.unwrap_or_default()
            )));
        }
        Ok(Tls {
            certificate,
            key,
            trusted_ca: path("cacert")?,
            skip_verify: parsed.is_on("insecure-skip-tls-verify"),
            insecure_transport: parsed.is_on("insecure-transport"),
            // Records that must be secure name members whose certificates name the domain.
            server_name: match parsed.text("discovery-srv") {
                "" => None,
                _ if parsed.is_on("insecure-discovery") => None,
                domain => Some(domain.to_owned()),
            },
        })
    }

    /// The user and password of these two flags; asks for the password if there is only a user.
    async fn credentials(
        &self,
        user: &str,
        password: &str,
    ) -> Result<Option<Credentials>, Failure> {
        let (user, password) = (self.parsed.text(user), self.parsed.text(password));
        if user.is_empty() {
            return Ok(None);
        }
        if !password.is_empty() {
            return Ok(Some(Credentials::User(user.into(), password.into())));
        }
        if let Some((name, password)) = user.split_once(':') {
            return Ok(Some(Credentials::User(name.into(), password.into())));
        }
        let password = self.environment.read_password("Password: ").await;
        let password = password.map_err(|error| Failure::new(Exit::Error, error))?;
        Ok(Some(Credentials::User(user.into(), password)))
    }

    /// Awaits `reply` for no longer than `--command-timeout`.
    pub(crate) async fn within_timeout<T>(&self, reply: Reply<'_, T>) -> Result<T, RpcError> {
        self.within(self.parsed.duration("command-timeout"), reply).await
    }

    /// Awaits `reply` for no longer than `limit`.
    pub(crate) async fn within<T>(
        &self,
        limit: Duration,
        reply: Reply<'_, T>,
    ) -> Result<T, RpcError> {
        match select(reply, self.environment.sleep(limit)).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => Err(deadline_exceeded()),
        }
    }

    /// Prints a result in the format asked for.
    pub(crate) fn show(&self, output: &Output) -> Result<(), Failure> {
        self.show_in(output, Style { hex: self.parsed.is_on("hex"), value_only: false })
    }

    pub(crate) fn show_in(&self, output: &Output, style: Style) -> Result<(), Failure> {
        let format = self.format()?;
        let rendered = render(output, format, style).map_err(|_| {
            let message = format!("{} not supported as output format", format.name());
            Failure::new(Exit::BadFeature, message)
        })?;
        if !rendered.stdout.is_empty() {
            self.environment.stdout(&rendered.stdout);
        }
        if !rendered.stderr.is_empty() {
            self.environment.stderr(&rendered.stderr);
        }
        Ok(())
    }

    pub(crate) fn print(&self, line: &str) {
        self.environment.stdout(format!("{line}\n").as_bytes());
    }

    pub(crate) fn complain(&self, line: &str) {
        self.environment.stderr(format!("{line}\n").as_bytes());
    }
}

pub(crate) fn deadline_exceeded() -> RpcError {
    RpcError { code: DEADLINE_EXCEEDED, message: "context deadline exceeded".into() }
}

/// A lease's ID as given on the command line.
fn parse_lease(text: &str) -> Result<i64, Failure> {
    parse_i64(text, 16).map_err(|error| {
        Failure::arguments(format!("bad lease ID arg ({error}), expecting ID in Hex"))
    })
}

/// A member's ID as given on the command line.
fn parse_member(text: &str) -> Result<u64, Failure> {
    parse_u64(text, 16).map_err(|error| {
        Failure::arguments(format!("bad member ID arg ({error}), expecting ID in Hex"))
    })
}

/// The range of all keys that start with `prefix`. The empty prefix is written as the range from
/// `\0`.
fn prefix_range(prefix: &[u8]) -> (Vec<u8>, Vec<u8>) {
    if prefix.is_empty() {
        return (vec![0], vec![0]);
    }
    (prefix.to_vec(), prefix_end(prefix))
}

/// The first key after all that start with `prefix`, or `\0` (no end) if there is none.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

/// The range of all keys from `key` on.
fn from_key_range(key: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let key = if key.is_empty() { vec![0] } else { key.to_vec() };
    (key, vec![0])
}

/// The range that a key, an optional end and the flags `--prefix` and `--from-key` mean.
fn range(parsed: &Parsed) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let (prefix, from_key) = (parsed.is_on("prefix"), parsed.is_on("from-key"));
    if prefix && from_key {
        return Err(Failure::arguments(
            "`--prefix` and `--from-key` cannot be set at the same time, choose one",
        ));
    }
    let (key, end) = match parsed.arguments.as_slice() {
        [] => (&[][..], None),
        [key] => (key.as_slice(), None),
        [key, end, ..] => (key.as_slice(), Some(end)),
    };
    if end.is_some() && (prefix || from_key) {
        return Err(Failure::arguments(
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set",
        ));
    }
    Ok(match end {
        Some(end) => (key.to_vec(), end.clone()),
        None if prefix => prefix_range(key),
        None if from_key => from_key_range(key),
        None => (key.to_vec(), Vec::new()),
    })
}
