//! What a node is started with. The host has parsed and validated its own flags into this.

use std::time::Duration;

use super::AutoCompaction;
use crate::limits;
use crate::wal::WalOptions;

/// Whether the initial members form a new cluster or this one joins a running one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialClusterState {
    New,
    Existing,
}

/// Configuration of one member. Names and defaults are etcd's flags' (op-guide/configuration).
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// `--name`
    pub name: String,
    /// `--initial-cluster`, as (name, peer URL) in the order given; a name may occur repeatedly.
    pub initial_cluster: Vec<(String, String)>,
    /// `--initial-cluster-token`
    pub initial_cluster_token: String,
    /// `--initial-cluster-state`
    pub initial_cluster_state: InitialClusterState,
    /// How long a new member asks the others whether it has started before; zero: not at all, since
    /// the host knows.
    pub bootstrap_patience: Duration,
    /// How long a member must have been up to count where members are added or removed (etcd:
    /// `HealthInterval`).
    pub health_interval: Duration,
    /// `--initial-advertise-peer-urls`
    pub advertise_peer_urls: Vec<String>,
    /// `--advertise-client-urls`
    pub advertise_client_urls: Vec<String>,
    /// `--heartbeat-interval`
    pub heartbeat_interval: Duration,
    /// `--election-timeout`
    pub election_timeout: Duration,
    /// `--snapshot-count`: applied entries between raft snapshots.
    pub snapshot_count: u64,
    /// `--snapshot-catchup-entries`: entries kept in the log behind a raft snapshot.
    pub snapshot_catchup_entries: u64,
    /// `--quota-backend-bytes`: 0 is the default quota, negative none.
    pub quota_backend_bytes: i64,
    /// `--max-txn-ops`
    pub max_txn_ops: usize,
    /// `--max-request-bytes`
    pub max_request_bytes: usize,
    /// `--strict-reconfig-check`
    pub strict_reconfig_check: bool,
    /// `--max-learners`
    pub max_learners: usize,
    /// `--watch-progress-notify-interval`
    pub watch_progress_notify_interval: Duration,
    /// `--auth-token-ttl`: how long a simple token lives after its last use.
    pub auth_token_ttl: Duration,
    /// `--client-cert-auth`: a certificate's common name is a user's, where there is no token.
    pub client_cert_auth: bool,
    /// `--pre-vote`
    pub pre_vote: bool,
    /// `--auto-compaction-mode` and `--auto-compaction-retention`
    pub auto_compaction: Option<AutoCompaction>,
    /// `--compaction-batch-limit`: keys that a compaction removes at once.
    pub compaction_batch_limit: usize,
    /// `--compaction-sleep-interval`: the pause between two of these batches.
    pub compaction_sleep_interval: Duration,
    /// `--backend-batch-interval`: after which applied state is made durable.
    pub backend_batch_interval: Duration,
    /// The gate `InitialCorruptCheck`
    pub initial_corrupt_check: bool,
    /// `--corrupt-check-time`; zero: never.
    pub corrupt_check_time: Duration,
    /// `--compact-hash-check-time`, if the gate `CompactHashCheck` is open.
    pub compact_hash_check: Option<Duration>,
    /// `--downgrade-check-time`: between two looks whether a downgrade has reached all members.
    pub downgrade_check_time: Duration,
    /// The gate `FastLeaseKeepAlive`: a lease that is known is renewed whatever is not applied yet.
    pub fast_lease_keep_alive: bool,
    /// `--warning-apply-duration`
    pub warning_apply_duration: Duration,
    /// `--lease-reads`: linearizable reads by the leader's lease, which trusts clocks.
    pub lease_reads: bool,
    /// `--force-new-cluster`
    pub force_new_cluster: bool,
    /// `--bootstrap-defrag-threshold-megabytes`, in bytes: a backend with as many unused ones is
    /// defragmented at the start. 0: none is.
    pub bootstrap_defrag_threshold: u64,
    /// Sizes of the log's files.
    pub wal: WalOptions,
    /// Bytes of page cache of the state backend.
    pub backend_cache_bytes: usize,
}

impl NodeConfig {
    /// A one-member cluster with etcd's defaults.
    pub fn single(name: &str, peer_url: &str) -> NodeConfig {
        NodeConfig {
            name: name.to_owned(),
            initial_cluster: vec![(name.to_owned(), peer_url.to_owned())],
            initial_cluster_token: "etcd-cluster".to_owned(),
            initial_cluster_state: InitialClusterState::New,
            bootstrap_patience: Duration::ZERO,
            health_interval: Duration::ZERO,
            advertise_peer_urls: vec![peer_url.to_owned()],
            advertise_client_urls: Vec::new(),
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            quota_backend_bytes: 0,
            max_txn_ops: limits::MAX_TXN_OPS,
            max_request_bytes: limits::MAX_REQUEST_BYTES,
            strict_reconfig_check: true,
            max_learners: 1,
            watch_progress_notify_interval: Duration::from_secs(600),
            auth_token_ttl: Duration::from_secs(300),
            client_cert_auth: false,
            pre_vote: true,
            auto_compaction: None,
            compaction_batch_limit: limits::COMPACTION_BATCH,
            compaction_sleep_interval: Duration::from_millis(10),
            backend_batch_interval: Duration::from_millis(100),
            initial_corrupt_check: false,
            corrupt_check_time: Duration::ZERO,
            compact_hash_check: None,
            downgrade_check_time: Duration::from_secs(5),
            fast_lease_keep_alive: true,
            warning_apply_duration: Duration::from_millis(100),
            lease_reads: false,
            force_new_cluster: false,
            bootstrap_defrag_threshold: 0,
            wal: WalOptions::default(),
            backend_cache_bytes: 64 * 1024 * 1024,
        }
    }
}
