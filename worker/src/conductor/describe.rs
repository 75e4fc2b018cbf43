//! Messages in words: the kind, and the fields that a learner compares.

use bytes::Bytes;
use coracle_core::api::coraclepb as pb;
use coracle_core::api::coraclepb::peer_request::Request;
use coracle_core::api::coraclepb::peer_response::Response;
use prost::Message as _;

use crate::protocol::{Body, Message, MessageKind};

/// Collects the fields of one message.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn add(mut self, name: &str, value: impl ToString) -> Fields {
        self.0.push((name.to_owned(), value.to_string()));
        self
    }

    fn vote(self, name: &str, vote: Option<&pb::Vote>) -> Fields {
        match vote {
            Some(vote) => self.add(name, vote.term),
            None => self,
        }
    }

    fn log_id(self, name: &str, id: Option<&pb::LogId>) -> Fields {
        match id {
            Some(id) => self.add(name, format!("{} (term {})", id.index, id.term)),
            None => self.add(name, "none"),
        }
    }
}

/// A copy to decode, of the type that nodes decode: the code for another one would be as large.
fn bytes(data: &[u8]) -> Bytes {
    Bytes::copy_from_slice(data)
}

/// What `body` says. `asked` is the kind of the request that an answer belongs to.
pub(super) fn describe(body: &Body, asked: Option<MessageKind>) -> Message {
    match body {
        Body::PeerRequest { data, .. } => match pb::PeerRequest::decode(bytes(data)) {
            Ok(pb::PeerRequest { request: Some(request), .. }) => describe_request(&request),
            _ => message(MessageKind::Other, false, Fields(Vec::new())),
        },
        Body::PeerAnswer { data, .. } => match pb::PeerResponse::decode(bytes(data)) {
            Ok(pb::PeerResponse { response: Some(response) }) => describe_answer(&response, asked),
            _ => message(MessageKind::Other, true, Fields(Vec::new())),
        },
        other => describe_rpc(other),
    }
}

fn message(kind: MessageKind, answer: bool, fields: Fields) -> Message {
    Message { kind, answer, fields: fields.0 }
}

fn describe_request(request: &Request) -> Message {
    let fields = Fields(Vec::new());
    let (kind, fields) = match request {
        Request::AppendEntries(append) => {
            let kind = match append.entries.is_empty() {
                true => MessageKind::Heartbeat,
                false => MessageKind::Append,
            };
            let fields = fields
                .vote("term", append.vote.as_ref())
                .log_id("previous entry", append.prev_log_id.as_ref())
                .add("entries", append.entries.len())
                .log_id("leader commit", append.leader_commit.as_ref())
                .add("quorum silent for (ms)", append.quorum_silence_millis);
            (kind, fields)
        }
        Request::Vote(vote) => (
            MessageKind::Vote,
            fields
                .vote("term", vote.vote.as_ref())
                .log_id("last entry", vote.last_log_id.as_ref())
                .add("leadership transfer", vote.leadership_transfer),
        ),
        Request::PreVote(vote) => (
            MessageKind::PreVote,
            fields.vote("term", vote.vote.as_ref()).log_id("last entry", vote.last_log_id.as_ref()),
        ),
        Request::Snapshot(chunk) => (
            MessageKind::Snapshot,
            fields
                .vote("term", chunk.vote.as_ref())
                .log_id("up to entry", chunk.last_log_id.as_ref())
                .add("offset", chunk.offset)
                .add("bytes", chunk.data.len())
                .add("last chunk", chunk.done),
        ),
        Request::TransferLeader(transfer) => {
            (MessageKind::TransferLeader, fields.vote("term", transfer.from.as_ref()))
        }
        Request::Propose(propose) => {
            (MessageKind::Propose, fields.add("commands", propose.commands.len()))
        }
        Request::ReadIndex(_) => (MessageKind::ReadIndex, fields),
        Request::LeaseKeepAlive(lease) => {
            (MessageKind::Other, fields.add("keep lease alive", format!("{:x}", lease.id)))
        }
        Request::LeaseTimeToLive(lease) => {
            (MessageKind::Other, fields.add("time to live of lease", format!("{:x}", lease.id)))
        }
        Request::Members(_) => (MessageKind::Other, fields.add("asks for", "the members")),
        Request::HashKv(_) => (MessageKind::Other, fields.add("asks for", "a hash")),
        Request::MoveLeader(_) => (MessageKind::Other, fields.add("asks for", "another leader")),
    };
    message(kind, false, fields)
}

fn describe_answer(response: &Response, asked: Option<MessageKind>) -> Message {
    let fields = Fields(Vec::new());
    let (kind, fields) = match response {
        Response::AppendEntries(answer) => {
            let fields = fields.add("result", answer.kind().as_str_name().to_ascii_lowercase());
            let fields = match &answer.matching {
                Some(id) => fields.log_id("matching", Some(id)),
                None => fields,
            };
            (asked.unwrap_or(MessageKind::Append), fields.vote("term", answer.vote.as_ref()))
        }
        Response::Vote(answer) => (
            MessageKind::Vote,
            fields.add("granted", answer.granted).vote("term", answer.vote.as_ref()),
        ),
        Response::PreVote(answer) => (
            MessageKind::PreVote,
            fields.add("granted", answer.granted).vote("term", answer.vote.as_ref()),
        ),
        Response::Snapshot(answer) => {
            (MessageKind::Snapshot, fields.vote("term", answer.vote.as_ref()))
        }
        Response::TransferLeader(_) => (MessageKind::TransferLeader, fields),
        Response::Propose(answer) => {
            (MessageKind::Propose, fields.add("accepted", answer.results.len()))
        }
        Response::ReadIndex(answer) => (MessageKind::ReadIndex, fields.add("index", answer.index)),
        Response::Error(status) => {
            (asked.unwrap_or(MessageKind::Other), fields.add("error", &status.message))
        }
        _ => (MessageKind::Other, fields),
    };
    message(kind, true, fields)
}

fn describe_rpc(body: &Body) -> Message {
    let fields = Fields(Vec::new());
    let (answer, fields) = match body {
        Body::Rpc { method, data, .. } => {
            (false, fields.add("call", method.name()).add("bytes", data.len()))
        }
        Body::RpcRequest { data, .. } => (false, fields.add("bytes", data.len())),
        Body::RpcHalfClose { .. } => (false, fields.add("says", "no more requests")),
        Body::RpcCancel { .. } => (false, fields.add("says", "canceled")),
        Body::RpcReply { data, .. } => (true, fields.add("bytes", data.len())),
        Body::RpcEnd { error: Some((_, text)), .. } => (true, fields.add("error", text)),
        _ => (true, fields.add("says", "done")),
    };
    message(MessageKind::Client, answer, fields)
}

/// Whether `body` grants a vote.
pub(super) fn grants_vote(body: &Body) -> bool {
    let Body::PeerAnswer { data, .. } = body else { return false };
    let answer = pb::PeerResponse::decode(bytes(data)).ok().and_then(|answer| answer.response);
    matches!(answer, Some(Response::Vote(answer)) if answer.granted)
}
