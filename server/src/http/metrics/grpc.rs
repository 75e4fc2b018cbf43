//! `grpc_server_*`, and what else is counted of clients' calls.

use std::sync::atomic::{AtomicU64, Ordering};

use coracle_core::meters::Histogram;

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

pub(super) fn write(page: &mut Page, router: &Router, extensive: bool) {
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
    requests(page, router);
    if extensive {
        handling(page, router);
    }
    streams(page, router);
}

fn clients(page: &mut Page, router: &Router) {
    let name = "etcd_server_client_requests_total";
    page.family(name, "counter", "Calls by the API version that clients tell.");
    for (kind, version, count) in router.client_requests() {
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

fn handling(page: &mut Page, router: &Router) {
    let name = "grpc_server_handling_seconds";
    page.family(name, "histogram", "How long RPCs took.");
    for (method, counters) in router.counters() {
        let both: Vec<_> = counters.handling.iter().collect();
        page.distribution(name, &labels(method), &cumulative(&both));
    }
}

/// The calls that are no streams, by their method.
fn requests(page: &mut Page, router: &Router) {
    let name = "etcd_server_request_duration_seconds";
    page.family(name, "histogram", "How long requests took.");
    for (method, counters) in router.counters().filter(|(method, _)| method.kind == "unary") {
        for (success, handling) in ["false", "true"].into_iter().zip(&counters.handling) {
            let labels = [("success", success), ("type", method.name)];
            page.distribution(name, &labels, &cumulative(&[handling]));
        }
    }
}

fn streams(page: &mut Page, router: &Router) {
    let name = "etcd_network_server_stream_failures_total";
    page.family(name, "counter", "Streams that broke.");
    for (method, counters) in router.counters() {
        let api = match method.name {
            "Watch" => "watch",
            "LeaseKeepAlive" => "lease-keepalive",
            _ => continue,
        };
        for (kind, count) in
            [("receive", &counters.receive_failures), ("send", &counters.send_failures)]
        {
            page.sample(name, &[("API", api), ("Type", kind)], read(count));
        }
    }
    let sends = router.watch_sends();
    for (name, distribution, help) in [
        ("watch_stream_duration_seconds", &sends.events, "Sending a response with events."),
        ("watch_stream_duration_per_event_seconds", &sends.per_event, "The same, per event."),
        ("control_stream_duration_seconds", &sends.control, "Sending what became of a watcher."),
        ("progress_duration_seconds", &sends.progress, "Sending how far a watcher has come."),
    ] {
        let name = format!("etcd_debugging_server_watch_send_loop_{name}");
        page.histogram(&name, &distribution.histogram(), help);
    }
}

/// The sum of several.
fn cumulative(handlings: &[&Handling]) -> Histogram {
    let total = |counter: &dyn Fn(&Handling) -> u64| -> u64 {
        handlings.iter().map(|handling| counter(handling)).sum()
    };
    let mut below = 0;
    let buckets = HANDLING_BOUNDS.iter().enumerate().map(|(index, bound)| {
        below += total(&|handling| read(&handling.buckets[index]));
        (*bound, below)
    });
    let buckets = buckets.collect();
    let nanos = total(&|handling| read(&handling.sum_nanos));
    Histogram { buckets, count: total(&|handling| read(&handling.count)), sum: nanos as f64 / 1e9 }
}

fn labels(method: &Method) -> [(&'static str, &'static str); 3] {
    [("grpc_method", method.name), ("grpc_service", method.service), ("grpc_type", method.kind)]
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
