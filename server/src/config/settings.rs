//! The configuration as plain data, grouped by who reads it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use coracle_core::node::NodeConfig;

use super::auth::AuthConfig;
use super::gates::FeatureGates;
use super::urls::Url;

/// Everything a server is started with.
#[derive(Clone, Debug)]
pub struct Config {
    pub node: NodeConfig,
    /// What is wrong with the initial cluster, at which only a new member looks.
    pub initial_cluster_fault: Option<String>,
    pub data_dir: PathBuf,
    /// The log's own folder, if `--wal-dir` gives it one.
    pub wal_dir: Option<PathBuf>,
    pub listen_client_urls: Vec<Url>,
    /// For HTTP alone.
    pub listen_client_http_urls: Vec<Url>,
    pub listen_peer_urls: Vec<Url>,
    pub listen_metrics_urls: Vec<Url>,
    pub max_concurrent_streams: u32,
    pub keepalive: KeepaliveConfig,
    pub socket: SocketConfig,
    pub tls: TlsConfig,
    pub http: HttpConfig,
    /// Whether gRPC clients are told which services there are.
    pub grpc_reflection: bool,
    pub auth: AuthConfig,
    pub discovery: DiscoveryConfig,
    pub gates: FeatureGates,
    /// Threads that serve clients.
    pub front_threads: usize,
    /// False only with `--unsafe-no-fsync`.
    pub fsync: bool,
    pub memory_mlock: bool,
    /// How long clients wait for a member that has not told the cluster about itself yet: without a
    /// quorum it is served all the same, for serializable reads and to say what is wrong.
    pub wait_cluster_ready: Duration,
    pub warning_unary_request_duration: Duration,
    /// None: calls are not traced.
    pub tracing: Option<TracingConfig>,
    pub log: LogConfig,
    /// What to log once there is a log.
    pub warnings: Vec<Warning>,
}

impl Config {
    /// The address that peers are dialled from, if the gate `SetMemberLocalAddr` is on: the first
    /// of this member's peer URLs that is an address at which others can reach it.
    pub(crate) fn local_address(&self) -> Option<IpAddr> {
        if !self.gates.is_enabled("SetMemberLocalAddr") {
            return None;
        }
        let urls = self.node.advertise_peer_urls.iter();
        let mut addresses = urls.filter_map(|url| Url::parse(url).ok()?.host().parse().ok());
        let found = addresses.find(|it: &IpAddr| !it.is_loopback() && !it.is_unspecified());
        match found {
            Some(address) => tracing::info!(
                LocalAddr = %address,
                "setting member local address from initial-advertise-peer-urls"
            ),
            None => tracing::warn!(
                "unable to set a member local address due to lack of suitable local addresses"
            ),
        }
        found
    }
}

/// `--grpc-keepalive-…`. Zero leaves what grpc-go does by itself: for `min_time` 5 minutes; for the
/// other two, if one of them is zero, 2 hours and 20 seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveConfig {
    pub min_time: Duration,
    pub interval: Duration,
    pub timeout: Duration,
}

/// `--socket-reuse-…`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketConfig {
    pub reuse_port: bool,
    pub reuse_address: bool,
}

/// What secures the traffic with clients and with peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    pub client: TlsSide,
    pub peer: TlsSide,
    /// By Go's names; all if empty.
    pub cipher_suites: Vec<String>,
    /// `TLS1.2` or `TLS1.3`; for the maximum also empty.
    pub min_version: String,
    pub max_version: String,
    pub self_signed_validity_years: u64,
}

/// The flags of one side, for which there are two sets. Files that are not given are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSide {
    pub cert_file: String,
    pub key_file: String,
    pub client_cert_file: String,
    pub client_key_file: String,
    pub client_cert_auth: bool,
    pub trusted_ca_file: String,
    pub crl_file: String,
    pub allowed_cns: Vec<String>,
    pub allowed_hostnames: Vec<String>,
    pub auto: bool,
    /// Of peers alone.
    pub skip_client_san_verification: bool,
}

/// What HTTP requests other than gRPC get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    pub cors: Vec<String>,
    pub host_whitelist: Vec<String>,
    pub enable_grpc_gateway: bool,
    /// Whether JSON errors repeat their message as `error`.
    pub gateway_error_key: bool,
    /// `--metrics=extensive`
    pub extensive_metrics: bool,
    /// `--enable-pprof`
    pub pprof: bool,
}

/// Where to ask for the initial cluster, if `--initial-cluster` does not say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiscoveryConfig {
    pub token: String,
    /// None: no discovery service.
    pub endpoints: Vec<String>,
    pub dial_timeout: Duration,
    pub request_timeout: Duration,
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
    pub insecure_transport: bool,
    pub insecure_skip_tls_verify: bool,
    pub cert_file: String,
    pub key_file: String,
    pub ca_file: String,
    pub user: String,
    pub password: String,
    /// The domain of `--discovery-srv`, empty if there is none.
    pub srv: String,
    pub srv_name: String,
    /// The DNS server to ask, instead of the system's.
    pub nameserver: Option<String>,
}

/// Which calls are traced, and to where (`--distributed-tracing-…`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingConfig {
    /// Host and port of the collector.
    pub address: String,
    pub service_name: String,
    /// Empty: none.
    pub instance_id: String,
    /// Of a million calls whose clients do not say; at most a million.
    pub samples_per_million: u32,
}

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub level: tracing::Level,
    pub json: bool,
    pub outputs: Vec<LogOutput>,
}

/// One place for lines of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOutput {
    Stderr,
    Stdout,
    Journal,
    File { path: PathBuf, rotation: Option<LogRotation> },
}

impl LogOutput {
    /// Whether old files are asked to be compressed, or named in local time.
    pub(super) fn wants_more_than_rotation(&self) -> bool {
        let LogOutput::File { rotation: Some(rotation), .. } = self else { return false };
        rotation.compress || rotation.local_time
    }
}

/// When to begin a new file (`--log-rotation-config-json`); zero means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRotation {
    pub max_size_megabytes: u64,
    pub max_age_days: u64,
    pub max_backups: u64,
    pub local_time: bool,
    pub compress: bool,
}

/// Something that the operator should know of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    Text(String),
    /// The name of an `ETCD_…` variable that is none.
    UnknownVariable(String),
    /// The value of `ETCD_VERSION`, which many images set for themselves.
    SpecialVariable(String),
}
