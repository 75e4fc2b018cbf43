//! `/metrics`: Prometheus' text format under etcd's names (ETCD.md 3.6).
//!
//! Dashboards and alerts written for etcd read these, so a name is here only if its value means
//! what etcd's does. There is no registry: the numbers live where they are counted, and are written
//! down when asked for.

mod grpc;
mod page;
mod process;

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use coracle_core::api::etcdserverpb::AlarmType;
use coracle_core::node::{ETCD_VERSION, NodeInfo, STORAGE_VERSION};
use http::{HeaderValue, Response};

use self::page::Page;
pub(super) use self::process::Process;
use super::content;
use super::health::HealthCounters;
use crate::rpc::{Member, Router};

pub(super) fn metrics(
    member: &Member,
    router: &Router,
    counters: &HealthCounters,
) -> Response<Bytes> {
    let mut page = Page::default();
    server(&mut page, &member.info());
    storage(&mut page, &member.info());
    health(&mut page, counters);
    grpc::write(&mut page, router);
    process(&mut page, &Process::read());
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    content(content_type, page.into_text())
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
    for (name, value, help) in [
        ("keys_total", info.keys, "Total number of keys."),
        ("watcher_total", info.watchers, "Total number of watchers."),
        ("watch_stream_total", info.watch_streams, "Total number of watch streams."),
    ] {
        page.gauge(&format!("etcd_debugging_mvcc_{name}"), value, help);
    }
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
        ("process_start_time_seconds", process.start_seconds, "Start, in Unix seconds."),
        ("os_fd_used", process.open_fds, "The number of used file descriptors."),
        ("os_fd_limit", process.max_fds, "The file descriptor limit."),
    ] {
        page.gauge(name, value, help);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_name_and_a_value() {
        let mut page = Page::default();
        let info = NodeInfo { leader: 7, member_id: 0xabc, is_leader: true, ..NodeInfo::default() };
        server(&mut page, &info);
        health(&mut page, &HealthCounters::default());
        let text = page.into_text();
        assert!(text.contains("\netcd_server_id{server_id=\"abc\"} 1\n"), "{text}");
        assert!(text.contains("\netcd_server_has_leader 1\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert_eq!(line.split(' ').count(), 2, "{line}");
        }
    }
}
