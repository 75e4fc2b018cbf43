//! `make-mirror`: copies a range of keys to another cluster, and goes on copying its changes.
//!
//! The base is read in pages at one revision; then every revision of the source becomes one
//! transaction at the destination, so that a reader there sees the states that readers here saw
//! (unless one revision has more operations than `--max-txn-ops`). Leases are not mirrored.

use std::cell::Cell;
use std::time::Duration;

use bytes::Bytes;
use coracle_core::api::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
    WatchResponse, request_op,
};
use coracle_core::api::mvccpb::Event;
use coracle_core::api::mvccpb::event::EventType;
use futures_util::future::{Either, select};

use super::watch::Watches;
use super::{Context, Failure, prefix_range};
use crate::args::{Command, Flag, Kind};
use crate::client::Client;
use crate::environment::{Connection, Tls};

pub(super) const COMMAND: Command = Command {
    name: "make-mirror",
    usage: "[options] <destination>",
    short: "Makes a mirror at the destination etcd cluster",
    long: "",
    flags: &FLAGS,
    subcommands: &[],
    run: Some(|context| Box::pin(make_mirror(context))),
};

static FLAGS: [Flag; 11] = [
    Flag::new(
        "dest-cacert",
        Kind::Text,
        "",
        "Verify certificates of TLS enabled secure servers using this CA bundle",
    ),
    Flag::new(
        "dest-cert",
        Kind::Text,
        "",
        "Identify secure client using this TLS certificate file for the destination cluster",
    ),
    Flag::new(
        "dest-insecure-transport",
        Kind::Bool,
        "true",
        "Disable transport security for client connections",
    ),
    Flag::new("dest-key", Kind::Text, "", "Identify secure client using this TLS key file"),
    Flag::new("dest-password", Kind::Text, "", "Destination password for authentication"),
    Flag::new(
        "dest-prefix",
        Kind::Text,
        "",
        "destination prefix to mirror a prefix to a different prefix in the destination cluster",
    ),
    Flag::new(
        "dest-user",
        Kind::Text,
        "",
        "Destination username[:password] for authentication (prompt if password is not supplied)",
    ),
    Flag::new("max-txn-ops", Kind::Int64, "128", "Maximum number of operations of a transaction"),
    Flag::switch("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
    Flag::new("prefix", Kind::Text, "", "Key-value prefix to mirror"),
    Flag::new("rev", Kind::Int64, "0", "Specify the kv revision to start to mirror"),
];

/// Keys read at once.
const PAGE_KEYS: i64 = 1_000;
/// How often the number of copied changes is told.
const TELL_EVERY: Duration = Duration::from_secs(30);

async fn make_mirror(context: &Context<'_>) -> Result<(), Failure> {
    let parsed = &context.parsed;
    let destination = context.only_argument("make-mirror takes one destination argument")?;
    if parsed.is_set("dest-prefix") && parsed.is_on("no-dest-prefix") {
        return Err(Failure::arguments(
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one",
        ));
    }
    let source = context.connection().await?;
    let target = destination_connection(context, &source, destination).await?;
    let source = context.patient_client(source).await?;
    let target = context.patient_client(target).await?;
    let prefix = parsed.text("prefix").as_bytes().to_vec();
    let target_prefix = match parsed.text("dest-prefix") {
        _ if parsed.is_on("no-dest-prefix") => Vec::new(),
        "" => prefix.clone(),
        other => other.as_bytes().to_vec(),
    };
    let mirror = Mirror {
        context,
        source: &*source,
        target: &*target,
        prefix,
        target_prefix,
        operations: usize::try_from(parsed.int64("max-txn-ops")).unwrap_or(1).max(1),
        copied: Cell::new(0),
    };
    let tell = async {
        loop {
            context.environment.sleep(TELL_EVERY).await;
            context.print(&mirror.copied.get().to_string());
        }
    };
    match select(Box::pin(mirror.run(parsed.int64("rev"))), Box::pin(tell)).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right((never, _)) => never,
    }
}

