//! `-w json`: one line, as Go's `encoding/json` writes the structs of the Go client.
//!
//! The fields stand in the order of the structs. Most vanish when they are zero (`omitempty`);
//! those of the client's own structs (a lease, a watch response) do not. Numbers are not quoted,
//! enumerations are numbers, bytes are base64, and `<`, `>`, `&` in texts are escaped.
//!
//! `--hex` reaches JSON only in `member list`, where the IDs become hexadecimal texts and a member
//! shows its name and URLs even if it has none. The key `clientURLS` there is etcdctl's.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use coracle_core::api::authpb::Permission;
use coracle_core::api::etcdserverpb::{
    AlarmMember, DeleteRangeResponse, LeaseTimeToLiveResponse, Member, MemberListResponse,
    PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
    response_op,
};
use coracle_core::api::mvccpb::{Event, KeyValue};

use super::{EndpointHealth, Output, Style};

pub(super) fn render(output: &Output, style: Style) -> Vec<u8> {
    let mut out = Vec::new();
    match output {
        Output::EndpointHealth(list) => array(&mut out, list, health),
        Output::EndpointStatus(list) => array(&mut out, list, |out, (endpoint, response)| {
            object(out, |o| {
                o.text("Endpoint", endpoint);
                o.nested("Status", |o| status(o, response));
            });
        }),
        Output::EndpointHashKv(list) => array(&mut out, list, |out, (endpoint, response)| {
            object(out, |o| {
                o.text("Endpoint", endpoint);
                o.nested("HashKV", |o| {
                    o.header(&response.header);
                    o.nonzero("hash", response.hash);
                    o.nonzero("compact_revision", response.compact_revision);
                    o.nonzero("hash_revision", response.hash_revision);
                });
            });
        }),
        _ => object(&mut out, |o| reply(o, output, style)),
    }
    out.push(b'\n');
    out
}

/// The results that are one reply.
fn reply(o: &mut Object, output: &Output, style: Style) {
    match output {
        Output::Put(response) => put(o, response),
        Output::Get(response) => get(o, response),
        Output::Delete(response) => delete(o, response),
        Output::Txn(response) => txn(o, response),
        Output::Watch(response) => watch(o, response),
        Output::LeaseGrant(response) => {
            header_fields(o, &response.header.unwrap_or_default());
            o.number("ID", response.id);
            o.number("TTL", response.ttl);
            o.text("Error", &response.error);
        }
        Output::LeaseRevoke(_, response) => o.header(&response.header),
        Output::LeaseKeepAlive(response) => {
            header_fields(o, &response.header.unwrap_or_default());
            o.number("ID", response.id);
            o.number("TTL", response.ttl);
        }
        Output::LeaseTimeToLive(response, _) => time_to_live(o, response),
        Output::LeaseList(response) => {
            header_fields(o, &response.header.unwrap_or_default());
            o.array("leases", &response.leases, |out, lease| {
                object(out, |o| o.number("id", lease.id));
            });
        }
        Output::MemberList(response) if style.hex => member_list_hex(o, response),
        Output::MemberList(response) => members(o, &response.header, &response.members),
        Output::MemberAdd(response) => {
            o.header(&response.header);
            if let Some(added) = &response.member {
                o.nested("member", |o| member(o, added));
            }
            o.nonempty("members", &response.members, |out, each| {
                object(out, |o| member(o, each));
            });
        }
        Output::MemberRemove(_, response) => members(o, &response.header, &response.members),
        Output::MemberUpdate(_, response) => members(o, &response.header, &response.members),
        Output::MemberPromote(_, response) => members(o, &response.header, &response.members),
        Output::Alarm(response) => {
            o.header(&response.header);
            o.nonempty("alarms", &response.alarms, |out, each| object(out, |o| alarm(o, each)));
        }
        Output::MoveLeader { response, .. } => o.header(&response.header),
        Output::Downgrade(_, response) => {
            o.header(&response.header);
            if !response.version.is_empty() {
                o.text("version", &response.version);
            }
        }
        Output::AuthChanged { header, .. } => o.header(header),
        Output::AuthStatus(response) => {
            o.header(&response.header);
            o.flag("enabled", response.enabled);
            o.nonzero("authRevision", response.auth_revision);
        }
        Output::UserGet(_, response) => names(o, &response.header, "roles", &response.roles),
        Output::UserList(response) => names(o, &response.header, "users", &response.users),
        Output::RoleList(response) => names(o, &response.header, "roles", &response.roles),
        Output::RoleGet(_, response) => {
            o.header(&response.header);
            o.nonempty("perm", &response.perm, |out, each| object(out, |o| permission(o, each)));
        }
        // Lists, which `render` takes.
        Output::EndpointHealth(_) | Output::EndpointStatus(_) | Output::EndpointHashKv(_) => {}
    }
}

