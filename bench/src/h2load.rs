//! Server CPU per operation under nghttp2's h2load, a load generator that is not ours.
//!
//! h2load sends one prepared request over and over: a put of one key, or a linearizable range of
//! it. The server is pinned to one core and h2load to another, where the machine has two, so that
//! they do not take turns on one. h2load does not look at `grpc-status`; that puts were carried
//! out shows in the store's revision, which must have grown by their number.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use coracle_core::api::etcdserverpb::{PutRequest, RangeRequest};

use crate::client::{Rpc, framed};
use crate::cluster::{self, Cluster, Cores, Programs, SYSTEMS, System};
use crate::{machine, process, report};

/// Connections × streams on each.
const SHAPES: [(u32, u32); 2] = [(8, 32), (100, 10)];

#[derive(clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    programs: Programs,
    /// The h2load binary.
    #[arg(long)]
    h2load: PathBuf,
    /// Requests per run.
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// Rounds: how often the systems take turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Bytes per value.
    #[arg(long, default_value_t = 256)]
    value_size: usize,
    /// Let server and h2load share all cores instead of giving each one of its own.
    #[arg(long)]
    unpinned: bool,
    /// Minutes to wait at the start for the machine to become quiet.
    #[arg(long, default_value_t = 0)]
    patience: u64,
    /// The report; its table is printed as well.
    #[arg(long, default_value = "docs/benchmarks.md")]
    output: PathBuf,
}

/// One kind of request, prepared in a file.
struct Load {
    name: &'static str,
    rpc: Rpc,
    body: PathBuf,
}

/// Measures both systems and writes the report.
pub(crate) fn main(options: &Options) -> Result<()> {
    let folder = options.programs.prepare()?.to_owned();
    machine::wait_until_quiet(std::time::Duration::from_secs(60 * options.patience));
    let load_before = machine::load_average();
    let pinned = !options.unpinned && can_pin();
    let cores = if pinned { Cores::First } else { Cores::All };
    let mut clusters = Vec::new();
    for system in SYSTEMS {
        clusters.push((system, Cluster::start(&options.programs, system, 1, cores)?));
    }
    let mut text = String::new();
    for line in [
        format!("Machine: {}.", machine::description()),
        format!("Load average before: {load_before}."),
        if pinned {
            "The server is pinned to core 0, h2load to core 1.".to_owned()
        } else {
            "Server and h2load share all cores.".to_owned()
        },
        format!(
            "Median of {} rounds of {} requests per system, by turns; one member, values of {} \
             bytes.",
            options.rounds, options.requests, options.value_size
        ),
    ] {
        text += &format!("- {line}\n");
    }
    let [etcd, coracle] = SYSTEMS;
    let _ = write!(
        text,
        "\n| load | conns × streams | {etcd} /s | {coracle} /s | {etcd} CPU µs | {coracle} CPU µs \
         | ratio |\n|---|---|--:|--:|--:|--:|--:|\n"
    );
    for load in loads(&folder, options.value_size)? {
        for shape in SHAPES {
            text += &row(options, &load, shape, &clusters, pinned)?;
        }
    }
    println!("\n{text}");
    report::write(&options.output, report::H2LOAD, &text)?;
    println!("written to {}", options.output.display());
    Ok(())
}

/// The put comes first: the range reads what it left.
fn loads(folder: &Path, value_size: usize) -> Result<[Load; 2]> {
    let key = Bytes::from_static(b"h2load-1");
    let value = vec![b'v'; value_size].into();
    let put = PutRequest { key: key.clone(), value, ..Default::default() };
    let range = RangeRequest { key, ..Default::default() };
    let prepared = |name: &str, frame: Bytes| -> Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, frame)?;
        Ok(path)
    };
    Ok([
        Load { name: "put", rpc: Rpc::Put, body: prepared("put.grpc", framed(&put))? },
        Load {
            name: "range, linearizable",
            rpc: Rpc::Range,
            body: prepared("range.grpc", framed(&range))?,
        },
    ])
}

/// Whether server and load generator can have a core each.
fn can_pin() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
        && Command::new("taskset").arg("--version").output().is_ok()
}

