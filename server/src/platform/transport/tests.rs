//! Two transports on the loopback: what is answered, and what is refused.

use coracle_core::api::coraclepb as pb;
use pb::{peer_request::Request, peer_response::Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::frame::MAX_HELLO;
use super::*;
use crate::net::AsyncListener;
use crate::tls::{self, Policy};

const CLUSTER: u64 = 0xc1;
const LIMIT: Duration = Duration::from_secs(5);

/// Answers `ReadIndex` with the asking member, `Members` with the cluster, and never `MoveLeader`.
async fn answer(from: u64, request: PeerRequest) -> PeerResponse {
    let response = match request.request {
        Some(Request::ReadIndex(_)) => Response::ReadIndex(pb::ReadIndexResponse { index: from }),
        Some(Request::Members(_)) => {
            Response::Members(pb::MembersResponse { cluster_id: CLUSTER, ..Default::default() })
        }
        Some(Request::Propose(propose)) => Response::Propose(pb::ProposeResponse {
            results: vec![pb::ProposeResult::default(); propose.commands.len()],
        }),
        _ => std::future::pending().await,
    };
    PeerResponse { response: Some(response) }
}

/// A member 2 of [`CLUSTER`], and how to reach it.
async fn member_2() -> (PeerTarget, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let listener = AsyncListener::Tcp(listener);
    let stopping = CancellationToken::new();
    serve(listener, Traffic::default(), stopping.clone());
    (PeerTarget { id: 2, urls: vec![url] }, stopping)
}

/// Answers as member 2 of [`CLUSTER`], which has a member 1 besides.
fn serve(listener: AsyncListener, traffic: Traffic, stopping: CancellationToken) {
    let peers = PeerListener {
        identity: Identity { cluster_id: CLUSTER, member_id: 2 },
        handle: answer,
        knows: |id| id == 1,
        version: String::new,
        tls: None,
        handshakes: Handshakes::start().unwrap(),
        traffic,
        stopping,
    };
    tokio::spawn(peers.serve(listener));
}

fn connector() -> Connector {
    Connector::new(tls::Identity::default(), &Policy::default()).unwrap()
}

fn nameless() -> TcpTransport {
    TcpTransport::new(Handle::current(), Handshakes::start().unwrap(), connector(), None)
}

fn transport(cluster_id: u64) -> TcpTransport {
    let transport = nameless();
    transport.set_identity(Identity { cluster_id, member_id: 1 });
    transport
}

fn read_index() -> PeerRequest {
    PeerRequest { request: Some(Request::ReadIndex(pb::ReadIndex {})), asker: None }
}

/// A request of `length` bytes and a few.
fn propose(length: usize) -> PeerRequest {
    let request = pb::Propose { commands: vec![vec![1; length].into()] };
    PeerRequest { request: Some(Request::Propose(request)), asker: None }
}

fn members() -> PeerRequest {
    PeerRequest { request: Some(Request::Members(pb::Members {})), asker: None }
}

#[tokio::test]
async fn requests_are_answered_in_any_number_and_order() {
    let (target, _stopping) = member_2().await;
    let transport = transport(CLUSTER);
    let never = PeerRequest {
        request: Some(Request::MoveLeader(pb::MoveLeader { target: 3 })),
        asker: None,
    };
    let never = transport.call(target.clone(), never, Duration::from_millis(300));
    let large = propose(8 << 20);
    let mut calls = Vec::new();
    for _ in 0..100 {
        calls.push(transport.call(target.clone(), read_index(), LIMIT));
    }
    let (never, large, calls) = tokio::join!(
        never,
        transport.call(target, large, LIMIT),
        futures_util::future::join_all(calls)
    );
    assert_eq!(never, Err(TransportError::Timeout(Duration::from_millis(300))));
    assert!(large.is_ok());
    for call in calls {
        let expected = Response::ReadIndex(pb::ReadIndexResponse { index: 1 });
        assert_eq!(call.unwrap().response, Some(expected));
    }
}

#[tokio::test]
async fn another_cluster_and_the_wrong_member_are_refused() {
    let (target, _stopping) = member_2().await;
    let stranger = transport(0xbad).call(target.clone(), read_index(), LIMIT).await;
    let text = "the peer belongs to cluster c1, this member to bad".to_owned();
    assert_eq!(stranger, Err(TransportError::Refused(text)));
    let wrong = PeerTarget { id: 3, ..target };
    let mistaken = transport(CLUSTER).call(wrong, read_index(), LIMIT).await;
    let text = "member 2 answers where member 3 should".to_owned();
    assert_eq!(mistaken, Err(TransportError::Refused(text)));
}

#[tokio::test]
async fn before_it_knows_its_cluster_a_member_may_only_ask_for_members() {
    let (target, _stopping) = member_2().await;
    let transport = nameless();
    let unknown = PeerTarget { id: 0, ..target.clone() };
    assert!(transport.call(unknown.clone(), members(), LIMIT).await.is_ok());
    // Anything else waits, and then goes over another connection, with a name.
    let early = tokio::spawn(transport.call(target, read_index(), LIMIT));
    tokio::task::yield_now().await;
    transport.set_identity(Identity { cluster_id: CLUSTER, member_id: 1 });
    let expected = Response::ReadIndex(pb::ReadIndexResponse { index: 1 });
    assert_eq!(early.await.unwrap().unwrap().response, Some(expected));
}

#[tokio::test]
async fn a_request_of_a_stranger_ends_its_connection() {
    let (target, _stopping) = member_2().await;
    let anonymous = Hello { protocol: PROTOCOL, cluster_id: 0, from: 0, to: 0 };
    let hello = frame::encode(0, frame::Kind::Hello, &anonymous).unwrap();
    let request = frame::encode(1, frame::Kind::Request, &read_index()).unwrap();
    // Of one that claims to be long the rest is not waited for.
    let long = frame::encode(1, frame::Kind::Request, &propose(MAX_HELLO)).unwrap();
    for request in [request, long.slice(..16)] {
        let mut stream = TcpStream::connect(&target.urls[0]["http://".len()..]).await.unwrap();
        stream.write_all(&[hello.clone(), request].concat()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.len() < 64, "a Hello and nothing else");
    }
}

#[tokio::test]
async fn only_members_are_counted_by_name() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target =
        PeerTarget { id: 2, urls: vec![format!("http://{}", listener.local_addr().unwrap())] };
    let traffic = Traffic::default();
    serve(AsyncListener::Tcp(listener), traffic.clone(), CancellationToken::new());
    for member_id in [1, 77] {
        let transport = nameless();
        transport.set_identity(Identity { cluster_id: CLUSTER, member_id });
        transport.call(target.clone(), read_index(), LIMIT).await.unwrap();
    }
    assert_eq!(traffic.identifiers(), [0, 1], "77 says that it is 77, and nobody else does");
    let received = |id| traffic.counts(id).received;
    assert!(received(1) > 0 && received(0) == received(1), "{} {}", received(0), received(1));
}

