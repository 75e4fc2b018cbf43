//! Values become a configuration, or a sentence about what does not go together (ETCD.md CFG-04).

use std::time::Duration;

use coracle_core::node::{AutoCompaction, InitialClusterState, NodeConfig};
use coracle_ctl::go;

use super::auth;
use super::cluster::{
    advertised_client_urls, advertised_peer_urls, discovery_config, initial_cluster,
};
use super::log::log_config;
use super::settings::{
    Config, HttpConfig, KeepaliveConfig, LogOutput, SocketConfig, TlsConfig, TlsSide,
    TracingConfig, Warning,
};
use super::sources::Values;
use super::urls::Url;

/// Longest election timeout, in milliseconds (etcd: `maxElectionMs`).
const MAX_ELECTION_MS: u64 = 50_000;
/// Streams of one connection, whatever `--max-concurrent-streams` says.
const MAX_CONCURRENT_STREAMS: u64 = 100_000;
/// Largest request, whatever `--max-request-bytes` says: a message of gRPC has its length in 32
/// bits, and its JSON is longer still.
const MAX_REQUEST_BYTES: usize = 1 << 30;
/// etcd: `defaultBatchInterval`.
const DEFAULT_BATCH_INTERVAL: Duration = Duration::from_millis(100);
/// A new member waits for the others' word about itself so long (etcd: `bootstrapTimeout`'s least).
const BOOTSTRAP_PATIENCE: Duration = Duration::from_secs(1);
/// etcd's, which has no flag for it either.
const HEALTH_INTERVAL: Duration = Duration::from_secs(5);
/// Shortest interval of progress notifications (etcd: `minWatchProgressInterval`), and what none
/// means.
const MIN_PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
const DEFAULT_PROGRESS_INTERVAL: Duration = Duration::from_secs(600);

pub(super) fn build(mut values: Values) -> Result<Config, String> {
    // The log first: its own errors are told on standard error, the others in its form.
    let log = log_config(&values)?;
    let listen_peer_urls = bindable(&values, "listen-peer-urls")?;
    let listen_client_urls = bindable(&values, "listen-client-urls")?;
    let listen_client_http_urls = bindable(&values, "listen-client-http-urls")?;
    let listen_metrics_urls = bindable(&values, "listen-metrics-urls")?;
    for (name, urls) in
        [("listen-peer-urls", &listen_peer_urls), ("listen-client-urls", &listen_client_urls)]
    {
        if urls.is_empty() {
            return Err(format!("--{name} is empty: a member must listen somewhere"));
        }
    }
    let (node, initial_cluster_fault) = node_config(&values)?;
    check_gates(&values)?;
    if log.outputs.iter().any(LogOutput::wants_more_than_rotation) {
        values.warnings.push(Warning::Text(
            "compress and localtime of --log-rotation-config-json have no effect: old files keep \
             their form, and are named in UTC"
                .to_owned(),
        ));
    }
    let texts = values.gates.warnings().chain(advice(&values, &node.name)).collect::<Vec<_>>();
    values.warnings.extend(texts.into_iter().map(Warning::Text));
    let data_dir = match values.get("data-dir") {
        "" => format!("{}.etcd", node.name),
        path => path.to_owned(),
    };
    let max_streams = number(&values, "max-concurrent-streams").clamp(1, MAX_CONCURRENT_STREAMS);
    Ok(Config {
        initial_cluster_fault,
        data_dir: data_dir.into(),
        wal_dir: Some(text(&values, "wal-dir")).filter(|path| !path.is_empty()).map(Into::into),
        listen_client_urls,
        listen_client_http_urls,
        listen_peer_urls,
        listen_metrics_urls,
        max_concurrent_streams: u32::try_from(max_streams).unwrap_or(u32::MAX),
        keepalive: KeepaliveConfig {
            min_time: duration(&values, "grpc-keepalive-min-time"),
            interval: duration(&values, "grpc-keepalive-interval"),
            timeout: duration(&values, "grpc-keepalive-timeout"),
        },
        socket: SocketConfig {
            reuse_port: boolean(&values, "socket-reuse-port"),
            reuse_address: boolean(&values, "socket-reuse-address"),
        },
        tls: tls_config(&values)?,
        http: HttpConfig {
            cors: list(&values, "cors"),
            host_whitelist: list(&values, "host-whitelist"),
            enable_grpc_gateway: boolean(&values, "enable-grpc-gateway"),
            gateway_error_key: boolean(&values, "gateway-error-key"),
            extensive_metrics: values.get("metrics") == "extensive",
            // As in etcd, whoever looks for something wants these pages too.
            pprof: boolean(&values, "enable-pprof") || log.level == tracing::Level::DEBUG,
        },
        grpc_reflection: boolean(&values, "enable-grpc-reflection"),
        auth: auth::read(&mut values)?,
        discovery: discovery_config(&values)?,
        tracing: tracing_config(&values)?,
        front_threads: front_threads(&values),
        fsync: !boolean(&values, "unsafe-no-fsync"),
        memory_mlock: boolean(&values, "memory-mlock"),
        wait_cluster_ready: duration(&values, "wait-cluster-ready-timeout"),
        warning_unary_request_duration: duration(&values, "warning-unary-request-duration"),
        log,
        gates: std::mem::take(&mut values.gates),
        warnings: std::mem::take(&mut values.warnings),
        node,
    })
}

