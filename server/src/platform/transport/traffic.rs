//! What was said to each peer and heard of it, for `/metrics`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts per peer, by member.
#[derive(Clone, Default)]
pub(crate) struct Traffic(Arc<Mutex<BTreeMap<u64, Arc<PeerTraffic>>>>);

/// What was counted of one peer.
#[derive(Default)]
pub(crate) struct PeerTraffic {
    /// Bytes of frames.
    sent: AtomicU64,
    received: AtomicU64,
    /// Connections that broke, and answers that could not be read.
    receive_failures: AtomicU64,
    disconnects: AtomicU64,
    /// Whether the connection that this member dialled stands.
    connected: AtomicBool,
}

/// [`PeerTraffic`] at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerCounts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) receive_failures: u64,
    pub(crate) disconnects: u64,
    pub(crate) connected: bool,
}

impl Traffic {
    /// The counts of member `id`, for good: for identifiers of the member table only. All others,
    /// who do not know themselves yet or say anything, share those of 0.
    pub(super) fn peer(&self, id: u64) -> Arc<PeerTraffic> {
        self.lock().entry(id).or_default().clone()
    }

    /// What was counted of member `id` until now.
    pub(crate) fn counts(&self, id: u64) -> PeerCounts {
        let peers = self.lock();
        peers.get(&id).map(|peer| peer.counts()).unwrap_or_default()
    }

    #[cfg(test)]
    pub(super) fn identifiers(&self) -> Vec<u64> {
        self.lock().keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<PeerTraffic>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PeerTraffic {
    pub(super) fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }

    /// The connection has ended: because it broke, or because it was not needed any more.
    pub(super) fn disconnected(&self, broken: bool) {
        self.connected.store(false, Ordering::Relaxed);
        self.disconnects.fetch_add(1, Ordering::Relaxed);
        self.receive_failures.fetch_add(u64::from(broken), Ordering::Relaxed);
    }

    fn counts(&self) -> PeerCounts {
        PeerCounts {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            receive_failures: self.receive_failures.load(Ordering::Relaxed),
            disconnects: self.disconnects.load(Ordering::Relaxed),
            connected: self.connected.load(Ordering::Relaxed),
        }
    }
}
