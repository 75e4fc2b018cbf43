//! Names for leases that mean the same on both servers.
//!
//! A lease whose id the server picks has another id on each server. The sequence calls it by a
//! name of its own ([`FIRST_NAME`] and up); requests are translated to a server's id before they
//! are sent, answers back to the name before they are compared.

use std::collections::BTreeMap;

use coracle_core::api::etcdserverpb::*;
use coracle_core::api::mvccpb::{Event, KeyValue};

use super::operation::{Answer, Operation};

/// The first name given to a lease of the server's choice. Above every id that the generator
/// picks itself, as the servers' ids are, so that lease compares come out alike.
pub const FIRST_NAME: i64 = 0x0100_0000_0000_0000;

/// The translation for one server.
#[derive(Default)]
pub struct LeaseNames {
    id_of: BTreeMap<i64, i64>,
    name_of: BTreeMap<i64, i64>,
}

impl LeaseNames {
    /// The server chose `id` for the lease called `name`.
    pub fn learn(&mut self, name: i64, id: i64) {
        self.id_of.insert(name, id);
        self.name_of.insert(id, name);
    }

    /// Turns names into this server's ids.
    pub fn to_server(&self, operation: &mut Operation) {
        let mut translate = |lease: &mut i64| {
            if let Some(id) = self.id_of.get(lease) {
                *lease = *id;
            }
        };
        match operation {
            Operation::Put(request) => translate(&mut request.lease),
            Operation::Txn(request) => leases_of_txn(request, &mut translate),
            Operation::LeaseGrant(request) => translate(&mut request.id),
            Operation::LeaseRevoke(request) => translate(&mut request.id),
            Operation::LeaseKeepAlive(request) => translate(&mut request.id),
            Operation::LeaseTimeToLive(request) => translate(&mut request.id),
            _ => {}
        }
    }

    /// Turns this server's ids into names.
    pub fn from_server(&self, answer: &mut Answer) {
        let mut translate = |lease: &mut i64| {
            if let Some(name) = self.name_of.get(lease) {
                *lease = *name;
            }
        };
        match answer {
            Answer::Range(reply) => leases_of_kvs(&mut reply.kvs, &mut translate),
            Answer::Put(reply) => leases_of_kvs(&mut reply.prev_kv, &mut translate),
            Answer::DeleteRange(reply) => leases_of_kvs(&mut reply.prev_kvs, &mut translate),
            Answer::Txn(reply) => leases_of_txn_reply(reply, &mut translate),
            Answer::LeaseGrant(reply) => translate(&mut reply.id),
            Answer::LeaseKeepAlive(reply) => translate(&mut reply.id),
            Answer::LeaseTimeToLive(reply) => translate(&mut reply.id),
            Answer::LeaseLeases(reply) => {
                for lease in &mut reply.leases {
                    translate(&mut lease.id);
                }
            }
            Answer::Told(text) if text.contains("\"lease\":") => {
                for (id, name) in &self.name_of {
                    *text = text.replace(&format!("\"{id}\""), &format!("\"{name}\""));
                }
            }
            Answer::Settled(received) => {
                for event in received.iter_mut().flat_map(|one| &mut one.events) {
                    leases_of_event(event, &mut translate);
                }
            }
            _ => {}
        }
    }
}

fn leases_of_txn(request: &mut TxnRequest, translate: &mut impl FnMut(&mut i64)) {
    for compare in &mut request.compare {
        if let Some(compare::TargetUnion::Lease(lease)) = &mut compare.target_union {
            translate(lease);
        }
    }
    for operation in request.success.iter_mut().chain(&mut request.failure) {
        match &mut operation.request {
            Some(request_op::Request::RequestPut(put)) => translate(&mut put.lease),
            Some(request_op::Request::RequestTxn(txn)) => leases_of_txn(txn, translate),
            _ => {}
        }
    }
}

fn leases_of_txn_reply(reply: &mut TxnResponse, translate: &mut impl FnMut(&mut i64)) {
    for response in &mut reply.responses {
        match &mut response.response {
            Some(response_op::Response::ResponseRange(range)) => {
                leases_of_kvs(&mut range.kvs, translate);
            }
            Some(response_op::Response::ResponsePut(put)) => {
                leases_of_kvs(&mut put.prev_kv, translate);
            }
            Some(response_op::Response::ResponseDeleteRange(delete)) => {
                leases_of_kvs(&mut delete.prev_kvs, translate);
            }
            Some(response_op::Response::ResponseTxn(txn)) => leases_of_txn_reply(txn, translate),
            None => {}
        }
    }
}

fn leases_of_event(event: &mut Event, translate: &mut impl FnMut(&mut i64)) {
    leases_of_kvs(&mut event.kv, translate);
    leases_of_kvs(&mut event.prev_kv, translate);
}

fn leases_of_kvs<'a>(
    kvs: impl IntoIterator<Item = &'a mut KeyValue>,
    translate: &mut impl FnMut(&mut i64),
) {
    for kv in kvs {
        translate(&mut kv.lease);
    }
}
