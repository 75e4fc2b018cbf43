//! The `coracle` command: `serve`, `ctl`, `utl`, `gateway`; by the name `etcd`, `etcdctl` or
//! `etcdutl` it is that.

use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use coracle_core::node::{ETCD_VERSION, StopReason};
use coracle_server::config::{self, Config, ConfigError, Parsed, Warning};
use coracle_server::logging::FATAL;
use coracle_server::{
    ctl_client, descriptors, logging, server::Server, supervisor, tcp_gateway, utl,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Threads allocate and free the parts of every request; see `Cargo.toml` for the choice.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut given = env::args_os();
    let program = given.next().unwrap_or_default();
    let mut given: Vec<OsString> = given.collect();
    // Keys and values of `ctl` may be any bytes; flags of `serve` are text.
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    let arguments: Vec<String> = given.iter().map(text).collect();
    let name = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name {
        "etcd" if arguments.first().is_some_and(|first| first == "gateway") => {
            return gateway(&arguments[1..]);
        }
        "etcd" if arguments.first().is_some_and(|first| first == "grpc-proxy") => {
            return grpc_proxy();
        }
        "etcd" => return serve(&arguments),
        "etcdctl" => return ctl(&arguments, given),
        "etcdutl" => return utl::run(&arguments),
        _ => {}
    }
    match arguments.first().map(String::as_str) {
        Some("serve") => serve(&arguments[1..]),
        Some("gateway") => gateway(&arguments[1..]),
        Some("grpc-proxy") => grpc_proxy(),
        Some("ctl") => ctl(&arguments[1..], given.split_off(1)),
        Some("utl") => utl::run(&arguments[1..]),
        // `coracle --version`, `coracle --help`, and flags without `serve`.
        Some(flag) if flag.starts_with('-') => serve(&arguments),
        None => serve(&["--help".to_owned()]),
        Some(other) => {
            let usage = config::usage();
            complain(&format!(
                "unknown command {other:?}: try 'serve', 'ctl', 'utl' or 'gateway'\n{usage}"
            ));
            ExitCode::from(2)
        }
    }
}

fn serve(arguments: &[String]) -> ExitCode {
    // A variable that is not UTF-8 is none of ours.
    let environment: Vec<_> = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let config = match config::parse(arguments, &environment) {
        Ok(Parsed::Serve(config)) => *config,
        Ok(Parsed::Help { usage, flags }) => {
            complain(usage);
            return print(&flags);
        }
        Ok(Parsed::Version) => return print(&version()),
        Err(error) => return refuse(&error),
    };
    if let Err(error) = logging::start(&config.log) {
        complain(&error.to_string());
        return ExitCode::FAILURE;
    }
    match run(config) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(target: FATAL, error = format!("{error:#}"), "discovery failed");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command of etcdctl, or of etcdutl if it is one that etcdctl had once. `arguments` are
/// `given` as text.
fn ctl(arguments: &[String], given: Vec<OsString>) -> ExitCode {
    match utl::asked_of_etcdctl(arguments) {
        None => ctl_client::run(given),
        Some(words) => {
            complain("Deprecated: this is a command of `etcdutl` now.\n");
            utl::run(&words)
        }
    }
}

fn gateway(arguments: &[String]) -> ExitCode {
    let config = match tcp_gateway::parse(arguments) {
        Ok(Some(config)) => config,
        Ok(None) => return print(tcp_gateway::USAGE),
        Err(error) => {
            complain(&format!("Error: {error}\n{}", tcp_gateway::USAGE));
            return ExitCode::FAILURE;
        }
    };
    logging::start_default();
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(tcp_gateway::serve(config)));
    if let Err(error) = served {
        tracing::error!(target: FATAL, %error, "failed to start the gateway");
    }
    ExitCode::FAILURE
}

/// The one command of etcd's that is not here.
fn grpc_proxy() -> ExitCode {
    complain(
        "Error: there is no grpc-proxy in this program: watchers and leases cost a member little \
         enough without one. etcd's own works in front of it, with the same flags.",
    );
    ExitCode::FAILURE
}