fn front_threads(values: &Values) -> usize {
    match usize::try_from(number(values, "front-threads")) {
        Ok(0) | Err(_) => std::thread::available_parallelism().map_or(1, usize::from),
        Ok(threads) => threads,
    }
}

/// What the node is started with, and what is wrong with the initial cluster.
fn node_config(values: &Values) -> Result<(NodeConfig, Option<String>), String> {
    let name = text(values, "name");
    let advertise_peer_urls = advertised_peer_urls(values)?;
    let mut advertise_client_urls = advertised_client_urls(values)?;
    let (initial_cluster, fault) = match initial_cluster(values, &name, &advertise_peer_urls) {
        Ok(cluster) => (cluster, None),
        Err(fault) => (Vec::new(), Some(fault)),
    };
    let (heartbeat, election) = timers(values)?;
    if values.is_given("listen-client-urls") && !values.is_given("advertise-client-urls") {
        // A file keeps the default.
        if !values.from_file {
            let text =
                "--advertise-client-urls is required when --listen-client-urls is set explicitly";
            return Err(text.to_owned());
        }
    }
    advertise_client_urls.sort();
    let size = |flag| usize::try_from(number(values, flag)).map_err(|error| error.to_string());
    let node = NodeConfig {
        initial_cluster,
        initial_cluster_token: text(values, "initial-cluster-token"),
        initial_cluster_state: match values.get("initial-cluster-state") {
            "existing" => InitialClusterState::Existing,
            _ => InitialClusterState::New,
        },
        bootstrap_patience: BOOTSTRAP_PATIENCE,
        health_interval: HEALTH_INTERVAL,
        advertise_client_urls,
        heartbeat_interval: Duration::from_millis(heartbeat),
        election_timeout: Duration::from_millis(election),
        snapshot_count: number(values, "snapshot-count"),
        snapshot_catchup_entries: number(values, "snapshot-catchup-entries"),
        quota_backend_bytes: signed(values, "quota-backend-bytes"),
        max_txn_ops: size("max-txn-ops")?,
        max_request_bytes: size("max-request-bytes")?.min(MAX_REQUEST_BYTES),
        strict_reconfig_check: boolean(values, "strict-reconfig-check"),
        max_learners: size("max-learners")?,
        auth_token_ttl: Duration::from_secs(number(values, "auth-token-ttl")),
        client_cert_auth: boolean(values, "client-cert-auth"),
        watch_progress_notify_interval: match duration(values, "watch-progress-notify-interval") {
            Duration::ZERO => DEFAULT_PROGRESS_INTERVAL,
            interval => interval.max(MIN_PROGRESS_INTERVAL),
        },
        pre_vote: boolean(values, "pre-vote"),
        auto_compaction: auto_compaction(values)?,
        compaction_batch_limit: match usize::try_from(signed(values, "compaction-batch-limit")) {
            Ok(0) | Err(_) => coracle_core::limits::COMPACTION_BATCH,
            Ok(limit) => limit,
        },
        compaction_sleep_interval: duration(values, "compaction-sleep-interval"),
        backend_batch_interval: match duration(values, "backend-batch-interval") {
            Duration::ZERO => DEFAULT_BATCH_INTERVAL,
            interval => interval,
        },
        bootstrap_defrag_threshold: number(values, "bootstrap-defrag-threshold-megabytes")
            .saturating_mul(1024 * 1024),
        initial_corrupt_check: values.gates.is_enabled("InitialCorruptCheck"),
        corrupt_check_time: duration(values, "corrupt-check-time"),
        compact_hash_check: values
            .gates
            .is_enabled("CompactHashCheck")
            .then(|| duration(values, "compact-hash-check-time")),
        downgrade_check_time: duration(values, "downgrade-check-time"),
        fast_lease_keep_alive: values.gates.is_enabled("FastLeaseKeepAlive"),
        warning_apply_duration: duration(values, "warning-apply-duration"),
        lease_reads: boolean(values, "lease-reads"),
        force_new_cluster: boolean(values, "force-new-cluster"),
        advertise_peer_urls,
        ..NodeConfig::single(&name, "")
    };
    Ok((node, fault))
}

