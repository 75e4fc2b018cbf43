//! `coracle utl` (and `etcdutl`): what is done with files while no member runs on them.
//!
//! The commands, flags, sentences and exit codes are etcdutl's (ETCD.md 4.3). Snapshot files are
//! etcd's own, whoever saved them; data directories are Coracle's, but where a *file* is asked for,
//! the database of a real etcd's directory (`member/snap/db`) will do. A server that is started on
//! such a directory makes it its own first (`adopt`).

mod adopt;
mod commands;
mod completion;
mod former;
mod hashkv;
mod maintain;
mod restore;
mod snapshot_file;
mod status;

use std::io::Write;
use std::process::ExitCode;

use coracle_core::node::ETCD_VERSION;
use coracle_ctl::args::{Flag, FlagError, Kind, Parsed};
use serde::Serialize;

use crate::config::settings::{LogConfig, LogOutput};
use crate::logging;
pub(crate) use adopt::adopt;
use commands::{Command, ROOT};
pub use former::asked_of_etcdctl;

/// The flags of every command.
static GLOBAL: [Flag; 2] = [
    Flag::new(
        "timeout",
        Kind::Duration,
        "10s",
        "time to wait for the lock of a data directory, 0 to wait for as long as it takes",
    ),
    Flag::new(
        "write-out",
        Kind::Text,
        "simple",
        "set the output format (fields, json, protobuf, simple, table)",
    )
    .short('w'),
];

/// Why a command ends with an exit code other than 0; its message is printed as `Error: …`.
#[derive(Debug)]
struct Failure {
    exit: u8,
    message: String,
}

impl Failure {
    /// Something failed on the way (exit code 1).
    fn error(message: impl ToString) -> Failure {
        Failure { exit: 1, message: message.to_string() }
    }

    /// The output format is unknown, or not one for this result (exit code 4).
    fn format(message: impl ToString) -> Failure {
        Failure { exit: 4, message: message.to_string() }
    }

    /// The arguments make no sense (exit code 128).
    fn arguments(message: impl ToString) -> Failure {
        Failure { exit: 128, message: message.to_string() }
    }
}

/// Runs one command line (without the program's name).
pub fn run(arguments: &[String]) -> ExitCode {
    let mut words = arguments.iter().map(|word| word.clone().into_bytes()).collect();
    let path = descend(&mut words);
    let Some(command) = path.last().copied() else { return ExitCode::FAILURE };
    let parsed = match Parsed::parse(&[command.flags, &GLOBAL], &words) {
        Ok(parsed) => parsed,
        Err(FlagError::Help) => return print(&commands::usage(&path)),
        Err(FlagError::Bad(message)) => return misuse(&path, &message),
    };
    if path.len() == 1
        && let Some(name) = parsed.arguments.first()
    {
        let name = String::from_utf8_lossy(name);
        let error = format!("Error: unknown command {name:?} for \"etcdutl\"");
        complain(&format!("{error}\nRun 'etcdutl --help' for usage.\n{error}"));
        return ExitCode::FAILURE;
    }
    let Some(run) = command.run else {
        let mut topic = parsed.arguments;
        let is_help = command.name == "help";
        return print(&commands::usage(&if is_help { descend(&mut topic) } else { path }));
    };
    let unset: Vec<_> = command.required.iter().filter(|name| !parsed.is_set(name)).collect();
    if !unset.is_empty() {
        let names: Vec<_> = unset.iter().map(|name| format!("{name:?}")).collect();
        return misuse(&path, &format!("required flag(s) {} not set", names.join(", ")));
    }
    let outputs = vec![LogOutput::Stderr];
    // Standard error needs no opening.
    _ = logging::start(&LogConfig { level: tracing::Level::INFO, json: false, outputs });
    match run(&parsed) {
        Ok(output) => print(&output),
        Err(Failure { exit, message }) => {
            complain(&format!("Error: {message}"));
            ExitCode::from(exit)
        }
    }
}

/// Descends from the root along the words that name commands, or abbreviate one; removes them.
fn descend(words: &mut Vec<Vec<u8>>) -> Vec<&'static Command> {
    let mut path = vec![&ROOT];
    let mut at = 0;
    while let (Some(command), Some(word)) = (path.last(), words.get(at)) {
        if word.starts_with(b"-") {
            // `-w json` and `--write-out json` are two words.
            let alone = [&b"-w"[..], b"--write-out", b"--timeout"].contains(&&word[..]);
            at += 1 + usize::from(alone);
            continue;
        }
        let Some(next) = command.subcommand(word) else { break };
        words.remove(at);
        path.push(next);
    }
    path
}

fn misuse(path: &[&Command], message: &str) -> ExitCode {
    complain(&format!("Error: {message}\n{}\nError: {message}", commands::usage(path)));
    ExitCode::FAILURE
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

fn version(_: &Parsed) -> Result<String, Failure> {
    let api = ETCD_VERSION.rsplit_once('.').map_or(ETCD_VERSION, |(api, _)| api);
    Ok(format!("etcdutl version: {ETCD_VERSION}\nAPI version: {api}\n"))
}

/// The only argument, or an error with `complaint` if there is not exactly one.
fn only_argument(parsed: &Parsed, complaint: &str) -> Result<String, Failure> {
    match parsed.arguments.as_slice() {
        [argument] => Ok(String::from_utf8_lossy(argument).into_owned()),
        _ => Err(Failure::arguments(complaint)),
    }
}

/// A result in all the ways in which it can be shown.
struct Shown<'a, T> {
    /// For `simple` and `table`: headings and cells.
    columns: Vec<(&'static str, String)>,
    /// For `fields`: names and values.
    fields: Vec<(&'static str, String)>,
    json: &'a T,
}

fn check_format(parsed: &Parsed) -> Result<(), Failure> {
    match parsed.text("write-out") {
        "simple" | "fields" | "json" | "protobuf" | "table" => Ok(()),
        _ => Err(Failure::format("unsupported output format")),
    }
}

fn show<T: Serialize>(parsed: &Parsed, shown: Shown<'_, T>) -> Result<String, Failure> {
    let (headings, cells): (Vec<_>, Vec<_>) = shown.columns.into_iter().unzip();
    Ok(match parsed.text("write-out") {
        "simple" => cells.join(", ") + "\n",
        "table" => coracle_ctl::draw_table(&headings, &[cells]),
        "fields" => {
            shown.fields.iter().map(|(name, value)| format!("{name:?} : {value}\n")).collect()
        }
        "json" => serde_json::to_string(shown.json).map_err(Failure::error)? + "\n",
        other => return Err(Failure::format(format!("{other} not supported as output format"))),
    })
}