/// How to connect to the cluster that is written to.
async fn destination_connection(
    context: &Context<'_>,
    source: &Connection,
    endpoint: String,
) -> Result<Connection, Failure> {
    let parsed = &context.parsed;
    let path = |name| Some(parsed.text(name)).filter(|path| !path.is_empty()).map(str::to_owned);
    Ok(Connection {
        endpoints: endpoint.split(',').map(str::to_owned).collect(),
        tls: Tls {
            certificate: path("dest-cert"),
            key: path("dest-key"),
            trusted_ca: path("dest-cacert"),
            skip_verify: false,
            insecure_transport: parsed.is_on("dest-insecure-transport"),
            server_name: None,
        },
        credentials: context.credentials("dest-user", "dest-password").await?,
        ..source.clone()
    })
}

struct Mirror<'a> {
    context: &'a Context<'a>,
    source: &'a dyn Client,
    target: &'a dyn Client,
    prefix: Vec<u8>,
    target_prefix: Vec<u8>,
    /// The most operations of a transaction.
    operations: usize,
    /// Changes written to the destination.
    copied: Cell<u64>,
}

impl Mirror<'_> {
    /// Copies the base unless a revision to start from is given, then changes for ever. Writes to
    /// the destination have no time limit: a mirror waits for it to come back.
    async fn run(&self, revision: i64) -> Result<(), Failure> {
        let start = if revision > 1 { revision } else { self.copy_base().await? + 1 };
        let mut watches = Watches::open_without_leader(self.context, self.source);
        let (key, range_end) = self.range();
        watches.follow(WatchCreateRequest {
            key: key.into(),
            range_end: range_end.into(),
            start_revision: start,
            ..WatchCreateRequest::default()
        });
        while !watches.is_empty() {
            let reply = watches.next().await?;
            watches.settle(&reply);
            self.copy_changes(&reply).await?;
            if reply.compact_revision != 0 {
                let message = "etcdserver: mvcc: required revision has been compacted";
                return Err(Failure::new(super::Exit::Error, message));
            }
        }
        let message = "the watch of the source was canceled by the server";
        Err(Failure::new(super::Exit::Interrupted, message))
    }

    fn range(&self) -> (Vec<u8>, Vec<u8>) {
        prefix_range(&self.prefix)
    }

    /// Copies all keys as they are now; returns the revision that they were read at.
    async fn copy_base(&self) -> Result<i64, Failure> {
        let (mut key, range_end) = self.range();
        let mut revision = 0;
        loop {
            let request = RangeRequest {
                key: key.into(),
                range_end: range_end.clone().into(),
                limit: PAGE_KEYS,
                revision,
                ..RangeRequest::default()
            };
            let page = self.context.within_timeout(self.source.range(request)).await?;
            if revision == 0 {
                revision = page.header.unwrap_or_default().revision;
            }
            let Some(last) = page.kvs.last().map(|kv| kv.key.to_vec()) else { return Ok(revision) };
            for kv in page.kvs {
                let key = self.translated(&kv.key);
                let request = PutRequest { key, value: kv.value, ..PutRequest::default() };
                self.target.put(request).await?;
                self.copied.update(|copied| copied + 1);
            }
            if !page.more {
                return Ok(revision);
            }
            key = last;
            key.push(0);
        }
    }

    /// Writes a batch of events, a transaction for each revision in it.
    async fn copy_changes(&self, reply: &WatchResponse) -> Result<(), Failure> {
        let revision = |event: &Event| event.kv.as_ref().map(|kv| kv.mod_revision);
        for events in reply.events.chunk_by(|one, other| revision(one) == revision(other)) {
            for part in events.chunks(self.operations) {
                let success: Vec<_> = part.iter().map(|event| self.operation(event)).collect();
                let request = TxnRequest { success, ..TxnRequest::default() };
                self.target.txn(request).await?;
                self.copied.update(|copied| copied + part.len() as u64);
            }
        }
        Ok(())
    }

    fn operation(&self, event: &Event) -> RequestOp {
        let kv = event.kv.clone().unwrap_or_default();
        let key = self.translated(&kv.key);
        let request = match event.r#type() {
            EventType::Put => request_op::Request::RequestPut(PutRequest {
                key,
                value: kv.value,
                ..PutRequest::default()
            }),
            EventType::Delete => request_op::Request::RequestDeleteRange(DeleteRangeRequest {
                key,
                ..DeleteRangeRequest::default()
            }),
        };
        RequestOp { request: Some(request) }
    }

    /// The key at the destination.
    fn translated(&self, key: &[u8]) -> Bytes {
        let rest = key.strip_prefix(self.prefix.as_slice()).unwrap_or(key);
        [self.target_prefix.as_slice(), rest].concat().into()
    }
}
