//! `etcd_server_*`: the member, its proposals, its leases.

use coracle_core::api::etcdserverpb::AlarmType;
use coracle_core::cluster::Version;
use coracle_core::meters::Meters;
use coracle_core::node::{ETCD_VERSION, NodeInfo};

use super::page::Page;
use crate::config::gates::FeatureGates;

pub(super) fn write(page: &mut Page, info: &NodeInfo, meters: &Meters, gates: &FeatureGates) {
    identity(page, info, gates);
    progress(page, info);
    counted(page, info, meters);
    leases(page, meters);
    alarms(page, info);
    durations(page, meters);
}

/// Nothing until a leader has said which it is.
pub(super) fn cluster_version(page: &mut Page, version: Option<Version>) {
    let name = "etcd_cluster_version";
    page.family(name, "gauge", "Always 1; the label tells the version that the cluster runs.");
    if let Some(version) = version {
        page.sample(name, &[("cluster_version", &version.to_string())], 1);
    }
}

fn identity(page: &mut Page, info: &NodeInfo, gates: &FeatureGates) {
    let id = format!("{:x}", info.member_id);
    // Not Go: the toolchain that this program needs at least.
    let toolchain = concat!("rust", env!("CARGO_PKG_RUST_VERSION"));
    for (name, label, value) in [
        ("etcd_server_id", "server_id", id.as_str()),
        ("etcd_server_version", "server_version", ETCD_VERSION),
        ("etcd_server_go_version", "server_go_version", toolchain),
    ] {
        page.family(name, "gauge", "Always 1; the label tells.");
        page.sample(name, &[(label, value)], 1);
    }
    let name = "etcd_server_feature_enabled";
    page.family(name, "gauge", "Whether a feature gate is on.");
    for (gate, enabled) in gates.list() {
        let labels = [("name", gate.name), ("stage", gate.stage.label())];
        page.sample(name, &labels, u64::from(enabled));
    }
}

fn progress(page: &mut Page, info: &NodeInfo) {
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
    let name = "etcd_debugging_auth_revision";
    page.gauge(name, info.auth_revision, "The revision of users, roles and rights.");
}

fn counted(page: &mut Page, info: &NodeInfo, meters: &Meters) {
    for (name, value, help) in [
        ("leader_changes_seen_total", info.leader_changes_seen, "Leader changes seen."),
        ("proposals_failed_total", info.proposals_failed, "Failed proposals seen."),
        ("slow_apply_total", info.slow_applies, "Entries that took long to apply."),
        (
            "slow_read_indexes_total",
            meters.read_indexes_slow.get(),
            "Confirmations of the leader for reads that took long.",
        ),
        (
            "read_indexes_failed_total",
            meters.read_indexes_failed.get(),
            "Confirmations of the leader for reads that failed.",
        ),
        (
            "heartbeat_send_failures_total",
            meters.heartbeat_send_failures.get(),
            "Heartbeats that this leader could not deliver.",
        ),
        (
            "learner_promote_successes",
            meters.learner_promotions.get(),
            "Learners promoted while this member led.",
        ),
    ] {
        page.counter(&format!("etcd_server_{name}"), value, help);
    }
    let name = "etcd_server_learner_promote_failures";
    page.family(name, "counter", "Promotions refused while this member led.");
    let refused = meters.learner_promotions_failed.get();
    page.sample(name, &[("Reason", "learner not ready")], refused);
    let name = "etcd_server_snapshot_apply_in_progress_total";
    let applying = meters.snapshot_apply_in_progress.get();
    page.gauge(name, applying, "1 while a received snapshot replaces this member's state.");
}

fn leases(page: &mut Page, meters: &Meters) {
    for (name, value, help) in [
        ("lease_granted_total", meters.leases_granted.get(), "Leases granted."),
        ("lease_revoked_total", meters.leases_revoked.get(), "Leases revoked, or expired."),
        ("lease_renewed_total", meters.leases_renewed.get(), "Leases this leader renewed."),
        ("server_lease_expired_total", meters.leases_expired.get(), "Leases found expired."),
    ] {
        page.counter(&format!("etcd_debugging_{name}"), value, help);
    }
    let ttl = meters.lease_ttl.histogram();
    page.histogram("etcd_debugging_lease_ttl_total", &ttl, "Times to live, in seconds.");
}

fn alarms(page: &mut Page, info: &NodeInfo) {
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

fn durations(page: &mut Page, meters: &Meters) {
    let name = "etcd_server_apply_duration_seconds";
    page.family(name, "histogram", "How long entries took to apply.");
    for (operation, success, took) in meters.applies() {
        let success = if success { "true" } else { "false" };
        let labels = [("op", operation), ("success", success), ("version", "v3")];
        page.distribution(name, &labels, &took);
    }
    let name = "etcd_server_range_duration_seconds";
    page.family(name, "histogram", "How long ranges took to read.");
    for (success, label) in [(true, "true"), (false, "false")] {
        page.distribution(name, &[("success", label)], &meters.ranges(success));
    }
}
