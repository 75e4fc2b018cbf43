//! The JSON gateway of real etcd and of Coracle, side by side (ETCD.md 1.5).
//!
//! Answers are compared as parsed JSON, with what identifies a server masked and what is newer
//! than etcd 3.5.1 left out. Of malformed requests only status and code are compared: the texts
//! are those of a JSON parser.

use anyhow::{Context, Result, ensure};
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::http::{HttpClient, Reply};
use coracle_tests::side_by_side::{FLAGS, clients, comparable, start_both};
use futures_util::{SinkExt, StreamExt};
use http::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// How much of an answer is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    /// All of it.
    Whole,
    /// Status and code.
    Code,
}
use Compare::{Code, Whole};

/// Requests, in an order in which some build on others.
#[rustfmt::skip] // A table.
const UNARY: &[(Compare, &str, &str)] = &[
    (Whole, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    (Whole, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmF6","prev_kv":true}"#),
    (Whole, "/v3/kv/put", r#"{"key":"Zm9v","ignoreValue":true,"prevKv":true}"#),
    (Whole, "/v3/kv/put", r#"{"key":"Zm9w","value":"+/8=","prev_kv":true}"#),
    (Whole, "/v3/kv/put", r#"{"value":"YmFy"}"#),
    (Whole, "/v3/kv/put", r#"{"key":"Zm9v","lease":"99"}"#),
    (Whole, "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy","ignore_value":true}"#),
    (Whole, "/v3/kv/put", r#"{"key":"Zm9v","unknown":[1,{"a":null}],"value":null}"#),
    (Whole, "/v3/kv/put", ""),
    (Whole, "/v3/kv/range", r#"{"key":"Zm9v"}"#),
    (Whole, "/v3/kv/range", r#"{"key":"Zm8=","range_end":"Zm9x"}"#),
    (Whole, "/v3/kv/range", r#"{"key":"Zm8=","rangeEnd":"Zm9x","limit":"1"}"#),
    (Whole, "/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","sort_order":"DESCEND",
        "sort_target":"MOD"}"#),
    (Whole, "/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","sort_order":2,"sort_target":3}"#),
    (Whole, "/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","keys_only":true}"#),
    (Whole, "/v3/kv/range", r#"{"key":"AA==","range_end":"AA==","count_only":true,
        "serializable":true}"#),
    (Whole, "/v3/kv/range", r#"{"key":"Zm9v","revision":1}"#),
    (Whole, "/v3/kv/range", r#"{"key":"Zm9v","revision":"3"}"#),
    (Whole, "/v3/kv/range", r#"{"key":"Zm9v","revision":1000}"#),
    (Whole, "/v3/kv/range", r#"{"key":"bm9uZQ=="}"#),
    (Whole, "/v3/kv/range", "{}"),
    (Whole, "/v3/kv/range", " \n {\"key\":\n\"Zm9v\"} \n"),
    (Whole, "/v3beta/kv/range", r#"{"key":"Zm9v"}"#),
    (Whole, "/v3/kv/deleterange", r#"{"key":"Zm9v","prev_kv":true}"#),
    (Whole, "/v3/kv/deleterange", r#"{"key":"Zm9v"}"#),
    (Whole, "/v3/kv/deleterange", "{}"),
    (Whole, "/v3/kv/txn", r#"{"compare":[{"key":"Zm9w","target":"VERSION","result":"GREATER",
        "version":"0"}],
        "success":[{"request_put":{"key":"YQ==","value":"MQ=="}},{"request_range":{"key":"YQ=="}}],
        "failure":[{"request_delete_range":{"key":"YQ=="}}]}"#),
    (Whole, "/v3/kv/txn", r#"{"compare":[{"key":"YQ==","target":3,"value":"Mg=="}],
        "failure":[{"requestTxn":{"success":[
            {"requestDeleteRange":{"key":"YQ==","prevKv":true}}]}}]}"#),
    (Whole, "/v3/kv/txn", r#"{"success":[{"request_put":{"key":"YQ=="}},
        {"request_put":{"key":"YQ=="}}]}"#),
    (Whole, "/v3/kv/txn", "{}"),
    (Whole, "/v3/kv/compaction", r#"{"revision":"4","physical":true}"#),
    (Whole, "/v3/kv/compaction", r#"{"revision":"4"}"#),
    (Whole, "/v3/kv/compaction", r#"{"revision":4000}"#),
    (Whole, "/v3/kv/range", r#"{"key":"Zm9v","revision":2}"#),
    (Whole, "/v3/lease/grant", r#"{"TTL":"100","ID":"77"}"#),
    (Whole, "/v3/lease/grant", r#"{"TTL":100,"ID":77}"#),
    (Whole, "/v3/lease/grant", r#"{"TTL":"9000000001"}"#),
    (Whole, "/v3/kv/put", r#"{"key":"bGVhc2U=","lease":77}"#),
    (Whole, "/v3/lease/timetolive", r#"{"ID":"77","keys":true}"#),
    (Whole, "/v3/kv/lease/timetolive", r#"{"ID":"78"}"#),
    (Whole, "/v3/lease/leases", "{}"),
    (Whole, "/v3/kv/lease/leases", ""),
    (Whole, "/v3/lease/keepalive", r#"{"ID":"77"}"#),
    (Whole, "/v3/lease/keepalive", r#"{"ID":"78"}"#),
    (Whole, "/v3/lease/revoke", r#"{"ID":"77"}"#),
    (Whole, "/v3/kv/lease/revoke", r#"{"ID":"77"}"#),
    (Whole, "/v3/cluster/member/list", r#"{"linearizable":true}"#),
    (Whole, "/v3/cluster/member/add", r#"{"peerURLs":["not a url"]}"#),
    (Whole, "/v3/cluster/member/remove", r#"{"ID":"1"}"#),
    (Whole, "/v3/cluster/member/update", r#"{"ID":"1","peerURLs":["http://127.0.0.1:1"]}"#),
    (Whole, "/v3/cluster/member/promote", r#"{"ID":"1"}"#),
    (Whole, "/v3/maintenance/status", "{}"),
    (Whole, "/v3/maintenance/alarm", r#"{"action":"GET"}"#),
    (Whole, "/v3/maintenance/alarm", r#"{"action":"ACTIVATE","memberID":"5","alarm":"NOSPACE"}"#),
    (Whole, "/v3/maintenance/alarm", r#"{"action":0}"#),
    (Whole, "/v3/kv/put", r#"{"key":"Zm9v"}"#),
    (Whole, "/v3/maintenance/alarm", r#"{"action":"DEACTIVATE","memberID":"5","alarm":1}"#),
    (Whole, "/v3/maintenance/defragment", "{}"),
    (Whole, "/v3/maintenance/hash", "{}"),
    (Whole, "/v3/maintenance/transfer-leadership", r#"{"targetID":"1"}"#),
    (Code, "/v3/kv/range", "{"),
    (Code, "/v3/kv/range", "nonsense"),
    (Code, "/v3/kv/range", "[]"),
    (Code, "/v3/kv/range", "7"),
    (Code, "/v3/kv/range", r#""text""#),
    (Code, "/v3/kv/range", r#"{"key":5}"#),
    (Code, "/v3/kv/range", r#"{"key":["YQ=="]}"#),
    (Code, "/v3/kv/range", r#"{"key":"*"}"#),
    (Code, "/v3/kv/range", r#"{"key":"YQ==","limit":"five"}"#),
    (Code, "/v3/kv/range", r#"{"key":"YQ==","limit":1.5}"#),
    (Code, "/v3/kv/range", r#"{"key":"YQ==","limit":9223372036854775808}"#),
    (Code, "/v3/kv/range", r#"{"key":"YQ==","serializable":"true"}"#),
    (Code, "/v3/kv/range", r#"{"key":"YQ==","serializable":1}"#),
    (Code, "/v3/kv/txn", r#"{"compare":{}}"#),
    (Code, "/v3/kv/txn", r#"{"success":[{"request_put":"YQ=="}]}"#),
];

/// The lines of an answer, or the one value that it is.
fn lines(reply: &Reply) -> Vec<Value> {
    let parsed = reply.text();
    let lines: Result<Vec<Value>, _> = parsed.lines().map(serde_json::from_str).collect();
    lines.unwrap_or_else(|_| vec![reply.json()]).iter().map(comparable).collect()
}

#[tokio::test]
async fn gw_02_03_04_05_unary_calls_are_answered_as_by_etcd() -> Result<()> {
    let clusters = start_both(&[])?;
    let [mut etcd, mut coracle] = clients(&clusters);
    let mut differences = Vec::new();
    for (compare, path, request) in UNARY {
        let expected = etcd.post(path, request).await?;
        let actual = coracle.post(path, request).await?;
        let same = expected.status == actual.status
            && match compare {
                Whole => lines(&expected) == lines(&actual),
                Code => expected.json()["code"] == actual.json()["code"],
            };
        let json = actual.header("content-type") == "application/json";
        if !same || !json {
            let [expected, actual] =
                [&expected, &actual].map(|reply| format!("{} {}", reply.status, reply.text()));
            differences.push(format!("{path} {request}\n  etcd    {expected}\n  coracle {actual}"));
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("\n"));
    Ok(())
}

#[tokio::test]
async fn gw_03_sizes_are_limited_as_by_etcd() -> Result<()> {
    let clusters = start_both(&[])?;
    let [mut etcd, mut coracle] = clients(&clusters);
    // Base64 of a value that the server takes, one that it finds too large, one that is larger than
    // a message, one whose JSON is.
    for (length, code) in [(1_400_000, 0), (1_600_000, 3), (2_200_000, 8), (6_000_000, 8)] {
        let request = format!("{{\"key\":\"YQ==\",\"value\":\"{}\"}}", "AAAA".repeat(length / 3));
        let actual = coracle.post("/v3/kv/put", &request).await?;
        ensure!(actual.json()["code"].as_u64().unwrap_or(0) == code, "{length}: {}", actual.text());
        if length < 3_000_000 {
            let expected = etcd.post("/v3/kv/put", &request).await?;
            ensure!(expected.status == actual.status, "{length}: {}", expected.text());
            // Go says how the message came to be too large in other words than 3.7's.
            let texts = [&expected, &actual].map(|reply| reply.json()["message"].clone());
            ensure!(texts[0] == texts[1], "{length}: {texts:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn gw_01_paths_and_methods() -> Result<()> {
    let cluster = Cluster::start_with(Kind::Coracle, 1, &FLAGS)?;
    let mut client = HttpClient::new(&cluster.client_address(0));
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let reply = client.ask(method, "/v3/kv/range", &[], "").await?;
        assert_eq!(
            (reply.status.as_u16(), reply.json()),
            (501, json!({"code": 12, "message": "Method Not Allowed"}))
        );
    }
    let reply = client.post("/v3/nothing", "{}").await?;
    assert_eq!(
        (reply.status.as_u16(), reply.json()),
        (404, json!({"code": 5, "message": "Not Found"}))
    );
    let reply = client.post("/v3alpha/kv/range", "{}").await?;
    assert_eq!((reply.status.as_u16(), reply.text().as_str()), (404, "404 page not found\n"));
    // What is newer than the etcd compared with.
    let reply = client.post("/v3/maintenance/hashkv", "{}").await?;
    assert!(reply.json()["hash"].is_u64(), "{}", reply.text());
    Ok(())
}

#[tokio::test]
async fn log_01_slow_calls_are_told_also_of_the_gateway() -> Result<()> {
    let flags = ["--warning-unary-request-duration=1ns"];
    let cluster = Cluster::start_with(Kind::Coracle, 1, &flags)?;
    let mut client = HttpClient::new(&cluster.client_address(0));
    client.post("/v3/kv/put", r#"{"key":"Zm9v"}"#).await?;
    client.post("/v3/lease/keepalive", r#"{"ID":"77"}"#).await?;
    let told = |path: &str| {
        let lines = cluster.logs();
        lines.lines().any(|line| line.contains("request stats") && line.contains(path))
    };
    ensure!(told("/etcdserverpb.KV/Put"), "{}", cluster.log_tails());
    // Streams last as long as their clients like.
    ensure!(!told("/etcdserverpb.Lease/LeaseKeepAlive"), "{}", cluster.log_tails());
    Ok(())
}

#[tokio::test]
async fn gw_04_an_error_key_for_old_clients() -> Result<()> {
    let flags = [&FLAGS[..], &["--gateway-error-key"]].concat();
    let cluster = Cluster::start_with(Kind::Coracle, 1, &flags)?;
    let mut client = HttpClient::new(&cluster.client_address(0));
    let reply = client.post("/v3/kv/range", "{}").await?;
    let text = "etcdserver: key is not provided";
    assert_eq!(reply.json(), json!({"error": text, "code": 3, "message": text}));
    Ok(())
}

#[tokio::test]
async fn gw_enable_grpc_gateway_false_serves_no_json() -> Result<()> {
    let clusters = start_both(&["--enable-grpc-gateway=false"])?;
    let [mut etcd, mut coracle] = clients(&clusters);
    for client in [&mut etcd, &mut coracle] {
        let reply = client.post("/v3/kv/range", "{}").await?;
        assert_eq!((reply.status.as_u16(), reply.text().as_str()), (404, "404 page not found\n"));
        assert_eq!(client.get("/health").await?.status.as_u16(), 200);
    }
    Ok(())
}

/// Go's server answers over HTTP/1 only when the request has ended: that much can be compared.
#[tokio::test]
async fn gw_06_streams_are_those_of_etcd() -> Result<()> {
    let clusters = start_both(&[])?;
    let mut seen = Vec::new();
    for mut client in clients(&clusters) {
        let mut lines = Vec::new();
        let mut watch = client.post_stream("/v3/watch").await?;
        watch.say(r#"{"create_request":{"key":"YQ==","#).await?;
        watch.say(r#""prev_kv":true}} {"createRequest":{"key":"Yg=="}}"#).await?;
        // The end of the requests does not end the watch.
        watch.end();
        for _ in 0..2 {
            lines.push(watch.line().await?);
        }
        assert_eq!(watch.status().await?.as_u16(), 200);
        client.post("/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#).await?;
        lines.push(watch.line().await?);
        client.post("/v3/kv/deleterange", r#"{"key":"YQ=="}"#).await?;
        lines.push(watch.line().await?);
        client.post("/v3/lease/grant", r#"{"TTL":100,"ID":5}"#).await?;
        let mut alive = client.post_stream("/v3/lease/keepalive").await?;
        alive.say("{\"ID\":5}\n{\"ID\":6}{\"ID\":\"5\"}").await?;
        alive.end();
        while let Some(line) = alive.line().await? {
            lines.push(Some(line));
        }
        seen.push(lines.into_iter().flatten().map(|line| comparable(&line)).collect::<Vec<_>>());
        let snapshot = client.post("/v3/maintenance/snapshot", "{}").await?;
        assert_eq!(snapshot.status.as_u16(), 200);
        let text = snapshot.text();
        let first: Value = serde_json::from_str(text.lines().next().unwrap_or_default())?;
        assert!(text.lines().count() > 1 && first["result"]["blob"].is_string());
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].len(), 7);
    Ok(())
}

/// What fails before its first line is of the form of a stream all the same.
#[tokio::test]
async fn gw_06_a_stream_that_is_refused_is_a_stream() -> Result<()> {
    let clusters = start_both(&[])?;
    let (mut seen, mut statuses) = (Vec::new(), Vec::new());
    for mut client in clients(&clusters) {
        for (path, request) in [
            ("/v3/auth/user/add", r#"{"name":"root","password":"pass"}"#),
            ("/v3/auth/role/add", r#"{"name":"root"}"#),
            ("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#),
            ("/v3/auth/enable", "{}"),
        ] {
            ensure!(client.post(path, request).await?.status.as_u16() == 200, "{path}");
        }
        for token in [&[][..], &[("authorization", "bogus")]] {
            let reply = client.ask(Method::POST, "/v3/lease/keepalive", token, "{}").await?;
            let headers = ["content-type", "transfer-encoding", "content-length"];
            let headers = headers.map(|name| reply.header(name).to_owned());
            let challenge = reply.header("www-authenticate").to_owned();
            seen.push((headers, challenge));
            statuses.push(reply.status.as_u16());
        }
    }
    let (etcd, coracle) = seen.split_at(2);
    assert_eq!(etcd, coracle);
    // 3.5.1 renews a lease for anybody.
    assert_eq!(statuses, [200, 200, 400, 401]);
    Ok(())
}

/// etcd's gateway has one connection, on which calls beyond the limit wait.
#[tokio::test]
async fn gw_06_calls_wait_for_streams_under_way() -> Result<()> {
    let cluster = Cluster::start_with(Kind::Coracle, 1, &["--max-concurrent-streams=1"])?;
    let address = cluster.client_address(0);
    let (mut first, mut second) = (HttpClient::new(&address), HttpClient::new(&address));
    let mut watch = first.post_stream("/v3/watch").await?;
    watch.say(r#"{"create_request":{"key":"YQ=="}}"#).await?;
    ensure!(watch.line().await?.is_some());
    let waiting = second.post("/v3/kv/range", r#"{"key":"YQ=="}"#);
    tokio::pin!(waiting);
    let early = tokio::time::timeout(std::time::Duration::from_millis(500), &mut waiting).await;
    ensure!(early.is_err(), "answered beside the watch");
    drop(watch);
    drop(first);
    ensure!(waiting.await?.status.as_u16() == 200);
    Ok(())
}

/// Requests that follow answers, in one body.
#[tokio::test]
async fn gw_06_requests_and_answers_take_turns() -> Result<()> {
    let cluster = Cluster::start_with(Kind::Coracle, 1, &FLAGS)?;
    let mut client = HttpClient::new(&cluster.client_address(0));
    let mut watch = client.post_stream("/v3/watch").await?;
    watch.say(r#"{"create_request":{"key":"YQ=="}}"#).await?;
    assert!(watch.line().await?.is_some_and(|line| line["result"]["created"] == true));
    client.post("/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#).await?;
    assert!(watch.line().await?.is_some_and(|line| line["result"]["events"].is_array()));
    watch.say("\n{\"cancel_request\":{\"watch_id\":\"0\"}}").await?;
    assert!(watch.line().await?.is_some_and(|line| line["result"]["canceled"] == true));
    client.post("/v3/lease/grant", r#"{"TTL":100,"ID":5}"#).await?;
    let mut alive = client.post_stream("/v3/lease/keepalive").await?;
    for _ in 0..3 {
        alive.say("{\"ID\":5}\n").await?;
        assert!(alive.line().await?.is_some_and(|line| line["result"]["TTL"] == "100"));
    }
    alive.end();
    assert_eq!(alive.line().await?, None);
    Ok(())
}

#[tokio::test]
async fn gw_06_what_is_no_request_ends_a_stream_with_its_code() -> Result<()> {
    let cluster = Cluster::start_with(Kind::Coracle, 1, &FLAGS)?;
    let mut client = HttpClient::new(&cluster.client_address(0));
    let reply = client.post("/v3/watch", "{\"create_request\":7}").await?;
    assert_eq!(reply.status.as_u16(), 400);
    assert_eq!(reply.json()["error"]["code"], 3, "{}", reply.text());
    let mut alive = client.post_stream("/v3/lease/keepalive").await?;
    alive.say("{\"ID\":5}").await?;
    assert!(alive.line().await?.is_some_and(|line| line["result"]["ID"] == "5"));
    alive.say("nonsense\n").await?;
    assert!(alive.line().await?.is_some_and(|line| line["error"]["code"] == 3));
    assert_eq!(alive.line().await?, None);
    Ok(())
}

async fn websocket(
    cluster: &Cluster,
    path: &str,
    protocol: Option<&str>,
) -> Result<WebSocketStream<TcpStream>> {
    let address = cluster.client_address(0);
    let mut request = format!("ws://{address}{path}").into_client_request()?;
    if let Some(protocol) = protocol {
        request.headers_mut().insert("sec-websocket-protocol", protocol.parse()?);
    }
    let stream = TcpStream::connect(&address).await?;
    let (socket, response) = tokio_tungstenite::client_async(request, stream).await?;
    let answered = response.headers().get("sec-websocket-protocol");
    ensure!(answered.is_some() == protocol.is_some(), "{response:?}");
    Ok(socket)
}

async fn text(socket: &mut WebSocketStream<TcpStream>) -> Result<Value> {
    loop {
        let message = socket.next().await.context("the socket was closed")??;
        if message.is_text() {
            return Ok(comparable(&serde_json::from_str(message.to_text()?)?));
        }
    }
}

#[tokio::test]
async fn gw_07_watch_and_keep_alive_over_websocket() -> Result<()> {
    let clusters = start_both(&[])?;
    let mut seen = Vec::new();
    for cluster in [&clusters.0, &clusters.1] {
        let mut client = HttpClient::new(&cluster.client_address(0));
        let mut lines = Vec::new();
        let mut watch = websocket(cluster, "/v3/watch", None).await?;
        watch.send(Message::text(r#"{"create_request":{"key":"YQ=="}}"#)).await?;
        lines.push(text(&mut watch).await?);
        client.post("/v3/kv/put", r#"{"key":"YQ==","value":"MQ=="}"#).await?;
        lines.push(text(&mut watch).await?);
        watch.send(Message::text(r#"{"create_request":{"key":"Yg=="}}"#)).await?;
        lines.push(text(&mut watch).await?);
        watch.close(None).await?;
        client.post("/v3/lease/grant", r#"{"TTL":100,"ID":5}"#).await?;
        let mut alive = websocket(cluster, "/v3/lease/keepalive", Some("Bearer, token")).await?;
        for _ in 0..2 {
            alive.send(Message::text(r#"{"ID":"5"}"#)).await?;
            lines.push(text(&mut alive).await?);
        }
        seen.push(lines);
    }
    assert_eq!(seen[0], seen[1]);
    Ok(())
}

/// A page has no other way to send a call over a socket that it holds already.
#[tokio::test]
async fn gw_07_unary_calls_over_websocket() -> Result<()> {
    let cluster = Cluster::start_with(Kind::Coracle, 1, &FLAGS)?;
    let mut socket = websocket(&cluster, "/v3/kv/put", None).await?;
    socket.send(Message::text(r#"{"key":"YQ==","value":"MQ=="}"#)).await?;
    assert_eq!(text(&mut socket).await?["header"]["revision"], "2");
    // The answer is the end of the session.
    while let Some(Ok(message)) = socket.next().await {
        assert!(message.is_close(), "{message:?}");
    }
    // A watcher that leaves takes its watch with it.
    let mut watch = websocket(&cluster, "/v3/watch", None).await?;
    watch.send(Message::text(r#"{"create_request":{"key":"YQ=="}}"#)).await?;
    text(&mut watch).await?;
    drop(watch);
    let mut client = HttpClient::new(&cluster.client_address(0));
    for _ in 0..500 {
        let metrics = client.get("/metrics").await?.text();
        if metrics.contains("\netcd_debugging_mvcc_watcher_total 0\n") {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    anyhow::bail!("the watcher is still there");
}