fn row(
    options: &Options,
    load: &Load,
    (connections, streams): (u32, u32),
    clusters: &[(System, Cluster)],
    pinned: bool,
) -> Result<String> {
    let mut samples = vec![(Vec::new(), Vec::new()); clusters.len()];
    for _ in 0..options.rounds {
        for ((system, cluster), (speeds, costs)) in clusters.iter().zip(&mut samples) {
            let (speed, cost) = run(options, load, (connections, streams), cluster, pinned)
                .with_context(|| format!("{} against {system}", load.name))?;
            eprintln!(
                "{:<20} {connections:>3} x {streams:<3} {:<11} {speed:>8.0}/s {cost:>7.1} us CPU",
                load.name,
                system.to_string()
            );
            speeds.push(speed);
            costs.push(cost);
        }
    }
    let [(etcd_speeds, etcd_costs), (coracle_speeds, coracle_costs)] = samples.as_mut_slice()
    else {
        bail!("two systems are compared");
    };
    let (etcd, coracle) = (median(etcd_costs), median(coracle_costs));
    Ok(format!(
        "| {} | {connections} × {streams} | {:.0} | {:.0} | {etcd:.1} | {coracle:.1} | {:.2} |\n",
        load.name,
        median(etcd_speeds),
        median(coracle_speeds),
        coracle / etcd
    ))
}

/// One run: requests per second, and microseconds of server CPU per request.
fn run(
    options: &Options,
    load: &Load,
    (connections, streams): (u32, u32),
    cluster: &Cluster,
    pinned: bool,
) -> Result<(f64, f64)> {
    let endpoint = *cluster.endpoints().first().context("no member")?;
    let mut command = if pinned { Command::new("taskset") } else { Command::new(&options.h2load) };
    if pinned {
        command.args(["--cpu-list", "1"]).arg(&options.h2load);
    }
    command
        .arg("-n")
        .arg(options.requests.to_string())
        .args(["-c", &connections.to_string(), "-m", &streams.to_string(), "-t", "1", "-d"])
        .arg(&load.body)
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
        .arg(format!("http://{endpoint}{}", load.rpc.path()));
    let before = cluster::revision(endpoint)?;
    let cpu = process::cpu(&cluster.processes())?;
    let output = command.output().context("h2load does not start")?;
    let cpu = process::cpu(&cluster.processes())?.saturating_sub(cpu);
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        bail!("h2load ended with {}: {text}", output.status);
    }
    let speed = speed(&text, options.requests)?;
    let puts = u64::try_from(cluster::revision(endpoint)? - before)?;
    let expected = if matches!(load.rpc, Rpc::Put) { options.requests } else { 0 };
    if puts != expected {
        bail!("{expected} puts were sent and the revision grew by {puts}");
    }
    Ok((speed, cpu.as_secs_f64() * 1e6 / options.requests as f64))
}

/// Requests per second from h2load's report, which must say that all of them succeeded.
fn speed(report: &str, requests: u64) -> Result<f64> {
    if !report.contains(&format!("{requests} succeeded, 0 failed, 0 errored, 0 timeout")) {
        bail!("not all requests succeeded: {report}");
    }
    let line = report.lines().find_map(|line| line.strip_prefix("finished in "));
    let speed = line.and_then(|line| line.split(", ").nth(1)?.strip_suffix(" req/s")?.parse().ok());
    speed.context("h2load's report has no requests per second")
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = "\
finished in 1.33s, 22530.12 req/s, 1.10MB/s
requests: 30000 total, 30000 started, 30000 done, 30000 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 30000 2xx, 0 3xx, 0 4xx, 0 5xx
";

    #[test]
    fn the_speed_is_read_from_the_report() {
        assert_eq!(speed(REPORT, 30_000).unwrap(), 22530.12);
    }

    #[test]
    fn a_report_with_failures_is_an_error() {
        assert!(speed(&REPORT.replace("0 errored", "1 errored"), 30_000).is_err());
        assert!(speed(REPORT, 30_001).is_err());
    }

    #[test]
    fn the_median_is_one_of_the_samples() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
    }
}