/// A plain number is one of hours, or of revisions; anything else a duration, even where revisions
/// are counted: nanoseconds then, as in etcd.
fn auto_compaction(values: &Values) -> Result<Option<AutoCompaction>, String> {
    let retention = values.get("auto-compaction-retention");
    let plain = go::parse_i64(retention, 10).ok().filter(|number| *number >= 0);
    let parsed = match plain {
        Some(_) => Duration::ZERO,
        None => go::parse_duration(retention)
            .map_err(|error| format!("error parsing CompactionRetention: {error}"))?,
    };
    match values.get("auto-compaction-mode") {
        "periodic" => {
            let hours =
                |number: i64| Duration::from_secs(number.unsigned_abs().saturating_mul(3600));
            let retention = plain.map_or(parsed, hours);
            Ok((!retention.is_zero()).then_some(AutoCompaction::Periodic(retention)))
        }
        "revision" => {
            let nanos = i64::try_from(parsed.as_nanos()).unwrap_or(i64::MAX);
            let revisions = plain.unwrap_or(nanos);
            Ok((revisions > 0).then_some(AutoCompaction::Revision(revisions)))
        }
        "" => Err("undefined auto-compaction-mode".to_owned()),
        mode => Err(format!("unknown auto-compaction-mode {mode:?}")),
    }
}

/// Heartbeat interval and election timeout, in milliseconds.
fn timers(values: &Values) -> Result<(u64, u64), String> {
    let heartbeat = number(values, "heartbeat-interval");
    let election = number(values, "election-timeout");
    if heartbeat == 0 {
        Err(format!("--heartbeat-interval must be >0 (set to {heartbeat}ms)"))
    } else if election == 0 {
        Err(format!("--election-timeout must be >0 (set to {election}ms)"))
    } else if heartbeat.saturating_mul(5) > election {
        Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as \
             --heartbeat-interval[{heartbeat}ms]"
        ))
    } else if election > MAX_ELECTION_MS {
        Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than \
             {MAX_ELECTION_MS}ms"
        ))
    } else {
        Ok((heartbeat, election))
    }
}

fn check_gates(values: &Values) -> Result<(), String> {
    let on = |name| values.gates.is_enabled(name);
    if on("LeaseCheckpointPersist") && !on("LeaseCheckpoint") {
        return Err("enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
                    LeaseCheckpoint"
            .to_owned());
    }
    let interval = duration(values, "compact-hash-check-time");
    if interval.is_zero() {
        return Err(format!(
            "--compact-hash-check-time must be >0 (set to {})",
            go::format_duration(interval)
        ));
    }
    Ok(())
}

/// What etcd says of configurations that work but are not advisable.
fn advice(values: &Values, name: &str) -> impl Iterator<Item = String> {
    let unnamed = (!values.is_given("name") && name == "default").then(|| {
        "it isn't recommended to use default name, please set a value for --name. Note that etcd \
         might run into issue when multiple members have the same default name"
            .to_owned()
    });
    let homeless =
        values.get("data-dir").is_empty().then(|| "'data-dir' was empty; using default".to_owned());
    let progress = duration(values, "watch-progress-notify-interval");
    let hasty = (!progress.is_zero() && progress < MIN_PROGRESS_INTERVAL)
        .then(|| "adjusting watch progress notify interval to minimum period (100ms)".to_owned());
    unnamed.into_iter().chain(homeless).chain(hasty)
}

