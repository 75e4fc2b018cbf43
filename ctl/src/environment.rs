//! What the host of the commands gives them: a terminal, time, files, connections.
//!
//! The native program answers with the process's streams, tokio's timer, the file system and gRPC;
//! the page's terminal with its scrollback, the browser's timer, a download and the worker's
//! messages. Nothing in this crate reaches around the trait, which is what lets it run in a page.
//!
//! Output is bytes, not text: keys and values are printed as they are. A host that shows text
//! replaces what is not UTF-8 itself.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

use crate::client::{Client, RpcError};

/// Where and how to connect: the connection flags of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// `host:port`, `http://host:port`, `https://...` or `unix://...`; at least one. The client
    /// may use any of them and fails over between them.
    pub endpoints: Vec<String>,
    /// How long establishing a connection may take before the connection attempt has failed.
    pub dial_timeout: Duration,
    /// Time between HTTP/2 pings, and how long an answer may take.
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
    /// Largest request sent and reply received, in bytes; 0 is the host's default.
    pub max_request_bytes: usize,
    pub max_receive_bytes: usize,
    pub tls: Tls,
    pub credentials: Option<Credentials>,
}

/// Who the user says to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A name and its password (`--user`), for which the members give a token.
    User(String, String),
    /// A token that somebody else signed (`--auth-jwt-token`).
    Token(String),
}

impl Connection {
    /// The same, to one endpoint only.
    pub fn to(&self, endpoint: &str) -> Connection {
        Connection { endpoints: vec![endpoint.into()], ..self.clone() }
    }
}

/// The TLS flags. Paths are the host's to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub certificate: Option<String>,
    pub key: Option<String>,
    pub trusted_ca: Option<String>,
    pub skip_verify: bool,
    /// `false` forces TLS even for endpoints without `https://`.
    pub insecure_transport: bool,
    /// The name that the servers' certificates must have, if it is not that of the endpoint.
    pub server_name: Option<String>,
}

/// A file being written, from [`Environment::create_file`].
pub trait FileWriter {
    fn write(&mut self, data: Bytes) -> LocalBoxFuture<'_, Result<(), String>>;

    /// Makes the file durable and gives it its final name. Dropping the writer without it leaves
    /// no file of that name.
    fn finish(self: Box<Self>) -> LocalBoxFuture<'static, Result<(), String>>;
}

/// The host of one run of a command.
pub trait Environment {
    /// Writes to standard output, at once (no buffering across calls).
    fn stdout(&self, data: &[u8]);
    /// Writes to standard error.
    fn stderr(&self, data: &[u8]);

    /// The next line of standard input with its terminator, if it has one; `None` at the end.
    fn read_line(&self) -> LocalBoxFuture<'_, Result<Option<Vec<u8>>, String>>;

    /// Prompts on the terminal and reads a line without echo or terminator.
    fn read_password(&self, prompt: &str) -> LocalBoxFuture<'_, Result<String, String>>;

    /// The environment variable of this name.
    fn variable(&self, name: &str) -> Option<String>;

    /// Monotonic time since any fixed start.
    fn now(&self) -> Duration;
    fn sleep(&self, duration: Duration) -> LocalBoxFuture<'static, ()>;

    /// Starts a new file, which will be at `path` once finished. A host with a file system writes
    /// to `path` + `.part` and renames (as `etcdctl snapshot save` does); a page offers a download.
    /// An error reads as Go's do: `open x.part: no such file or directory`.
    fn create_file(&self, path: &str) -> LocalBoxFuture<'_, Result<Box<dyn FileWriter>, String>>;

    /// Fails if the files of `tls` cannot be used. Asked before anything is dialled; a host without
    /// files has nothing to say.
    fn check_tls(&self, tls: &Tls) -> Result<(), String> {
        let _ = tls;
        Ok(())
    }

    /// The client URLs that the SRV records of `domain` name; a suffix `name`, if it is not empty,
    /// follows the service's name. A host without DNS knows none.
    fn discover(
        &self,
        domain: &str,
        name: &str,
    ) -> LocalBoxFuture<'_, Result<Vec<String>, String>> {
        let _ = name;
        let failure = format!("lookup {domain}: there is no DNS here");
        Box::pin(std::future::ready(Err(failure)))
    }

    /// A client of the cluster at `connection.endpoints`. Where none of them answers it fails with
    /// `Unavailable`, and is called again until the command's timeout; any other error is final.
    fn connect(
        &self,
        connection: Connection,
    ) -> LocalBoxFuture<'_, Result<Box<dyn Client>, RpcError>>;

    /// Runs a program with these variables added to its environment, with the output of this one
    /// and nothing to read; returns its exit code, or the negative number of the signal that ended
    /// it. A host without programs cannot.
    fn execute(
        &self,
        command: &[String],
        variables: &[(String, String)],
    ) -> LocalBoxFuture<'_, Result<i32, String>> {
        let _ = (command, variables);
        Box::pin(std::future::ready(Err("programs cannot be run here".into())))
    }

    /// The text at `path` of the connection's first endpoint, by HTTP. A host without a network of
    /// its own cannot.
    fn fetch(
        &self,
        connection: Connection,
        path: &'static str,
    ) -> LocalBoxFuture<'_, Result<String, String>> {
        let _ = (connection, path);
        Box::pin(std::future::ready(Err("nothing can be fetched by HTTP here".into())))
    }

    /// Ends when the system wants the program to end (`SIGTERM`). Watched only by commands that
    /// have something to put in order then.
    fn terminated(&self) -> LocalBoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    /// Ends when the user interrupts the command (Ctrl-C). Pending forever otherwise.
    fn interrupted(&self) -> LocalBoxFuture<'static, ()>;

    /// Hears that an interrupt has ended the command, which had no end of its own for it. A host
    /// with signals may end in the way of a program that does not handle them.
    fn ended_by_interrupt(&self) {}
}
