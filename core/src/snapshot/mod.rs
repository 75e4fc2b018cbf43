//! Maintenance snapshots: this store's state as an etcd database file, and such a file as this
//! store's state. No lock-in, in either direction (MNT-07, FS-01).
//!
//! The file is etcd's own: a bbolt file with etcd's buckets, which etcd's tools check and restore
//! and etcd serves, followed by the SHA-256 of its bytes. The buckets of keys, leases, users and
//! roles are the same to the byte on both sides. The rest is translated:
//!
//! | bucket | in the file | here |
//! |---|---|---|
//! | `alarm` | key: the alarm as a message | key: kind and member |
//! | `members` | key: the identifier in hex, value: JSON | key: 8 bytes, value: a message |
//! | `members_removed` | key: the identifier in hex | key: 8 bytes |
//! | `meta` | compaction, `consistent_index`, `term`, `confState` | compaction, log id, voters |
//! | `cluster` | the cluster's version: left out, so that any release may restore the file | |
//!
//! There is no storage version either, by which etcd 3.6 and newer would refuse a file of their
//! future: without one, and with term and membership, it is a file of 3.5 to all of them.
//!
//! Raft's own snapshots, between members, have another form (`backend::snapshot`): theirs need not
//! be measured before the first byte can be sent.

mod export;
mod import;
#[cfg(test)]
mod tests;

pub use export::{Export, Piece};
pub use import::{Import, ImportError, NewCluster};

/// etcd's names in the bucket `meta`, beside those of compaction.
const CONSISTENT_INDEX: &[u8] = b"consistent_index";
const TERM: &[u8] = b"term";
const CONF_STATE: &[u8] = b"confState";
/// What a removed member's entry holds.
const REMOVED: &[u8] = b"removed";

/// A member's key in an etcd file.
fn member_key(id: u64) -> Vec<u8> {
    format!("{id:x}").into_bytes()
}
