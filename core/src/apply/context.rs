//! What applying a command to the key space works on.

use bytes::Bytes;

use crate::mvcc::Store;

/// The lessor as `apply` needs it: which leases exist, and which keys hang on them.
pub trait LeaseKeeper {
    /// Whether the lease was granted and not revoked.
    fn exists(&self, id: i64) -> bool;

    /// Attaches `key` to the lease, which exists.
    fn attach(&self, id: i64, key: Bytes);

    /// Detaches `key` from the lease.
    fn detach(&self, id: i64, key: &[u8]);

    /// Whether `holds` is true of every key on the lease; an unknown lease has none.
    fn every_key(&self, id: i64, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

/// The replicated state that commands on keys read and change.
#[derive(Clone, Copy)]
pub struct ApplyContext<'a> {
    pub store: &'a Store,
    pub leases: &'a dyn LeaseKeeper,
}
