//! Operations in JSON: the same requests by the gateway of both servers.
//!
//! A reply is decoded into its message, so that it is compared like any other; and the message is
//! written down again, which must give what was received, name by name. So both servers' JSON is
//! held to one form, and it is etcd's.

use anyhow::{Context, Result, ensure};
use coracle_core::api::etcdserverpb::*;
use http::Method;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, MethodDescriptor,
    ReflectMessage, SerializeOptions,
};
use serde_json::Value;

use super::operation::{Answer, Operation};
use crate::cluster::Cluster;
use crate::http::HttpClient;

/// An error that a server answers with.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: i32,
    pub message: String,
}

impl From<tonic::Status> for Refusal {
    fn from(status: tonic::Status) -> Refusal {
        Refusal { code: status.code() as i32, message: status.message().to_owned() }
    }
}

/// A client of one server's gateway.
pub struct JsonClient {
    client: HttpClient,
    messages: DescriptorPool,
    /// Requests so far: every second one is spelled in the other way.
    requests: usize,
}

impl JsonClient {
    /// A client of the first member of `cluster`.
    pub fn new(cluster: &Cluster) -> Result<JsonClient> {
        let messages = DescriptorPool::decode(coracle_gateway::DESCRIPTORS)?;
        let client = HttpClient::new(&cluster.client_address(0));
        Ok(JsonClient { client, messages, requests: 0 })
    }

    /// Carries `operation` out, if the gateways of both servers have a path for it.
    pub async fn call(&mut self, operation: &Operation) -> Option<Result<Answer>> {
        use Operation as Op;
        Some(match operation {
            Op::Range(request) => self.answer("/v3/kv/range", request, Answer::Range).await,
            Op::Put(request) => self.answer("/v3/kv/put", request, Answer::Put).await,
            Op::DeleteRange(request) => {
                self.answer("/v3/kv/deleterange", request, Answer::DeleteRange).await
            }
            Op::Txn(request) => self.answer("/v3/kv/txn", request, Answer::Txn).await,
            Op::Compact(request) => {
                self.answer("/v3/kv/compaction", request, Answer::Compact).await
            }
            Op::LeaseGrant(request) => {
                self.answer("/v3/lease/grant", request, Answer::LeaseGrant).await
            }
            Op::LeaseRevoke(request) => {
                self.answer("/v3/lease/revoke", request, Answer::LeaseRevoke).await
            }
            Op::LeaseKeepAlive(request) => {
                self.answer("/v3/lease/keepalive", request, Answer::LeaseKeepAlive).await
            }
            Op::LeaseTimeToLive(request) => {
                self.answer("/v3/lease/timetolive", request, Answer::LeaseTimeToLive).await
            }
            Op::LeaseLeases => {
                self.answer("/v3/lease/leases", &LeaseLeasesRequest {}, Answer::LeaseLeases).await
            }
            Op::Status => {
                self.answer("/v3/maintenance/status", &StatusRequest {}, Answer::Status).await
            }
            Op::MemberList(request) => {
                self.answer("/v3/cluster/member/list", request, Answer::MemberList).await
            }
            Op::MoveLeader(request) => {
                let path = "/v3/maintenance/transfer-leadership";
                self.answer(path, request, Answer::MoveLeader).await
            }
            _ => return None,
        })
    }

    async fn answer<A: Message + Default>(
        &mut self,
        path: &str,
        request: &impl Message,
        wrap: impl FnOnce(A) -> Answer,
    ) -> Result<Answer> {
        let reply = match self.ask(path, &request.encode_to_vec(), None).await? {
            Ok(reply) => reply,
            Err(Refusal { code, message }) => return Ok(Answer::Error { code, message }),
        };
        let message = read(self.method(path)?.output(), &reply)?;
        Ok(wrap(A::decode(&message.encode_to_vec()[..])?))
    }