/// Serves until a signal, or until the node stops.
fn run(config: Config) -> Result<ExitCode> {
    descriptors::raise()?;
    ignore_strangers();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (server, ended) = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot watch signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch signals")?;
        config.warnings.iter().for_each(tell);
        // A start may wait for a cluster to join; a signal ends the wait.
        let server = tokio::select! {
            started = Server::start(config) => started?,
            signal = first(&mut terminate, &mut interrupt) => {
                return Ok((None, End::Signal(signal)));
            }
        };
        supervisor::notify_ready();
        let ended = tokio::select! {
            reason = server.stopped() => End::Node(reason),
            signal = first(&mut terminate, &mut interrupt) => End::Signal(signal),
        };
        anyhow::Ok((Some(server), ended))
    })?;
    if let End::Node(StopReason::Fatal(reason)) = ended {
        // Its storage cannot be trusted any more: not one more answer.
        tracing::error!(target: FATAL, reason, "the member must stop");
        std::process::exit(1);
    }
    if let End::Signal(signal) = &ended {
        tracing::info!(signal = signal.as_raw_value(), "received signal; shutting down");
    }
    if let Some(server) = server {
        runtime.block_on(server.stop());
    }
    match ended {
        End::Signal(signal) => Ok(die_of(signal)),
        End::Node(reason) => {
            if matches!(reason, StopReason::Removed) {
                let error = "the member has been permanently removed from the cluster";
                tracing::warn!(error, "server error");
                tracing::warn!("data-dir used by this member must be removed");
            }
            tracing::info!(?reason, "the member has stopped");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Go's programs live on when they are sent signals without a meaning to them; scripts that rotate
/// logs do send some.
fn ignore_strangers() {
    for number in [libc::SIGUSR1, libc::SIGUSR2, libc::SIGALRM] {
        // SAFETY: the call takes plain numbers, and nothing else here handles these signals.
        unsafe { libc::signal(number, libc::SIG_IGN) };
    }
}

enum End {
    Signal(SignalKind),
    Node(StopReason),
}

async fn first(terminate: &mut Signal, interrupt: &mut Signal) -> SignalKind {
    tokio::select! {
        _ = terminate.recv() => SignalKind::terminate(),
        _ = interrupt.recv() => SignalKind::interrupt(),
    }
}

/// Ends the process by the signal that it was sent, so that its parent sees what happened
/// (status 143 or 130). The first process of a container cannot die of a signal: it ends well.
fn die_of(signal: SignalKind) -> ExitCode {
    if std::process::id() == 1 {
        return ExitCode::SUCCESS;
    }
    let number = signal.as_raw_value();
    // SAFETY: both calls take plain numbers, and no other thread handles signals at this point.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        libc::raise(number);
    }
    ExitCode::from(128_u8.saturating_add(u8::try_from(number).unwrap_or(0)))
}

/// The lines of `etcd --version`, which scripts read.
fn version() -> String {
    let architecture = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: coracle-{}\nGo Version: none (Rust)\n\
         Go OS/Arch: {}/{architecture}\n",
        env!("CARGO_PKG_VERSION"),
        env::consts::OS
    )
}

fn print(text: &str) -> ExitCode {
    // A reader that left, such as `head`, has what it wanted.
    _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn complain(text: &str) {
    // There is no other place to complain to.
    _ = writeln!(std::io::stderr(), "{text}");
}

/// Says why there is no configuration, where and how etcd does.
fn refuse(error: &ConfigError) -> ExitCode {
    match error {
        ConfigError::Usage(text) => complain(&format!("{text}\n{}", config::usage())),
        ConfigError::Verify(text) => {
            logging::start_default();
            tracing::warn!(error = text, "failed to verify flags");
        }
        ConfigError::Shadowed { variable } => {
            logging::start_default();
            tracing::error!(target: FATAL, environment_variable = variable, "{error}");
        }
    }
    ExitCode::from(error.exit_status())
}

fn tell(warning: &Warning) {
    match warning {
        Warning::Text(text) => tracing::warn!("{text}"),
        Warning::UnknownVariable(variable) => {
            tracing::warn!(environment_variable = variable, "unrecognized environment variable");
        }
        Warning::SpecialVariable(value) => {
            tracing::warn!(key = "ETCD_VERSION", value, "cannot set special environment variable");
        }
    }
}
