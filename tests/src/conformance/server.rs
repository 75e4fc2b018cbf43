//! One server under comparison: its clients, and how an operation is carried out on it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use coracle_core::api::etcdserverpb::*;
use coracle_core::api::mvccpb::Event;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::iter;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use super::Speech;
use super::auth::Askers;
use super::json::JsonClient;
use super::leases::LeaseNames;
use super::operation::{Answer, OWN_PEER_URL, Operation, Received};
use super::watch::{Due, WatchStream};
use crate::cli::{Line, Program, Shell};
use crate::cluster::Cluster;
use crate::grpc::{ClusterClient, KvClient, LeaseClient, MaintenanceClient};

/// How long one call may take.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// Time after which a membership change counts as dropped.
const CHANGE_DEADLINE: Duration = Duration::from_secs(3);
/// How often one may be dropped before the test waits for the last.
const DROPPED_CHANGES: usize = 2;
/// How long a key may take to vanish with its lease.
const ABSENCE_DEADLINE: Duration = Duration::from_secs(30);
/// Time between two looks at it.
const ABSENCE_POLL: Duration = Duration::from_millis(50);

/// A server and this test's connection to it.
pub struct Server {
    /// Who it is, for messages.
    pub name: &'static str,
    channel: Channel,
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    cluster: ClusterClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    peer_url: String,
    member_id: u64,
    /// How this server calls the leases whose ids it picked.
    pub leases: LeaseNames,
    /// The last compacted revision.
    compacted: Option<i64>,
    json: JsonClient,
    /// Where command lines are given.
    pub shell: Shell,
    askers: Askers,
    streams: Vec<WatchStream>,
}

