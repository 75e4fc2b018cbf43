//! Every bound in one place. Where etcd has a number, it is etcd's.

use std::time::Duration;

/// Largest marshalled request, in bytes (`--max-request-bytes`).
pub const MAX_REQUEST_BYTES: usize = 1_572_864;
/// What the transport accepts above [`MAX_REQUEST_BYTES`], in bytes.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;
/// Operations, or compares, of one transaction (`--max-txn-ops`).
pub const MAX_TXN_OPS: usize = 128;
/// Transactions inside each other, the outermost one included. Each adds two levels to the message,
/// and protobuf decoders here and elsewhere stop at 100.
pub const MAX_TXN_DEPTH: usize = 32;
/// Longest lease, in seconds.
pub const MAX_LEASE_TTL: i64 = 9_000_000_000;
/// Entries committed but not applied above which proposals are refused.
pub const MAX_COMMIT_APPLY_GAP: u64 = 5_000;
/// Applied bytes that are in memory only, above which no more is applied until they are written.
pub const MAX_PENDING_BYTES: usize = 128 * 1024 * 1024;
/// Default quota of the state backend, in bytes, where the flag says 0.
pub const DEFAULT_QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;
/// The size of the backend of an empty store, which does not count for the quota: small quotas are
/// set for etcd's file, which begins with a seventh of it.
pub const EMPTY_BACKEND_BYTES: u64 = 144 * 1024;
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
/// Key-values in the first piece of a streamed range.
pub const RANGE_STREAM_FIRST: usize = 10;
/// Values that a streamed range reads at once, before it knows how large they are.
pub const RANGE_STREAM_VALUES: usize = 32;
/// Revisions that one catch-up batch of a watcher may hold.
pub const WATCH_BATCH_REVISIONS: usize = 1_000;
/// One blob of a maintenance snapshot, in bytes.
pub const SNAPSHOT_CHUNK_BYTES: usize = 32 * 1024;
/// One piece of a raft snapshot between members, in bytes.
pub const PEER_SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;
/// Keys that a compaction removes before it lets others work.
pub const COMPACTION_BATCH: usize = 1_000;
/// How often the leader writes down what is left of a lease that lives longer than that.
pub const LEASE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(300);
/// Leases that expire in any one second after a change of leader.
pub const MAX_LEASE_EXPIRIES_PER_SECOND: usize = 750;
/// When an expired lease that was not revoked is proposed for revocation again.
pub const LEASE_EXPIRY_RETRY: Duration = Duration::from_secs(3);
/// Simple tokens that a member remembers; the oldest goes first.
pub const MAX_SIMPLE_TOKENS: usize = 65_536;
/// Passwords being hashed or compared at once; more wait.
pub const MAX_PASSWORD_JOBS: usize = 64;
/// Bytes of a password that bcrypt takes into account; a longer one is refused.
pub const MAX_PASSWORD_BYTES: usize = 72;
/// Revisions that the watch hub keeps at hand.
pub const WATCH_RING_REVISIONS: usize = 4_096;
/// Bytes of events that the watch hub keeps at hand.
pub const WATCH_RING_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of events that a watch stream takes to work on at once, at least one revision.
pub const WATCH_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// The same for watchers that take their responses in fragments, whose batches make one response.
pub const WATCH_FRAGMENTED_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// Revisions that a catch-up reads first, before it knows how large they are.
pub const WATCH_FIRST_READ_REVISIONS: usize = 32;
/// Events that one batch holds for all watchers of a stream, as far as a revision allows.
pub const WATCH_BATCH_EVENTS: usize = 16 * 1024;
/// Revisions that a watch stream may lag before it gets several in one response; etcd's buffer.
pub const WATCH_STREAM_LAG: usize = 128;
/// Replies to watch requests waiting on one stream above which no further request is read.
pub const WATCH_STREAM_REPLIES: usize = 128;
