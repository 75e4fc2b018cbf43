//! gRPC calls by path, with messages as bytes: what a table of calls needs, and what no generated
//! client would send.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::{Buf, BufMut, Bytes};
use coracle_core::api::etcdserverpb::StatusRequest;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use crate::grpc::MaintenanceClient;

/// How long one call may take.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// A codec that leaves bytes as they are.
#[derive(Clone, Copy, Default)]
struct Plain;

impl Codec for Plain {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Plain;
    type Decoder = Plain;

    fn encoder(&mut self) -> Plain {
        Plain
    }

    fn decoder(&mut self) -> Plain {
        Plain
    }
}

impl Encoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A connection to one member.
#[derive(Clone)]
pub struct RawClient {
    channel: Channel,
}

impl RawClient {
    /// Connects to the member at `endpoint`.
    pub async fn connect(endpoint: String) -> Result<RawClient> {
        let endpoint = Endpoint::from_shared(endpoint)?.timeout(CALL_DEADLINE);
        Ok(RawClient { channel: endpoint.connect().await.context("connecting to a member")? })
    }

    /// The connection, for generated clients.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// Calls `path` (`/service/method`) with one message; gives the first of the answer.
    pub async fn call(&self, path: &str, message: Bytes) -> Result<Bytes, Status> {
        self.call_with(path, message, MetadataMap::new()).await
    }

    /// As [`RawClient::call`], with metadata.
    pub async fn call_with(
        &self,
        path: &str,
        message: Bytes,
        metadata: MetadataMap,
    ) -> Result<Bytes, Status> {
        let mut answers = self.stream(path, vec![message], metadata).await?;
        let first = answers.message().await?;
        first.ok_or_else(|| Status::unknown("the answer has no message"))
    }

    /// Opens `path` with `messages`; the client's side stays open until the answers are dropped.
    pub async fn stream(
        &self,
        path: &str,
        messages: Vec<Bytes>,
        metadata: MetadataMap,
    ) -> Result<Streaming<Bytes>, Status> {
        let mut client = Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let path = PathAndQuery::try_from(path).map_err(|e| Status::internal(e.to_string()))?;
        let mut request = Request::new(tokio_stream::iter(messages));
        *request.metadata_mut() = metadata;
        client.streaming(request, path, Plain).await.map(tonic::Response::into_inner)
    }

    /// Calls `path` with `request` and expects an error: its code and text.
    pub async fn refusal(&self, path: &str, request: &impl Message) -> (Code, String) {
        let answer = self.call(path, request.encode_to_vec().into()).await;
        match answer {
            Err(status) => (status.code(), status.message().to_owned()),
            Ok(answer) => (Code::Ok, format!("an answer of {} bytes", answer.len())),
        }
    }
}

/// Metadata of one entry, whose value may be any bytes that HTTP/2 carries.
pub fn metadata(name: &'static str, value: &[u8]) -> Result<MetadataMap> {
    use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue};
    let mut headers = HeaderMap::new();
    headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value)?);
    Ok(MetadataMap::from_headers(headers))
}

/// Which of the members leads: the index of its client.
///
/// # Errors
/// If one does not answer, or none says that it leads.
pub async fn leader_of(members: &[RawClient]) -> Result<usize> {
    for (index, member) in members.iter().enumerate() {
        let mut maintenance = MaintenanceClient::new(member.channel());
        let status = maintenance.status(StatusRequest {}).await?.into_inner();
        if status.leader == status.header.context("a header")?.member_id {
            return Ok(index);
        }
    }
    bail!("none of the members says that it leads")
}