fn tracing_config(values: &Values) -> Result<Option<TracingConfig>, String> {
    if !boolean(values, "enable-distributed-tracing") {
        return Ok(None);
    }
    let rate = signed(values, "distributed-tracing-sampling-rate");
    let samples_per_million = u32::try_from(rate).ok().filter(|rate| *rate <= 1_000_000);
    let samples_per_million = samples_per_million.ok_or_else(|| {
        let bound = if rate < 0 { "positive" } else { "less than 1000000" };
        format!(
            "distributed tracing configurition is not valid: \
             (tracing sampling rate must be {bound})"
        )
    })?;
    Ok(Some(TracingConfig {
        address: text(values, "distributed-tracing-address"),
        service_name: text(values, "distributed-tracing-service-name"),
        instance_id: text(values, "distributed-tracing-instance-id"),
        samples_per_million,
    }))
}

fn tls_config(values: &Values) -> Result<TlsConfig, String> {
    let client = TlsSide {
        cert_file: text(values, "cert-file"),
        key_file: text(values, "key-file"),
        client_cert_file: text(values, "client-cert-file"),
        client_key_file: text(values, "client-key-file"),
        client_cert_auth: boolean(values, "client-cert-auth"),
        trusted_ca_file: text(values, "trusted-ca-file"),
        crl_file: text(values, "client-crl-file"),
        allowed_cns: list(values, "client-cert-allowed-cn"),
        allowed_hostnames: list(values, "client-cert-allowed-hostname"),
        auto: boolean(values, "auto-tls"),
        skip_client_san_verification: false,
    };
    let peer = TlsSide {
        cert_file: text(values, "peer-cert-file"),
        key_file: text(values, "peer-key-file"),
        client_cert_file: text(values, "peer-client-cert-file"),
        client_key_file: text(values, "peer-client-key-file"),
        client_cert_auth: boolean(values, "peer-client-cert-auth"),
        trusted_ca_file: text(values, "peer-trusted-ca-file"),
        crl_file: text(values, "peer-crl-file"),
        allowed_cns: list(values, "peer-cert-allowed-cn"),
        allowed_hostnames: list(values, "peer-cert-allowed-hostname"),
        auto: boolean(values, "peer-auto-tls"),
        skip_client_san_verification: boolean(values, "peer-skip-client-san-verification"),
    };
    Ok(TlsConfig {
        client,
        peer,
        cipher_suites: list(values, "cipher-suites"),
        min_version: text(values, "tls-min-version"),
        max_version: text(values, "tls-max-version"),
        self_signed_validity_years: number(values, "self-signed-cert-validity"),
    })
}

/// The URLs of the flag `name`, on which sockets can listen.
fn bindable(values: &Values, name: &str) -> Result<Vec<Url>, String> {
    let urls = url_list(values.get(name))?;
    urls.iter().try_for_each(Url::check_bindable)?;
    Ok(urls)
}

/// The URLs of the flag `name`, which others can dial; or what was given, and what is wrong.
pub(super) fn advertisable(values: &Values, name: &str) -> Result<Vec<String>, (String, String)> {
    let given = values.get(name).to_owned();
    let urls = url_list(&given).map_err(|error| (given.clone(), error))?;
    match urls.iter().try_for_each(Url::check_advertisable) {
        Ok(()) => Ok(urls.iter().map(Url::to_string).collect()),
        Err(error) => Err((given, error)),
    }
}

fn url_list(text: &str) -> Result<Vec<Url>, String> {
    if text.is_empty() { Ok(Vec::new()) } else { Url::parse_list(text) }
}

// The values below were checked where they were read, so that the error could name their source.

pub(super) fn text(values: &Values, name: &str) -> String {
    values.get(name).to_owned()
}

/// The items of a list, without repetitions.
pub(super) fn list(values: &Values, name: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    for item in values.get(name).split(',').filter(|item| !item.is_empty()) {
        if !items.iter().any(|known| known == item) {
            items.push(item.to_owned());
        }
    }
    items
}

pub(super) fn boolean(values: &Values, name: &str) -> bool {
    go::parse_bool(values.get(name)).unwrap_or_default()
}

pub(super) fn number(values: &Values, name: &str) -> u64 {
    go::parse_u64(values.get(name), 0).unwrap_or_default()
}

pub(super) fn signed(values: &Values, name: &str) -> i64 {
    go::parse_i64(values.get(name), 0).unwrap_or_default()
}

pub(super) fn duration(values: &Values, name: &str) -> Duration {
    super::flags::parse_duration(values.get(name)).unwrap_or_default()
}

/// Whether the flag `name` says no more than its default.
pub(super) fn is_default(values: &Values, name: &str) -> bool {
    values.get(name) == super::flags::find(name).map_or("", |flag| flag.default)
}
