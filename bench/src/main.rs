//! Load for an etcd v3 server, and the comparison of Coracle with a real etcd.
//!
//! | command | does |
//! |---|---|
//! | `coracle-bench load` | one load against running endpoints, whatever serves there |
//! | `coracle-bench compare` | starts both servers, the same loads by turns, a report |
//! | `coracle-bench h2load` | server CPU per operation of both under nghttp2's h2load |
//!
//! # How it measures
//!
//! The generator shares the machine with the server, so it must be lean: requests are framed by
//! hand on the `h2` crate ([`client`]), all clients are tasks of one thread, and a request costs
//! it a fraction of what it costs the server. Requests per second still depend on who else wants
//! the cores; **server CPU per operation** ([`process`]) depends on that far less, and ratios
//! taken in one run least of all.
//!
//! A *closed loop* sends a client's next request when its last one is answered: it finds the
//! throughput, and its latencies flatter a server that stalls, since a stalled client asks
//! nothing. An *open loop* has a timetable: request *i* is due at *i / rate*, and its latency
//! counts from then, not from when it could be sent (no coordinated omission).
//!
//! Disks vary from minute to minute, so the two systems take turns, cell by cell, round by round
//! ([`compare`]).

mod client;
mod cluster;
mod compare;
mod h2load;
mod load;
mod machine;
mod process;
mod report;
mod schedule;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures etcd v3 servers.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// One load against running members.
    Load(load::Options),
    /// Coracle and etcd under the same loads, by turns; writes a report.
    Compare(compare::Options),
    /// Server CPU per operation of Coracle and etcd under h2load.
    H2load(h2load::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Load(options) => load::main(&options),
        Command::Compare(options) => compare::main(&options),
        Command::H2load(options) => h2load::main(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
