//! What is sent to both servers, and what comes back.

use bytes::Bytes;
use coracle_core::api::etcdserverpb::*;
use coracle_core::api::mvccpb::Event;

use super::auth::Ask;
use crate::cli::{Line, Program};

/// One step of a sequence. Leases in it have names valid on both servers (see
/// [`super::leases`]); watch streams are numbered, and [`Operation::Settle`] waits for them.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    LeaseKeepAlive(LeaseKeepAliveRequest),
    LeaseTimeToLive(LeaseTimeToLiveRequest),
    LeaseLeases,
    HashKv(HashKvRequest),
    Status,
    Defragment,
    MemberList(MemberListRequest),
    /// URLs equal to [`OWN_PEER_URL`] become the server's own.
    MemberAdd(MemberAddRequest),
    MemberRemove(MemberRemoveRequest),
    MemberUpdate(MemberUpdateRequest),
    MemberPromote(MemberPromoteRequest),
    MoveLeader(MoveLeaderRequest),
    /// An alarm of the server's own member.
    Alarm {
        action: alarm_request::AlarmAction,
        alarm: AlarmType,
    },
    WatchCreate {
        stream: usize,
        request: WatchCreateRequest,
    },
    WatchCancel {
        stream: usize,
        watch_id: i64,
    },
    WatchProgress {
        stream: usize,
    },
    /// Ends the stream with all its watchers and opens a new one.
    WatchReset {
        stream: usize,
    },
    /// Reads the key until it is gone, and answers the last read: for leases that expire.
    AwaitAbsence(Bytes),
    /// Waits until every watcher has received every event due to it, and compares them.
    Settle,
    /// A watcher of the past, in JSON: only when everything has settled.
    WatchInJson(WatchCreateRequest),
    /// A command line, given to the one server by the first program and to the other by the second;
    /// it asks for what `says` asks for.
    Line {
        line: Line,
        programs: [Program; 2],
        says: Box<Operation>,
    },
    /// What somebody asks of a server where users and roles hold.
    Ask {
        asker: String,
        ask: Ask,
    },
}

/// Stands for the peer URL of the server that a request goes to.
pub const OWN_PEER_URL: &str = "own-peer-url";

/// A reply, as comparable as the message allows.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Range(RangeResponse),
    Put(PutResponse),
    DeleteRange(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeResponse),
    LeaseKeepAlive(LeaseKeepAliveResponse),
    LeaseTimeToLive(LeaseTimeToLiveResponse),
    LeaseLeases(LeaseLeasesResponse),
    HashKv(HashKvResponse),
    Status(StatusResponse),
    Defragment(DefragmentResponse),
    MemberList(MemberListResponse),
    MemberAdd(MemberAddResponse),
    MemberRemove(MemberRemoveResponse),
    MemberUpdate(MemberUpdateResponse),
    MemberPromote(MemberPromoteResponse),
    MoveLeader(MoveLeaderResponse),
    Alarm(AlarmResponse),
    /// `created` of a watch, or `canceled` of one that was asked to end.
    Watch(WatchResponse),
    /// The revision that a progress reply announces.
    Progress(i64),
    /// A step that has no reply.
    Done,
    /// What each watcher received since the last settling, by stream and watch id.
    Settled(Vec<Received>),
    /// What a command printed, masked; its exit code is last.
    Printed(Vec<String>),
    /// A reply to [`Operation::Ask`], as JSON without what differs between servers.
    Told(String),
    Error {
        code: i32,
        message: String,
    },
}

/// The harvest of one watcher, batches flattened.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    pub stream: usize,
    pub watch_id: i64,
    pub events: Vec<Event>,
    pub canceled: Option<WatchResponse>,
}

impl Answer {
    /// The reply's header, if this kind has one and it was sent.
    pub fn header_mut(&mut self) -> Option<&mut ResponseHeader> {
        match self {
            Answer::Range(reply) => reply.header.as_mut(),
            Answer::Put(reply) => reply.header.as_mut(),
            Answer::DeleteRange(reply) => reply.header.as_mut(),
            Answer::Txn(reply) => reply.header.as_mut(),
            Answer::Compact(reply) => reply.header.as_mut(),
            Answer::LeaseGrant(reply) => reply.header.as_mut(),
            Answer::LeaseRevoke(reply) => reply.header.as_mut(),
            Answer::LeaseKeepAlive(reply) => reply.header.as_mut(),
            Answer::LeaseTimeToLive(reply) => reply.header.as_mut(),
            Answer::LeaseLeases(reply) => reply.header.as_mut(),
            Answer::HashKv(reply) => reply.header.as_mut(),
            Answer::Status(reply) => reply.header.as_mut(),
            Answer::Defragment(reply) => reply.header.as_mut(),
            Answer::MemberList(reply) => reply.header.as_mut(),
            Answer::MemberAdd(reply) => reply.header.as_mut(),
            Answer::MemberRemove(reply) => reply.header.as_mut(),
            Answer::MemberUpdate(reply) => reply.header.as_mut(),
            Answer::MemberPromote(reply) => reply.header.as_mut(),
            Answer::MoveLeader(reply) => reply.header.as_mut(),
            Answer::Alarm(reply) => reply.header.as_mut(),
            Answer::Watch(reply) => reply.header.as_mut(),
            Answer::Progress(_)
            | Answer::Done
            | Answer::Settled(_)
            | Answer::Printed(_)
            | Answer::Told(_)
            | Answer::Error { .. } => None,
        }
    }

    /// Whether the operation succeeded.
    pub fn is_ok(&self) -> bool {
        match self {
            Answer::Error { .. } => false,
            Answer::Watch(reply) => !(reply.created && reply.canceled),
            Answer::Printed(lines) => lines.last().is_some_and(|line| line == "exit 0"),
            _ => true,
        }
    }
}
