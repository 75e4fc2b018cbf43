//! Every bound in one place. Where etcd has a number, it is etcd's.

/// Largest marshalled request, in bytes (`--max-request-bytes`).
pub const MAX_REQUEST_BYTES: usize = 1_572_864;
/// What the transport accepts above [`MAX_REQUEST_BYTES`], in bytes.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// Operations, or compares, of one transaction (`--max-txn-ops`).
pub const MAX_TXN_OPS: usize = 128;
/// Longest lease, in seconds.
pub const MAX_LEASE_TTL: i64 = 9_000_000_000;
/// Entries committed but not applied above which proposals are refused.
pub const MAX_COMMIT_APPLY_GAP: u64 = 5_000;
/// Default quota of the state backend, in bytes, where the flag says 0.
pub const DEFAULT_QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;
/// Expired leases revoked in one round of 500 ms.
pub const LEASE_REVOKE_RATE: usize = 500;
/// Lease revocations under way at once.
pub const MAX_PENDING_REVOKES: usize = 16;
/// Leases in one checkpoint entry.
pub const MAX_LEASE_CHECKPOINT_BATCH: usize = 1_000;
/// Keys that a range, a delete or a compaction looks at under one lock of the key index.
pub const RANGE_SLICE_KEYS: usize = 1_000;
/// Values that a range reads under one lock of the backend.
pub const RANGE_SLICE_VALUES: usize = 128;
/// Bytes above which a catch-up batch of a watcher takes in no further revision.
pub const WATCH_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Revisions that one catch-up batch of a watcher may hold.
pub const WATCH_BATCH_REVISIONS: usize = 1_000;
/// One blob of a maintenance snapshot, in bytes.
pub const SNAPSHOT_CHUNK_BYTES: usize = 32 * 1024;
/// One piece of a raft snapshot between members, in bytes.
pub const PEER_SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;
/// Keys that a compaction removes before it lets others work.
pub const COMPACTION_BATCH: usize = 1_000;
