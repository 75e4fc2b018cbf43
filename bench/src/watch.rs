//! Watch fan-out: many watchers of one key, puts to it by a timetable.
//!
//! Every put becomes one event per watcher. The rate is fixed, so that both systems do the same
//! work; measured are the server's CPU per event and how long an event takes, from when its put
//! was due to when the watcher has it. Each watcher must get each event once: fewer or more fail
//! the load.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use coracle_core::api::etcdserverpb::watch_request::RequestUnion;
use coracle_core::api::etcdserverpb::{
    PutRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use h2::SendStream;
use hdrhistogram::Histogram;
use prost::Message;
use tokio::sync::Notify;

use crate::client::{Connection, Messages, Rpc, framed};
use crate::load::{Outcome, block_on, connect, histogram};
use crate::process;
use crate::schedule::Schedule;

/// How long the last events may take after the last put.
const GRACE: Duration = Duration::from_secs(30);

/// One watch load.
#[derive(Clone, Debug)]
pub(crate) struct WatchLoad {
    pub(crate) connections: usize,
    /// Watch RPCs, spread over the connections.
    pub(crate) streams: usize,
    /// Watchers, spread over the streams.
    pub(crate) watchers: usize,
    /// Puts per second.
    pub(crate) rate: f64,
    pub(crate) length: Duration,
    /// Bytes per value, at least the 8 that carry the put's number.
    pub(crate) value_size: usize,
}

/// Runs one watch load; the operations of the outcome are events.
pub(crate) fn run(load: &WatchLoad, endpoints: &[SocketAddr], servers: &[u32]) -> Result<Outcome> {
    block_on(run_here(load, endpoints, servers))
}

async fn run_here(load: &WatchLoad, endpoints: &[SocketAddr], servers: &[u32]) -> Result<Outcome> {
    let puts = (load.rate * load.length.as_secs_f64()) as u64;
    // A key of this run alone, so that an earlier run's events cannot be taken for ours.
    let key: Bytes = format!("watched-{:016x}", rand::random::<u64>()).into();
    let board = Rc::new(Board {
        missing: Cell::new(puts * load.watchers as u64),
        due: RefCell::new(Vec::with_capacity(puts as usize)),
        latency: RefCell::new(histogram()?),
        done: Notify::new(),
    });
    let connections = connect(endpoints, load.connections).await?;
    let mut readers = Vec::new();
    // The sending half stays open: its end would be the end of the watch.
    let mut senders = Vec::new();
    for number in 0..load.streams {
        let watchers = watchers_of_stream(load, number);
        let connection = &connections[number % connections.len()];
        let (sender, messages) = open_stream(connection, &key, watchers).await?;
        senders.push(sender);
        readers.push(tokio::task::spawn_local(read(messages, board.clone())));
    }

    let own = [std::process::id()];
    let (server_before, client_before) = (process::cpu(servers)?, process::cpu(&own)?);
    let start = Instant::now();
    let writing = write(load, &key, puts, &board, &connections[0]);
    tokio::time::timeout(load.length + GRACE, async {
        writing.await?;
        while board.missing.get() > 0 {
            tokio::select! {
                () = board.done.notified() => {}
                ended = first_ended(&mut readers) => return ended,
            }
        }
        anyhow::Ok(())
    })
    .await
    .with_context(|| format!("{} events have not arrived", board.missing.get()))??;
    let length = start.elapsed();
    let (server_after, client_after) = (process::cpu(servers)?, process::cpu(&own)?);

    let latency = board.latency.borrow().clone();
    Ok(Outcome {
        operations: latency.len(),
        length,
        server_cpu: server_after.saturating_sub(server_before),
        client_cpu: client_after.saturating_sub(client_before),
        latency,
    })
}

fn watchers_of_stream(load: &WatchLoad, stream: usize) -> usize {
    (load.watchers + load.streams - 1 - stream) / load.streams
}

/// What arrived so far.
struct Board {
    /// Events still to come.
    missing: Cell<u64>,
    /// When each put was due, by its number.
    due: RefCell<Vec<Instant>>,
    latency: RefCell<Histogram<u64>>,
    done: Notify,
}

impl Board {
    fn record(&self, value: &[u8], arrived: Instant) -> Result<()> {
        let number = value.first_chunk::<8>().context("an event of somebody else's put")?;
        let number = u64::from_be_bytes(*number) as usize;
        let due = *self.due.borrow().get(number).context("an event of a put that was not made")?;
        self.latency.borrow_mut().record(arrived.duration_since(due).as_nanos() as u64)?;
        let missing = self.missing.get().checked_sub(1).context("more events than puts")?;
        self.missing.set(missing);
        if missing == 0 {
            self.done.notify_one();
        }
        Ok(())
    }
}

/// Opens a stream and creates its watchers; returns when the server has confirmed all of them.
async fn open_stream(
    connection: &Connection,
    key: &Bytes,
    watchers: usize,
) -> Result<(SendStream<Bytes>, Messages)> {
    let create = framed(&WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
            key: key.clone(),
            ..Default::default()
        })),
    });
    let (mut sender, mut messages) = connection.stream(Rpc::Watch, create.clone()).await?;
    for _ in 1..watchers {
        sender.send_data(create.clone(), false)?;
    }
    for _ in 0..watchers {
        let message = messages.next().await?.context("the watch ended at its creation")?;
        let response = WatchResponse::decode(message)?;
        if !response.created || response.canceled {
            bail!("a watch was not created: {}", response.cancel_reason);
        }
    }
    Ok((sender, messages))
}