impl Server {
    /// Connects to the first member of `cluster`, with `streams` watch streams.
    pub async fn connect(name: &'static str, cluster: &Cluster, streams: usize) -> Result<Server> {
        let channel = Endpoint::from_shared(cluster.endpoint(0))?
            .timeout(CALL_DEADLINE)
            .tcp_nodelay(true)
            .connect()
            .await
            .context("connecting to a healthy member")?;
        let watch_channel = Endpoint::from_shared(cluster.endpoint(0))?.connect().await?;
        let mut clients = Server {
            name,
            kv: KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX),
            lease: LeaseClient::new(channel.clone()),
            cluster: ClusterClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel),
            peer_url: format!("http://{}", cluster.peer_address(0)),
            member_id: 0,
            leases: LeaseNames::default(),
            compacted: None,
            json: JsonClient::new(cluster)?,
            shell: Shell::new(cluster)?,
            askers: Askers::new(cluster).await?,
            streams: (0..streams).map(|_| WatchStream::open(watch_channel.clone())).collect(),
            channel: watch_channel,
        };
        let status = clients.maintenance.status(StatusRequest {}).await?.into_inner();
        clients.member_id = status.header.context("a status has a header")?.member_id;
        Ok(clients)
    }

    /// Carries `operation` out and returns the answer with leases under their common names.
    ///
    /// # Errors
    /// If the server does not answer as the protocol demands; an error reply is an answer.
    pub async fn execute(&mut self, operation: &Operation, speech: Speech) -> Result<Answer> {
        let mut operation = operation.clone();
        self.leases.to_server(&mut operation);
        let picks_id = matches!(&operation, Operation::LeaseGrant(request) if request.id == 0);
        let mut answer = match operation {
            Operation::WatchCreate { .. }
            | Operation::WatchCancel { .. }
            | Operation::WatchProgress { .. }
            | Operation::WatchReset { .. } => self.execute_watch(operation).await?,
            Operation::AwaitAbsence(key) => self.await_absence(key).await?,
            Operation::Ask { asker, ask } => self.askers.answer(speech, &asker, &ask).await?,
            operation => self.call_patiently(operation, speech).await?,
        };
        // A lease that the server has just picked an id for has no name yet.
        if !picks_id {
            self.leases.from_server(&mut answer);
        }
        Ok(answer)
    }

    /// Gives `line`, which says the operation `says`, to `program`.
    pub fn run(&mut self, program: Program, line: &Line, says: &Operation) -> Result<Answer> {
        let printed = Answer::Printed(self.shell.run(program, line)?);
        if let (Operation::Compact(request), true) = (says, printed.is_ok()) {
            self.compacted = Some(request.revision);
        }
        Ok(printed)
    }

    /// Watches in JSON until what is `due` has come: the first response, and the rest of it all.
    pub async fn watch_in_json(
        &mut self,
        request: WatchCreateRequest,
        due: Due,
    ) -> Result<(WatchResponse, Received)> {
        let responses = self.json.watch(request, |responses| match due {
            _ if responses.is_empty() => false,
            Due::Events(count) => {
                responses.iter().map(|one| one.events.len()).sum::<usize>() >= count
            }
            _ => responses.iter().any(|response| response.canceled),
        });
        let mut responses = responses.await?.into_iter();
        let created = responses.next().context("a first response")?;
        let mut received = Received { stream: 0, watch_id: 0, events: Vec::new(), canceled: None };
        for response in responses {
            match response.canceled {
                true => received.canceled = Some(response),
                false => received.events.extend(response.events),
            }
        }
        Ok((created, received))
    }

    /// A call, repeated if it is a membership change that is never answered.
    ///
    /// etcd's raft silently drops a membership change that follows another one too closely, and
    /// the caller waits in vain (M-2). The generator's changes are all refused, so asking again
    /// changes nothing.
    async fn call_patiently(&mut self, operation: Operation, speech: Speech) -> Result<Answer> {
        let may_be_dropped = matches!(
            operation,
            Operation::MemberAdd(_)
                | Operation::MemberRemove(_)
                | Operation::MemberUpdate(_)
                | Operation::MemberPromote(_)
        );
        if may_be_dropped {
            for _ in 0..DROPPED_CHANGES {
                let call = self.call(operation.clone(), speech);
                if let Ok(answer) = timeout(CHANGE_DEADLINE, call).await {
                    return answer;
                }
            }
        }
        self.call(operation, speech).await
    }

    async fn call(&mut self, operation: Operation, speech: Speech) -> Result<Answer> {
        let compaction = match &operation {
            Operation::Compact(request) => Some(request.revision),
            _ => None,
        };
        let in_json = match speech {
            Speech::Json => self.json.call(&operation).await,
            Speech::Grpc => None,
        };
        let answer = match in_json {
            Some(answer) => answer?,
            None => self.call_in_grpc(operation).await,
        };
        if matches!(answer, Answer::Compact(_)) {
            self.compacted = compaction;
        }
        Ok(answer)
    }

    async fn call_in_grpc(&mut self, operation: Operation) -> Answer {
        match operation {
            Operation::Range(request) => answer(self.kv.range(request).await, Answer::Range),
            Operation::Put(request) => answer(self.kv.put(request).await, Answer::Put),
            Operation::DeleteRange(request) => {
                answer(self.kv.delete_range(request).await, Answer::DeleteRange)
            }
            Operation::Txn(request) => answer(self.kv.txn(request).await, Answer::Txn),
            Operation::Compact(request) => answer(self.kv.compact(request).await, Answer::Compact),
            Operation::LeaseGrant(request) => {
                answer(self.lease.lease_grant(request).await, Answer::LeaseGrant)
            }
            Operation::LeaseRevoke(request) => {
                answer(self.lease.lease_revoke(request).await, Answer::LeaseRevoke)
            }
            Operation::LeaseKeepAlive(request) => self.keep_alive(request).await,
            Operation::LeaseTimeToLive(request) => {
                answer(self.lease.lease_time_to_live(request).await, Answer::LeaseTimeToLive)
            }
            Operation::LeaseLeases => {
                let request = LeaseLeasesRequest {};
                answer(self.lease.lease_leases(request).await, Answer::LeaseLeases)
            }
            other => self.call_cluster(other).await,
        }
    }

    async fn call_cluster(&mut self, operation: Operation) -> Answer {
        match operation {
            Operation::HashKv(request) => {
                answer(self.maintenance.hash_kv(request).await, Answer::HashKv)
            }
            Operation::Status => {
                answer(self.maintenance.status(StatusRequest {}).await, Answer::Status)
            }
            Operation::Defragment => {
                let request = DefragmentRequest {};
                answer(self.maintenance.defragment(request).await, Answer::Defragment)
            }
            Operation::Alarm { action, alarm } => {
                let request = AlarmRequest {
                    action: action as i32,
                    member_id: self.member_id,
                    alarm: alarm as i32,
                };
                answer(self.maintenance.alarm(request).await, Answer::Alarm)
            }
            Operation::MoveLeader(request) => {
                answer(self.maintenance.move_leader(request).await, Answer::MoveLeader)
            }
            Operation::MemberList(request) => {
                answer(self.cluster.member_list(request).await, Answer::MemberList)
            }
            Operation::MemberAdd(mut request) => {
                self.own_urls(&mut request.peer_ur_ls);
                answer(self.cluster.member_add(request).await, Answer::MemberAdd)
            }
            Operation::MemberRemove(request) => {
                answer(self.cluster.member_remove(request).await, Answer::MemberRemove)
            }
            Operation::MemberUpdate(request) => {
                answer(self.cluster.member_update(request).await, Answer::MemberUpdate)
            }
            Operation::MemberPromote(request) => {
                answer(self.cluster.member_promote(request).await, Answer::MemberPromote)
            }
            other => unreachable!("{other:?} is carried out elsewhere"),
        }
    }

    fn own_urls(&self, urls: &mut [String]) {
        for url in urls.iter_mut().filter(|url| *url == OWN_PEER_URL) {
            *url = self.peer_url.clone();
        }
    }

    /// One renewal on a stream of its own.
    async fn keep_alive(&mut self, request: LeaseKeepAliveRequest) -> Answer {
        let reply = async {
            let stream = self.lease.lease_keep_alive(iter([request])).await?;
            let reply = stream.into_inner().message().await?;
            reply.map(Response::new).ok_or_else(|| Status::unknown("the stream ended"))
        };
        answer(reply.await, Answer::LeaseKeepAlive)
    }

    /// Reads `key` until it is gone.
    async fn await_absence(&mut self, key: Bytes) -> Result<Answer> {
        let deadline = Instant::now() + ABSENCE_DEADLINE;
        while Instant::now() < deadline {
            let request = RangeRequest { key: key.clone(), ..Default::default() };
            let reply = self.kv.range(request).await?.into_inner();
            if reply.count == 0 {
                return Ok(Answer::Range(reply));
            }
            sleep(ABSENCE_POLL).await;
        }
        bail!("the key {key:?} is still there after {ABSENCE_DEADLINE:?}");
    }

    async fn execute_watch(&mut self, operation: Operation) -> Result<Answer> {
        Ok(match operation {
            Operation::WatchCreate { stream, request } => {
                let ignored = self.compacted.filter(|revision| *revision == request.start_revision);
                Answer::Watch(self.streams[stream].create(request, ignored).await?)
            }
            Operation::WatchCancel { stream, watch_id } => {
                match self.streams[stream].cancel(watch_id).await? {
                    Some(canceled) => Answer::Watch(canceled),
                    None => Answer::Done,
                }
            }
            Operation::WatchProgress { stream } => {
                Answer::Progress(self.streams[stream].progress().await?)
            }
            Operation::WatchReset { stream } => {
                self.streams[stream] = WatchStream::open(self.channel.clone());
                Answer::Done
            }
            other => unreachable!("{other:?} is carried out elsewhere"),
        })
    }

    /// Takes what a watcher received; see [`WatchStream::take`].
    pub async fn take(
        &mut self,
        stream: usize,
        watch_id: i64,
        due: Due,
    ) -> Result<(Vec<Event>, Option<WatchResponse>)> {
        self.streams[stream].take(watch_id, due).await
    }
}

/// A reply as an answer: the message through `wrap`, or the error.
fn answer<T>(reply: Result<Response<T>, Status>, wrap: impl FnOnce(T) -> Answer) -> Answer {
    match reply {
        Ok(response) => wrap(response.into_inner()),
        Err(status) => {
            let message = status.message().to_string();
            Answer::Error { code: status.code() as i32, message }
        }
    }
}
