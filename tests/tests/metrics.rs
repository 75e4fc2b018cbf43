//! `/metrics` after a load: every name of ETCD.md 3.6, and those that real etcd has with its types,
//! labels and buckets.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::http::HttpClient;
use coracle_tests::side_by_side::FLAGS;

/// The families of ETCD.md 3.6.
#[rustfmt::skip] // A list.
const FAMILIES: &[(&str, &[&str])] = &[
    ("etcd_server_", &[
        "has_leader", "is_leader", "is_learner", "id", "version", "go_version",
        "leader_changes_seen_total", "heartbeat_send_failures_total", "slow_apply_total",
        "slow_read_indexes_total", "read_indexes_failed_total", "proposals_committed_total",
        "proposals_applied_total", "proposals_pending", "proposals_failed_total",
        "quota_backend_bytes", "client_requests_total", "health_success", "health_failures",
        "healthcheck", "healthchecks_total", "apply_duration_seconds", "range_duration_seconds",
        "request_duration_seconds", "snapshot_apply_in_progress_total",
        "learner_promote_successes", "learner_promote_failures", "feature_enabled",
    ]),
    ("etcd_", &["cluster_version"]),
    ("etcd_disk_", &[
        "wal_fsync_duration_seconds", "wal_write_duration_seconds", "wal_write_bytes_total",
        "backend_commit_duration_seconds", "backend_snapshot_duration_seconds",
        "backend_defrag_duration_seconds", "defrag_inflight",
    ]),
    ("etcd_mvcc_", &[
        "db_total_size_in_bytes", "db_total_size_in_use_in_bytes", "db_open_read_transactions",
        "range_total", "put_total", "delete_total", "txn_total", "hash_duration_seconds",
        "hash_rev_duration_seconds",
    ]),
    ("etcd_network_", &[
        "peer_round_trip_time_seconds", "peer_sent_bytes_total", "peer_received_bytes_total",
        "peer_sent_failures_total", "peer_received_failures_total", "active_peers", "known_peers",
        "disconnected_peers_total", "client_grpc_sent_bytes_total",
        "client_grpc_received_bytes_total", "snapshot_send_success", "snapshot_send_failures",
        "snapshot_send_inflights_total", "snapshot_send_total_duration_seconds",
        "snapshot_receive_success", "snapshot_receive_failures",
        "snapshot_receive_inflights_total", "snapshot_receive_total_duration_seconds",
        "server_stream_failures_total",
    ]),
    ("etcd_snap_", &[
        "fsync_duration_seconds", "db_fsync_duration_seconds", "db_save_total_duration_seconds",
    ]),
    ("etcd_debugging_mvcc_", &[
        "keys_total", "watcher_total", "watch_stream_total", "slow_watcher_total",
        "pending_events_total", "events_total", "current_revision", "compact_revision",
        "db_compaction_keys_total", "db_compaction_total_duration_milliseconds",
        "db_compaction_pause_duration_milliseconds", "db_compaction_last",
        "index_compaction_pause_duration_milliseconds", "total_put_size_in_bytes",
    ]),
    ("etcd_debugging_", &[
        "lease_granted_total", "lease_revoked_total", "lease_renewed_total", "lease_ttl_total",
        "server_lease_expired_total", "server_alarms", "auth_revision",
        "disk_backend_commit_rebalance_duration_seconds",
        "disk_backend_commit_spill_duration_seconds",
        "disk_backend_commit_write_duration_seconds", "snap_save_total_duration_seconds",
        "snap_save_marshalling_duration_seconds", "store_expires_total", "store_reads_total",
        "store_writes_total", "store_watch_requests_total", "store_watchers",
        "server_watch_send_loop_watch_stream_duration_seconds",
        "server_watch_send_loop_watch_stream_duration_per_event_seconds",
        "server_watch_send_loop_control_stream_duration_seconds",
        "server_watch_send_loop_progress_duration_seconds",
    ]),
    ("grpc_server_", &[
        "started_total", "handled_total", "msg_received_total", "msg_sent_total",
        "handling_seconds",
    ]),
    ("process_", &[
        "resident_memory_bytes", "virtual_memory_bytes", "virtual_memory_max_bytes",
        "cpu_seconds_total", "open_fds", "max_fds", "start_time_seconds",
    ]),
    ("", &["os_fd_used", "os_fd_limit", "promhttp_metric_handler_requests_total",
        "promhttp_metric_handler_requests_in_flight"]),
];

