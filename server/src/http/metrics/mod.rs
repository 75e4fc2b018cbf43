//! `/metrics`: Prometheus' text format under etcd's names (ETCD.md 3.6).
//!
//! Dashboards and alerts written for etcd read these, so a name is here only if its value means
//! what etcd's does. There is no registry: the numbers live where they are counted, and are written
//! down when asked for. What belongs to a part of etcd that Coracle does not have (the phases of
//! a commit of bbolt, `.snap` files, the v2 store) is there with what is true: nothing happened.
//! Go's own families (`go_*`) are not: there is no Go runtime, and no dashboard of etcd's reads
//! them.

mod grpc;
mod network;
mod page;
mod process;
mod server;
mod storage;

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Response};

use self::page::Page;
pub(super) use self::process::{NANOS_PER_TICK, Process};
use super::content;
use super::health::HealthCounters;
use crate::config::gates::FeatureGates;
use crate::rpc::{Member, Router};

/// What the page is made of besides the node itself.
pub(super) struct Sources<'a> {
    pub(super) member: &'a Member,
    pub(super) router: &'a Router,
    pub(super) health: &'a HealthCounters,
    pub(super) gates: &'a FeatureGates,
    /// `--metrics=extensive`
    pub(super) extensive: bool,
    /// How often this page was answered.
    pub(super) scrapes: &'a AtomicU64,
}

pub(super) fn metrics(sources: &Sources<'_>) -> Response<Bytes> {
    let info = sources.member.info();
    let meters = sources.member.meters();
    let mut page = Page::default();
    server::write(&mut page, &info, meters, sources.gates);
    server::cluster_version(&mut page, sources.member.cluster_version());
    storage::write(&mut page, &info, meters);
    network::write(&mut page, sources.member);
    health(&mut page, sources.health);
    grpc::write(&mut page, sources.router, sources.extensive);
    process(&mut page, &Process::read());
    scrapes(&mut page, sources.scrapes);
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    content(content_type, page.into_text())
}

fn health(page: &mut Page, counters: &HealthCounters) {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    for (name, value, help) in [
        ("health_success", &counters.successes, "Checks of /health that found no fault."),
        ("health_failures", &counters.failures, "Checks of /health that found one."),
    ] {
        page.counter(&format!("etcd_server_{name}"), read(value), help);
    }
    let name = "etcd_server_healthcheck";
    page.family(name, "gauge", "The last result of each check of /livez and /readyz.");
    for (probe, check, counters) in counters.checks() {
        let good = u64::from(counters.good.load(Ordering::Relaxed));
        page.sample(name, &[("name", check), ("type", probe)], good);
    }
    let name = "etcd_server_healthchecks_total";
    page.family(name, "counter", "Results of the checks of /livez and /readyz.");
    for (probe, check, counters) in counters.checks() {
        for (status, count) in [("success", &counters.successes), ("error", &counters.failures)] {
            let labels = [("name", check), ("status", status), ("type", probe)];
            page.sample(name, &labels, read(count));
        }
    }
}

fn process(page: &mut Page, process: &Process) {
    let cpu = process.cpu.as_secs_f64();
    page.counter("process_cpu_seconds_total", cpu, "User and system CPU time spent in seconds.");
    for (name, value, help) in [
        ("process_max_fds", process.max_fds, "Maximum number of open file descriptors."),
        ("process_open_fds", process.open_fds, "Number of open file descriptors."),
        ("process_resident_memory_bytes", process.resident_bytes, "Resident memory in bytes."),
        ("process_virtual_memory_bytes", process.virtual_bytes, "Virtual memory in bytes."),
        ("process_virtual_memory_max_bytes", process.virtual_max_bytes, "Its limit in bytes."),
        ("process_start_time_seconds", process.start_seconds, "Start, in Unix seconds."),
        ("os_fd_used", process.open_fds, "The number of used file descriptors."),
        ("os_fd_limit", process.max_fds, "The file descriptor limit."),
    ] {
        page.gauge(name, value, help);
    }
}

/// What Prometheus' Go library counts of its own page. It cannot fail here.
fn scrapes(page: &mut Page, scrapes: &AtomicU64) {
    let name = "promhttp_metric_handler_requests_in_flight";
    page.gauge(name, 1, "Pages like this one being written.");
    let name = "promhttp_metric_handler_requests_total";
    page.family(name, "counter", "Pages like this one, by status.");
    let answered = scrapes.fetch_add(1, Ordering::Relaxed);
    for (code, count) in [("200", answered), ("500", 0), ("503", 0)] {
        page.sample(name, &[("code", code)], count);
    }
}