fn names(o: &mut Object, header: &Option<ResponseHeader>, name: &str, names: &[String]) {
    o.header(header);
    o.nonempty(name, names, |out, each| text(out, each));
}

fn permission(o: &mut Object, permission: &Permission) {
    o.nonzero("permType", permission.perm_type);
    o.bytes("key", &permission.key);
    o.bytes("range_end", &permission.range_end);
}

fn header_fields(o: &mut Object, header: &ResponseHeader) {
    o.nonzero("cluster_id", header.cluster_id);
    o.nonzero("member_id", header.member_id);
    o.nonzero("revision", header.revision);
    o.nonzero("raft_term", header.raft_term);
}

fn key_value(o: &mut Object, kv: &KeyValue) {
    o.bytes("key", &kv.key);
    o.nonzero("create_revision", kv.create_revision);
    o.nonzero("mod_revision", kv.mod_revision);
    o.nonzero("version", kv.version);
    o.bytes("value", &kv.value);
    o.nonzero("lease", kv.lease);
}

fn put(o: &mut Object, response: &PutResponse) {
    o.header(&response.header);
    if let Some(prev_kv) = &response.prev_kv {
        o.nested("prev_kv", |o| key_value(o, prev_kv));
    }
}

fn get(o: &mut Object, response: &RangeResponse) {
    o.header(&response.header);
    o.nonempty("kvs", &response.kvs, |out, kv| object(out, |o| key_value(o, kv)));
    o.flag("more", response.more);
    o.nonzero("count", response.count);
}

fn delete(o: &mut Object, response: &DeleteRangeResponse) {
    o.header(&response.header);
    o.nonzero("deleted", response.deleted);
    o.nonempty("prev_kvs", &response.prev_kvs, |out, kv| object(out, |o| key_value(o, kv)));
}

fn txn(o: &mut Object, response: &TxnResponse) {
    o.header(&response.header);
    o.flag("succeeded", response.succeeded);
    o.nonempty("responses", &response.responses, |out, operation| {
        object(out, |o| {
            o.nested("Response", |o| match &operation.response {
                Some(response_op::Response::ResponseRange(response)) => {
                    o.nested("response_range", |o| get(o, response));
                }
                Some(response_op::Response::ResponsePut(response)) => {
                    o.nested("response_put", |o| put(o, response));
                }
                Some(response_op::Response::ResponseDeleteRange(response)) => {
                    o.nested("response_delete_range", |o| delete(o, response));
                }
                Some(response_op::Response::ResponseTxn(response)) => {
                    o.nested("response_txn", |o| txn(o, response));
                }
                None => {}
            });
        });
    });
}

fn watch(o: &mut Object, response: &WatchResponse) {
    o.nested("Header", |o| header_fields(o, &response.header.unwrap_or_default()));
    o.array("Events", &response.events, |out, each| object(out, |o| event(o, each)));
    o.number("CompactRevision", response.compact_revision);
    o.boolean("Canceled", response.canceled);
    o.boolean("Created", response.created);
}

