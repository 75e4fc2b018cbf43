//! `coracle ctl` (and `etcdctl`): the commands of [`coracle_ctl`] on this machine's terminal, files
//! and network.

mod channels;
pub(crate) mod client;
mod dial;
mod fetch;
mod process;
mod terminal;

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{ExitCode, exit};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coracle_ctl::client::{Client, RpcError};
use coracle_ctl::environment::{Connection, Environment, FileWriter, Tls};
use futures_util::future::LocalBoxFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;

use self::dial::Dialers;
use crate::discovery;

/// Runs one command line (without the program's name) and ends with its exit code.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // There is no other place to complain to.
            _ = writeln!(io::stderr(), "Error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let native = Native { started: Instant::now(), is_interrupted: Cell::new(false) };
    let arguments = arguments.into_iter().map(OsString::into_vec).collect();
    let code = runtime.block_on(coracle_ctl::run(arguments, &native));
    terminal::restore();
    if native.is_interrupted.get() {
        die_of(libc::SIGINT);
    }
    // Not a return: a thread that waits for standard input would be waited for.
    exit(code)
}

/// Ends the process by a signal that it has caught or ignored, so that its parent sees what
/// happened. Returns only where that is not possible, as in the first process of a container.
fn die_of(signal: libc::c_int) {
    // SAFETY: both calls take plain numbers, and what handled the signal is not needed any more.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// What is to be done about output that could not be written. Where the reader has left, as `head`
/// does, the process ends as programs do that know nothing of `SIGPIPE`; what else goes wrong (a
/// full disk) is no reason to leave the work undone.
fn after_writing(written: io::Result<()>) {
    if written.is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        die_of(libc::SIGPIPE);
        exit(128 + libc::SIGPIPE);
    }
}

struct Native {
    started: Instant,
    is_interrupted: Cell<bool>,
}

impl Environment for Native {
    fn stdout(&self, data: &[u8]) {
        let mut stdout = io::stdout().lock();
        after_writing(stdout.write_all(data).and_then(|()| stdout.flush()));
    }

    fn stderr(&self, data: &[u8]) {
        after_writing(io::stderr().write_all(data));
    }

    fn read_line(&self) -> LocalBoxFuture<'_, Result<Option<Vec<u8>>, String>> {
        Box::pin(async {
            let line = spawn_blocking(|| {
                let mut line = Vec::new();
                io::stdin().lock().read_until(b'\n', &mut line).map(|_| line)
            });
            let line = line.await.map_err(|error| error.to_string())?;
            let line = line.map_err(|error| error.to_string())?;
            Ok((!line.is_empty()).then_some(line))
        })
    }

    fn read_password(&self, prompt: &str) -> LocalBoxFuture<'_, Result<String, String>> {
        let prompt = prompt.to_owned();
        Box::pin(async move {
            let password = spawn_blocking(move || terminal::read_password(&prompt));
            let password = password.await.map_err(|error| error.to_string())?;
            password.map_err(|error| error.to_string())
        })
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn sleep(&self, duration: Duration) -> LocalBoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn create_file(&self, path: &str) -> LocalBoxFuture<'_, Result<Box<dyn FileWriter>, String>> {
        let path = path.to_owned();
        Box::pin(async move {
            let part = PathBuf::from(format!("{path}.part"));
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let file =
                options.open(&part).map_err(|error| format!("{}: {error}", part.display()))?;
            let writer = PartFile { file, part, path: PathBuf::from(path), finished: false };
            Ok(Box::new(writer) as Box<dyn FileWriter>)
        })
    }

    fn check_tls(&self, tls: &Tls) -> Result<(), String> {
        Dialers::new(tls).map(drop).map_err(|error| error.message)
    }

    fn discover(
        &self,
        domain: &str,
        name: &str,
    ) -> LocalBoxFuture<'_, Result<Vec<String>, String>> {
        let (domain, name) = (domain.to_owned(), name.to_owned());
        Box::pin(async move {
            let found = discovery::clients(&domain, &name).await?;
            Ok(found.iter().map(ToString::to_string).collect())
        })
    }

    fn connect(
        &self,
        connection: Connection,
    ) -> LocalBoxFuture<'_, Result<Box<dyn Client>, RpcError>> {
        Box::pin(async move {
            let client = client::GrpcClient::connect(connection).await?;
            Ok(Box::new(client) as Box<dyn Client>)
        })
    }

    fn execute(
        &self,
        command: &[String],
        variables: &[(String, String)],
    ) -> LocalBoxFuture<'_, Result<i32, String>> {
        let (command, variables) = (command.to_vec(), variables.to_vec());
        Box::pin(async {
            let ended = spawn_blocking(|| process::execute(command, variables)).await;
            ended.map_err(|error| error.to_string())?
        })
    }

    fn fetch(
        &self,
        connection: Connection,
        path: &'static str,
    ) -> LocalBoxFuture<'_, Result<String, String>> {
        Box::pin(fetch::get(connection, path))
    }

    fn interrupted(&self) -> LocalBoxFuture<'static, ()> {
        received(SignalKind::interrupt())
    }

    fn terminated(&self) -> LocalBoxFuture<'static, ()> {
        received(SignalKind::terminate())
    }

    fn ended_by_interrupt(&self) {
        self.is_interrupted.set(true);
    }
}

/// Ends with the next signal of this kind.
fn received(kind: SignalKind) -> LocalBoxFuture<'static, ()> {
    Box::pin(async move {
        // Where signals cannot be watched they end the process, as by default.
        let Ok(mut signals) = signal(kind) else {
            return std::future::pending().await;
        };
        signals.recv().await;
    })
}

/// A file that has its name only once it is complete.
struct PartFile {
    file: File,
    part: PathBuf,
    path: PathBuf,
    finished: bool,
}

impl FileWriter for PartFile {
    fn write(&mut self, data: Bytes) -> LocalBoxFuture<'_, Result<(), String>> {
        let written = self.file.write_all(&data);
        Box::pin(async { written.map_err(|error| format!("{}: {error}", self.part.display())) })
    }

    fn finish(mut self: Box<Self>) -> LocalBoxFuture<'static, Result<(), String>> {
        Box::pin(async move {
            let named = self.file.sync_all().and_then(|()| fs::rename(&self.part, &self.path));
            self.finished = named.is_ok();
            named.map_err(|error| format!("{}: {error}", self.path.display()))
        })
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.finished {
            // What is left over does no harm: the next attempt truncates it.
            _ = fs::remove_file(&self.part);
        }
    }
}
