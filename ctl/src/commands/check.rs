//! `check perf` and `check datascale`: is this cluster fast enough, what does so much data cost?
//!
//! Both write through many clients below a prefix that must be empty, and clean up after
//! themselves. The loads and the limits are etcdctl's (CTL-08, CTL-09), so that verdicts compare.

mod load;

use std::time::Duration;

use coracle_core::api::etcdserverpb::{
    CompactionRequest, DefragmentRequest, DeleteRangeRequest, RangeRequest,
};

use self::load::{Load, Report};
use super::{Context, Exit, Failure, prefix_range};
use crate::args::{Command, Flag, Kind};
use crate::client::Client;
use crate::go::quote;

pub(super) const COMMAND: Command = Command {
    name: "check",
    usage: "<subcommand>",
    short: "commands for checking properties of the etcd cluster",
    long: "",
    flags: &[],
    subcommands: &[
        Command {
            name: "datascale",
            usage: "[options]",
            short: "Check the memory usage of holding data for different workloads on a given \
                    server endpoint.",
            long: "If no endpoint is provided, localhost will be used. If multiple endpoints are \
                   provided, first endpoint will be used.",
            flags: &DATASCALE_FLAGS,
            subcommands: &[],
            run: Some(|context| Box::pin(datascale(context))),
        },
        Command {
            name: "perf",
            usage: "[options]",
            short: "Check the performance of the etcd cluster",
            long: "",
            flags: &PERF_FLAGS,
            subcommands: &[],
            run: Some(|context| Box::pin(perf(context))),
        },
    ],
    run: None,
};

const LOAD_HELP: &str = "The workload model. Accepted workloads: s(small), m(medium), l(large), \
                         xl(xLarge)";
const COMPACT_HELP: &str = "Compact storage with last revision after test is finished.";
const DEFRAG_HELP: &str = "Defragment storage after test is finished.";

static PERF_FLAGS: [Flag; 4] = [
    Flag::switch("auto-compact", COMPACT_HELP),
    Flag::switch("auto-defrag", DEFRAG_HELP),
    Flag::new("load", Kind::Text, "s", LOAD_HELP),
    Flag::new(
        "prefix",
        Kind::Text,
        "/etcdctl-check-perf/",
        "The prefix for writing the performance check's keys.",
    ),
];

static DATASCALE_FLAGS: [Flag; 4] = [
    Flag::switch("auto-compact", COMPACT_HELP),
    Flag::switch("auto-defrag", DEFRAG_HELP),
    Flag::new("load", Kind::Text, "s", LOAD_HELP),
    Flag::new(
        "prefix",
        Kind::Text,
        "/etcdctl-check-datascale/",
        "The prefix for writing the datascale check's keys.",
    ),
];

/// Bytes of a value in both checks.
const VALUE_BYTES: usize = 1_024;
/// How long `check perf` writes.
const PERF_DURATION: Duration = Duration::from_secs(60);

/// Deleting what was written takes its time; etcdctl's limit of it, for `check perf`.
const PERF_DELETE: Duration = Duration::from_secs(30);

/// etcdctl's limit of what the flags ask for afterwards.
const AFTERWARDS: Duration = Duration::from_secs(30);

/// The verdict's limits: share of the wanted throughput, slowest request and deviation in seconds.
const MIN_THROUGHPUT: f64 = 0.9;
const MAX_SLOWEST: f64 = 0.5;
const MAX_DEVIATION: f64 = 0.1;

/// A load that was asked for by name: number of clients, and puts (a second, or in all).
struct Model {
    clients: usize,
    puts: u64,
}

/// The model of `--load`; `models` are the small, medium, large and extra large one.
fn model(context: &Context<'_>, models: [(usize, u64); 4]) -> Result<Model, Failure> {
    let (clients, puts) = match context.parsed.text("load") {
        "s" | "small" => models[0],
        "m" | "medium" => models[1],
        "l" | "large" => models[2],
        "xl" | "xLarge" => models[3],
        other => {
            return Err(Failure::new(Exit::BadFeature, format!("unknown load option {other}")));
        }
    };
    Ok(Model { clients, puts })
}

async fn perf(context: &Context<'_>) -> Result<(), Failure> {
    context.no_arguments("check perf command does not accept any arguments")?;
    let model = model(context, [(50, 150), (200, 1_000), (500, 8_000), (1_000, 15_000)])?;
    let prefix = context.parsed.text("prefix");
    let way_out = format!("'etcdctl del --prefix {prefix}'");
    let clients = clients(context, prefix, &way_out, model.clients).await?;
    let load = Load::at_rate(model.puts, PERF_DURATION, VALUE_BYTES);
    let report = load.run(context, &clients, prefix).await;
    clean_up(context, &*clients[0], prefix, Some(PERF_DELETE)).await?;
    judge(context, &report, model.puts)
}