fn event(o: &mut Object, event: &Event) {
    o.nonzero("type", event.r#type);
    if let Some(kv) = &event.kv {
        o.nested("kv", |o| key_value(o, kv));
    }
    if let Some(prev_kv) = &event.prev_kv {
        o.nested("prev_kv", |o| key_value(o, prev_kv));
    }
}

fn time_to_live(o: &mut Object, response: &LeaseTimeToLiveResponse) {
    header_fields(o, &response.header.unwrap_or_default());
    o.number("id", response.id);
    o.number("ttl", response.ttl);
    o.number("granted-ttl", response.granted_ttl);
    if response.keys.is_empty() {
        o.name("keys");
        o.out.extend_from_slice(b"null");
    } else {
        o.array("keys", &response.keys, |out, key| base64_text(out, key));
    }
}

fn members(o: &mut Object, header: &Option<ResponseHeader>, members: &[Member]) {
    o.header(header);
    o.nonempty("members", members, |out, each| object(out, |o| member(o, each)));
}

fn member(o: &mut Object, member: &Member) {
    o.nonzero("ID", member.id);
    o.nonempty_text("name", &member.name);
    o.nonempty("peerURLs", &member.peer_ur_ls, |out, url| text(out, url));
    o.nonempty("clientURLs", &member.client_ur_ls, |out, url| text(out, url));
    o.flag("isLearner", member.is_learner);
}

fn member_list_hex(o: &mut Object, response: &MemberListResponse) {
    let header = response.header.unwrap_or_default();
    o.nested("header", |o| {
        o.text("cluster_id", &format!("{:x}", header.cluster_id));
        o.text("member_id", &format!("{:x}", header.member_id));
        o.number("raft_term", header.raft_term);
    });
    o.nonempty("members", &response.members, |out, member| {
        object(out, |o| {
            o.text("ID", &format!("{:x}", member.id));
            o.text("name", &member.name);
            for (name, urls) in
                [("peerURLs", &member.peer_ur_ls), ("clientURLS", &member.client_ur_ls)]
            {
                if urls.is_empty() {
                    o.name(name);
                    o.out.extend_from_slice(b"null");
                } else {
                    o.array(name, urls, |out, url| text(out, url));
                }
            }
        });
    });
}

fn alarm(o: &mut Object, alarm: &AlarmMember) {
    o.nonzero("memberID", alarm.member_id);
    o.nonzero("alarm", alarm.alarm);
}

fn health(out: &mut Vec<u8>, health: &EndpointHealth) {
    object(out, |o| {
        o.text("endpoint", &health.endpoint);
        o.boolean("health", health.is_healthy);
        o.text("took", &health.took);
        o.nonempty_text("error", &health.error);
    });
}

fn status(o: &mut Object, status: &StatusResponse) {
    o.header(&status.header);
    o.nonempty_text("version", &status.version);
    o.nonzero("dbSize", status.db_size);
    o.nonzero("leader", status.leader);
    o.nonzero("raftIndex", status.raft_index);
    o.nonzero("raftTerm", status.raft_term);
    o.nonzero("raftAppliedIndex", status.raft_applied_index);
    o.nonempty("errors", &status.errors, |out, error| text(out, error));
    o.nonzero("dbSizeInUse", status.db_size_in_use);
    o.flag("isLearner", status.is_learner);
    o.nonempty_text("storageVersion", &status.storage_version);
    o.nonzero("dbSizeQuota", status.db_size_quota);
    if let Some(info) = &status.downgrade_info {
        o.nested("downgradeInfo", |o| {
            o.flag("enabled", info.enabled);
            o.nonempty_text("targetVersion", &info.target_version);
        });
    }
}

/// An object being written: puts the commas between its fields.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl Object<'_> {
    fn name(&mut self, name: &str) {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        text(self.out, name);
        self.out.push(b':');
    }

    fn number(&mut self, name: &str, value: impl Into<i128>) {
        self.name(name);
        // Writing to a buffer cannot fail.
        let _ = write!(self.out, "{}", value.into());
    }

    fn nonzero(&mut self, name: &str, value: impl Into<i128>) {
        let value = value.into();
        if value != 0 {
            self.number(name, value);
        }
    }

    fn boolean(&mut self, name: &str, value: bool) {
        self.name(name);
        let _ = write!(self.out, "{value}");
    }

    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.boolean(name, value);
        }
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        text(self.out, value);
    }

    fn nonempty_text(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.text(name, value);
        }
    }

    fn bytes(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.name(name);
            base64_text(self.out, value);
        }
    }

    fn nested(&mut self, name: &str, fields: impl FnOnce(&mut Object)) {
        self.name(name);
        object(self.out, fields);
    }

    fn array<T>(&mut self, name: &str, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
        self.name(name);
        array(self.out, items, write);
    }

    fn nonempty<T>(&mut self, name: &str, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
        if !items.is_empty() {
            self.array(name, items, write);
        }
    }

    fn header(&mut self, header: &Option<ResponseHeader>) {
        if let Some(header) = header {
            self.nested("header", |o| header_fields(o, header));
        }
    }
}

fn object(out: &mut Vec<u8>, fields: impl FnOnce(&mut Object)) {
    out.push(b'{');
    fields(&mut Object { out, is_empty: true });
    out.push(b'}');
}

fn array<T>(out: &mut Vec<u8>, items: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    out.push(b'[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn base64_text(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(value).as_bytes());
    out.push(b'"');
}

/// A text with Go's escapes, which keep it safe inside HTML and JavaScript.
fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    for character in value.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\0'..' ' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => {
                let mut buffer = [0; 4];
                out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
            }
        }
    }
    out.push(b'"');
}
