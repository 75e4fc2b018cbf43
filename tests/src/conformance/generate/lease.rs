//! Lease requests. TTLs are long, so that no lease expires while its sequence runs; a short one
//! is revoked by the operations that follow.

use super::super::leases::FIRST_NAME;
use super::*;

/// Ids that the generator picks itself. Negative ones are legal.
const OWN_IDS: [i64; 11] = [1, 2, 3, 4, 5, 6, -1, -7, -8, 0x7fff_ffff, i64::MIN];
/// Ids that are never granted.
const MISSING_IDS: [i64; 3] = [99, -99, 0x00ff_ffff_ffff_ffff];
/// Leases above which one is rather revoked than granted.
const PLENTY: usize = 12;
/// The longest TTL, in seconds.
const MAX_TTL: i64 = 9_000_000_000;

impl Generator {
    /// A lease that exists, if any does.
    pub(super) fn lease_id(&mut self, model: &Model) -> i64 {
        if model.leases.is_empty() {
            return 0;
        }
        let index = self.dice.below(model.leases.len());
        let id = model.leases.iter().nth(index).copied().unwrap_or_default();
        if id >= FIRST_NAME && !self.attach_chosen_ids { 0 } else { id }
    }

    pub(super) fn missing_lease_id(&mut self) -> i64 {
        *self.dice.pick(&MISSING_IDS)
    }

    /// An existing lease in most cases, an unknown one in some.
    fn some_lease_id(&mut self, model: &Model) -> i64 {
        match self.dice.percent(20) || model.leases.is_empty() {
            true => self.missing_lease_id(),
            false => self.lease_id(model),
        }
    }

    pub(super) fn lease_grant(&mut self, model: &Model) -> LeaseGrantRequest {
        let mut id = if self.dice.percent(45) { 0 } else { *self.dice.pick(&OWN_IDS) };
        let taken = model.leases.first().copied();
        match taken {
            Some(taken) if self.dice.percent(46) => id = taken,
            // Rather a fresh id than one that is taken by chance.
            _ if self.dice.percent(35) && model.leases.contains(&id) => {
                id = -self.dice.between(10, 10_000);
            }
            _ => {}
        }
        let ttl = match self.dice.weighted(&[62, 33, 5]) {
            0 => self.dice.between(600, 100_000),
            1 => MAX_TTL + self.dice.between(1, 5),
            _ => MAX_TTL,
        };
        LeaseGrantRequest { ttl, id }
    }

    pub(super) fn lease(&mut self, model: &Model) -> Operation {
        let revoke = if model.leases.len() > PLENTY { 50 } else { 12 };
        match self.dice.weighted(&[40, revoke, 13, 18, 2, 17]) {
            0 => Operation::LeaseGrant(self.lease_grant(model)),
            1 => Operation::LeaseRevoke(LeaseRevokeRequest { id: self.some_lease_id(model) }),
            2 => Operation::LeaseKeepAlive(LeaseKeepAliveRequest { id: self.some_lease_id(model) }),
            3 => Operation::LeaseTimeToLive(LeaseTimeToLiveRequest {
                id: self.some_lease_id(model),
                keys: self.dice.percent(80),
            }),
            4 => Operation::LeaseLeases,
            _ => self.short_lease(),
        }
    }

    /// A TTL below the minimum, which the server raises; gone again before it can expire.
    fn short_lease(&mut self) -> Operation {
        let id = 1_000 + self.dice.between(0, 1_000_000);
        let ttl = self.dice.between(-2, 3);
        self.queue.push_back(Operation::LeaseRevoke(LeaseRevokeRequest { id }));
        Operation::LeaseGrant(LeaseGrantRequest { ttl, id })
    }
}
