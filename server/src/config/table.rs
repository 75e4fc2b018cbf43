//! The table of flags, and nothing else: name, kind, default, what it does here, help.
//!
//! Names, defaults and meanings are those of etcd 3.7 (op-guide/configuration). Command line,
//! environment, configuration file, `--help` and `docs/flags.md` are all made of this table.

use super::flags::Effect::{Accepted, Acts, Former, Gate, Internal, Refused, Removed};
use super::flags::Kind::{
    Bool, Duration as Time, Gates, List, Number, OneOf, Signed, Text, Unsigned32, Urls,
};
use super::flags::Section::{
    Auth, Clustering, Features, Logging, Member, Monitoring, Nowhere, Security, Tracing, Unsafe,
};
use super::flags::{Flag, Section};

const NO_BBOLT: &str = "the backend is not bbolt";
const NO_V2: &str = "the v2 store is not part of this server";
const NO_PROXY: &str = "the v2 proxy is not part of this server";
const NO_V2_DISCOVERY: &str = "v2 discovery is gone; use --discovery-token";
const NO_TRACES: &str = "traces are not exported";
const LONG_GONE: &str = "etcd has not known it for years";
const NOT_YET: &str = "is not supported yet";

/// Every flag, in the order of the help.
#[rustfmt::skip] // A table.
pub(super) const FLAGS: &[Flag] = &[
    acts(Member, "name", Text, "default", "Human-readable name for this member."),
    acts(Member, "data-dir", Text, "", "Path to the data directory ('<name>.etcd' if empty)."),
    acts(Member, "wal-dir", Text, "", "Path to the folder of the log, if it is one of its own."),
    acts(Member, "snapshot-count", Number, "10000",
        "Committed transactions that trigger a snapshot of the log."),
    acts(Member, "heartbeat-interval", Number, "100",
        "Time of a heartbeat interval, in milliseconds."),
    acts(Member, "election-timeout", Number, "1000",
        "Time for an election to timeout, in milliseconds."),
    flag(Member, "initial-election-tick-advance", Bool, "true",
        Accepted("a member's first election timeout is drawn like any other")),
    acts(Member, "listen-peer-urls", Urls, "http://localhost:2380",
        "URLs to listen on for peer traffic."),
    acts(Member, "listen-client-urls", Urls, "http://localhost:2379",
        "URLs to listen on for client gRPC and HTTP traffic."),
    acts(Member, "listen-client-http-urls", Urls, "",
        "URLs for HTTP alone; those of --listen-client-urls serve gRPC alone then."),
    flag(Member, "max-wals", Number, "5",
        Accepted("the log keeps what its snapshot and --snapshot-catchup-entries leave")),
    acts(Member, "memory-mlock", Bool, "false", "Keep the server's pages in memory."),
    acts(Member, "quota-backend-bytes", Signed, "0",
        "Backend size that raises a NOSPACE alarm; 0: 2 GiB, negative: none."),
    flag(Member, "backend-bbolt-freelist-type", OneOf(&["map", "array"]), "map",
        Accepted(NO_BBOLT)),
    acts(Member, "backend-batch-interval", Time, "",
        "Time after which applied state is made durable ('100ms' if empty)."),
    flag(Member, "backend-batch-limit", Signed, "0",
        Accepted("applied state is made durable by time and size, not by number of operations")),
    acts(Member, "max-txn-ops", Number, "128", "Maximum number of operations in a transaction."),
    acts(Member, "max-request-bytes", Number, "1572864",
        "Maximum size of a client request, in bytes."),
    acts(Member, "max-concurrent-streams", Unsigned32, "4294967295",
        "Maximum number of open streams of one connection."),
    flag(Member, "grpc-keepalive-min-time", Time, "5s", Acts)
        .help("Least time that a client must leave between two pings; 0: 5m."),
    flag(Member, "grpc-keepalive-interval", Time, "2h", Acts)
        .help("Time after which the server pings a silent client; if it or the timeout is 0: 2h."),
    flag(Member, "grpc-keepalive-timeout", Time, "20s", Acts)
        .help("Time in which a ping must be answered; if it or the interval is 0: 20s."),
    flag(Member, "socket-reuse-port", Bool, "false", Acts)
        .help("Set SO_REUSEPORT on the sockets listened on."),
    flag(Member, "socket-reuse-address", Bool, "false", Acts)
        .help("Set SO_REUSEADDR on the sockets listened on."),
    acts(Member, "enable-grpc-reflection", Bool, "false",
        "Serve gRPC's server reflection, for grpcurl and its like (not in etcd)."),
    acts(Member, "enable-grpc-gateway", Bool, "true", "Serve the JSON gateway."),
    acts(Member, "gateway-error-key", Bool, "false",
        "Repeat the message of JSON errors as 'error', as etcd did until 3.5."),
    flag(Member, "raft-read-timeout", Time, "5s",
        Accepted("a call of a peer has its own time limit")),
    flag(Member, "raft-write-timeout", Time, "5s",
        Accepted("a call of a peer has its own time limit")),
    acts(Member, "feature-gates", Gates, "", "Features to turn on or off: 'A=true,B=false'."),
    acts(Clustering, "initial-advertise-peer-urls", Urls, "http://localhost:2380",
        "This member's peer URLs, to advertise to the rest of the cluster."),
    acts(Clustering, "initial-cluster", Text, "",
        "Initial cluster: 'name=URL,...' (this member alone if empty)."),
    acts(Clustering, "initial-cluster-state", OneOf(&["new", "existing"]), "new",
        "Whether the cluster is 'new', or 'existing' and joined."),
    acts(Clustering, "initial-cluster-token", Text, "etcd-cluster",
        "Keeps clusters with the same configuration apart."),
    acts(Clustering, "advertise-client-urls", Urls, "http://localhost:2379",
        "This member's client URLs, to advertise to the public."),
    acts(Clustering, "discovery-token", Text, "", "Token of the cluster at the discovery service."),
    acts(Clustering, "discovery-endpoints", List, "", "Endpoints of the discovery service."),
    acts(Clustering, "discovery-dial-timeout", Time, "2s", "Limit of connecting to it."),
    acts(Clustering, "discovery-request-timeout", Time, "5s", "Limit of one request to it."),
    acts(Clustering, "discovery-keepalive-time", Time, "2s", "Time between pings to it."),
    acts(Clustering, "discovery-keepalive-timeout", Time, "6s",
        "Limit of waiting for a ping's answer."),
    discovery("discovery-insecure-transport", Bool, "true", "Speak to it without TLS."),
    discovery("discovery-insecure-skip-tls-verify", Bool, "false",
        "Do not verify its certificate."),
    discovery("discovery-cert", Text, "", "Certificate to show to it."),
    discovery("discovery-key", Text, "", "Key of that certificate."),
    discovery("discovery-cacert", Text, "", "Authorities that may have signed its certificate."),
    discovery("discovery-user", Text, "", "User to be there: 'name' or 'name:password'."),
    discovery("discovery-password", Text, "", "The password of that user."),
    acts(Clustering, "discovery-srv", Text, "",
        "DNS domain whose SRV records name the initial cluster."),
    acts(Clustering, "discovery-srv-name", Text, "",
        "Suffix of the service's name in these records."),
    acts(Clustering, "strict-reconfig-check", Bool, "true",
        "Reject reconfiguration requests that would cause quorum loss."),
    acts(Clustering, "pre-vote", Bool, "true",
        "Run an election phase that disturbs no leader first."),
    acts(Clustering, "auto-compaction-mode", Text, "periodic",
        "What --auto-compaction-retention counts: 'periodic' (time) or 'revision'."),
    acts(Clustering, "auto-compaction-retention", Text, "0",
        "History to keep, e.g. '8' (hours), '30m', or a number of revisions; 0: all of it."),
    security("cert-file", Text, "", "Certificate of the client server."),
    security("key-file", Text, "", "Key of that certificate."),
    security("client-cert-file", Text, "",
        "Certificate to show where the server is a client itself."),
    security("client-key-file", Text, "", "Key of that certificate."),
    security("client-cert-auth", Bool, "false", "Demand certificates of clients."),
    security("client-crl-file", Text, "", "Revoked certificates of clients."),
    security("client-cert-allowed-cn", List, "", "Common names that clients may have."),
    security("client-cert-allowed-hostname", List, "", "Names in certificates of clients."),
    security("trusted-ca-file", Text, "",
        "Authorities that may have signed clients' certificates."),
    security("auto-tls", Bool, "false", "Serve clients with a certificate of the server's own."),
    security("peer-cert-file", Text, "", "Certificate of the peer server."),
    security("peer-key-file", Text, "", "Key of that certificate."),
    security("peer-client-cert-file", Text, "", "Certificate to show to peers."),
    security("peer-client-key-file", Text, "", "Key of that certificate."),
    security("peer-client-cert-auth", Bool, "false", "Demand certificates of peers."),
    security("peer-trusted-ca-file", Text, "",
        "Authorities that may have signed peers' certificates."),
    security("peer-crl-file", Text, "", "Revoked certificates of peers."),
    security("peer-cert-allowed-cn", List, "", "Common names that peers may have."),
    security("peer-cert-allowed-hostname", List, "", "Names in certificates of peers."),
    security("peer-auto-tls", Bool, "false", "Serve peers with a certificate of the server's own."),
    security("peer-skip-client-san-verification", Bool, "false",
        "Do not compare peers' addresses with their certificates."),
    security("self-signed-cert-validity", Number, "1",
        "Years that certificates of the server's own are valid."),
    security("cipher-suites", List, "", "TLS cipher suites, by their Go names (all if empty)."),
    security("tls-min-version", Text, "TLS1.2", "Oldest TLS: 'TLS1.2' or 'TLS1.3'."),
    security("tls-max-version", Text, "", "Newest TLS: 'TLS1.2' or 'TLS1.3' (any if empty)."),
    acts(Security, "cors", List, "*", "Origins that web pages may call from; '*': any."),
    acts(Security, "host-whitelist", List, "*",
        "Host names that insecure HTTP requests may have; '*': any."),
    acts(Auth, "auth-token", Text, "simple",
        "Tokens: 'simple', or 'jwt,sign-method=M[,pub-key=F][,priv-key=F][,ttl=5m]'."),
    acts(Auth, "bcrypt-cost", Number, "10", "Cost of hashing passwords, 4 to 31."),
    acts(Auth, "auth-token-ttl", Number, "300",
        "Life of a simple token after its last use, in seconds."),
    acts(Monitoring, "listen-metrics-urls", Urls, "",
        "URLs to listen on for '/metrics' and '/health' too."),
    acts(Monitoring, "metrics", OneOf(&["basic", "extensive"]), "basic",
        "How much is measured; 'extensive' adds the time of each call."),
    acts(Monitoring, "enable-pprof", Bool, "false",
        "Serve '/debug/pprof/' on the client URLs: the processor's time of each thread."),
    acts(Logging, "logger", Text, "zap", "The form of logs; there is one."),
    acts(Logging, "log-outputs", List, "default",
        "Where logs go: 'stderr' (the default), 'stdout', 'systemd/journal', or files."),
    acts(Logging, "log-level", Text, "info",
        "Least severe level that is logged: debug, info, warn, error, panic or fatal."),
    acts(Logging, "log-format", Text, "json", "One JSON object per line, or 'console'."),
    acts(Logging, "enable-log-rotation", Bool, "false", "Begin a new file when one is large."),
    acts(Logging, "log-rotation-config-json", Text,
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "Largest size (MB), age (days) and number of files, 0 for no limit; how to name them."),
    flag(Logging, "disable-log-sampling", Bool, "false", Accepted("no line of the log is dropped")),
    acts(Logging, "warning-unary-request-duration", Time, "300ms",
        "Time of a request above which it is logged."),
    flag(Tracing, "enable-distributed-tracing", Bool, "false", Accepted(NO_TRACES)),
    flag(Tracing, "distributed-tracing-address", Text, "localhost:4317", Accepted(NO_TRACES)),
    flag(Tracing, "distributed-tracing-service-name", Text, "etcd", Accepted(NO_TRACES)),
    flag(Tracing, "distributed-tracing-instance-id", Text, "", Accepted(NO_TRACES)),
    flag(Tracing, "distributed-tracing-sampling-rate", Signed, "0", Accepted(NO_TRACES)),
    acts(Features, "corrupt-check-time", Time, "0s",
        "Time between comparisons of the members' data; 0: never."),
    acts(Features, "compact-hash-check-time", Time, "1m",
        "Time between comparisons of compacted data, with the gate CompactHashCheck."),
    acts(Features, "compaction-batch-limit", Signed, "1000",
        "Most revisions that a compaction deletes at once."),
    acts(Features, "compaction-sleep-interval", Time, "10ms",
        "Pause between two batches of a compaction."),
    acts(Features, "watch-progress-notify-interval", Time, "10m",
        "Interval of periodic watch progress notifications."),
    acts(Features, "warning-apply-duration", Time, "100ms",
        "Time of applying an entry above which it is logged."),
    flag(Features, "bootstrap-defrag-threshold-megabytes", Number, "0",
        Accepted("free pages are used again and given back while the server runs")),
    acts(Features, "max-learners", Number, "1", "Maximum number of learners in the cluster."),
    flag(Features, "downgrade-check-time", Time, "5s",
        Accepted("the version is looked at whenever it matters, not from time to time")),
    acts(Features, "lease-reads", Bool, "false",
        "Linearizable reads that ask no quorum while the leader's lease lasts (not in etcd). They \
         are stale if clocks of members run at different speeds, or the leader is paused."),
    acts(Features, "snapshot-catchup-entries", Number, "5000",
        "Log entries kept behind a snapshot for slow followers."),
    acts(Unsafe, "force-new-cluster", Bool, "false",
        "Make a new cluster of this member alone, with its data."),
    acts(Unsafe, "unsafe-no-fsync", Bool, "false",
        "Never sync to disk: a crash of the machine may lose data."),
    flag(Nowhere, "front-threads", Number, "0", Internal)
        .help("Threads that serve clients; 0 means one per core."),
    flag(Nowhere, "nameserver", Text, "", Internal)
        .help("DNS server to ask, as 'address:port'; those of the system if empty."),
    former("experimental-corrupt-check-time", "corrupt-check-time"),
    former("experimental-compact-hash-check-time", "compact-hash-check-time"),
    former("experimental-compaction-batch-limit", "compaction-batch-limit"),
    former("experimental-compaction-sleep-interval", "compaction-sleep-interval"),
    former("experimental-watch-progress-notify-interval", "watch-progress-notify-interval"),
    former("experimental-downgrade-check-time", "downgrade-check-time"),
    former("experimental-warning-apply-duration", "warning-apply-duration"),
    former("experimental-warning-unary-request-duration", "warning-unary-request-duration"),
    former("experimental-memory-mlock", "memory-mlock"),
    former("experimental-bootstrap-defrag-threshold-megabytes",
        "bootstrap-defrag-threshold-megabytes"),
    former("experimental-max-learners", "max-learners"),
    former("experimental-snapshot-catchup-entries", "snapshot-catchup-entries"),
    former("experimental-snapshot-catch-up-entries", "snapshot-catchup-entries"),
    former("experimental-peer-skip-client-san-verification", "peer-skip-client-san-verification"),
    former("experimental-enable-distributed-tracing", "enable-distributed-tracing"),
    former("experimental-distributed-tracing-address", "distributed-tracing-address"),
    former("experimental-distributed-tracing-service-name", "distributed-tracing-service-name"),
    former("experimental-distributed-tracing-instance-id", "distributed-tracing-instance-id"),
    former("experimental-distributed-tracing-sampling-rate", "distributed-tracing-sampling-rate"),
    gate("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    gate("experimental-compact-hash-check-enabled", "CompactHashCheck"),
    gate("experimental-stop-grpc-service-on-defrag", "StopGRPCServiceOnDefrag"),
    gate("experimental-txn-mode-write-with-shared-buffer", "TxnModeWriteWithSharedBuffer"),
    gate("experimental-enable-lease-checkpoint", "LeaseCheckpoint"),
    gate("experimental-enable-lease-checkpoint-persist", "LeaseCheckpointPersist"),
    gate("experimental-set-member-localaddr", "SetMemberLocalAddr"),
    gone("max-snapshots", Number, "a member keeps one snapshot, its backend"),
    gone("enable-v2", Bool, NO_V2),
    gone("experimental-enable-v2v3", Text, NO_V2),
    gone("v2-deprecation", Text, NO_V2),
    gone("discovery", Text, NO_V2_DISCOVERY),
    gone("discovery-fallback", OneOf(&["exit", "proxy"]), NO_V2_DISCOVERY),
    gone("discovery-proxy", Text, NO_V2_DISCOVERY),
    gone("proxy", OneOf(&["off", "readonly", "on"]), NO_PROXY),
    gone("proxy-failure-wait", Number, NO_PROXY),
    gone("proxy-refresh-interval", Number, NO_PROXY),
    gone("proxy-dial-timeout", Number, NO_PROXY),
    gone("proxy-write-timeout", Number, NO_PROXY),
    gone("proxy-read-timeout", Number, NO_PROXY),
    gone("debug", Bool, "use --log-level=debug"),
    gone("log-package-levels", Text, "use --log-level"),
    gone("log-output", Text, "use --log-outputs"),
    gone("cluster-active-size", Bool, LONG_GONE),
    gone("cluster-remove-delay", Bool, LONG_GONE),
    gone("cluster-sync-interval", Bool, LONG_GONE),
    gone("config", Bool, LONG_GONE),
    gone("force", Bool, LONG_GONE),
    gone("max-result-buffer", Bool, LONG_GONE),
    gone("max-retry-attempts", Bool, LONG_GONE),
    gone("peer-heartbeat-interval", Bool, LONG_GONE),
    gone("peer-election-timeout", Bool, LONG_GONE),
    gone("retry-interval", Bool, LONG_GONE),
    gone("snapshot", Bool, LONG_GONE),
    gone("v", Bool, LONG_GONE),
    gone("vv", Bool, LONG_GONE),
];

const fn flag(
    section: Section,
    name: &'static str,
    kind: super::flags::Kind,
    default: &'static str,
    effect: super::flags::Effect,
) -> Flag {
    Flag { name, kind, default, section, effect, help: "" }
}

const fn acts(
    section: Section,
    name: &'static str,
    kind: super::flags::Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    flag(section, name, kind, default, Acts).help(help)
}

const fn discovery(
    name: &'static str,
    kind: super::flags::Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    flag(Clustering, name, kind, default, Refused(NOT_YET)).help(help)
}

const fn security(
    name: &'static str,
    kind: super::flags::Kind,
    default: &'static str,
    help: &'static str,
) -> Flag {
    acts(Security, name, kind, default, help)
}

/// A name that etcd had for a flag, or still has.
const fn former(name: &'static str, today: &'static str) -> Flag {
    flag(Nowhere, name, Text, "", Former(today))
}

/// A flag that became a feature gate.
const fn gate(name: &'static str, gate: &'static str) -> Flag {
    flag(Nowhere, name, Bool, "false", Gate(gate))
}

/// A flag that etcd no longer has, or is about to lose.
const fn gone(name: &'static str, kind: super::flags::Kind, reason: &'static str) -> Flag {
    flag(Nowhere, name, kind, "", Removed(reason))
}
