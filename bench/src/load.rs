//! Puts and ranges from many clients: the load itself, and the command that runs one.
//!
//! All clients are tasks of one current-thread runtime, spread over the connections, which are
//! spread over the members. A load warms up, then measures for a fixed time: what is counted is
//! what was answered (closed loop) or due (open loop) within it, against the CPU time that the
//! servers used in it. A failed call fails the load: a server that errs quickly is not fast.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::ValueEnum;
use coracle_core::api::etcdserverpb::{PutRequest, RangeRequest};
use hdrhistogram::Histogram;
use rand::RngExt;
use tokio::task::{JoinHandle, LocalSet};

use crate::client::{Caller, Connection, Rpc, framed};
use crate::process;
use crate::schedule::Schedule;

/// How long requests that were due in time may take beyond the end.
const GRACE: Duration = Duration::from_secs(30);
/// Values are slices of this many random bytes: nothing compresses, nothing is generated per call.
const VALUE_POOL: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Operation {
    /// Put a random key of the key space.
    Put,
    /// Read a random key, linearizable.
    Range,
    /// Read a random key, serializable.
    SerializableRange,
}

/// One load.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) operation: Operation,
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    /// Requests per second of an open loop; `None` is a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) warmup: Duration,
    pub(crate) length: Duration,
    pub(crate) keys: u64,
    /// Bytes per value.
    pub(crate) value_size: usize,
}

/// What a load measured.
pub(crate) struct Outcome {
    pub(crate) operations: u64,
    pub(crate) length: Duration,
    /// CPU time of the servers over `length`.
    pub(crate) server_cpu: Duration,
    /// CPU time of this process over `length`.
    pub(crate) client_cpu: Duration,
    /// In nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        self.operations as f64 / self.length.as_secs_f64()
    }

    /// Microseconds of server CPU per operation.
    pub(crate) fn server_cpu_per_operation(&self) -> f64 {
        self.server_cpu.as_secs_f64() * 1e6 / self.operations as f64
    }

    fn client_cpu_per_operation(&self) -> f64 {
        self.client_cpu.as_secs_f64() * 1e6 / self.operations as f64
    }
}

/// An empty histogram of nanoseconds, exact to 0.1 %.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new(3)?)
}

/// A latency of this histogram in milliseconds.
pub(crate) fn quantile(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e6
}

/// The command: one load, its figures on standard output.
#[derive(clap::Args)]
pub(crate) struct Options {
    #[arg(value_enum)]
    operation: Operation,
    /// Client addresses of the members.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:2379")]
    endpoints: Vec<SocketAddr>,
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Connections that the clients share.
    #[arg(long, default_value_t = 8)]
    conns: usize,
    /// Requests per second: an open loop. Without it, a closed one.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Number of different keys.
    #[arg(long, default_value_t = 10_000)]
    keys: u64,
    /// Bytes per value.
    #[arg(long, default_value_t = 256)]
    value_size: usize,
    /// Process numbers of the servers, to account for their CPU.
    #[arg(long, value_delimiter = ',')]
    processes: Vec<u32>,
}

/// Runs one load against running members.
pub(crate) fn main(options: &Options) -> Result<()> {
    let load = Load {
        operation: options.operation,
        clients: options.clients,
        connections: options.conns,
        rate: options.rate,
        warmup: Duration::try_from_secs_f64(options.warmup)?,
        length: Duration::try_from_secs_f64(options.seconds)?,
        keys: options.keys,
        value_size: options.value_size,
    };
    if options.operation != Operation::Put {
        preload(&load, &options.endpoints)?;
    }
    let outcome = run(&load, &options.endpoints, &options.processes)?;
    println!("requests per second  {:>10.0}", outcome.per_second());
    for (name, share) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)]
    {
        println!("latency {name:<5} (ms)   {:>10.3}", quantile(&outcome.latency, share));
    }
    println!("client CPU per request (us) {:>7.1}", outcome.client_cpu_per_operation());
    if !options.processes.is_empty() {
        println!("server CPU per request (us) {:>7.1}", outcome.server_cpu_per_operation());
    }
    Ok(())
}

/// Blocks on a future on a runtime of its own, with this thread for all its tasks.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, future)
}

/// Runs one load. `servers` are the processes whose CPU time is measured.
pub(crate) fn run(load: &Load, endpoints: &[SocketAddr], servers: &[u32]) -> Result<Outcome> {
    block_on(run_here(load, endpoints, servers))
}

