//! The key space: every version of every key, by revision (etcd's multi-version store).
//!
//! One counter, the *revision*, numbers the states of the whole store: a fresh store is at 1, and
//! each request that changes something moves it on by one, however many keys it changes. Nothing
//! is overwritten: a change is stored under its revision, and an index in memory says which
//! revisions each key has. So a reader who remembers a revision sees a state that stands still,
//! without holding a lock, and a watcher can be told everything since.
//!
//! ```text
//!                 index (memory)                        backend, bucket "key" (disk)
//!   key   older     newest      (life)                  main '_' sub ['t']   value
//!   ───   ─────     ──────      ─────────────           ──────────────────   ───────────────
//!   a     2.0       4.0         created 2, v2           2.0                  a=1
//!   b     3.0       4.1 †       tombstone               3.0                  b=1
//!                                                       4.0                  a=2    ┐ one txn,
//!                                                       4.1 t                b      ┘ revision 4
//! ```
//!
//! - A [`Change`] is (main, sub, put or tombstone): `main` is the revision, `sub` counts the
//!   changes inside one revision. A key's *life* begins with a put (its `create_revision`), counts
//!   versions from 1, and ends with a tombstone.
//! - Reading at revision r means: for each key the newest change with main ≤ r, if it is no
//!   tombstone. A write transaction writes at current + 1 and only its commit moves `current`, so
//!   nobody else sees half of it.
//! - The index answers counts, compares and lease questions alone. Values are read from the
//!   backend without holding the index, in slices: writers never wait for a long range.
//! - Compaction at r forgets, of each key, everything older than the newest change ≤ r, and that
//!   one too if it is a tombstone older than r. It takes effect at once for requests and is
//!   carried out in slices ([`Store::compact_step`]), because index and disk are large. A reader
//!   whose revision is compacted underneath it is told so.
//! - The revision never goes back: at start it is the newest stored one, or the compacted one if
//!   that is higher (compaction may have removed the newest tombstones, etcd issue 17780).
//!
//! What is stored is etcd's, byte for byte: the key as above, the value a protobuf `KeyValue`. So
//! [`Store::hash_kv`] answers what etcd would.
//!
//! Known above this module and not here: Raft, leases' time, watchers. See etcd's "data model"
//! and `ETCD.md` sections 2.1 to 2.6.

mod compaction;
mod hash;
mod history;
mod index;
mod key_index;
mod key_range;
mod range;
mod range_stream;
mod revision;
mod store;
#[cfg(test)]
mod tests;
mod txn;

pub(crate) use compaction::{FINISHED_COMPACTION, SCHEDULED_COMPACTION};
pub use hash::{HashKv, HashKvSteps, HashSteps};
pub use history::RevisionEvents;
pub use key_range::{KeyRange, KeySet};
pub use range::View;
pub use range_stream::RangeCursor;
pub use revision::Change;
pub use store::{Loaded, Store};
pub use txn::{Committed, Deleted, WriteTxn};
