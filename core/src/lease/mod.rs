//! Leases: keys that live only as long as somebody keeps saying so.
//!
//! A lease is granted for a time to live, keys are attached to it by puts, and when nobody renews
//! it in time it is revoked, which deletes its keys. The work is split in two:
//!
//! ```text
//!            replicated, by log entries               the leader's clock, in memory only
//!   grant ─► id, ttl, keys                            promote: deadline = now + extend + left
//!   attach/detach ─► keys                             renew:   deadline = now + ttl
//!   checkpoint ─► remaining ttl                       expired: deadlines passed ─► propose revoke
//!   revoke ─► gone, keys returned for deletion        due_checkpoints ─► propose checkpoint
//! ```
//!
//! No entry ever says "the time is now": only the leader measures time, and what it concludes
//! (revoke this lease, that one has 40 s left) becomes an entry. So the replicated half is a
//! function of the log, and a wrong clock on one member can only delay or hasten a proposal.
//!
//! A new leader does not know how long ago its predecessor saw the last renewal. It starts every
//! lease over: at its full time to live or, where checkpointed, at what was left then; plus one
//! election timeout, in which nobody could have renewed. Checkpoints bound how much longer a lease
//! can live through frequent elections (Kubernetes #65497).
//!
//! Invariants:
//! - a lease that expired is never renewed again: between deadline and revoke it is only waiting
//!   for the log, and its holder must not be told otherwise (ETCD.md LEASE-05);
//! - a lease never expires earlier than its time to live after the last renewal that was confirmed;
//! - after a promotion at most 750 leases expire in any second (LEASE-08).
//!
//! What is not here: proposing, waiting for quorum, forwarding to the leader, clamping the time to
//! live (all `node`), and deleting the keys of a revoked lease (`apply`).
//!
//! Sources: etcd `server/lease`, its lease documentation, and Gray and Cheriton's "Leases: an
//! efficient fault-tolerant mechanism for distributed file cache consistency" (1989).

mod clock;
mod lessor;

pub use lessor::{Lessor, Renewal, TimeToLive};

#[cfg(test)]
mod tests;