async fn run_here(load: &Load, endpoints: &[SocketAddr], servers: &[u32]) -> Result<Outcome> {
    let connections = connect(endpoints, load.connections).await?;
    let start = Instant::now();
    let measured_from = start + load.warmup;
    let end = measured_from + load.length;
    let shared = Rc::new(Shared {
        requests: Requests::new(load),
        schedule: Schedule::new(load.rate, start, load.warmup + load.length),
        counting: match load.rate {
            Some(_) => Counting::Due(measured_from, end),
            None => Counting::Answered(Cell::new(false)),
        },
        latency: RefCell::new(histogram()?),
    });
    let clients: Vec<JoinHandle<Result<()>>> = (0..load.clients)
        .map(|number| {
            let caller = connections[number % connections.len()].caller(shared.requests.rpc())?;
            Ok(tokio::task::spawn_local(client(shared.clone(), caller)))
        })
        .collect::<Result<_>>()?;

    let own = [std::process::id()];
    tokio::time::sleep_until(measured_from.into()).await;
    let (server_before, client_before) = (process::cpu(servers)?, process::cpu(&own)?);
    let begun = Instant::now();
    shared.count(true);
    tokio::time::sleep_until(end.into()).await;
    shared.count(false);
    let length = if load.rate.is_some() { load.length } else { begun.elapsed() };
    let (server_after, client_after) = (process::cpu(servers)?, process::cpu(&own)?);
    if load.rate.is_none() {
        shared.schedule.stop();
    }
    let finished = tokio::time::timeout(GRACE, async {
        for client in clients {
            client.await??;
        }
        anyhow::Ok(())
    });
    finished.await.context("the server falls behind: requests are due and not answered")??;
    shared.schedule.stop();

    let latency = shared.latency.borrow().clone();
    if latency.is_empty() {
        bail!("no request was answered in the time measured");
    }
    Ok(Outcome {
        operations: latency.len(),
        length,
        server_cpu: server_after.saturating_sub(server_before),
        client_cpu: client_after.saturating_sub(client_before),
        latency,
    })
}

/// Opens the connections, spread evenly over the endpoints.
pub(crate) async fn connect(endpoints: &[SocketAddr], number: usize) -> Result<Vec<Connection>> {
    let mut connections = Vec::with_capacity(number);
    for index in 0..number.max(1) {
        let endpoint = endpoints.get(index % endpoints.len().max(1)).context("no endpoint")?;
        connections.push(Connection::open(*endpoint).await?);
    }
    Ok(connections)
}

/// What the clients of a load share.
struct Shared {
    requests: Requests,
    schedule: Schedule,
    counting: Counting,
    latency: RefCell<Histogram<u64>>,
}

/// Which requests count.
enum Counting {
    /// Those that are due in this time, however late they are answered: an open loop's.
    Due(Instant, Instant),
    /// Those that are answered while this is set: a closed loop's.
    Answered(Cell<bool>),
}

impl Shared {
    /// Begins or ends the time measured of a closed loop.
    fn count(&self, begin: bool) {
        if let Counting::Answered(counting) = &self.counting {
            counting.set(begin);
        }
    }

    fn record(&self, due: Instant, answered: Instant) -> Result<()> {
        let counts = match &self.counting {
            Counting::Due(from, end) => (*from..*end).contains(&due),
            Counting::Answered(counting) => counting.get(),
        };
        if counts {
            let nanoseconds = answered.duration_since(due).as_nanos() as u64;
            self.latency.borrow_mut().record(nanoseconds.max(1))?;
        }
        Ok(())
    }
}

async fn client(shared: Rc<Shared>, mut caller: Caller) -> Result<()> {
    while let Some(due) = shared.schedule.next().await {
        let length = caller.call(shared.requests.frame()).await?;
        shared.record(due, Instant::now())?;
        shared.requests.check(length)?;
    }
    Ok(())
}

/// Makes the requests of a load.
struct Requests {
    operation: Operation,
    keys: u64,
    value_size: usize,
    pool: Bytes,
}

impl Requests {
    fn new(load: &Load) -> Requests {
        let mut pool = vec![0; VALUE_POOL + load.value_size];
        rand::rng().fill(pool.as_mut_slice());
        Requests {
            operation: load.operation,
            keys: load.keys.max(1),
            value_size: load.value_size,
            pool: pool.into(),
        }
    }

    fn rpc(&self) -> Rpc {
        if self.operation == Operation::Put { Rpc::Put } else { Rpc::Range }
    }

    fn frame(&self) -> Bytes {
        let key = key(rand::rng().random_range(0..self.keys));
        match self.operation {
            Operation::Put => self.put(key),
            Operation::Range => framed(&RangeRequest { key, ..Default::default() }),
            Operation::SerializableRange => {
                framed(&RangeRequest { key, serializable: true, ..Default::default() })
            }
        }
    }

    fn put(&self, key: Bytes) -> Bytes {
        let from = rand::rng().random_range(0..VALUE_POOL);
        let value = self.pool.slice(from..from + self.value_size);
        framed(&PutRequest { key, value, ..Default::default() })
    }

    /// A range must bring the value: an empty answer is quick and wrong.
    fn check(&self, length: usize) -> Result<()> {
        if self.operation != Operation::Put && length < self.value_size {
            bail!("a range of a key that was put brought {length} bytes");
        }
        Ok(())
    }
}

/// Eight bytes, as in etcd's own benchmark.
fn key(number: u64) -> Bytes {
    format!("{number:08}").into()
}

/// Puts every key of the load's key space once, with 64 clients.
pub(crate) fn preload(load: &Load, endpoints: &[SocketAddr]) -> Result<()> {
    block_on(async {
        let connections = connect(endpoints, 8).await?;
        let requests = Rc::new(Requests::new(load));
        let next = Rc::new(RefCell::new(0..load.keys));
        let mut clients = Vec::new();
        for number in 0..64 {
            let mut caller = connections[number % connections.len()].caller(Rpc::Put)?;
            let (requests, next) = (requests.clone(), next.clone());
            clients.push(tokio::task::spawn_local(async move {
                loop {
                    let Some(number) = next.borrow_mut().next() else {
                        return anyhow::Ok(());
                    };
                    caller.call(requests.put(key(number))).await?;
                }
            }));
        }
        for client in clients {
            client.await??;
        }
        Ok(())
    })
}
