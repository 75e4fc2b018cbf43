//! The front against real clients on the loopback: a tonic client and bare sockets.

use std::io::{Read, Write};
use std::net;

use coracle_core::api::etcdserverpb as pb;
use coracle_core::error::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::config::urls::Address;
use crate::grpc::etcdserverpb::kv_client::KvClient;
use crate::grpc::etcdserverpb::watch_client::WatchClient;
use crate::net::SocketOptions;
use crate::tls;

/// Answers a put with its own value as the previous one, echoes watch ids, and knows `/health`.
struct Echo;

impl Handler for Echo {
    fn grpc(
        self: &Arc<Self>,
        path: &str,
        call: Call,
    ) -> Result<BoxFuture<'static, ()>, (Call, Status)> {
        match path {
            "/etcdserverpb.KV/Put" => Ok(Box::pin(call.unary(|put: pb::PutRequest| async move {
                if put.key.is_empty() {
                    return Err(Error::EmptyKey);
                }
                let prev_kv =
                    coracle_core::api::mvccpb::KeyValue { value: put.value, ..Default::default() };
                Ok(pb::PutResponse { header: None, prev_kv: Some(prev_kv) })
            }))),
            "/etcdserverpb.Watch/Watch" => Ok(Box::pin(async move {
                let Some((mut requests, mut responses)) = call.stream::<pb::WatchRequest>() else {
                    return;
                };
                let mut count = 0;
                while let Some(Ok(_)) = requests.next().await {
                    count += 1;
                    let answer = pb::WatchResponse { watch_id: count, ..Default::default() };
                    responses.send_when_ready(&answer).await;
                }
                responses.finish(Err(Error::NoLeader.into()));
            })),
            _ => Err((call, unknown_method(path, |service| service == "etcdserverpb.KV"))),
        }
    }

    async fn http(self: &Arc<Self>, _: Settings, request: http::Request<RequestBody>) -> Answer {
        let text = format!("{:?} {}", request.version(), request.uri().path());
        http::Response::new(body::whole(text)).into()
    }
}

const KEEPALIVE: KeepaliveConfig = KeepaliveConfig {
    min_time: Duration::from_secs(5),
    interval: Duration::from_secs(7200),
    timeout: Duration::from_secs(20),
};

fn start() -> (Front, SocketAddr) {
    start_with(None)
}

fn start_with(tls: Option<Acceptor>) -> (Front, SocketAddr) {
    serve(tls, Echo)
}

fn serve(tls: Option<Acceptor>, handler: impl Handler) -> (Front, SocketAddr) {
    let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: 0 };
    let listener = Listener::bind(&address, SocketOptions::default()).unwrap();
    let Listener::Tcp(tcp) = &listener else { unreachable!("a TCP address was bound") };
    let address = tcp.local_addr().unwrap();
    let settings = Settings {
        plain: tls.is_none(),
        tls: tls.map(Arc::new),
        grpc: true,
        http: Plain::Client,
        max_message_bytes: 2048,
        max_concurrent_streams: 100,
        keepalive: KEEPALIVE,
    };
    (Front::start(vec![(listener, settings)], 2, &Arc::new(handler)).unwrap(), address)
}

async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn put(key: &'static str, length: usize) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: vec![b'v'; length].into(), ..Default::default() }
}

#[tokio::test]
async fn unary_calls_answer_errors_and_limits_as_grpc_go_does() {
    let (front, address) = start();
    let mut client = KvClient::new(channel(address).await);
    for length in [0, 100, 1000, 2000] {
        let answer = client.put(put("k", length)).await.unwrap().into_inner();
        assert_eq!(answer.prev_kv.unwrap().value.len(), length);
    }
    let refused = client.put(put("", 1)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "etcdserver: key is not provided")
    );
    let refused = client.put(put("k", 2043)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "grpc: received message larger than max (2049 vs. 2048)");
    let refused = client.range(pb::RangeRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert_eq!(refused.message(), "unknown method Range for service etcdserverpb.KV");
    drop(client);
    front.stop();
}

#[tokio::test]
async fn streams_answer_message_by_message_and_end_with_a_status() {
    let (front, address) = start();
    let mut client = WatchClient::new(channel(address).await);
    let requests = tokio_stream::iter(vec![pb::WatchRequest::default(); 500]);
    let mut responses = client.watch(requests).await.unwrap().into_inner();
    for count in 1..=500 {
        assert_eq!(responses.next().await.unwrap().unwrap().watch_id, count);
    }
    let end = responses.next().await.unwrap().unwrap_err();
    assert_eq!((end.code(), end.message()), (Code::Unavailable, "etcdserver: no leader"));
    drop(client);
    front.stop();
}

#[tokio::test]
async fn many_calls_share_connections_and_threads() {
    let (front, address) = start();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let client = KvClient::new(channel(address).await);
        for length in 0..100 {
            let mut client = client.clone();
            calls.spawn(async move {
                client
                    .put(put("k", length))
                    .await
                    .unwrap()
                    .into_inner()
                    .prev_kv
                    .unwrap()
                    .value
                    .len()
            });
        }
    }
    let mut sum = 0;
    while let Some(length) = calls.join_next().await {
        sum += length.unwrap();
    }
    assert_eq!(sum, 4 * (0..100).sum::<usize>());
    front.stop();
}

#[test]
fn w_01_http1_on_the_same_port() {
    let (front, address) = start();
    let mut client = net::TcpStream::connect(address).unwrap();
    client.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nHTTP/1.1 /health"), "{answer}");
    front.stop();
}

