//! `/metrics`: Prometheus' text format under etcd's names (ETCD.md 3.6).
//!
//! Dashboards and alerts written for etcd read these, so a name is here only if its value means
//! what etcd's does. There is no registry: the numbers live where they are counted, and are written
//! down when asked for.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use coracle_core::api::etcdserverpb::AlarmType;
use coracle_core::node::{ETCD_VERSION, Histogram, NodeInfo, STORAGE_VERSION};
use http::{HeaderValue, Response};

use super::content;
use super::process::Process;
use crate::rpc::{Member, Router};

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

pub(super) fn metrics(member: &Member, router: &Router) -> Response<Bytes> {
    let mut page = Page::default();
    server(&mut page, &member.info());
    storage(&mut page, &member.info());
    grpc(&mut page, router);
    client_requests(&mut page, router);
    process(&mut page, &Process::read());
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    content(content_type, page.0)
}

/// A page of the text format being written.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a family; its samples follow.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, value: impl Display, help: &str) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    fn counter(&mut self, name: &str, value: impl Display, help: &str) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, histogram: &Histogram, help: &str) {
        self.family(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in &histogram.buckets {
            self.sample(&bucket, &[("le", &bound.to_string())], count);
        }
        self.sample(&bucket, &[("le", "+Inf")], histogram.count);
        self.sample(&format!("{name}_sum"), &[], histogram.sum.as_secs_f64());
        self.sample(&format!("{name}_count"), &[], histogram.count);
    }
}

fn server(page: &mut Page, info: &NodeInfo) {
    let id = format!("{:x}", info.member_id);
    for (name, label, value) in [
        ("etcd_server_id", "server_id", id.as_str()),
        ("etcd_server_version", "server_version", ETCD_VERSION),
        ("etcd_cluster_version", "cluster_version", STORAGE_VERSION),
    ] {
        page.family(name, "gauge", "Always 1; the label tells.");
        page.sample(name, &[(label, value)], 1);
    }
    let yes = u64::from;
    for (name, value, help) in [
        ("has_leader", yes(info.leader != 0), "Whether or not a leader exists."),
        ("is_leader", yes(info.is_leader), "Whether or not this member is a leader."),
        ("is_learner", yes(info.is_learner), "Whether or not this member is a learner."),
        ("proposals_committed_total", info.committed, "Consensus proposals committed."),
        ("proposals_applied_total", info.applied, "Consensus proposals applied."),
        ("proposals_pending", info.proposals_pending, "Pending proposals to commit."),
        ("quota_backend_bytes", info.db_quota, "Backend storage quota in bytes."),
    ] {
        page.gauge(&format!("etcd_server_{name}"), value, help);
    }
    for (name, value, help) in [
        ("leader_changes_seen_total", info.leader_changes_seen, "Leader changes seen."),
        ("proposals_failed_total", info.proposals_failed, "Failed proposals seen."),
        ("slow_apply_total", info.slow_applies, "Slow applies (likely a slow disk)."),
    ] {
        page.counter(&format!("etcd_server_{name}"), value, help);
    }
    let name = "etcd_debugging_server_alarms";
    page.family(name, "gauge", "1 for every alarm that is raised.");
    for alarm in &info.alarms {
        let id = format!("{:x}", alarm.member_id);
        let kind = match alarm.alarm() {
            AlarmType::Nospace => "NOSPACE",
            AlarmType::Corrupt => "CORRUPT",
            AlarmType::None => "NONE",
        };
        page.sample(name, &[("alarm_type", kind), ("server_id", &id)], 1);
    }
}

fn storage(page: &mut Page, info: &NodeInfo) {
    let help = "The latency distributions of fsync called by WAL.";
    page.histogram("etcd_disk_wal_fsync_duration_seconds", &info.wal_fsync, help);
    let help = "Total number of bytes written in WAL.";
    page.gauge("etcd_disk_wal_write_bytes_total", info.wal_bytes_written, help);
    let help = "The latency distributions of commit called by backend.";
    page.histogram("etcd_disk_backend_commit_duration_seconds", &info.backend_commit, help);
    for (name, value, help) in [
        ("db_total_size_in_bytes", info.db_size, "Bytes allocated by the database."),
        ("db_total_size_in_use_in_bytes", info.db_size_in_use, "Bytes in use of the database."),
    ] {
        page.gauge(&format!("etcd_mvcc_{name}"), value, help);
    }
    for (name, value) in [
        ("put_total", info.puts),
        ("range_total", info.ranges),
        ("delete_total", info.deletes),
        ("txn_total", info.txns),
    ] {
        page.counter(&format!("etcd_mvcc_{name}"), value, "Operations seen by this member.");
    }
    let revisions = [
        ("current_revision", info.revision, "The current revision of the store."),
        ("compact_revision", info.compact_revision, "The revision of the last compaction."),
    ];
    for (name, value, help) in revisions {
        page.gauge(&format!("etcd_debugging_mvcc_{name}"), value, help);
    }
    let help = "The current revision of auth store.";
    page.gauge("etcd_debugging_auth_revision", info.auth_revision, help);
    for (name, value, help) in [
        ("keys_total", info.keys, "Total number of keys."),
        ("watcher_total", info.watchers, "Total number of watchers."),
        ("watch_stream_total", info.watch_streams, "Total number of watch streams."),
    ] {
        page.gauge(&format!("etcd_debugging_mvcc_{name}"), value, help);
    }
}

