//! One client: bound to one member, one call at a time, every call recorded with its outcome.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::messages::{
    delete_request, key_values, put_request, range_request, revision_of, txn_request,
};
use super::recorder::{Recorder, was_never_sent};
use crate::check::{Answer, Operation, Outcome, Request, Write};
use crate::grpc::KvClient;

/// How long a client waits for an answer.
const CALL_DEADLINE: Duration = Duration::from_secs(1);
/// How long a client waits for a connection.
const CONNECT_DEADLINE: Duration = Duration::from_millis(500);

/// A channel that connects when it is first used, and again after it broke.
pub(super) fn channel(endpoint: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(Endpoint::from_shared(endpoint.to_owned())?
        .connect_timeout(CONNECT_DEADLINE)
        .tcp_nodelay(true)
        .connect_lazy())
}

/// A client of one member.
pub(super) struct Client {
    recorder: Arc<Recorder>,
    name: String,
    member: usize,
    kv: KvClient<Channel>,
}

impl Client {
    pub(super) fn new(
        recorder: Arc<Recorder>,
        name: String,
        member: usize,
        endpoint: &str,
    ) -> Result<Client, tonic::transport::Error> {
        Ok(Client { recorder, name, member, kv: KvClient::new(channel(endpoint)?) })
    }

    /// Carries out `request`, records it, and returns how it ended.
    pub(super) async fn call(&mut self, request: Request) -> Outcome {
        let process = self.recorder.process(self.member);
        let started = self.recorder.now();
        let result = self.send(&request).await;
        let ended = self.recorder.now();
        let same_process = self.recorder.process(self.member) == process;
        let outcome = match result {
            Ok((revision, answer)) => Outcome::Answered { revision, answer },
            Err(status) => {
                self.recorder.failure(&status);
                if was_never_sent(&status) { Outcome::Refused } else { Outcome::Unknown }
            }
        };
        self.recorder.operation(Operation {
            client: self.name.clone(),
            process: same_process.then_some(process),
            request,
            started,
            ended,
            outcome: outcome.clone(),
        });
        outcome
    }

    async fn send(&mut self, request: &Request) -> Result<(i64, Answer), Status> {
        match request {
            Request::Read { key, range_end, serializable } => {
                let request = range_request(key, range_end, *serializable);
                let response = within_deadline(self.kv.range(request)).await?;
                let answer = Answer::Read { kvs: response.kvs, count: response.count };
                Ok((revision_of(response.header)?, answer))
            }
            Request::Write { guard: None, writes } if writes.len() == 1 => {
                self.write(&writes[0]).await
            }
            Request::Write { guard, writes } => {
                let request = txn_request(guard.as_ref(), writes);
                let response = within_deadline(self.kv.txn(request)).await?;
                let revision = revision_of(response.header)?;
                let answers = response.responses.into_iter().map(key_values);
                let answers = answers.collect::<Result<Vec<_>, Status>>()?;
                let answer = if response.succeeded {
                    Answer::Written { previous: answers }
                } else {
                    Answer::GuardFailed { current: answers.into_iter().flatten().next() }
                };
                Ok((revision, answer))
            }
        }
    }

    async fn write(&mut self, write: &Write) -> Result<(i64, Answer), Status> {
        let (header, previous) = match write {
            Write::Put { key, value } => {
                let response = within_deadline(self.kv.put(put_request(key, value))).await?;
                (response.header, response.prev_kv.into_iter().collect())
            }
            Write::Delete { key, range_end } => {
                let request = delete_request(key, range_end);
                let response = within_deadline(self.kv.delete_range(request)).await?;
                (response.header, response.prev_kvs)
            }
        };
        Ok((revision_of(header)?, Answer::Written { previous: vec![previous] }))
    }
}

async fn within_deadline<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(CALL_DEADLINE, call).await {
        Ok(response) => Ok(response?.into_inner()),
        Err(_) => Err(Status::new(Code::DeadlineExceeded, "no answer in time")),
    }
}
