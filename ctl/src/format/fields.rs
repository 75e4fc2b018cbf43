//! `-w fields`: one `"Name" : value` line per field.

use std::fmt::{Display, Write};

use coracle_core::api::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse,
    response_op,
};
use coracle_core::api::mvccpb::KeyValue;

use super::simple::{alarm_type, event_type};
use super::{Output, Unsupported};
use crate::go::quote;

pub(super) fn render(output: &Output) -> Result<Vec<u8>, Unsupported> {
    let mut out = Fields(String::new());
    match output {
        Output::Put(response) => out.put(response),
        Output::Get(response) => out.get(response),
        Output::Delete(response) => out.delete(response),
        Output::Txn(response) => out.txn(response),
        Output::Watch(response) => {
            out.header(&response.header);
            for event in &response.events {
                out.field("Type", event_type(event.r#type));
                if let Some(prev_kv) = &event.prev_kv {
                    out.key_value("Prev", prev_kv);
                }
                out.key_value("", &event.kv.clone().unwrap_or_default());
            }
        }
        Output::LeaseGrant(response) => {
            out.header(&response.header);
            out.field("ID", response.id);
            out.field("TTL", response.ttl);
        }
        Output::LeaseRevoke(_, response) => out.header(&response.header),
        Output::LeaseKeepAlive(response) => {
            out.header(&response.header);
            out.field("ID", response.id);
            out.field("TTL", response.ttl);
        }
        Output::LeaseTimeToLive(response, _) => {
            out.header(&response.header);
            out.field("ID", response.id);
            out.field("TTL", response.ttl);
            out.field("GrantedTTL", response.granted_ttl);
            for key in &response.keys {
                out.field("Key", quote(key));
            }
        }
        Output::LeaseList(response) => {
            out.header(&response.header);
            for lease in &response.leases {
                out.field("ID", lease.id);
            }
        }
        Output::Alarm(response) => {
            out.header(&response.header);
            for alarm in &response.alarms {
                out.field("MemberID", alarm.member_id);
                out.field("AlarmType", alarm_type(alarm.alarm));
                out.end_of_group();
            }
        }
        Output::AuthChanged { header, .. } => out.header(header),
        Output::RoleList(response) => {
            out.header(&response.header);
            let names = response.roles.iter().map(|name| format!(" {}", quote(name.as_bytes())));
            // Without roles no space follows the colon.
            let _ = writeln!(out.0, "\"Roles\" :{}", names.collect::<String>());
        }
        Output::RoleGet(_, response) => {
            out.header(&response.header);
            for permission in &response.perm {
                // The two spaces are etcdctl's.
                out.field("PermType", format!(" {}", permission.perm_type().as_str_name()));
                out.field("Key", quote(&permission.key));
                out.field("RangeEnd", quote(&permission.range_end));
            }
        }
        _ => out.lists(output)?,
    }
    Ok(out.0.into_bytes())
}

struct Fields(String);

impl Fields {
    fn field(&mut self, name: &str, value: impl Display) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "\"{name}\" : {value}");
    }

    fn end_of_group(&mut self) {
        self.0.push('\n');
    }

    fn header(&mut self, header: &Option<ResponseHeader>) {
        let header = header.unwrap_or_default();
        self.field("ClusterID", header.cluster_id);
        self.field("MemberID", header.member_id);
        self.field("Revision", header.revision);
        self.field("RaftTerm", header.raft_term);
    }

    fn key_value(&mut self, prefix: &str, kv: &KeyValue) {
        self.field(&format!("{prefix}Key"), quote(&kv.key));
        self.field(&format!("{prefix}CreateRevision"), kv.create_revision);
        self.field(&format!("{prefix}ModRevision"), kv.mod_revision);
        self.field(&format!("{prefix}Version"), kv.version);
        self.field(&format!("{prefix}Value"), quote(&kv.value));
        self.field(&format!("{prefix}Lease"), kv.lease);
    }

    fn put(&mut self, response: &PutResponse) {
        self.header(&response.header);
        if let Some(prev_kv) = &response.prev_kv {
            self.key_value("Prev", prev_kv);
        }
    }

    fn get(&mut self, response: &RangeResponse) {
        self.header(&response.header);
        for kv in &response.kvs {
            self.key_value("", kv);
        }
        self.field("More", response.more);
        self.field("Count", response.count);
    }

    fn delete(&mut self, response: &DeleteRangeResponse) {
        self.header(&response.header);
        self.field("Deleted", response.deleted);
        for kv in &response.prev_kvs {
            self.key_value("Prev", kv);
        }
    }

    fn txn(&mut self, response: &TxnResponse) {
        self.header(&response.header);
        self.field("Succeeded", response.succeeded);
        for operation in &response.responses {
            match &operation.response {
                Some(response_op::Response::ResponseRange(response)) => self.get(response),
                Some(response_op::Response::ResponsePut(response)) => self.put(response),
                Some(response_op::Response::ResponseDeleteRange(response)) => {
                    self.delete(response);
                }
                Some(response_op::Response::ResponseTxn(response)) => self.txn(response),
                None => {}
            }
        }
    }

    fn status(&mut self, endpoint: &str, status: &StatusResponse) {
        self.header(&status.header);
        self.field("Version", quote(status.version.as_bytes()));
        self.field("DBSize", status.db_size);
        self.field("Leader", status.leader);
        self.field("IsLearner", status.is_learner);
        self.field("RaftIndex", status.raft_index);
        self.field("RaftTerm", status.raft_term);
        self.field("RaftAppliedIndex", status.raft_applied_index);
        self.field("Errors", format!("[{}]", status.errors.join(" ")));
        self.field("Endpoint", quote(endpoint.as_bytes()));
        self.end_of_group();
    }

    /// The results that are lists of members or endpoints, each a group of fields.
    fn lists(&mut self, output: &Output) -> Result<(), Unsupported> {
        match output {
            Output::MemberList(response) => {
                self.header(&response.header);
                for member in &response.members {
                    self.field("ID", member.id);
                    self.field("Name", quote(member.name.as_bytes()));
                    for url in &member.peer_ur_ls {
                        self.field("PeerURL", quote(url.as_bytes()));
                    }
                    for url in &member.client_ur_ls {
                        self.field("ClientURL", quote(url.as_bytes()));
                    }
                    self.field("IsLearner", member.is_learner);
                    self.end_of_group();
                }
            }
            Output::EndpointHealth(list) => {
                for health in list {
                    self.field("Endpoint", quote(health.endpoint.as_bytes()));
                    self.field("Health", health.is_healthy);
                    self.field("Took", &health.took);
                    self.field("Error", &health.error);
                    self.end_of_group();
                }
            }
            Output::EndpointStatus(list) => {
                for (endpoint, status) in list {
                    self.status(endpoint, status);
                }
            }
            Output::EndpointHashKv(list) => {
                for (endpoint, response) in list {
                    self.header(&response.header);
                    self.field("Endpoint", quote(endpoint.as_bytes()));
                    self.field("Hash", response.hash);
                    self.end_of_group();
                }
            }
            _ => return Err(Unsupported),
        }
        Ok(())
    }
}