#[test]
fn garbage_and_silence_hurt_nobody() {
    let (front, address) = start();
    let silent = net::TcpStream::connect(address).unwrap();
    for garbage in
        [&b"\x16\x03\x01\x02\x00"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense!!", &[0; 99]]
    {
        let mut client = net::TcpStream::connect(address).unwrap();
        client.write_all(garbage).unwrap();
        client.shutdown(net::Shutdown::Write).unwrap();
        // Some answer or none, but an end.
        _ = client.read_to_end(&mut Vec::new());
    }
    drop(silent);
    w_01_http1_on_the_same_port();
    front.stop();
}

/// Both ends of a connection.
async fn pair() -> (tokio::net::TcpStream, Bare) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, Bare::Tcp(listener.accept().await.unwrap().0))
}

#[tokio::test]
async fn tls_01_a_handshake_that_fails_or_is_late_ends_with_its_connection() {
    let folder = tempfile::tempdir().unwrap();
    let (acceptor, _) = tls::self_signed_pair(folder.path());
    let stopping = CancellationToken::new();
    let (soon, late) = (Duration::from_millis(20), Duration::from_secs(3600));
    for (said, closes, tls, limit) in [
        (&b""[..], false, Some(&acceptor), soon),
        (b"\x16\x03\x01", false, Some(&acceptor), soon),
        (b"GET / HTTP/1.1\r\n\r\n", false, Some(&acceptor), late),
        (b"", true, Some(&acceptor), late),
        (b"", true, None, late),
        (b"PRI * HTTP/2.0", false, None, soon),
    ] {
        let (mut client, server) = pair().await;
        client.write_all(said).await.unwrap();
        if closes {
            client.shutdown().await.unwrap();
        }
        // That it returns at all is the point: its task ends then, and the socket is closed.
        assert!(in_time(limit, open(server, tls, false), &stopping).await.is_none(), "{said:?}");
        // An end by close or by reset.
        _ = client.read_to_end(&mut Vec::new()).await;
    }
    let (_client, server) = pair().await;
    stopping.cancel();
    assert!(in_time(late, open(server, None, false), &stopping).await.is_none());
}

/// Never answers plain HTTP, and tells when work on a request begins and when it is dropped.
struct Never(mpsc::UnboundedSender<&'static str>);

struct Work(mpsc::UnboundedSender<&'static str>);

impl Drop for Work {
    fn drop(&mut self) {
        _ = self.0.send("dropped");
    }
}

impl Handler for Never {
    fn grpc(
        self: &Arc<Self>,
        path: &str,
        call: Call,
    ) -> Result<BoxFuture<'static, ()>, (Call, Status)> {
        Err((call, unknown_method(path, |_| false)))
    }

    async fn http(self: &Arc<Self>, _: Settings, _: http::Request<RequestBody>) -> Answer {
        self.0.send("begun").unwrap();
        let _work = Work(self.0.clone());
        std::future::pending().await
    }
}

#[tokio::test]
async fn gw_05_a_request_that_is_reset_is_not_worked_on_any_more() {
    let (told, mut tale) = mpsc::unbounded_channel();
    let (front, address) = serve(None, Never(told));
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{address}/v3/lock/lock")).body(()).unwrap();
    let (_response, mut body) = client.send_request(request, true).unwrap();
    assert_eq!(tale.recv().await, Some("begun"));
    body.send_reset(h2::Reason::CANCEL);
    // The connection goes on: it is the reset that ends the work.
    assert_eq!(tale.recv().await, Some("dropped"));
    assert!(!connection.is_finished());
    drop(client);
    front.stop();
}

/// Whoever is answered before its request is whole may take that for a failure, as curl does.
#[tokio::test]
async fn h_01_a_request_is_read_to_its_end_before_it_is_answered() {
    let (front, address) = start();
    let moment = Duration::from_millis(50);

    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = || http::Request::post(format!("http://{address}/x")).body(()).unwrap();
    let (mut response, mut body) = client.send_request(request(), false).unwrap();
    body.send_data(vec![b'x'; 1024].into(), false).unwrap();
    assert!(timeout(moment, &mut response).await.is_err(), "answered too early");
    body.send_data("x".into(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);

    // But not without end.
    let (response, mut body) = client.send_request(request(), false).unwrap();
    body.send_data(vec![b'x'; 4096].into(), false).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);

    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n1";
    client.write_all(head).await.unwrap();
    let mut answer = String::new();
    let early = timeout(moment, client.read_to_string(&mut answer)).await;
    assert!(early.is_err(), "answered too early");
    client.write_all(b"2").await.unwrap();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    front.stop();
}

#[tokio::test]
async fn tls_01_a_client_that_stalls_in_its_handshake_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let (acceptor, connector) = tls::self_signed_pair(folder.path());
    let (front, address) = start_with(Some(acceptor));
    // As many as there are threads, and more; one says half of something, one nothing.
    let mut stalled = Vec::new();
    for part in [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"", b"\x16", b""] {
        let mut client = net::TcpStream::connect(address).unwrap();
        client.write_all(part).unwrap();
        stalled.push(client);
    }
    let at = Address::Tcp { host: "127.0.0.1".to_owned(), port: address.port() };
    let mut client =
        connector.connect(Bare::connect(&at).await.unwrap(), "127.0.0.1").await.unwrap();
    client
        .write_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("HTTP/1.1 /health"), "{answer}");
    // One who does not know that it is TLS gets an end, and no answer.
    let mut plain = net::TcpStream::connect(address).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // An end by close or by reset.
    _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    drop(stalled);
    front.stop();
}
