//! What clients may do on the wire that their libraries seldom do.

use std::time::Duration;

use anyhow::{Context, Result};
use coracle_core::api::etcdserverpb::watch_request::RequestUnion;
use coracle_core::api::etcdserverpb::{
    PutRequest, RangeRequest, WatchCreateRequest, WatchRequest, WatchResponse,
};
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::grpc::{KvClient, WatchClient};
use prost::Message;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::Streaming;

const DEADLINE: Duration = Duration::from_secs(20);

/// A newer client's fields are passed over, and the number of a newer sort order is kept for the
/// check that refuses it.
#[test]
fn w_10_unknown_fields_and_numbers_do_not_spoil_a_message() -> Result<()> {
    let mut bytes = PutRequest { key: "key".into(), ..Default::default() }.encode_to_vec();
    // Field 99, as a number: 7.
    bytes.extend([0x98, 0x06, 0x07]);
    assert_eq!(PutRequest::decode(&*bytes)?.key, "key");
    // Field 5, the sort order.
    assert_eq!(RangeRequest::decode(&[0x28, 77][..])?.sort_order, 77);
    Ok(())
}

/// A client that has said all it wants to say goes on listening.
#[tokio::test(flavor = "multi_thread")]
async fn watch_19_a_half_closed_stream_goes_on() -> Result<()> {
    for kind in [Kind::Etcd, Kind::Coracle] {
        let cluster = tokio::task::block_in_place(|| Cluster::start(kind, 1))?;
        let mut watch = WatchClient::connect(cluster.endpoint(0)).await?;
        let create = WatchCreateRequest { key: "key".into(), ..Default::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // The stream of requests ends after the first.
        let replies = watch.watch(tokio_stream::iter([request])).await;
        let mut replies = replies.with_context(|| format!("{kind:?}"))?.into_inner();
        assert!(next(&mut replies).await?.created, "{kind:?}");
        let mut kv = KvClient::connect(cluster.endpoint(0)).await?;
        for value in ["one", "two"] {
            let put = PutRequest { key: "key".into(), value: value.into(), ..Default::default() };
            kv.put(put).await?;
            let events = next(&mut replies).await?.events;
            let seen = events.first().and_then(|event| event.kv.as_ref()).map(|kv| &kv.value[..]);
            assert_eq!(seen, Some(value.as_bytes()), "{kind:?}");
        }
    }
    Ok(())
}

async fn next(replies: &mut Streaming<WatchResponse>) -> Result<WatchResponse> {
    let reply = timeout(DEADLINE, replies.next()).await.context("no reply in time")?;
    reply.context("the stream ended")?.context("the stream failed")
}
