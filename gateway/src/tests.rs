//! The mapping against the messages themselves.

use coracle_core::api::etcdserverpb as pb;
use coracle_core::api::mvccpb;

use serde_json::json;

use super::*;

fn request<M: Message + Default>(path: &str, json: &str) -> Result<M, String> {
    let method = find(path).unwrap_or_else(|| panic!("no method at {path}"));
    let bytes = method.request(json.as_bytes()).map_err(|error| error.to_string())?;
    Ok(M::decode(&bytes[..]).unwrap())
}

fn reply(path: &str, message: &impl Message) -> String {
    find(path).unwrap().reply(&message.encode_to_vec()).unwrap()
}

#[test]
fn every_rpc_has_its_path_and_every_path_its_rpc() {
    for route in ROUTES {
        assert!(find(route.path).is_some(), "{} leads nowhere", route.path);
    }
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let routed = |service: &str, rpc: &str| {
        ROUTES.iter().any(|route| route.service == service && route.rpc == rpc)
    };
    let mut without = Vec::new();
    for service in pool.services() {
        for method in service.methods() {
            if !routed(service.full_name(), method.name()) {
                without.push(method.name().to_owned());
            }
        }
    }
    assert_eq!(without, ["RangeStream"]);
}

#[test]
fn gw_02_replies() {
    let header = pb::ResponseHeader { cluster_id: u64::MAX, revision: 3, ..Default::default() };
    let kv = mvccpb::KeyValue {
        key: "k".into(),
        value: vec![0xfb, 0xff, 0xfe].into(),
        create_revision: 2,
        mod_revision: 3,
        version: 2,
        lease: 0,
    };
    let range = pb::RangeResponse { header: Some(header), kvs: vec![kv], more: false, count: 1 };
    assert_eq!(
        reply("/v3/kv/range", &range),
        "{\"header\":{\"cluster_id\":\"18446744073709551615\",\"revision\":\"3\"},\
         \"kvs\":[{\"key\":\"aw==\",\"create_revision\":\"2\",\"mod_revision\":\"3\",\
         \"version\":\"2\",\"value\":\"+//+\"}],\"count\":\"1\"}"
    );
    let hash = pb::HashKvResponse { hash: 7, hash_revision: 1, ..Default::default() };
    assert_eq!(reply("/v3/maintenance/hashkv", &hash), r#"{"hash":7,"hash_revision":"1"}"#);
    let alarm = pb::AlarmMember { member_id: 5, alarm: pb::AlarmType::Nospace as i32 };
    let alarms = pb::AlarmResponse { header: None, alarms: vec![alarm] };
    assert_eq!(
        reply("/v3/maintenance/alarm", &alarms),
        r#"{"alarms":[{"memberID":"5","alarm":"NOSPACE"}]}"#
    );
}

#[test]
fn gw_03_requests_in_every_spelling() {
    let expected = pb::RangeRequest {
        key: "k".into(),
        range_end: vec![0xfb, 0xff].into(),
        limit: 5,
        sort_order: 2,
        serializable: true,
        ..Default::default()
    };
    for json in [
        r#"{"key":"aw==","range_end":"+/8=","limit":5,"sort_order":"DESCEND","serializable":true}"#,
        r#"{"key":"aw==","rangeEnd":"-_8=","limit":"5","sortOrder":2,"serializable":true}"#,
        r#"{"key":"aw","rangeEnd":"-_8","limit":"5","sortOrder":2,"serializable":true,"x":[{}]}"#,
    ] {
        assert_eq!(request("/v3/kv/range", json), Ok(expected.clone()), "{json}");
    }
    assert_eq!(request("/v3/kv/range", " \n"), Ok(pb::RangeRequest::default()));
    // As with etcd since 3.6, a name that an enum does not have counts as one not known yet.
    let sideways = r#"{"sort_order":"SIDEWAYS"}"#;
    assert_eq!(request("/v3/kv/range", sideways), Ok(pb::RangeRequest::default()));
    assert_eq!(request("/v3/kv/range", r#"{"key":null}"#), Ok(pb::RangeRequest::default()));
    let put = pb::PutRequest { key: "a".into(), ..Default::default() };
    let op = pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
    let txn = pb::TxnRequest { success: vec![op], ..Default::default() };
    for name in ["request_put", "requestPut"] {
        let json = format!("{{\"success\":[{{\"{name}\":{{\"key\":\"YQ==\"}}}}]}}");
        assert_eq!(request("/v3/kv/txn", &json), Ok(txn.clone()));
    }
}

#[test]
fn gw_03_what_is_no_request() {
    for json in [
        "{",
        "nonsense",
        "[]",
        "7",
        r#"{"key":5}"#,
        r#"{"key":"*"}"#,
        r#"{"limit":"five"}"#,
        r#"{"limit":1.5}"#,
        r#"{"limit":9223372036854775808}"#,
        r#"{"serializable":"true"}"#,
        r#"{"key":"aw=="} {}"#,
    ] {
        assert!(request::<pb::RangeRequest>("/v3/kv/range", json).is_err(), "{json}");
    }
    let deep = "[".repeat(100_000);
    assert!(request::<pb::TxnRequest>("/v3/kv/txn", &format!("{{\"x\":{deep}")).is_err());
}

#[test]
fn gw_05_status_mapping() {
    let statuses: Vec<u16> = (0..=16).map(http_status).collect();
    assert_eq!(
        statuses,
        [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401]
    );
}

#[test]
fn gw_04_error_bodies() {
    let form = ErrorForm::Current;
    assert_eq!(error_reply(5, "Not Found", form), r#"{"code":5,"message":"Not Found"}"#);
    let old = error_reply(5, "Not Found", ErrorForm::WithErrorKey);
    assert_eq!(old, r#"{"code":5,"error":"Not Found","message":"Not Found"}"#);
    assert_eq!(error_line(14, "x", form), "{\"error\":{\"code\":14,\"message\":\"x\"}}\n");
}

#[test]
fn gw_06_values_are_cut_wherever_the_pieces_end() {
    let body = br#" {"a":"}\"{"}{"b":[{},{}]}
        7 "x{" {"c":"\\"}"#;
    let expected = [r#"{"a":"}\"{"}"#, r#"{"b":[{},{}]}"#, "7", r#""x{""#, r#"{"c":"\\"}"#];
    for size in 1..=body.len() {
        let mut reader = Reader::default();
        let mut values = Vec::new();
        for piece in body.chunks(size) {
            reader.push(piece);
            while let Some(value) = reader.take() {
                values.push(String::from_utf8(value.to_vec()).unwrap());
            }
        }
        assert_eq!(values, expected, "in pieces of {size}");
        assert_eq!(reader.rest(), None);
    }
    let mut reader = Reader::default();
    reader.push(b" {\"a\":");
    assert_eq!(reader.take(), None);
    assert_eq!(reader.rest().as_deref(), Some(&b"{\"a\":"[..]));
}

#[test]
fn gw_10_the_document_has_every_path_and_all_that_they_mention() {
    let document: serde_json::Value = serde_json::from_str(&openapi::document("3.7.0")).unwrap();
    let mut documented: Vec<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    documented.sort_unstable();
    let mut served: Vec<_> = paths().map(str::to_owned).collect();
    served.sort_unstable();
    assert_eq!(documented, served);
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let text = document.to_string();
    let mut rest = text.as_str();
    while let Some((_, behind)) = rest.split_once("#/components/schemas/") {
        let (name, behind) = behind.split_once('"').unwrap();
        assert!(schemas.contains_key(name), "{name} is mentioned and missing");
        rest = behind;
    }
    let put = &document["paths"]["/v3/kv/put"]["post"];
    assert_eq!(put["operationId"], "KV_Put");
    let fields = &schemas["etcdserverpb.PutRequest"]["properties"];
    assert_eq!(fields["key"], json!({ "type": "string", "format": "byte" }));
    assert_eq!(fields["lease"], json!({ "type": "string", "format": "int64" }));
    assert_eq!(fields["prev_kv"], json!({ "type": "boolean" }));
    let order = &schemas["etcdserverpb.RangeRequest.SortOrder"];
    assert_eq!(order["enum"], json!(["NONE", "ASCEND", "DESCEND"]));
    let watch = &document["paths"]["/v3/watch"]["post"]["responses"]["200"]["content"];
    let result = &watch["application/json"]["schema"]["properties"]["result"]["$ref"];
    assert_eq!(result, "#/components/schemas/etcdserverpb.WatchResponse");
}
