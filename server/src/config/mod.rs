//! Configuration: etcd's flags, `ETCD_…` variables and configuration file, checked as etcd does.
//!
//! `flags` is the table, `sources` reads values, this module gives them meaning. Everything
//! here is a function of its arguments: nothing is bound, created or logged.

mod flags;
mod sources;
#[cfg(test)]
mod tests;
pub(crate) mod urls;

use std::path::PathBuf;
use std::time::Duration;

use coracle_core::node::{InitialClusterState, NodeConfig};

use self::sources::Values;
use self::urls::Url;
use crate::http::{Access, HttpOptions};

/// Longest election timeout, in milliseconds (etcd: `maxElectionMs`).
const MAX_ELECTION_MS: u64 = 50_000;
/// Streams of one connection, whatever `--max-concurrent-streams` says.
const MAX_CONCURRENT_STREAMS: u64 = 100_000;

/// Everything a server is started with.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: NodeConfig,
    pub data_dir: PathBuf,
    pub listen_client_urls: Vec<Url>,
    pub listen_peer_urls: Vec<Url>,
    pub listen_metrics_urls: Vec<Url>,
    /// Where plain HTTP is served instead of on the client URLs; empty: there.
    pub listen_client_http_urls: Vec<Url>,
    pub http: HttpOptions,
    pub max_concurrent_streams: u32,
    /// Threads that serve clients.
    pub front_threads: usize,
    /// False only with `--unsafe-no-fsync`.
    pub fsync: bool,
    pub log: LogConfig,
    /// What to log once there is a log.
    pub warnings: Vec<String>,
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub level: tracing::Level,
    pub json: bool,
    pub stdout: bool,
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Parsed {
    Serve(Box<Config>),
    /// Print this text.
    Help(String),
    Version,
}

/// Why there is no configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    pub message: String,
    /// etcd's exit status: 2 for a flag that is no flag, 1 for values that do not go together.
    pub exit_status: u8,
}

impl ConfigError {
    fn usage(message: String) -> ConfigError {
        ConfigError { message, exit_status: 2 }
    }

    fn invalid(message: String) -> ConfigError {
        ConfigError { message, exit_status: 1 }
    }
}

/// Reads and checks the configuration of `serve`.
///
/// `arguments` come after the command's name; `environment` is the whole environment.
pub fn parse(
    arguments: &[String],
    environment: &[(String, String)],
) -> Result<Parsed, ConfigError> {
    match sources::gather(arguments, environment)? {
        Ok(values) => Ok(Parsed::Serve(Box::new(build(values).map_err(ConfigError::invalid)?))),
        Err(parsed) => Ok(parsed),
    }
}