/// What the expressions of etcd's public alert rules and dashboard select, but for the labels that
/// Prometheus adds. An expression over what is not there is silent, whatever goes wrong.
const SELECTED: &[&str] = &[
    "etcd_network_peer_sent_failures_total",
    "etcd_server_has_leader",
    "etcd_server_leader_changes_seen_total",
    "grpc_server_handled_total",
    "grpc_server_handled_total{grpc_type=\"unary\"}",
    "grpc_server_handled_total{grpc_code=\"FailedPrecondition\"}",
    "grpc_server_handled_total{grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"}",
    "grpc_server_handled_total{grpc_service=\"etcdserverpb.Lease\",grpc_type=\"bidi_stream\"}",
    "grpc_server_started_total{grpc_type=\"unary\"}",
    "grpc_server_started_total{grpc_service=\"etcdserverpb.Watch\",grpc_type=\"bidi_stream\"}",
    "grpc_server_started_total{grpc_service=\"etcdserverpb.Lease\",grpc_type=\"bidi_stream\"}",
    "grpc_server_handling_seconds_bucket{grpc_method=\"Put\",grpc_type=\"unary\"}",
    "etcd_network_peer_round_trip_time_seconds_bucket",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_applied_total",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_server_quota_backend_bytes",
    "process_resident_memory_bytes",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_peer_received_bytes_total",
    "etcd_network_peer_sent_bytes_total",
];

/// Whether a page has a sample that `selector` (a name, and labels with their values) selects.
fn is_selected(page: &str, selector: &str) -> bool {
    let (name, labels) = selector.split_once('{').unwrap_or((selector, ""));
    let labels: Vec<&str> =
        labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()).collect();
    page.lines().any(|line| {
        let series = line.split_once([' ', '{']).map_or(line, |(series, _)| series);
        series == name && labels.iter().all(|label| line.contains(label))
    })
}

/// Families of real etcd that are not Coracle's: Go's runtime, and a program's that it does not
/// hold.
const NOT_OURS: [&str; 2] = ["go_", "etcd_grpc_proxy_"];

/// One family of a page.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    /// Names of labels, but `le`.
    labels: BTreeSet<String>,
    /// The values of `le`.
    bounds: BTreeSet<String>,
    samples: usize,
    /// The sum of its samples; of a histogram, of its counts.
    total: f64,
}

fn parse(page: &str) -> Result<BTreeMap<String, Family>> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').context("a name and a type")?;
            ensure!(!families.contains_key(name), "{name} is declared twice");
            current = name.to_owned();
            families.entry(current.clone()).or_default().kind = kind.to_owned();
        }
        if line.starts_with('#') {
            continue;
        }
        let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
        let value: f64 = value.parse().with_context(|| line.to_owned())?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let suffix = name.strip_prefix(&current).with_context(|| format!("{line} is homeless"))?;
        let family = families.get_mut(&current).context("declared")?;
        let has_parts = ["histogram", "summary"].contains(&family.kind.as_str());
        ensure!(suffix.is_empty() || has_parts, "{line}");
        family.samples += 1;
        if suffix.is_empty() || suffix == "_count" {
            family.total += value;
        }
        for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
            let (key, value) = label.split_once('=').with_context(|| line.to_owned())?;
            if key != "le" {
                family.labels.insert(key.to_owned());
                continue;
            }
            let bound: f64 = value.trim_matches('"').replace("+Inf", "inf").parse()?;
            family.bounds.insert(bound.to_string());
        }
    }
    Ok(families)
}

