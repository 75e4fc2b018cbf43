//! etcdctl: its commands and output formats, over a trait instead of a network.
//!
//! One program in two places. The native binary runs it with gRPC, a terminal and files behind the
//! traits [`client::Client`] and [`environment::Environment`]; the page's terminal runs it with the
//! messages of its worker. The two traits are all that this crate knows of its host: it has no
//! file, thread, socket or clock, and its output is bytes handed to the host.
//!
//! What is printed, and the exit code, are those of etcdctl 3.5 to the byte, because scripts read
//! them (ETCD's documentation shows most of it; the golden texts beside `format` were recorded from
//! the real one). Deviations, each told where it is made: flags win over environment variables,
//! commands that etcdctl lets wait for ever, but those that live long, are held to
//! `--command-timeout`, what makes it crash is an error, the log lines of its client library
//! (retries, a snapshot's progress) are not printed, and of newer releases some flags are accepted.
//!
//! | module | holds |
//! |---|---|
//! | [`client`], [`environment`] | what the host provides |
//! | `args`, `help` | flags, abbreviations, help |
//! | `commands` | a file for each group of commands |
//! | `format` | simple, fields, json, protobuf, table |
//! | `go` | how Go writes strings, numbers and durations |

#![forbid(unsafe_code)]
// What only the native commands use is left out where they are.
#![cfg_attr(not(feature = "native"), allow(dead_code))]

pub mod client;
pub mod environment;
pub mod go;

pub mod args;
mod commands;
mod format;
mod help;
mod outline;

pub use format::draw_table;

use std::cell::Cell;

use futures_util::future::{Either, select};

use args::{Command, FlagError, GLOBAL, Parsed, descend, first_argument};
use commands::{Context, Failure, ROOT, Run};
use environment::Environment;
pub use outline::{FlagOutline, Outline, outline};

/// Exit code of a command that the user interrupted: that of a program ended by `SIGINT`.
const INTERRUPTED: i32 = 130;

/// Runs one command line and returns its exit code. `arguments` has no program name in front; they
/// are bytes, as keys and values are.
///
/// Everything there is to say has been written to `environment` when it returns.
pub async fn run(arguments: Vec<Vec<u8>>, environment: &dyn Environment) -> i32 {
    let mut words = arguments;
    let path = descend(&ROOT, &mut words);
    let command = path.last().copied().unwrap_or(&ROOT);
    if path.len() == 1
        && let Some(index) = first_argument(command, &words)
    {
        return unknown_command(&words[index], environment);
    }
    let print_help = |path: &[&Command]| environment.stdout(help::help(path).as_bytes());
    let mut parsed = match Parsed::parse(&[command.flags, &GLOBAL], &words) {
        Ok(parsed) => parsed,
        Err(FlagError::Help) => {
            print_help(&path);
            return 0;
        }
        Err(FlagError::Bad(message)) => {
            print_help(&path);
            environment.stderr(format!("Error: {message}\n\nError: {message}\n").as_bytes());
            return 1;
        }
    };
    parsed.fill_from(|name| environment.variable(name));
    let Some(run) = command.run else {
        if command.name == "help" {
            print_help(&help_topic(parsed.arguments, environment));
        } else {
            print_help(&path);
        }
        return 0;
    };
    execute(run, Context { environment, parsed, handles_interrupts: Cell::new(false) }).await
}

async fn execute(run: Run, context: Context<'_>) -> i32 {
    if context.parsed.is_on("debug") {
        for flag in &GLOBAL {
            let (variable, value) = (flag.variable(), context.parsed.shown(flag));
            context.complain(&format!("{variable}={value}"));
        }
    }
    // The page's prompt and the shell's: an interrupt ends what does not say otherwise.
    let outcome = match select(run(&context), context.environment.interrupted()).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(((), rest)) if context.handles_interrupts.get() => rest.await,
        Either::Right(_) => {
            context.environment.ended_by_interrupt();
            return INTERRUPTED;
        }
    };
    match outcome {
        Ok(()) => 0,
        Err(Failure { exit, message }) => {
            if let Some(message) = message {
                context.complain(&format!("Error: {message}"));
            }
            exit.code()
        }
    }
}

/// The command whose help `etcdctl help ...` shows.
fn help_topic(mut words: Vec<Vec<u8>>, environment: &dyn Environment) -> Vec<&'static Command> {
    let path = descend(&ROOT, &mut words);
    if path.len() == 1 && !words.is_empty() {
        let topic: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
        let message = format!("Unknown help topic [`{}`]\n", topic.join(" "));
        environment.stderr(message.as_bytes());
    }
    path
}

fn unknown_command(name: &[u8], environment: &dyn Environment) -> i32 {
    let name = String::from_utf8_lossy(name);
    let mut message = format!("Error: unknown command \"{name}\" for \"etcdctl\"\n");
    let similar = ROOT.subcommands.iter().filter(|command| is_similar(command.name, &name));
    let similar: Vec<_> = similar.map(|command| format!("\t{}\n", command.name)).collect();
    if !similar.is_empty() {
        message.push_str(&format!("\nDid you mean this?\n{}\n", similar.concat()));
    }
    let hint = "Run 'etcdctl --help' for usage.\n";
    environment.stderr(format!("{message}{hint}{message}").as_bytes());
    1
}

/// Whether `typed` may have been meant for `name`: at most two letters apart, or its beginning.
fn is_similar(name: &str, typed: &str) -> bool {
    const DISTANCE: usize = 2;
    let typed = typed.to_ascii_lowercase();
    let letters: Vec<char> = typed.chars().collect();
    // One row of the table of edit distances between the beginnings of both.
    let mut row: Vec<usize> = (0..=letters.len()).collect();
    for (index, letter) in name.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, other) in letters.iter().enumerate() {
            let substituted = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[letters.len()] <= DISTANCE || name.starts_with(&typed)
}
