//! One watcher: follows a range over many connections, to one member after another, and resumes
//! each time at the revision after its last event.
//!
//! It changes over when a stream breaks or falls silent, and now and then for no reason, because
//! resuming is what is tested. It asks for progress often, as Kubernetes does, both to notice a
//! silent stream and to have the promise of progress checked.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coracle_core::api::etcdserverpb::watch_request::RequestUnion;
use coracle_core::api::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse as WireResponse,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::client::channel;
use super::recorder::Recorder;
use crate::check::{WatchLog, WatchResponse};
use crate::grpc::WatchClient;

/// Time between two requests for progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Silence after which a watcher turns to another member.
const SILENCE: Duration = Duration::from_millis(1500);
/// A watcher leaves a healthy stream after one in so many responses.
const RESPONSES_PER_CHANGE: u32 = 300;
/// Pause before another attempt.
const BACKOFF: Duration = Duration::from_millis(50);

/// What a watcher watches.
#[derive(Clone, Debug)]
pub(super) struct WatchPlan {
    pub(super) name: String,
    pub(super) key: &'static [u8],
    pub(super) range_end: &'static [u8],
    pub(super) prev_kv: bool,
    /// The member it begins with.
    pub(super) member: usize,
    pub(super) request_progress: bool,
    pub(super) seed: u64,
}

/// Follows `plan` until the revision that `until` announces is reached, or the load is over.
pub(super) struct Watcher {
    recorder: Arc<Recorder>,
    endpoints: Arc<Vec<String>>,
    random: StdRng,
    member: usize,
    request_progress: bool,
    log: WatchLog,
    /// Revision of the next event, at least.
    next_revision: i64,
    /// 0 while the load runs, then the revision to reach.
    until: watch::Receiver<i64>,
}

impl Watcher {
    pub(super) fn new(
        recorder: Arc<Recorder>,
        endpoints: Arc<Vec<String>>,
        plan: WatchPlan,
        until: watch::Receiver<i64>,
    ) -> Watcher {
        let log = WatchLog {
            name: plan.name,
            key: plan.key.into(),
            range_end: plan.range_end.into(),
            start_revision: 1,
            prev_kv: plan.prev_kv,
            ..Default::default()
        };
        Watcher {
            recorder,
            endpoints,
            random: StdRng::seed_from_u64(plan.seed),
            member: plan.member,
            request_progress: plan.request_progress,
            log,
            next_revision: 1,
            until,
        }
    }

    /// Runs to the end and hands the log to the recorder, also if the end was not reached: then
    /// the checker reports what is missing.
    pub(super) async fn run(mut self, give_up: Duration) {
        let mut until = self.until.clone();
        let followed = tokio::select! {
            () = self.follow() => true,
            // The load has ended, and this long ago.
            () = async {
                // A closed channel means the load was dropped: nothing to wait for.
                let _ = until.wait_for(|revision| *revision > 0).await;
                tokio::time::sleep(give_up).await;
            } => false,
        };
        if !followed {
            eprintln!("watcher {} did not reach the end", self.log.name);
        }
        self.log.complete_through = *self.until.borrow();
        self.recorder.watch(self.log);
    }

    async fn follow(&mut self) {
        while !self.is_done() {
            // Why a connection ended is of no interest: what it missed is.
            let _ = self.connection().await;
            self.log.reconnects += 1;
            self.member = self.random.random_range(0..self.endpoints.len());
            tokio::time::sleep(BACKOFF).await;
        }
    }

    fn is_done(&self) -> bool {
        let until = *self.until.borrow();
        until > 0 && self.next_revision > until
    }

    /// One stream to one member, until it breaks, falls silent, or is left.
    async fn connection(&mut self) -> Result<()> {
        let mut client = WatchClient::new(channel(&self.endpoints[self.member])?);
        let (requests, outgoing) = mpsc::channel(4);
        requests.send(self.create_request()).await?;
        let call = client.watch(ReceiverStream::new(outgoing));
        let mut responses = tokio::time::timeout(SILENCE, call).await??.into_inner();
        let mut progress = tokio::time::interval(PROGRESS_INTERVAL);
        while !self.is_done() {
            tokio::select! {
                response = tokio::time::timeout(SILENCE, responses.message()) => {
                    self.response(response??.context("the stream ended")?)?;
                    if self.random.random_ratio(1, RESPONSES_PER_CHANGE) {
                        return Ok(());
                    }
                }
                _ = progress.tick(), if self.request_progress => {
                    // A full queue means that the member does not read: silence will tell.
                    let _ = requests.try_send(progress_request());
                }
            }
        }
        Ok(())
    }

    fn create_request(&self) -> WatchRequest {
        let create = WatchCreateRequest {
            key: self.log.key.clone(),
            range_end: self.log.range_end.clone(),
            start_revision: self.next_revision,
            prev_kv: self.log.prev_kv,
            ..Default::default()
        };
        WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    }

    fn response(&mut self, response: WireResponse) -> Result<()> {
        if response.canceled {
            bail!("the watch was cancelled: {response:?}");
        }
        if response.created {
            return Ok(());
        }
        if let Some(newest) = response.events.last().and_then(|event| event.kv.as_ref()) {
            self.next_revision = newest.mod_revision + 1;
        }
        let header = response.header.context("a watch response has a header")?;
        self.log.responses.push(WatchResponse {
            received: self.recorder.now(),
            connection: self.log.reconnects,
            header_revision: header.revision,
            events: response.events,
        });
        Ok(())
    }
}

fn progress_request() -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) }
}

/// A stream of watch responses from `revision` on, of all keys, with previous values.
pub(super) async fn whole_history(
    endpoint: &str,
    revision: i64,
) -> Result<(Streaming<WireResponse>, mpsc::Sender<WatchRequest>)> {
    let mut client = WatchClient::new(channel(endpoint)?);
    let (requests, outgoing) = mpsc::channel(1);
    let create = WatchCreateRequest {
        key: b"\0".as_slice().into(),
        range_end: b"\0".as_slice().into(),
        start_revision: revision,
        prev_kv: true,
        ..Default::default()
    };
    requests
        .send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })
        .await?;
    let responses = client.watch(ReceiverStream::new(outgoing)).await?.into_inner();
    Ok((responses, requests))
}
