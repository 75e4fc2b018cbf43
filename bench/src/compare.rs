//! Coracle and etcd under the same loads, by turns.
//!
//! For one member and for three: both systems run side by side, both get the same keys, and then
//! for every load they take turns, etcd, Coracle, etcd, Coracle, so that a minute in which the
//! disk is slow meets both. The one that is not under load idles; its heartbeats are all it costs.
//! Several rounds of one load are merged into one histogram; throughput and CPU per operation are
//! those of all rounds together.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cluster::{Cluster, Cores, Programs, SYSTEMS, System};
use crate::load::{self, Load, Operation, Outcome};
use crate::report::{self, Context as Surroundings, Figures, Memory};
use crate::watch::{self, WatchLoad};
use crate::{machine, process};

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    programs: Programs,
    /// Rounds: how often the systems take turns at each load.
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Seconds measured per load, system and round.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Numbers of members.
    #[arg(long, value_delimiter = ',', default_value = "1,3")]
    members: Vec<usize>,
    /// Numbers of clients of the closed loops.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    clients: Vec<usize>,
    /// Puts per second of the open loop; it should be well below what both systems can do.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// Keys that both hold before the loads begin.
    #[arg(long, default_value_t = 100_000)]
    keys: u64,
    /// Bytes per value.
    #[arg(long, default_value_t = 256)]
    value_size: usize,
    /// Minutes to wait at the start for the machine to become quiet.
    #[arg(long, default_value_t = 0)]
    patience: u64,
    /// The report; its table is printed as well.
    #[arg(long, default_value = "docs/benchmarks.md")]
    output: PathBuf,
}

/// One row of a table: a load, closed, open or watch.
enum Cell {
    Requests(Load),
    Watch(WatchLoad),
}

/// Runs all loads against both systems and writes the report.
pub(crate) fn main(options: &Options) -> Result<()> {
    let folder = options.programs.prepare()?;
    machine::wait_until_quiet(Duration::from_secs(60 * options.patience));
    let mut surroundings = Surroundings {
        machine: machine::description(),
        load_before: machine::load_average(),
        load_after: String::new(),
        sync: machine::sync_latency(folder)?,
        seconds: options.seconds,
        rounds: options.rounds,
        keys: options.keys,
        value_size: options.value_size,
    };
    let mut sections = Vec::new();
    for size in &options.members {
        sections.push(compare(options, *size)?);
    }
    surroundings.load_after = machine::load_average();
    let text = report::markdown(&surroundings, &sections);
    println!("\n{text}");
    report::write(&options.output, report::COMPARISON, &text)?;
    println!("written to {}", options.output.display());
    Ok(())
}

fn compare(options: &Options, size: usize) -> Result<report::Section> {
    let mut clusters = Vec::new();
    for system in SYSTEMS {
        eprintln!("starting {system}, members: {size}");
        clusters.push((system, Cluster::start(&options.programs, system, size, Cores::All)?));
    }
    let mut section = report::Section { members: size, memory: Vec::new(), rows: Vec::new() };
    let every_key = requests(options, Operation::Put, 1);
    for (system, cluster) in &clusters {
        let idle = process::memory(&cluster.processes())?;
        load::preload(&every_key, &cluster.endpoints())
            .with_context(|| format!("{system} does not take the keys"))?;
        let loaded = process::memory(&cluster.processes())?;
        section.memory.push(Memory { system: *system, idle, loaded, after: 0 });
    }
    for cell in cells(options) {
        section.rows.push(measure(options, &cell, &clusters)?);
    }
    for (memory, (_, cluster)) in section.memory.iter_mut().zip(&clusters) {
        memory.after = process::memory(&cluster.processes())?;
    }
    Ok(section)
}

/// All rounds of one load, the systems taking turns.
fn measure(options: &Options, cell: &Cell, clusters: &[(System, Cluster)]) -> Result<report::Row> {
    let mut figures: Vec<Option<Figures>> = clusters.iter().map(|_| None).collect();
    for _ in 0..options.rounds {
        for ((system, cluster), figures) in clusters.iter().zip(&mut figures) {
            let outcome =
                run(cell, cluster).with_context(|| format!("{} against {system}", name(cell)))?;
            eprintln!(
                "{:<45} {:<11} {:>8.0}/s  p50 {:>8.3} ms  p99 {:>8.3} ms  {:>6.1} us CPU",
                name(cell),
                system.to_string(),
                outcome.per_second(),
                load::quantile(&outcome.latency, 0.5),
                load::quantile(&outcome.latency, 0.99),
                outcome.server_cpu_per_operation()
            );
            match figures {
                None => *figures = Some(Figures::new(outcome)),
                Some(figures) => figures.add(&outcome)?,
            }
        }
    }
    let figures = figures.into_iter().collect::<Option<Vec<_>>>().context("no rounds")?;
    Ok(report::Row { name: name(cell), figures })
}

fn run(cell: &Cell, cluster: &Cluster) -> Result<Outcome> {
    let (endpoints, processes) = (cluster.endpoints(), cluster.processes());
    match cell {
        Cell::Requests(load) => load::run(load, &endpoints, &processes),
        Cell::Watch(load) => watch::run(load, &endpoints, &processes),
    }
}

fn name(cell: &Cell) -> String {
    match cell {
        Cell::Requests(load) => {
            let operation = match load.operation {
                Operation::Put => "put",
                Operation::Range => "range, linearizable",
                Operation::SerializableRange => "range, serializable",
            };
            match load.rate {
                Some(rate) => format!("{operation}, open loop, {rate}/s"),
                None => {
                    format!("{operation}, {} clients, {} conns", load.clients, load.connections)
                }
            }
        }
        Cell::Watch(load) => format!(
            "events, {} watchers, {} streams, {} puts/s",
            load.watchers, load.streams, load.rate
        ),
    }
}

fn cells(options: &Options) -> Vec<Cell> {
    let mut cells = Vec::new();
    for operation in [Operation::Put, Operation::Range, Operation::SerializableRange] {
        for clients in &options.clients {
            cells.push(Cell::Requests(requests(options, operation, *clients)));
        }
    }
    let open = requests(options, Operation::Put, 100);
    cells.push(Cell::Requests(Load { rate: Some(options.rate), ..open }));
    cells.push(Cell::Watch(WatchLoad {
        connections: 10,
        streams: 100,
        watchers: 1000,
        rate: 50.0,
        length: Duration::from_secs_f64(options.seconds),
        value_size: options.value_size,
    }));
    cells
}

fn requests(options: &Options, operation: Operation, clients: usize) -> Load {
    Load {
        operation,
        clients,
        // etcd's own published runs have ten clients on a connection.
        connections: clients.div_ceil(10),
        rate: None,
        warmup: Duration::from_secs(1),
        length: Duration::from_secs_f64(options.seconds),
        keys: options.keys,
        value_size: options.value_size,
    }
}