    /// Asks `path` for the encoded `request` with the token of who asks; gives the JSON of the
    /// reply, which is sound.
    pub async fn ask(
        &mut self,
        path: &str,
        request: &[u8],
        token: Option<&str>,
    ) -> Result<Result<Value, Refusal>> {
        let method = self.method(path)?;
        let json = self.spell(&method, request)?;
        let headers: Vec<_> = token.map(|token| ("authorization", token)).into_iter().collect();
        let reply = self.client.ask(Method::POST, path, &headers, json.clone()).await?;
        let mut value: Value = serde_json::from_slice(&reply.body)
            .with_context(|| format!("{path} {json}: {}", reply.text()))?;
        if method.is_server_streaming() && reply.status.is_success() {
            value = value["result"].take();
        }
        if !reply.status.is_success() {
            let code = value["code"].as_u64().context("an error has a code")? as u32;
            let expected = coracle_gateway::http_status(code);
            ensure!(reply.status.as_u16() == expected, "{path}: {code} with {}", reply.status);
            let message = value["message"].as_str().unwrap_or_default().to_owned();
            return Ok(Err(Refusal { code: code as i32, message }));
        }
        read(method.output(), &value).with_context(|| format!("{path}: {value}"))?;
        Ok(Ok(value))
    }

    /// A watcher, from `created` to what `is_complete` calls the end.
    pub async fn watch(
        &mut self,
        request: WatchCreateRequest,
        mut is_complete: impl FnMut(&[WatchResponse]) -> bool,
    ) -> Result<Vec<WatchResponse>> {
        const PATH: &str = "/v3/watch";
        let method = self.method(PATH)?;
        let request_union = Some(watch_request::RequestUnion::CreateRequest(request));
        let json = self.spell(&method, &WatchRequest { request_union }.encode_to_vec())?;
        let mut conversation = self.client.post_stream(PATH).await?;
        conversation.say(&json).await?;
        // Go's server begins its answer when it has read the request.
        conversation.end();
        let mut responses = Vec::new();
        while !is_complete(&responses) {
            let line = conversation.line().await.with_context(|| format!("watching {json}"))?;
            let mut line = line.with_context(|| format!("the stream of {json} ended"))?;
            let message = read(method.output(), &line["result"].take())?;
            responses.push(WatchResponse::decode(&message.encode_to_vec()[..])?);
        }
        Ok(responses)
    }

    /// The method that `path` leads to.
    pub fn method(&self, path: &str) -> Result<MethodDescriptor> {
        let method = coracle_gateway::find(path).context("a path of the gateway")?;
        let (service, rpc) = method.rpc()[1..].split_once('/').context("service and method")?;
        let service = self.messages.get_service_by_name(service).context("the service")?;
        service.methods().find(|method| method.name() == rpc).context("the method")
    }

    /// An encoded reply of `path` as the gateway would write it.
    pub fn written(&self, path: &str, reply: &[u8]) -> Result<Value> {
        let message = DynamicMessage::decode(self.method(path)?.output(), reply)?;
        write(&message, &SerializeOptions::new().use_proto_field_name(true))
    }

    /// The request in one of the two spellings that gateways take.
    fn spell(&mut self, method: &MethodDescriptor, request: &[u8]) -> Result<String> {
        self.requests += 1;
        let other = self.requests.is_multiple_of(2);
        let message = DynamicMessage::decode(method.input(), request)?;
        let options = SerializeOptions::new()
            .use_proto_field_name(!other)
            .stringify_64_bit_integers(!other)
            .use_enum_numbers(other)
            .skip_default_fields(true);
        Ok(write(&message, &options)?.to_string())
    }
}

/// The message of a reply, whose JSON must be what the message is written as.
fn read(kind: MessageDescriptor, value: &Value) -> Result<DynamicMessage> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let message = DynamicMessage::deserialize_with_options(kind, value, &options)?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let again = write(&message, &options)?;
    ensure!(again == *value, "{} should be written as {again}", message.descriptor().name());
    Ok(message)
}

fn write(message: &DynamicMessage, options: &SerializeOptions) -> Result<Value> {
    Ok(message.serialize_with_options(serde_json::value::Serializer, options)?)
}