fn grpc(page: &mut Page, router: &Router) {
    let labels = |method: &crate::rpc::Method| {
        [("grpc_method", method.name), ("grpc_service", method.service), ("grpc_type", method.kind)]
    };
    page.family(
        "grpc_server_started_total",
        "counter",
        "Total number of RPCs started on the server.",
    );
    for (method, counters) in router.counters() {
        let started = counters.started.load(Ordering::Relaxed);
        page.sample("grpc_server_started_total", &labels(method), started);
    }
    page.family(
        "grpc_server_handled_total",
        "counter",
        "Total number of RPCs completed on the server, regardless of success or failure.",
    );
    for (method, counters) in router.counters() {
        for (code, handled) in CODES.iter().zip(&counters.handled) {
            let handled = handled.load(Ordering::Relaxed);
            if handled > 0 || *code == "OK" {
                let [name, service, kind] = labels(method);
                let labels = [("grpc_code", *code), name, service, kind];
                page.sample("grpc_server_handled_total", &labels, handled);
            }
        }
    }
    page.family(
        "grpc_server_msg_received_total",
        "counter",
        "Total number of RPC stream messages received on the server.",
    );
    for (method, counters) in router.counters() {
        let received = counters.received.load(Ordering::Relaxed);
        page.sample("grpc_server_msg_received_total", &labels(method), received);
    }
    page.family(
        "grpc_server_msg_sent_total",
        "counter",
        "Total number of gRPC stream messages sent by the server.",
    );
    for (method, counters) in router.counters() {
        let sent = counters.sent.load(Ordering::Relaxed);
        page.sample("grpc_server_msg_sent_total", &labels(method), sent);
    }
}

fn client_requests(page: &mut Page, router: &Router) {
    let name = "etcd_server_client_requests_total";
    page.family(name, "counter", "The total number of client requests per client version.");
    for (kind, version, count) in router.client_requests() {
        page.sample(name, &[("type", kind), ("client_api_version", &version)], count);
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
        ("process_start_time_seconds", process.start_seconds, "Start, in Unix seconds."),
        ("os_fd_used", process.open_fds, "The number of used file descriptors."),
        ("os_fd_limit", process.max_fds, "The file descriptor limit."),
    ] {
        page.gauge(name, value, help);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn families_are_in_prometheus_text_format() {
        let mut page = Page::default();
        let wal_fsync = Histogram {
            buckets: vec![(0.001, 2), (0.5, 3)],
            count: 4,
            sum: Duration::from_millis(1500),
        };
        storage(&mut page, &NodeInfo { wal_fsync, ..NodeInfo::default() });
        let samples: Vec<_> = page.0.lines().take(7).collect();
        let name = "etcd_disk_wal_fsync_duration_seconds";
        assert_eq!(
            samples[1..],
            [
                format!("# TYPE {name} histogram"),
                format!("{name}_bucket{{le=\"0.001\"}} 2"),
                format!("{name}_bucket{{le=\"0.5\"}} 3"),
                format!("{name}_bucket{{le=\"+Inf\"}} 4"),
                format!("{name}_sum 1.5"),
                format!("{name}_count 4"),
            ]
        );
        let mut page = Page::default();
        let info = NodeInfo { leader: 7, member_id: 0xabc, is_leader: true, ..NodeInfo::default() };
        server(&mut page, &info);
        assert!(page.0.contains("\netcd_server_id{server_id=\"abc\"} 1\n"), "{}", page.0);
        assert!(page.0.contains("\netcd_server_has_leader 1\n"));
        for line in page.0.lines().filter(|line| !line.starts_with('#')) {
            assert_eq!(line.split(' ').count(), 2, "{line}");
        }
    }
}
