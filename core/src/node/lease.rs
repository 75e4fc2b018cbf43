//! The Lease service. Leases are replicated; only the leader knows the time, so renewals and
//! remaining times are its business and followers ask it.

use std::time::Duration;

use super::Node;
use super::propose::mismatch;
use crate::api::coraclepb::command::Request as CommandRequest;
use crate::api::coraclepb::peer_request::Request as PeerMessage;
use crate::api::coraclepb::peer_response::Response as PeerAnswer;
use crate::api::coraclepb::{LeaseKeepAliveReply, LeaseTimeToLiveReply, Status};
use crate::api::etcdserverpb as pb;
use crate::apply::Reply;
use crate::auth::{Caller, Identity};
use crate::error::{Code, Error};
use crate::lease::Renewal;
use crate::limits;
use crate::platform::{Platform, TransportError};
use crate::quota::LEASE_COST;
use crate::raft::types::AsyncRuntime;
use crate::trace::Event;

/// How long a renewal waits for the entry that may have granted its lease (etcd: `applyTimeout`).
const APPLY_LIMIT: Duration = Duration::from_secs(1);

impl<P: Platform> Node<P> {
    /// Lease.LeaseGrant. LEASE-01, LEASE-02.
    pub async fn lease_grant(
        &self,
        by: &Caller,
        mut request: pb::LeaseGrantRequest,
    ) -> Result<pb::LeaseGrantResponse, Error> {
        // In etcd's order: an alarm is told before what is wrong with the request.
        self.check_quota(LEASE_COST).await?;
        if request.ttl > limits::MAX_LEASE_TTL {
            return Err(Error::LeaseTTLTooLarge);
        }
        while request.id == 0 {
            request.id = (self.platform.random() & i64::MAX as u64) as i64;
        }
        // The log carries the final TTL, so that members with other timers agree.
        request.ttl = request.ttl.max(self.min_lease_ttl());
        let who = self.identify(by).await?;
        match self.propose(&who, CommandRequest::LeaseGrant(request)).await? {
            Reply::LeaseGrant(mut response) => {
                response.header = Some(self.header(self.store.current_revision()));
                Ok(response)
            }
            other => Err(mismatch(other)),
        }
    }

    /// Lease.LeaseRevoke. LEASE-04.
    pub async fn lease_revoke(
        &self,
        by: &Caller,
        request: pb::LeaseRevokeRequest,
    ) -> Result<pb::LeaseRevokeResponse, Error> {
        let who = self.identify(by).await?;
        match self.propose(&who, CommandRequest::LeaseRevoke(request)).await? {
            Reply::LeaseRevoke(mut response) => {
                let revision = response.header.as_ref().map_or(0, |header| header.revision);
                response.header = Some(self.header(revision));
                Ok(response)
            }
            other => Err(mismatch(other)),
        }
    }

    /// One request of Lease.LeaseKeepAlive: TTL 0 says that the lease is gone. LEASE-05.
    pub async fn lease_keep_alive(
        &self,
        by: &Caller,
        request: pb::LeaseKeepAliveRequest,
    ) -> Result<pb::LeaseKeepAliveResponse, Error> {
        // etcd takes the header's revision before it renews.
        let header = Some(self.header(self.store.current_revision()));
        let who = self.identify(by).await?;
        let renew = self.renew_on_leader(&who, request.id);
        let ttl = P::Runtime::timeout(self.request_timeout(), renew)
            .await
            .unwrap_or(Err(Error::Timeout))
            .map_err(|error| self.nobody_led(error))?;
        Ok(pb::LeaseKeepAliveResponse { header, id: request.id, ttl })
    }

