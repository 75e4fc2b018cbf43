//! `grpc_server_*`, and what else is counted of clients' calls.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coracle_core::node::Histogram;

use super::page::Page;
use crate::front::counters::{Counters, HANDLING_BOUNDS, Handling};
use crate::rpc::{Method, Router};

/// gRPC codes by number, as go-grpc-prometheus names them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

pub(super) fn write(page: &mut Page, router: &Router) {
    let total = |counter: fn(&Counters) -> &AtomicU64| -> u64 {
        router.counters().map(|(_, counters)| read(counter(counters))).sum()
    };
    page.counter(
        "etcd_network_client_grpc_received_bytes_total",
        total(|counters| &counters.received_bytes),
        "Bytes of messages received from clients.",
    );
    page.counter(
        "etcd_network_client_grpc_sent_bytes_total",
        total(|counters| &counters.sent_bytes),
        "Bytes of messages sent to clients.",
    );
    clients(page, router);
    for (name, help, counter) in [
        ("started", "RPCs started.", (|counters| &counters.started) as fn(&Counters) -> &AtomicU64),
        ("msg_received", "Messages received.", |counters| &counters.received),
        ("msg_sent", "Messages sent.", |counters| &counters.sent),
    ] {
        let name = format!("grpc_server_{name}_total");
        page.family(&name, "counter", help);
        for (method, counters) in router.counters() {
            page.sample(&name, &labels(method), read(counter(counters)));
        }
    }
    handled(page, router);
    handling(page, router);
}

fn clients(page: &mut Page, router: &Router) {
    let name = "etcd_server_client_requests_total";
    page.family(name, "counter", "Calls by the API version that clients tell.");
    for (kind, version, count) in router.clients().counted() {
        page.sample(name, &[("client_api_version", &version), ("type", kind)], count);
    }
}

fn handled(page: &mut Page, router: &Router) {
    let name = "grpc_server_handled_total";
    page.family(name, "counter", "RPCs completed, well or not.");
    for (method, counters) in router.counters() {
        for (code, handled) in CODES.iter().zip(&counters.handled) {
            let handled = read(handled);
            if handled > 0 || *code == "OK" {
                let [method, service, kind] = labels(method);
                page.sample(name, &[("grpc_code", *code), method, service, kind], handled);
            }
        }
    }
}

/// Only where durations are measured (`--metrics=extensive`).
fn handling(page: &mut Page, router: &Router) {
    let timed = || {
        router
            .counters()
            .filter_map(|(method, counters)| Some((method, counters.handling.as_ref()?)))
    };
    if timed().next().is_none() {
        return;
    }
    let name = "grpc_server_handling_seconds";
    page.family(name, "histogram", "How long RPCs took.");
    for (method, handling) in timed() {
        page.distribution(name, &labels(method), &cumulative(handling));
    }
}

fn cumulative(handling: &Handling) -> Histogram {
    let mut below = 0;
    let buckets = HANDLING_BOUNDS.iter().zip(&handling.buckets).map(|(bound, count)| {
        below += read(count);
        (*bound, below)
    });
    Histogram {
        buckets: buckets.collect(),
        count: read(&handling.count),
        sum: Duration::from_nanos(read(&handling.sum_nanos)),
    }
}

fn labels(method: &Method) -> [(&'static str, &'static str); 3] {
    [("grpc_method", method.name), ("grpc_service", method.service), ("grpc_type", method.kind)]
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
