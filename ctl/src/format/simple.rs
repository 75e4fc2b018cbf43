//! `-w simple`: lines for people and shell scripts.

use std::io::Write;

use coracle_core::api::etcdserverpb::{
    AlarmMember, AlarmType, DeleteRangeResponse, LeaseTimeToLiveResponse, PutResponse,
    RangeResponse, ResponseHeader, TxnResponse, WatchResponse, response_op,
};
use coracle_core::api::mvccpb::{KeyValue, event::EventType};

use super::{EndpointHealth, Output, Rendered, Style, auth, table};

/// Prints into a buffer, which cannot fail.
macro_rules! line {
    ($buffer:expr, $($argument:tt)*) => {
        let _ = writeln!($buffer, $($argument)*);
    };
}

pub(super) fn render(output: &Output, style: Style) -> Rendered {
    let mut rendered = Rendered::default();
    let out = &mut rendered.stdout;
    match output {
        Output::Put(response) => put(out, style, response),
        Output::Get(response) => get(out, style, response),
        Output::Delete(response) => delete(out, style, response),
        Output::Txn(response) => txn(out, style, response),
        Output::Watch(response) => watch(out, style, response),
        Output::LeaseGrant(response) => {
            line!(out, "lease {:016x} granted with TTL({}s)", response.id, response.ttl);
        }
        Output::LeaseRevoke(id, _) => {
            line!(out, "lease {id:016x} revoked");
        }
        Output::LeaseKeepAlive(response) => {
            line!(out, "lease {:016x} keepalived with TTL({})", response.id, response.ttl);
        }
        Output::LeaseTimeToLive(response, keys) => time_to_live(out, response, *keys),
        Output::LeaseList(response) => {
            line!(out, "found {} leases", response.leases.len());
            for lease in &response.leases {
                line!(out, "{:016x}", lease.id);
            }
        }
        Output::MemberAdd(response) => {
            let id = response.member.as_ref().map_or(0, |member| member.id);
            line!(out, "Member {id:16x} added to cluster {:16x}", cluster(&response.header));
        }
        Output::MemberRemove(id, response) => {
            line!(out, "Member {id:16x} removed from cluster {:16x}", cluster(&response.header));
        }
        Output::MemberUpdate(id, response) => {
            line!(out, "Member {id:16x} updated in cluster {:16x}", cluster(&response.header));
        }
        Output::MemberPromote(id, response) => {
            line!(out, "Member {id:16x} promoted in cluster {:16x}", cluster(&response.header));
        }
        Output::Alarm(response) => {
            for alarm in &response.alarms {
                line!(out, "{}", alarm_text(alarm));
            }
        }
        Output::AuthChanged { .. }
        | Output::AuthStatus(_)
        | Output::UserGet(..)
        | Output::UserList(_)
        | Output::RoleGet(..)
        | Output::RoleList(_) => auth::simple(out, output),
        Output::MoveLeader { from, to, .. } => {
            line!(out, "Leadership transferred from {from:x} to {to:x}");
        }
        Output::Downgrade(action, response) => {
            let done = action.as_str_name().to_ascii_lowercase();
            let version = &response.version;
            line!(out, "Downgrade {done} success, cluster version {version}");
        }
        Output::EndpointHealth(list) => health(&mut rendered, list),
        Output::MemberList(_) | Output::EndpointStatus(_) | Output::EndpointHashKv(_) => {
            for row in table::rows(output).unwrap_or_default().1 {
                line!(out, "{}", row.join(", "));
            }
        }
    }
    rendered
}

fn cluster(header: &Option<ResponseHeader>) -> u64 {
    header.as_ref().map_or(0, |header| header.cluster_id)
}

fn key_value(out: &mut Vec<u8>, style: Style, kv: &KeyValue) {
    if !style.value_only {
        bytes(out, style, &kv.key);
    }
    bytes(out, style, &kv.value);
}

fn bytes(out: &mut Vec<u8>, style: Style, value: &[u8]) {
    if style.hex {
        for byte in value {
            let _ = write!(out, "\\x{byte:02x}");
        }
    } else {
        out.extend_from_slice(value);
    }
    out.push(b'\n');
}

fn put(out: &mut Vec<u8>, style: Style, response: &PutResponse) {
    line!(out, "OK");
    if let Some(prev_kv) = &response.prev_kv {
        key_value(out, style, prev_kv);
    }
}

fn get(out: &mut Vec<u8>, style: Style, response: &RangeResponse) {
    for kv in &response.kvs {
        key_value(out, style, kv);
    }
}

fn delete(out: &mut Vec<u8>, style: Style, response: &DeleteRangeResponse) {
    line!(out, "{}", response.deleted);
    for kv in &response.prev_kvs {
        key_value(out, style, kv);
    }
}

fn txn(out: &mut Vec<u8>, style: Style, response: &TxnResponse) {
    line!(out, "{}", if response.succeeded { "SUCCESS" } else { "FAILURE" });
    for operation in &response.responses {
        line!(out, "");
        match &operation.response {
            Some(response_op::Response::ResponseRange(response)) => get(out, style, response),
            Some(response_op::Response::ResponsePut(response)) => put(out, style, response),
            Some(response_op::Response::ResponseDeleteRange(response)) => {
                delete(out, style, response);
            }
            Some(response_op::Response::ResponseTxn(response)) => txn(out, style, response),
            None => {}
        }
    }
}

fn watch(out: &mut Vec<u8>, style: Style, response: &WatchResponse) {
    for event in &response.events {
        line!(out, "{}", event_type(event.r#type));
        if let Some(prev_kv) = &event.prev_kv {
            key_value(out, style, prev_kv);
        }
        if let Some(kv) = &event.kv {
            key_value(out, style, kv);
        }
    }
}

pub(super) fn event_type(number: i32) -> &'static str {
    EventType::try_from(number).map_or("UNKNOWN", |kind| kind.as_str_name())
}

fn time_to_live(out: &mut Vec<u8>, response: &LeaseTimeToLiveResponse, keys: bool) {
    let id = response.id;
    if response.granted_ttl == 0 && response.ttl == -1 {
        line!(out, "lease {id:016x} already expired");
        return;
    }
    let (granted, remaining) = (response.granted_ttl, response.ttl);
    let _ = write!(out, "lease {id:016x} granted with TTL({granted}s), remaining({remaining}s)");
    if keys {
        out.extend_from_slice(b", attached keys([");
        out.extend_from_slice(&response.keys.join(&b' '));
        out.extend_from_slice(b"])");
    }
    out.push(b'\n');
}

/// An alarm as its protobuf text form, which ends in a space.
fn alarm_text(alarm: &AlarmMember) -> String {
    let mut text = String::new();
    if alarm.member_id != 0 {
        text.push_str(&format!("memberID:{} ", alarm.member_id));
    }
    if alarm.alarm != 0 {
        text.push_str(&format!("alarm:{} ", alarm_type(alarm.alarm)));
    }
    text
}

pub(super) fn alarm_type(number: i32) -> String {
    match AlarmType::try_from(number) {
        Ok(alarm) => alarm.as_str_name().into(),
        Err(_) => number.to_string(),
    }
}

/// The healthy go to standard output, the others to standard error.
fn health(rendered: &mut Rendered, list: &[EndpointHealth]) {
    for health in list {
        let EndpointHealth { endpoint, took, error, .. } = health;
        if error.is_empty() {
            line!(
                rendered.stdout,
                "{endpoint} is healthy: successfully committed proposal: took = {took}"
            );
        } else {
            line!(rendered.stderr, "{endpoint} is unhealthy: failed to commit proposal: {error}");
        }
    }
}