async fn read(mut messages: Messages, board: Rc<Board>) -> Result<()> {
    while let Some(message) = messages.next().await? {
        let arrived = Instant::now();
        let response = WatchResponse::decode(message)?;
        if response.canceled {
            bail!("a watch was cancelled: {}", response.cancel_reason);
        }
        for event in response.events {
            board.record(&event.kv.context("an event without a key")?.value, arrived)?;
        }
    }
    bail!("the server ended a watch stream")
}

/// The error of whichever reader ends first; a reader ends only in an error.
async fn first_ended(readers: &mut [tokio::task::JoinHandle<Result<()>>]) -> Result<()> {
    let ended = std::future::poll_fn(|context| {
        for reader in readers.iter_mut() {
            if let std::task::Poll::Ready(ended) = std::pin::Pin::new(reader).poll(context) {
                return std::task::Poll::Ready(ended);
            }
        }
        std::task::Poll::Pending
    });
    ended.await?
}

/// The puts, each in a task of its own, so that a slow one does not hold up the timetable.
async fn write(
    load: &WatchLoad,
    key: &Bytes,
    puts: u64,
    board: &Board,
    connection: &Connection,
) -> Result<()> {
    let schedule = Schedule::new(Some(load.rate), Instant::now(), load.length);
    let mut calls = Vec::with_capacity(puts as usize);
    while let Some(due) = schedule.next().await {
        let number = board.due.borrow().len() as u64;
        board.due.borrow_mut().push(due);
        let mut value = number.to_be_bytes().to_vec();
        value.resize(load.value_size.max(8), b'.');
        let put = PutRequest { key: key.clone(), value: value.into(), ..Default::default() };
        let mut caller = connection.caller(Rpc::Put)?;
        calls.push(tokio::task::spawn_local(async move { caller.call(framed(&put)).await }));
    }
    for call in calls {
        call.await??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_watcher_has_a_stream() {
        for (watchers, streams) in [(1000, 100), (7, 3), (3, 3)] {
            let length = Duration::ZERO;
            let load =
                WatchLoad { connections: 1, streams, watchers, rate: 1.0, length, value_size: 8 };
            let spread: Vec<usize> =
                (0..streams).map(|stream| watchers_of_stream(&load, stream)).collect();
            assert_eq!(spread.iter().sum::<usize>(), watchers, "{spread:?}");
            assert!(spread.iter().all(|number| *number > 0), "{spread:?}");
        }
    }
}
