//! What two correct servers may answer differently, made equal; nothing else is.
//!
//! Three kinds: identities (ids, terms, sizes, versions), order that etcd leaves open (sort ties,
//! lists of leases and of keys), and the differences between etcd 3.5.1 and the behaviour that
//! Coracle promises, listed with their reasons in `tests/conformance_differences.md`.

use coracle_core::api::etcdserverpb::*;
use coracle_core::api::mvccpb::KeyValue;

use super::leases::FIRST_NAME;
use super::operation::{Answer, Operation};

/// How a transport refuses a message; its length follows.
const TOO_LARGE: &str = "grpc: received message larger than max (";

/// A lease's remaining time may differ by less than this, in seconds: longer than any sequence.
const TTL_SLACK: i64 = 500;

/// Makes an answer to `operation` comparable.
pub fn normalise(operation: &Operation, answer: &mut Answer) {
    if let Some(header) = answer.header_mut() {
        normalise_header(header);
    }
    match (operation, answer) {
        (Operation::Range(request), Answer::Range(reply)) => order_ties(request, reply),
        (Operation::Txn(request), Answer::Txn(reply)) => normalise_txn(request, reply),
        (_, Answer::LeaseTimeToLive(reply)) => {
            if reply.ttl <= reply.granted_ttl && reply.ttl + TTL_SLACK > reply.granted_ttl {
                reply.ttl = reply.granted_ttl;
            }
            reply.keys.sort();
        }
        (_, Answer::LeaseLeases(reply)) => reply.leases.sort_by_key(|lease| lease.id),
        (_, Answer::HashKv(reply)) => {
            // Compared apart (see `Coverage::hashes`); the revision is in the reply since 3.6.
            reply.hash = 0;
            reply.hash_revision = 0;
        }
        (_, Answer::Status(reply)) => normalise_status(reply),
        (_, Answer::MemberList(reply)) => normalise_members(&mut reply.members),
        (_, Answer::MemberAdd(reply)) => normalise_members(&mut reply.members),
        (_, Answer::MemberRemove(reply)) => normalise_members(&mut reply.members),
        (_, Answer::MemberUpdate(reply)) => normalise_members(&mut reply.members),
        (_, Answer::MemberPromote(reply)) => normalise_members(&mut reply.members),
        (_, Answer::Alarm(reply)) => {
            for alarm in &mut reply.alarms {
                alarm.member_id = alarm.member_id.min(1);
            }
        }
        // The length of the request counts the lease's identifier, which each server chose.
        (Operation::Put(request), Answer::Error { message, .. })
            if request.lease >= FIRST_NAME && message.starts_with(TOO_LARGE) =>
        {
            let limit = message.split_once(" vs. ").map_or("", |(_, limit)| limit).to_owned();
            *message = format!("{TOO_LARGE}0 vs. {limit}");
        }
        (_, Answer::Settled(received)) => {
            for canceled in received.iter_mut().filter_map(|one| one.canceled.as_mut()) {
                canceled.header.as_mut().into_iter().for_each(normalise_header);
            }
        }
        _ => {}
    }
}

/// Keeps whether an identity is there.
fn normalise_header(header: &mut ResponseHeader) {
    header.cluster_id = header.cluster_id.min(1);
    header.member_id = header.member_id.min(1);
    header.raft_term = header.raft_term.min(1);
}

fn normalise_status(status: &mut StatusResponse) {
    status.version = String::new();
    status.db_size = status.db_size.min(1);
    status.db_size_in_use = status.db_size_in_use.min(1);
    status.leader = status.leader.min(1);
    status.raft_index = status.raft_index.min(1);
    status.raft_term = status.raft_term.min(1);
    status.raft_applied_index = status.raft_applied_index.min(1);
    // In the reply since 3.6.
    status.storage_version = String::new();
    status.db_size_quota = 0;
    status.downgrade_info = None;
}

fn normalise_members(members: &mut [Member]) {
    for member in members {
        member.id = member.id.min(1);
        for url in member.peer_ur_ls.iter_mut().chain(&mut member.client_ur_ls) {
            *url = String::new();
        }
    }
}

fn normalise_txn(request: &TxnRequest, reply: &mut TxnResponse) {
    let branch = if reply.succeeded { &request.success } else { &request.failure };
    for (operation, response) in branch.iter().zip(&mut reply.responses) {
        match (&operation.request, &mut response.response) {
            (
                Some(request_op::Request::RequestRange(request)),
                Some(response_op::Response::ResponseRange(reply)),
            ) => order_ties(request, reply),
            (
                Some(request_op::Request::RequestTxn(request)),
                Some(response_op::Response::ResponseTxn(reply)),
            ) => normalise_txn(request, reply),
            _ => {}
        }
    }
}

/// etcd sorts with an unstable algorithm: keys that compare alike come in any order, and a limit
/// may cut anywhere among them. Puts them in key order, and removes those a limit cuts through.
fn order_ties(request: &RangeRequest, reply: &mut RangeResponse) {
    let target = request.sort_target();
    if target == range_request::SortTarget::Key {
        return;
    }
    if target == range_request::SortTarget::Value && request.keys_only {
        // The values by which they were sorted are not in the reply.
        reply.kvs.sort_by(|one, other| one.key.cmp(&other.key));
        if reply.more {
            reply.kvs.clear();
        }
        return;
    }
    if reply.more
        && let Some(last) = reply.kvs.last().cloned()
    {
        reply.kvs.retain(|kv| !same_rank(target, kv, &last));
    }
    for tied in reply.kvs.chunk_by_mut(|one, other| same_rank(target, one, other)) {
        tied.sort_by(|one, other| one.key.cmp(&other.key));
    }
}

fn same_rank(target: range_request::SortTarget, one: &KeyValue, other: &KeyValue) -> bool {
    match target {
        range_request::SortTarget::Key => one.key == other.key,
        range_request::SortTarget::Version => one.version == other.version,
        range_request::SortTarget::Create => one.create_revision == other.create_revision,
        range_request::SortTarget::Mod => one.mod_revision == other.mod_revision,
        range_request::SortTarget::Value => one.value == other.value,
    }
}
