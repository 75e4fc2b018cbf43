//! What a node of the laboratory is given: virtual time, its own random numbers, packets.

use std::sync::Arc;
use std::time::Duration;

use coracle_core::api::coraclepb::append_entries_response::Kind;
use coracle_core::api::coraclepb::peer_request::Request;
use coracle_core::api::coraclepb::peer_response::Response;
use coracle_core::api::coraclepb::{PeerRequest, PeerResponse};
use coracle_core::platform::step::{Executor, StepRuntime, StepWorker};
use coracle_core::platform::{Disk, PeerTarget, Platform, Transport, TransportError, Worker};
use coracle_core::trace::Trace;
use futures_channel::oneshot;
use futures_util::future::BoxFuture;
use prost::Message;

use super::disk::LabDisk;
use super::{Shared, TAG};
use crate::protocol::{Body, NodeNumber, NodeSetup};

/// The wall clock at virtual time zero: 2026-01-01. Only identifiers are made of it.
const EPOCH_MILLIS: u64 = 1_767_225_600_000;

/// The name of the worker whose jobs take the disk's latency.
const LOG_WORKER: &str = "wal";

/// The platform of one node.
pub(crate) struct Lab {
    executor: Executor,
    disk: Arc<LabDisk>,
    shared: Arc<Shared>,
    number: NodeNumber,
    started_millis: u64,
}

impl Lab {
    pub(super) fn new(
        setup: &NodeSetup,
        executor: Executor,
        disk: Arc<LabDisk>,
        shared: Arc<Shared>,
    ) -> Lab {
        let started_millis = EPOCH_MILLIS + shared.lock().now / 1_000_000;
        Lab { executor, disk, shared, number: setup.number, started_millis }
    }
}

impl Platform for Lab {
    type Runtime = StepRuntime;

    fn disk(&self) -> Arc<dyn Disk> {
        self.disk.clone()
    }

    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(LabTransport { shared: self.shared.clone(), own: self.number })
    }

    fn monotonic(&self) -> Duration {
        self.executor.now()
    }

    fn unix_millis(&self) -> u64 {
        self.started_millis + self.executor.now().as_millis() as u64
    }

    fn random(&self) -> u64 {
        self.executor.random()
    }

    fn worker(&self, name: &str) -> Arc<dyn Worker> {
        let (shared, slow) = (self.shared.clone(), name == LOG_WORKER);
        let latency = move || match slow {
            true => Duration::from_micros(shared.lock().disk.latency_us.into()),
            false => Duration::ZERO,
        };
        Arc::new(StepWorker::new(&self.executor, TAG, Arc::new(latency)))
    }

    fn trace(&self) -> Trace {
        Trace::to(self.shared.clone())
    }
}

/// The peer URL of a node.
pub(crate) fn member_url(number: NodeNumber) -> String {
    format!("http://{}:2380", super::node_name(number))
}

/// The node at a peer URL.
fn number_at(url: &str) -> Option<NodeNumber> {
    let rest = url.strip_prefix("http://node")?;
    rest.split(':').next()?.parse().ok()
}

/// Calls between members, as pairs of packets.
struct LabTransport {
    shared: Arc<Shared>,
    own: NodeNumber,
}

impl Transport for LabTransport {
    fn call(
        &self,
        target: PeerTarget,
        request: PeerRequest,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<PeerResponse, TransportError>> {
        let number = target.urls.iter().find_map(|url| number_at(url));
        let Some(number) = number.filter(|number| *number != self.own) else {
            let text = format!("no node at {}", target.urls.join(", "));
            return Box::pin(async { Err(TransportError::Unreachable(text)) });
        };
        let shared = self.shared.clone();
        Box::pin(async move {
            let (sender, answer) = oneshot::channel();
            let call = {
                let mut state = shared.lock();
                state.next_call += 1;
                let call = state.next_call;
                state.waiting.insert(call, sender);
                call
            };
            let _forget = Forget { shared: shared.clone(), call };
            let member = shared.lock().node.as_ref().map_or(0, |node| node.member_id());
            shared.send(number, Body::PeerRequest { call, member, data: request.encode_to_vec() });
            match within(timeout, answer).await {
                Some(Ok(answer)) => Ok(answer),
                // The sender is dropped only with the process.
                Some(Err(_)) => Err(TransportError::Broken("the process ended".to_owned())),
                None => Err(TransportError::Timeout(timeout)),
            }
        })
    }
}

async fn within<F: Future + Send>(timeout: Duration, future: F) -> Option<F::Output> {
    use openraft_rt::AsyncRuntime;
    StepRuntime::timeout(timeout, future).await.ok()
}

/// Forgets a call when its caller is done or gives up.
struct Forget {
    shared: Arc<Shared>,
    call: u64,
}

impl Drop for Forget {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.call);
    }
}

/// Whether a request restarts the receiver's election timer if it is accepted, and if so, whether
/// it comes from a leader.
pub(super) fn hears(request: &PeerRequest) -> Option<bool> {
    match request.request {
        Some(Request::AppendEntries(_) | Request::Snapshot(_)) => Some(true),
        Some(Request::Vote(_)) => Some(false),
        _ => None,
    }
}

/// Whether the receiver accepted what restarts its timer.
pub(super) fn accepted(answer: &PeerResponse) -> bool {
    match &answer.response {
        Some(Response::AppendEntries(answer)) => answer.kind() != Kind::HigherVote,
        Some(Response::Vote(answer)) => answer.granted,
        Some(Response::Snapshot(_)) => true,
        _ => false,
    }
}