fn build(mut values: Values) -> Result<Config, String> {
    let node = node_config(&values)?;
    let listen_client_urls = bindable(&values, "listen-client-urls")?;
    if values.is_given("listen-client-urls") && !values.is_given("advertise-client-urls") {
        let text =
            "--advertise-client-urls is required when --listen-client-urls is set explicitly";
        return Err(text.to_owned());
    }
    let data_dir = match values.get("data-dir") {
        "" => format!("{}.etcd", node.name),
        path => path.to_owned(),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let front_threads = match number(&values, "front-threads")? {
        0 => cores,
        threads => usize::try_from(threads).map_err(|error| error.to_string())?,
    };
    let max_streams = number(&values, "max-concurrent-streams")?.clamp(1, MAX_CONCURRENT_STREAMS);
    Ok(Config {
        data_dir: data_dir.into(),
        listen_client_urls,
        listen_peer_urls: bindable(&values, "listen-peer-urls")?,
        listen_metrics_urls: bindable_or_none(&values, "listen-metrics-urls")?,
        listen_client_http_urls: bindable_or_none(&values, "listen-client-http-urls")?,
        http: http_options(&values),
        max_concurrent_streams: u32::try_from(max_streams).unwrap_or(u32::MAX),
        front_threads,
        fsync: !boolean(&values, "unsafe-no-fsync"),
        log: log_config(&values),
        warnings: std::mem::take(&mut values.warnings),
        node,
    })
}

fn node_config(values: &Values) -> Result<NodeConfig, String> {
    let (heartbeat, election) = timers(values)?;
    let name = values.get("name").to_owned();
    let advertise_peer_urls = advertisable(values, "initial-advertise-peer-urls")?;
    let initial_cluster = match values.get("initial-cluster") {
        "" => advertise_peer_urls.iter().map(|url| (name.clone(), url.clone())).collect(),
        text => parse_initial_cluster(text)?,
    };
    check_own_urls(&name, &initial_cluster, &advertise_peer_urls)?;
    let size = |flag| usize::try_from(number(values, flag)?).map_err(|error| error.to_string());
    Ok(NodeConfig {
        initial_cluster,
        initial_cluster_token: values.get("initial-cluster-token").to_owned(),
        initial_cluster_state: match values.get("initial-cluster-state") {
            "existing" => InitialClusterState::Existing,
            _ => InitialClusterState::New,
        },
        advertise_client_urls: advertisable(values, "advertise-client-urls")?,
        heartbeat_interval: Duration::from_millis(heartbeat),
        election_timeout: Duration::from_millis(election),
        snapshot_count: number(values, "snapshot-count")?,
        snapshot_catchup_entries: number(values, "snapshot-catchup-entries")?,
        quota_backend_bytes: parsed(values, "quota-backend-bytes")?,
        max_txn_ops: size("max-txn-ops")?,
        max_request_bytes: size("max-request-bytes")?,
        strict_reconfig_check: boolean(values, "strict-reconfig-check"),
        max_learners: size("max-learners")?,
        watch_progress_notify_interval: flags::parse_duration(
            values.get("watch-progress-notify-interval"),
        )
        .unwrap_or_default()
        .max(Duration::from_millis(100)),
        pre_vote: boolean(values, "pre-vote"),
        advertise_peer_urls,
        ..NodeConfig::single(&name, "")
    })
}

/// Heartbeat interval and election timeout, in milliseconds (ETCD.md CFG-04).
fn timers(values: &Values) -> Result<(u64, u64), String> {
    let heartbeat = number(values, "heartbeat-interval")?;
    let election = number(values, "election-timeout")?;
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

/// `name=URL,name=URL,…`; one name may have several URLs.
fn parse_initial_cluster(text: &str) -> Result<Vec<(String, String)>, String> {
    text.split(',')
        .map(|entry| {
            let (name, url) = entry.trim().split_once('=').ok_or_else(|| {
                format!("--initial-cluster has {entry:?}, which is not of the form name=URL")
            })?;
            let url = Url::parse(url)?;
            url.check_advertisable()?;
            Ok((name.to_owned(), url.to_string()))
        })
        .collect()
}

/// The initial cluster must hold this member, with the URLs that it advertises.
fn check_own_urls(
    name: &str,
    cluster: &[(String, String)],
    advertised: &[String],
) -> Result<(), String> {
    let mut own: Vec<_> = cluster.iter().filter(|(n, _)| n == name).map(|(_, url)| url).collect();
    if own.is_empty() {
        return Err(format!(
            "couldn't find local name {name:?} in the initial cluster configuration"
        ));
    }
    own.sort();
    let mut advertised: Vec<_> = advertised.iter().collect();
    advertised.sort();
    let list = |urls: &[&String]| {
        let entries: Vec<_> = urls.iter().map(|url| format!("{name}={url}")).collect();
        entries.join(",")
    };
    let apart: Vec<_> = advertised.iter().copied().filter(|url| !own.contains(url)).collect();
    if !apart.is_empty() {
        let given: Vec<_> = advertised.iter().map(|url| url.as_str()).collect();
        return Err(format!(
            "--initial-cluster must include {} given --initial-advertise-peer-urls={}",
            list(&apart),
            given.join(",")
        ));
    }
    let apart: Vec<_> = own.iter().copied().filter(|url| !advertised.contains(url)).collect();
    if !apart.is_empty() {
        let given: Vec<_> = advertised.iter().map(|url| url.as_str()).collect();
        return Err(format!(
            "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
            list(&apart),
            given.join(",")
        ));
    }
    Ok(())
}

fn log_config(values: &Values) -> LogConfig {
    LogConfig {
        level: match values.get("log-level") {
            "debug" => tracing::Level::DEBUG,
            "warn" => tracing::Level::WARN,
            "error" | "panic" | "fatal" => tracing::Level::ERROR,
            _ => tracing::Level::INFO,
        },
        json: values.get("log-format") == "json",
        stdout: values.get("log-outputs") == "stdout",
    }
}

fn bindable(values: &Values, name: &str) -> Result<Vec<Url>, String> {
    let urls = Url::parse_list(values.get(name))?;
    urls.iter().try_for_each(Url::check_bindable)?;
    Ok(urls)
}

fn bindable_or_none(values: &Values, name: &str) -> Result<Vec<Url>, String> {
    match values.get(name) {
        "" => Ok(Vec::new()),
        _ => bindable(values, name),
    }
}

fn http_options(values: &Values) -> HttpOptions {
    HttpOptions {
        access: Access::new(values.get("host-whitelist"), values.get("cors")),
        gateway: boolean(values, "enable-grpc-gateway"),
        error_key: boolean(values, "gateway-error-key"),
        extensive_metrics: values.get("metrics") == "extensive",
    }
}

fn advertisable(values: &Values, name: &str) -> Result<Vec<String>, String> {
    let urls = Url::parse_list(values.get(name))?;
    urls.iter().try_for_each(Url::check_advertisable)?;
    Ok(urls.iter().map(Url::to_string).collect())
}

fn boolean(values: &Values, name: &str) -> bool {
    flags::parse_bool(values.get(name)).unwrap_or_default()
}

fn number(values: &Values, name: &str) -> Result<u64, String> {
    parsed(values, name)
}

fn parsed<T: std::str::FromStr>(values: &Values, name: &str) -> Result<T, String> {
    let value = values.get(name);
    value.parse().map_err(|_| format!("invalid value {value:?} for --{name}"))
}