/// Some of everything that is measured.
async fn load(client: &mut HttpClient) -> Result<()> {
    let mut watch = client.post_stream("/v3/watch").await?;
    watch.say(r#"{"create_request":{"key":"YQ=="}}"#).await?;
    watch.end();
    watch.line().await?;
    for (path, request) in [
        ("/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#),
        ("/v3/kv/put", r#"{"key":"YQ==","value":"Mg=="}"#),
        ("/v3/kv/range", r#"{"key":"YQ=="}"#),
        ("/v3/kv/txn", r#"{"success":[{"request_put":{"key":"Yg=="}}]}"#),
        ("/v3/kv/deleterange", r#"{"key":"Yg=="}"#),
        ("/v3/lease/grant", r#"{"TTL":60,"ID":5}"#),
        ("/v3/lease/keepalive", r#"{"ID":5}"#),
        ("/v3/lease/revoke", r#"{"ID":5}"#),
        ("/v3/kv/compaction", r#"{"revision":4,"physical":true}"#),
        ("/v3/maintenance/hash", "{}"),
        ("/v3/maintenance/hashkv", "{}"),
        ("/v3/maintenance/snapshot", "{}"),
        ("/v3/maintenance/defragment", "{}"),
        ("/v3/maintenance/alarm", r#"{"action":"ACTIVATE","memberID":"5","alarm":"NOSPACE"}"#),
    ] {
        let reply = client.post(path, request).await?;
        ensure!(reply.status.is_success(), "{path}: {}", reply.text());
    }
    watch.line().await?;
    client.get("/health").await?;
    client.get("/readyz").await?;
    Ok(())
}

#[tokio::test]
async fn met_01_every_family_is_there_and_lives() -> Result<()> {
    let flags = [&FLAGS[..], &["--metrics=extensive"]].concat();
    let cluster = Cluster::start_with(Kind::Coracle, 3, &flags)?;
    let mut pages = Vec::new();
    for member in 0..3 {
        let mut client = HttpClient::new(&cluster.client_address(member));
        if member == 0 {
            load(&mut client).await?;
        }
        // The backend commits by itself, a moment later.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let page = loop {
            ensure!(std::time::Instant::now() < deadline, "the backend does not commit");
            let page = parse(&client.get("/metrics").await?.text())?;
            if page["etcd_disk_backend_commit_duration_seconds"].total > 0.0 {
                break page;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        pages.push(page);
    }
    let names = FAMILIES
        .iter()
        .flat_map(|(prefix, names)| names.iter().map(move |name| format!("{prefix}{name}")));
    let missing: Vec<_> =
        names.filter(|name| pages[0].get(name).is_none_or(|family| family.samples == 0)).collect();
    ensure!(missing.is_empty(), "no samples of {missing:?}");
    // What the load did is seen.
    for name in [
        "etcd_server_apply_duration_seconds",
        "etcd_server_range_duration_seconds",
        "etcd_server_request_duration_seconds",
        "etcd_server_client_requests_total",
        "etcd_disk_wal_fsync_duration_seconds",
        "etcd_disk_wal_write_duration_seconds",
        "etcd_disk_backend_commit_duration_seconds",
        "etcd_disk_backend_snapshot_duration_seconds",
        "etcd_disk_backend_defrag_duration_seconds",
        "etcd_mvcc_hash_duration_seconds",
        "etcd_mvcc_hash_rev_duration_seconds",
        "etcd_debugging_mvcc_db_compaction_keys_total",
        "etcd_debugging_mvcc_db_compaction_last",
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
        "etcd_debugging_mvcc_total_put_size_in_bytes",
        "etcd_debugging_mvcc_events_total",
        "etcd_debugging_lease_granted_total",
        "etcd_debugging_lease_revoked_total",
        "etcd_debugging_lease_ttl_total",
        "etcd_debugging_server_alarms",
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
        "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "etcd_network_peer_received_bytes_total",
        "etcd_network_peer_sent_bytes_total",
        "grpc_server_handling_seconds",
    ] {
        ensure!(pages[0][name].total > 0.0, "{name} is 0");
    }
    // What leaders alone do, whoever leads.
    for name in ["etcd_network_peer_round_trip_time_seconds", "etcd_debugging_lease_renewed_total"]
    {
        ensure!(pages.iter().any(|page| page[name].total > 0.0), "{name} is 0 everywhere");
    }
    Ok(())
}

#[tokio::test]
async fn met_01_types_labels_and_buckets_are_etcds() -> Result<()> {
    let mut pages = Vec::new();
    for kind in [Kind::Etcd, Kind::Coracle] {
        let cluster = Cluster::start_with(kind, 3, &FLAGS)?;
        let mut client = HttpClient::new(&cluster.client_address(0));
        client.post("/v3/kv/put", r#"{"key":"YQ=="}"#).await?;
        pages.push(parse(&client.get("/metrics").await?.text())?);
    }
    let mut differences = Vec::new();
    for (name, expected) in &pages[0] {
        if NOT_OURS.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let Some(actual) = pages[1].get(name) else {
            differences.push(format!("{name} is missing"));
            continue;
        };
        let same = expected.kind == actual.kind
            && expected.labels == actual.labels
            && (expected.bounds.is_empty() || expected.bounds == actual.bounds);
        if !same {
            differences.push(format!("{name}\n  etcd    {expected:?}\n  coracle {actual:?}"));
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

#[tokio::test]
async fn met_01_alerts_and_dashboard_find_what_they_select() -> Result<()> {
    let flags = [&FLAGS[..], &["--metrics=extensive"]].concat();
    let cluster = Cluster::start_with(Kind::Coracle, 3, &flags)?;
    let mut pages = Vec::new();
    for member in 0..3 {
        let mut client = HttpClient::new(&cluster.client_address(member));
        some_traffic(&mut client).await?;
        pages.push(client.get("/metrics").await?.text());
    }
    for selector in SELECTED {
        let found = pages.iter().filter(|page| is_selected(page, selector)).count();
        // Who leads knows how far the others are away.
        let expected = if selector.contains("round_trip") { 1 } else { 3 };
        ensure!(found >= expected, "{selector} is on {found} pages");
    }
    Ok(())
}

/// Calls of all kinds, one of which fails.
async fn some_traffic(client: &mut HttpClient) -> Result<()> {
    let mut watch = client.post_stream("/v3/watch").await?;
    watch.say(r#"{"create_request":{"key":"YQ=="}}"#).await?;
    watch.end();
    watch.line().await?;
    for path in ["/v3/kv/put", "/v3/kv/range"] {
        ensure!(client.post(path, r#"{"key":"YQ=="}"#).await?.status.is_success(), "{path}");
    }
    client.post("/v3/lease/keepalive", r#"{"ID":5}"#).await?;
    let unknown = client.post("/v3/auth/user/grant", r#"{"user":"x","role":"root"}"#).await?;
    ensure!(!unknown.status.is_success(), "there is no such user");
    Ok(())
}

#[tokio::test]
async fn h_01_metrics_urls_serve_health_and_metrics_alone() -> Result<()> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let flag = format!("--listen-metrics-urls=http://127.0.0.1:{port}");
    let flags = [&FLAGS[..], &[&flag]].concat();
    let cluster = Cluster::start_with(Kind::Coracle, 1, &flags)?;
    let mut client = HttpClient::new(&format!("127.0.0.1:{port}"));
    for (path, status) in
        [("/metrics", 200), ("/health", 200), ("/readyz", 200), ("/version", 404), ("/v3/x", 404)]
    {
        assert_eq!(client.get(path).await?.status.as_u16(), status, "{path}");
    }
    // Histograms of calls are there only on demand.
    let page = HttpClient::new(&cluster.client_address(0)).get("/metrics").await?.text();
    assert!(!page.contains("grpc_server_handling_seconds"));
    Ok(())
}

/// A process that ends with its test.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn w_01_http_has_a_listener_of_its_own() -> Result<()> {
    let listeners = (0..3).map(|_| std::net::TcpListener::bind("127.0.0.1:0"));
    let listeners = listeners.collect::<std::io::Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string()));
    let addresses = addresses.collect::<Result<Vec<String>>>()?;
    drop(listeners);
    let [grpc, http, peer] = &addresses[..] else { unreachable!("three were asked for") };
    let folder = tempfile::tempdir()?;
    let process = std::process::Command::new(coracle_tests::programs::coracle()?)
        .args(["serve", "--unsafe-no-fsync", "--log-level=error", "--data-dir"])
        .arg(folder.path().join("data"))
        .arg(format!("--listen-client-urls=http://{grpc}"))
        .arg(format!("--advertise-client-urls=http://{grpc}"))
        .arg(format!("--listen-client-http-urls=http://{http}"))
        .arg(format!("--listen-peer-urls=http://{peer}"))
        .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
        .arg(format!("--initial-cluster=default=http://{peer}"))
        .spawn()?;
    let _process = Process(process);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut client = HttpClient::new(http);
    while client.get("/health").await.is_err() {
        ensure!(std::time::Instant::now() < deadline, "it does not serve HTTP");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(client.post("/v3/kv/put", r#"{"key":"YQ=="}"#).await?.status.is_success());
    assert_eq!(client.get("/version").await?.status.as_u16(), 200);
    assert!(HttpClient::new(grpc).get("/version").await.is_err(), "the connection is closed");
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{grpc}"))?;
    let mut kv =
        coracle_tests::grpc::etcdserverpb::kv_client::KvClient::new(channel.connect().await?);
    let request = coracle_core::api::etcdserverpb::RangeRequest {
        key: bytes::Bytes::from_static(b"a"),
        ..Default::default()
    };
    assert_eq!(kv.range(request).await?.into_inner().count, 1);
    Ok(())
}