    async fn renew_on_leader(&self, who: &Identity, id: i64) -> Result<i64, Error> {
        loop {
            let role = self.leadership.role();
            let renewed = match role.leader {
                _ if role.is_leader => self.handle_lease_keep_alive(who, id).await,
                Some(leader) => self.ask_to_renew(who, leader, id).await,
                None => Err(Error::NotLeader),
            };
            match renewed {
                Ok(reply) => return Ok(reply.ttl),
                Err(Error::NotLeader | Error::LeaderChanged) => self.pause_for_leader().await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Says instead that there is no leader, where it was one that was waited for.
    fn nobody_led(&self, error: Error) -> Error {
        match error {
            Error::Timeout if self.live_leader().is_none() => Error::NoLeader,
            other => other,
        }
    }

    async fn ask_to_renew(
        &self,
        who: &Identity,
        leader: u64,
        id: i64,
    ) -> Result<LeaseKeepAliveReply, Error> {
        let message = PeerMessage::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id });
        match self.call_peer_for(who, leader, message, self.request_timeout()).await {
            Ok(PeerAnswer::LeaseKeepAlive(reply)) => Ok(reply),
            Ok(PeerAnswer::Error(status)) => Err(refusal(status)),
            Ok(_) => Err(Error::Other(Code::Internal, "unexpected answer of the leader".into())),
            // Renewing twice does no harm, so a lost answer is asked for again.
            Err(_) => Err(Error::NotLeader),
        }
    }

    /// Renews on the leader, once a quorum confirmed that it still leads. LEASE-10. A lease that is
    /// known is renewed at once; whether there is none is known only when all is applied. LEASE-09.
    pub(super) async fn handle_lease_keep_alive(
        &self,
        who: &Identity,
        id: i64,
    ) -> Result<LeaseKeepAliveReply, Error> {
        loop {
            if !self.leadership.role().is_leader {
                return Err(Error::NotLeader);
            }
            let committed = self.confirm_leader().await?;
            if !self.config.fast_lease_keep_alive || !self.lessor.exists(id) {
                let applied = self.shared.applied.wait(committed);
                let applied = P::Runtime::timeout(APPLY_LIMIT, applied).await;
                applied.map_err(|_| Error::TimeoutWaitAppliedIndex)?;
            }
            self.permit(who).lease_change(id)?;
            match self.lessor.renew(id, self.platform.monotonic()) {
                Renewal::Renewed { ttl, clear_checkpoint } => {
                    if clear_checkpoint {
                        self.clear_checkpoint(id).await?;
                    }
                    self.meters.leases_renewed.add(1);
                    self.trace.emit(|| Event::LeaseKeptAlive { id, ttl });
                    return Ok(LeaseKeepAliveReply { ttl });
                }
                Renewal::NotFound => return Ok(LeaseKeepAliveReply { ttl: 0 }),
                // Its revocation is on the way: it must not come back to life.
                Renewal::Expired => self.lessor.settled(id).await,
                Renewal::NotPrimary => return Err(Error::NotLeader),
            }
        }
    }

    async fn clear_checkpoint(&self, id: i64) -> Result<(), Error> {
        let checkpoints = vec![pb::LeaseCheckpoint { id, remaining_ttl: 0 }];
        let request = pb::LeaseCheckpointRequest { checkpoints };
        self.propose(&Identity::Internal, CommandRequest::LeaseCheckpoint(request))
            .await
            .map(|_| ())
    }

    /// Lease.LeaseTimeToLive: an unknown lease is no error but TTL -1. LEASE-06.
    pub async fn lease_time_to_live(
        &self,
        by: &Caller,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let (id, keys) = (request.id, request.keys);
        let who = self.identify(by).await?;
        let ask = self.time_to_live_on_leader(&who, request);
        let reply = P::Runtime::timeout(self.request_timeout(), ask)
            .await
            .unwrap_or(Err(Error::Timeout))
            .map_err(|error| self.nobody_led(error))?;
        Ok(pb::LeaseTimeToLiveResponse {
            header: Some(self.header(self.store.current_revision())),
            id,
            ttl: reply.ttl,
            granted_ttl: reply.granted_ttl,
            keys: if keys { reply.keys } else { Vec::new() },
        })
    }

    async fn time_to_live_on_leader(
        &self,
        who: &Identity,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveReply, Error> {
        loop {
            let role = self.leadership.role();
            let reply = match role.leader {
                _ if role.is_leader => self.handle_lease_time_to_live(who, &request).await,
                Some(leader) => self.ask_time_to_live(who, leader, &request).await,
                None => Err(Error::NotLeader),
            };
            match reply {
                Err(Error::NotLeader) => self.pause_for_leader().await?,
                other => return other,
            }
        }
    }

    async fn ask_time_to_live(
        &self,
        who: &Identity,
        leader: u64,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveReply, Error> {
        let message = PeerMessage::LeaseTimeToLive(*request);
        match self.call_peer_for(who, leader, message, self.request_timeout()).await {
            Ok(PeerAnswer::LeaseTimeToLive(reply)) => Ok(reply),
            Ok(PeerAnswer::Error(status)) => Err(refusal(status)),
            Ok(_) => Err(Error::Other(Code::Internal, "unexpected answer of the leader".into())),
            Err(TransportError::Timeout(_)) => Err(Error::Timeout),
            Err(_) => Err(Error::NotLeader),
        }
    }

    /// Answers on the leader, which alone knows how much time is left.
    pub(super) async fn handle_lease_time_to_live(
        &self,
        who: &Identity,
        request: &pb::LeaseTimeToLiveRequest,
    ) -> Result<LeaseTimeToLiveReply, Error> {
        self.linearize().await?;
        if !self.leadership.role().is_leader {
            return Err(Error::NotLeader);
        }
        let lease = self.lessor.time_to_live(request.id, self.platform.monotonic());
        // Asked about the keys that are told: others may come to the lease at any moment. AUTH-07.
        match request.keys {
            true => self.permit(who).tell_keys(lease.iter().flat_map(|lease| &lease.keys))?,
            false => self.auth.check_user(who)?,
        }
        Ok(match lease {
            None => LeaseTimeToLiveReply { ttl: -1, granted_ttl: 0, keys: Vec::new() },
            Some(lease) => LeaseTimeToLiveReply {
                ttl: lease.remaining,
                granted_ttl: lease.granted,
                keys: if request.keys { lease.keys } else { Vec::new() },
            },
        })
    }

    /// Lease.LeaseLeases: this member's list. LEASE-07.
    pub async fn lease_leases(
        &self,
        by: &Caller,
        _request: pb::LeaseLeasesRequest,
    ) -> Result<pb::LeaseLeasesResponse, Error> {
        let who = self.identify(by).await?;
        let leases = self.lessor.leases();
        self.permit(&who).all_lease_keys(&leases)?;
        let leases = leases.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        Ok(pb::LeaseLeasesResponse {
            header: Some(self.header(self.store.current_revision())),
            leases,
        })
    }

    /// 1.5 election timeouts in whole seconds, rounded up: a lease must outlive an election.
    fn min_lease_ttl(&self) -> i64 {
        let millis = self.config.election_timeout.as_millis() * 3 / 2;
        i64::try_from(millis.div_ceil(1000)).unwrap_or(i64::MAX)
    }
}

/// Why the leader did not answer. One that stops does not lead any more: another one is asked.
fn refusal(status: Status) -> Error {
    match Error::from_wire(status.code, status.message) {
        Error::Stopped => Error::NotLeader,
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::propose::status;

    #[test]
    fn lease_10_a_leader_that_stops_is_not_the_last_to_be_asked() {
        let refused = |error| refusal(status(&error));
        assert_eq!(refused(Error::Stopped), Error::NotLeader);
        assert_eq!(refused(Error::PermissionDenied), Error::PermissionDenied);
    }
}