#[tokio::test]
async fn an_unreachable_peer_fails_fast_and_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let transport = transport(CLUSTER);
    let target = PeerTarget { id: 2, urls: vec![format!("http://{address}")] };
    let failed = transport.call(target.clone(), read_index(), LIMIT).await;
    assert!(matches!(failed, Err(TransportError::Unreachable(_))), "{failed:?}");
    let listener = AsyncListener::Tcp(TcpListener::bind(address).await.unwrap());
    serve(listener, Traffic::default(), CancellationToken::new());
    // Until the pause is over requests fail at once.
    while transport.call(target.clone(), read_index(), LIMIT).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn cl_03_new_urls_count_when_the_connection_breaks() {
    let (target, stopping) = member_2().await;
    let transport = transport(CLUSTER);
    transport.call(target.clone(), read_index(), LIMIT).await.unwrap();
    let (moved, _stopping) = member_2().await;
    let nowhere = PeerTarget { id: 2, urls: vec!["http://127.0.0.1:1".to_owned()] };
    transport.call(nowhere, read_index(), LIMIT).await.expect("over the connection it has");
    transport.call(moved.clone(), read_index(), LIMIT).await.expect("the same");
    stopping.cancel();
    // Until it has noticed, requests fail.
    while transport.call(moved.clone(), read_index(), LIMIT).await.is_err() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_broken_connection_fails_its_requests_and_is_made_anew() {
    let (target, stopping) = member_2().await;
    let transport = transport(CLUSTER);
    transport.call(target.clone(), read_index(), LIMIT).await.unwrap();
    let never = PeerRequest {
        request: Some(Request::MoveLeader(pb::MoveLeader { target: 3 })),
        asker: None,
    };
    let waiting = tokio::spawn(transport.call(target.clone(), never, LIMIT));
    // Answered after the request above was read.
    transport.call(target, read_index(), LIMIT).await.unwrap();
    stopping.cancel();
    let broken = waiting.await.unwrap();
    assert!(matches!(broken, Err(TransportError::Broken(_))), "{broken:?}");
}

#[tokio::test]
async fn garbage_is_dropped() {
    let (target, _stopping) = member_2().await;
    let address = &target.urls[0]["http://".len()..];
    for garbage in [
        &b"GET /version HTTP/1.1\r\n\r\n"[..],
        &[0xff; 5000],
        &[0; 13],
        b"\0\0\0\x0a\0\0\0\0\0\0\0\0\0\x08",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        // An end, by close or by reset; how many bytes came before it does not matter.
        _ = stream.read_to_end(&mut Vec::new()).await;
    }
    transport(CLUSTER).call(target, read_index(), LIMIT).await.unwrap();
}

/// The gate `SetMemberLocalAddr`: peers may tell members apart by where they call from.
#[tokio::test]
async fn cfg_01_peers_are_dialled_from_the_address_that_is_set() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    for local in ["127.0.0.1", "127.0.0.2"] {
        let local: IpAddr = local.parse().unwrap();
        let handshakes = Handshakes::start().unwrap();
        let transport = TcpTransport::new(Handle::current(), handshakes, connector(), Some(local));
        let target = PeerTarget { id: 0, urls: vec![url.clone()] };
        let call = transport.call(target, members(), LIMIT);
        tokio::select! {
            answer = call => panic!("nobody answers: {answer:?}"),
            accepted = listener.accept() => assert_eq!(accepted.unwrap().1.ip(), local),
        }
    }
}
