//! `/metrics`: Prometheus' text format under etcd's names (ETCD.md 3.6).
//!
//! Dashboards and alerts written for etcd read these, so a name is here only if its value means
//! what etcd's does. There is no registry: the numbers live where they are counted, and are written
//! down when asked for.

use std::fmt::{Display, Write};
use std::sync::atomic::Ordering;

use bytes::Bytes;
use coracle_core::api::etcdserverpb::AlarmType;
use coracle_core::node::{Histogram, NodeInfo};
use http::{HeaderValue, Response};

use super::process::Process;
use super::{MINOR_VERSION, VERSION, content};
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
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
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

#[rustfmt::skip] // One metric, one line: a table.
fn server(page: &mut Page, info: &NodeInfo) {
    let id = format!("{:x}", info.member_id);
    page.family("etcd_server_id", "gauge", "Server or member ID in hexadecimal format. 1 for 'server_id' label with current ID.");
    page.sample("etcd_server_id", &[("server_id", &id)], 1);
    page.family("etcd_server_version", "gauge", "Which version is running. 1 for 'server_version' label with current version.");
    page.sample("etcd_server_version", &[("server_version", VERSION)], 1);
    page.family("etcd_cluster_version", "gauge", "Which version is running. 1 for 'cluster_version' label with current cluster version");
    page.sample("etcd_cluster_version", &[("cluster_version", MINOR_VERSION)], 1);
    page.gauge("etcd_server_has_leader", u8::from(info.leader != 0), "Whether or not a leader exists. 1 is existence, 0 is not.");
    page.gauge("etcd_server_is_leader", u8::from(info.is_leader), "Whether or not this member is a leader. 1 if is, 0 otherwise.");
    page.gauge("etcd_server_is_learner", u8::from(info.is_learner), "Whether or not this member is a learner. 1 if is, 0 otherwise.");
    page.counter("etcd_server_leader_changes_seen_total", info.leader_changes_seen, "The number of leader changes seen.");
    page.gauge("etcd_server_proposals_committed_total", info.committed, "The total number of consensus proposals committed.");
    page.gauge("etcd_server_proposals_applied_total", info.applied, "The total number of consensus proposals applied.");
    page.gauge("etcd_server_proposals_pending", info.proposals_pending, "The current number of pending proposals to commit.");
    page.counter("etcd_server_proposals_failed_total", info.proposals_failed, "The total number of failed proposals seen.");
    page.counter("etcd_server_slow_apply_total", info.slow_applies, "The total number of slow apply requests (likely overloaded from slow disk).");
    page.gauge("etcd_server_quota_backend_bytes", info.db_quota, "Current backend storage quota size in bytes.");
    page.family("etcd_debugging_server_alarms", "gauge", "Alarms for every member in cluster. 1 for 'server_id' label with current ID. 2 for 'alarm_type' label with type of this alarm");
    for alarm in &info.alarms {
        let id = format!("{:x}", alarm.member_id);
        let kind = match alarm.alarm() {
            AlarmType::Nospace => "NOSPACE",
            AlarmType::Corrupt => "CORRUPT",
            AlarmType::None => "NONE",
        };
        page.sample("etcd_debugging_server_alarms", &[("alarm_type", kind), ("server_id", &id)], 1);
    }
}

#[rustfmt::skip] // One metric, one line: a table.
fn storage(page: &mut Page, info: &NodeInfo) {
    page.histogram("etcd_disk_wal_fsync_duration_seconds", &info.wal_fsync, "The latency distributions of fsync called by WAL.");
    page.gauge("etcd_disk_wal_write_bytes_total", info.wal_bytes_written, "Total number of bytes written in WAL.");
    page.histogram("etcd_disk_backend_commit_duration_seconds", &info.backend_commit, "The latency distributions of commit called by backend.");
    page.gauge("etcd_mvcc_db_total_size_in_bytes", info.db_size, "Total size of the underlying database physically allocated in bytes.");
    page.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", info.db_size_in_use, "Total size of the underlying database logically in use in bytes.");
    page.counter("etcd_mvcc_put_total", info.puts, "Total number of puts seen by this member.");
    page.counter("etcd_mvcc_range_total", info.ranges, "Total number of ranges seen by this member.");
    page.counter("etcd_mvcc_delete_total", info.deletes, "Total number of deletes seen by this member.");
    page.counter("etcd_mvcc_txn_total", info.txns, "Total number of txns seen by this member.");
    page.gauge("etcd_debugging_mvcc_keys_total", info.keys, "Total number of keys.");
    page.gauge("etcd_debugging_mvcc_current_revision", info.revision, "The current revision of store.");
    page.gauge("etcd_debugging_mvcc_compact_revision", info.compact_revision, "The revision of the last compaction in store.");
    page.gauge("etcd_debugging_mvcc_watcher_total", info.watchers, "Total number of watchers.");
    page.gauge("etcd_debugging_mvcc_watch_stream_total", info.watch_streams, "Total number of watch streams.");
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

#[rustfmt::skip] // One metric, one line: a table.
fn process(page: &mut Page, process: &Process) {
    page.counter("process_cpu_seconds_total", process.cpu.as_secs_f64(), "Total user and system CPU time spent in seconds.");
    page.gauge("process_max_fds", process.max_fds, "Maximum number of open file descriptors.");
    page.gauge("process_open_fds", process.open_fds, "Number of open file descriptors.");
    page.gauge("process_resident_memory_bytes", process.resident_bytes, "Resident memory size in bytes.");
    page.gauge("process_start_time_seconds", process.start_seconds, "Start time of the process since unix epoch in seconds.");
    page.gauge("process_virtual_memory_bytes", process.virtual_bytes, "Virtual memory size in bytes.");
    page.gauge("os_fd_used", process.open_fds, "The number of used file descriptors.");
    page.gauge("os_fd_limit", process.max_fds, "The file descriptor limit.");
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
        let expected = "\
            # HELP etcd_disk_wal_fsync_duration_seconds The latency distributions of fsync called by WAL.\n\
            # TYPE etcd_disk_wal_fsync_duration_seconds histogram\n\
            etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 2\n\
            etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.5\"} 3\n\
            etcd_disk_wal_fsync_duration_seconds_bucket{le=\"+Inf\"} 4\n\
            etcd_disk_wal_fsync_duration_seconds_sum 1.5\n\
            etcd_disk_wal_fsync_duration_seconds_count 4\n";
        assert!(page.0.starts_with(expected), "{}", page.0);
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