/// Prints the verdict line by line; fails if one of them does.
fn judge(context: &Context<'_>, report: &Report, wanted: u64) -> Result<(), Failure> {
    let mut passed = true;
    let mut tell = |pass: bool, good: String, bad: String| {
        passed &= pass;
        let line = if pass { format!("PASS: {good}") } else { bad };
        context.print(&line);
    };
    if !report.errors.is_empty() {
        tell(false, String::new(), "FAIL: too many errors".into());
        for (error, count) in &report.errors {
            tell(false, String::new(), format!("FAIL: ERROR({error}) -> {count}"));
        }
    }
    let throughput = report.throughput();
    let writes = throughput as u64 + 1;
    tell(
        throughput / wanted as f64 > MIN_THROUGHPUT,
        format!("Throughput is {writes} writes/s"),
        format!("FAIL: Throughput too low: {writes} writes/s"),
    );
    // These two do not say FAIL in etcdctl either.
    let slowest = report.slowest();
    tell(
        slowest <= MAX_SLOWEST,
        format!("Slowest request took {slowest:.6}s"),
        format!("Slowest request took too long: {slowest:.6}s"),
    );
    let deviation = report.deviation();
    tell(
        deviation <= MAX_DEVIATION,
        format!("Stddev is {deviation:.6}s"),
        format!("Stddev too high: {deviation:.6}s"),
    );
    context.print(if passed { "PASS" } else { "FAIL" });
    if passed { Ok(()) } else { Err(Failure::silent()) }
}

async fn datascale(context: &Context<'_>) -> Result<(), Failure> {
    context.no_arguments("check datascale command does not accept any arguments")?;
    let model =
        model(context, [(50, 10_000), (200, 100_000), (500, 1_000_000), (1_000, 3_000_000)])?;
    let prefix = context.parsed.text("prefix");
    // etcdctl's two checks differ in these quotes.
    let way_out = format!("etcdctl del --prefix {prefix}");
    let clients = clients(context, prefix, &way_out, model.clients).await?;
    let before = resident_memory(context).await.map_err(|error| unreadable("before", &error))?;
    context.print(&format!(
        "Start data scale check for work load [{} key-value pairs, {VALUE_BYTES} bytes per \
         key-value, {} concurrent clients].",
        model.puts, model.clients
    ));
    let load = Load::of(model.puts, VALUE_BYTES);
    let report = load.run(context, &clients, prefix).await;
    let after = resident_memory(context).await.map_err(|error| unreadable("after", &error))?;
    clean_up(context, &*clients[0], prefix, None).await?;
    if !report.errors.is_empty() {
        context.print("FAIL: too many errors");
        for (error, count) in &report.errors {
            context.print(&format!("FAIL: ERROR({error}) -> {count}"));
        }
        return Err(Failure::silent());
    }
    let megabytes = (after - before).max(0.0) / f64::from(1 << 20);
    context.print(&format!("PASS: Approximate system memory used : {megabytes:.2} MB."));
    Ok(())
}

fn unreadable(when: &str, error: &str) -> Failure {
    let message =
        format!("could not read process_resident_memory_bytes {when} the put operations: {error}");
    Failure::new(Exit::Error, message)
}

/// Resident memory of the first endpoint's member, in bytes, from its metrics.
async fn resident_memory(context: &Context<'_>) -> Result<f64, String> {
    let connection = context
        .connection()
        .await
        .map_err(|failure| failure.message.unwrap_or_else(|| "no endpoint is given".to_owned()))?;
    let connection = connection.to(&connection.endpoints[0]);
    let metrics = context.environment.fetch(connection, "/metrics").await?;
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix("process_resident_memory_bytes "));
    let value = value.ok_or("the member does not tell it in its metrics")?;
    value.trim().parse().map_err(|error| format!("{value:?} is no number: {error}"))
}

/// Connects `count` times, if there is nothing yet below `prefix`; `way_out` makes it so.
async fn clients(
    context: &Context<'_>,
    prefix: &str,
    way_out: &str,
    count: usize,
) -> Result<Vec<Box<dyn Client>>, Failure> {
    let connection = context.connection().await?;
    let first = context.client_of(connection.clone()).await?;
    let (key, range_end) = prefix_range(prefix.as_bytes());
    let request = RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: 1,
        ..RangeRequest::default()
    };
    if !context.within_timeout(first.range(request)).await?.kvs.is_empty() {
        let quoted = quote(prefix.as_bytes());
        let message = format!("prefix {quoted} has keys. Delete with {way_out} first");
        return Err(Failure::new(Exit::InvalidInput, message));
    }
    let mut clients = vec![first];
    while clients.len() < count {
        clients.push(context.client_of(connection.clone()).await?);
    }
    Ok(clients)
}

/// Removes what was written, within `limit` if there is one, and what the flags say of its traces.
async fn clean_up(
    context: &Context<'_>,
    client: &dyn Client,
    prefix: &str,
    limit: Option<Duration>,
) -> Result<(), Failure> {
    let (key, range_end) = prefix_range(prefix.as_bytes());
    let request =
        DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: false };
    let deleted = client.delete_range(request);
    let response = match limit {
        Some(limit) => context.within(limit, deleted).await?,
        None => deleted.await?,
    };
    if context.parsed.is_on("auto-compact") {
        let revision = response.header.unwrap_or_default().revision;
        context.print(&format!("Compacting with revision {revision}"));
        // All of it is to go: wait for it.
        let request = CompactionRequest { revision, physical: true };
        context.within(AFTERWARDS, client.compact(request)).await?;
        context.print(&format!("Compacted with revision {revision}"));
    }
    if context.parsed.is_on("auto-defrag") {
        let connection = context.connection().await?;
        for endpoint in &connection.endpoints {
            context.print(&format!("Defragmenting {}", quote(endpoint.as_bytes())));
            let client = context.client_of(connection.to(endpoint)).await?;
            context.within(AFTERWARDS, client.defragment(DefragmentRequest {})).await?;
            context.print(&format!("Defragmented {}", quote(endpoint.as_bytes())));
        }
    }
    Ok(())
}
