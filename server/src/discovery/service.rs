//! The v3 discovery protocol: members of a cluster to be meet under a token at another cluster.
//!
//! ```text
//! /_etcd/registry/<token>/_config/size        how many form the cluster; somebody puts it first
//! /_etcd/registry/<token>/members/<id>        "name=URL,name=URL" of each, in order of creation
//! ```
//!
//! A member registers itself, and waits until there are as many as the size says. Who comes later
//! finds the cluster full.

use std::time::Duration;

use coracle_core::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use coracle_core::api::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, request_op,
};
use coracle_core::api::mvccpb::KeyValue;
use coracle_core::cluster::bootstrap_members;
use coracle_core::node::NodeConfig;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::config::parse_initial_cluster;
use crate::config::settings::DiscoveryConfig;
use crate::grpc::etcdserverpb::kv_client::KvClient;

const REGISTRY: &str = "/_etcd/registry";
/// Between two looks at who has come.
const POLL: Duration = Duration::from_millis(250);
/// Requests that fail in a row before the service is given up (etcd: `nRetries`, without end; here
/// an operator sees a failed start instead of a silent one).
const RETRIES: u32 = 10;

/// Registers this member and answers the initial cluster.
pub(super) async fn join(
    config: &DiscoveryConfig,
    node: &NodeConfig,
) -> Result<Vec<(String, String)>, String> {
    let mut registry = Registry::connect(config)?;
    let size = registry.size().await?;
    let own_key = format!("{}/members/{}", registry.root, own_id(config, node)?);
    let own_value: Vec<_> =
        node.advertise_peer_urls.iter().map(|url| format!("{}={url}", node.name)).collect();
    registry.check_room(size, &own_key).await?;
    registry.register(&own_key, &own_value.join(",")).await?;
    tracing::info!(size, "registered at the discovery service; waiting for the other members");
    loop {
        let members = registry.members().await?;
        if members.len() >= size {
            return initial_cluster(&members[..size], &own_key);
        }
        tracing::info!(found = members.len(), needed = size, "waiting for more members");
        tokio::time::sleep(POLL).await;
    }
}

/// The identifier that this member would have in a cluster of its own, in hexadecimal.
fn own_id(config: &DiscoveryConfig, node: &NodeConfig) -> Result<String, String> {
    let alone: Vec<_> =
        node.advertise_peer_urls.iter().map(|url| (node.name.clone(), url.clone())).collect();
    let members = bootstrap_members(&alone, &config.token);
    let own = members.first().ok_or("--initial-advertise-peer-urls is empty")?;
    Ok(format!("{:x}", own.id))
}

/// The first `size` that came form the cluster; this member must be among them.
fn initial_cluster(members: &[KeyValue], own_key: &str) -> Result<Vec<(String, String)>, String> {
    if !members.iter().any(|member| member.key == own_key.as_bytes()) {
        return Err("discovery: cluster is full".to_owned());
    }
    let mut cluster = Vec::new();
    for member in members {
        let text = String::from_utf8_lossy(&member.value);
        let parsed = parse_initial_cluster(&text)
            .map_err(|error| format!("discovery: bad discovery endpoint: {error}"))?;
        cluster.extend(parsed);
    }
    Ok(cluster)
}

struct Registry {
    root: String,
    client: KvClient<Channel>,
    timeout: Duration,
}

impl Registry {
    fn connect(config: &DiscoveryConfig) -> Result<Registry, String> {
        let mut endpoints = Vec::new();
        for text in &config.endpoints {
            let url = if text.contains("://") { text.clone() } else { format!("http://{text}") };
            let endpoint = Endpoint::from_shared(url)
                .map_err(|error| format!("discovery: bad discovery endpoint {text:?}: {error}"))?
                .connect_timeout(config.dial_timeout)
                .http2_keep_alive_interval(config.keepalive_time)
                .keep_alive_timeout(config.keepalive_timeout);
            endpoints.push(endpoint);
        }
        let channel = Channel::balance_list(endpoints.into_iter());
        Ok(Registry {
            root: format!("{REGISTRY}/{}", config.token),
            client: KvClient::new(channel),
            timeout: config.request_timeout,
        })
    }

    async fn size(&mut self) -> Result<usize, String> {
        let key = format!("{}/_config/size", self.root).into_bytes().into();
        let found = self.range(RangeRequest { key, ..Default::default() }).await?;
        let stored = found.first().ok_or("discovery: size key not found")?;
        let size = String::from_utf8_lossy(&stored.value).parse().ok().filter(|size| *size > 0);
        size.ok_or_else(|| "discovery: size value for the cluster is bad".to_owned())
    }

    /// Who has registered, the first one first.
    async fn members(&mut self) -> Result<Vec<KeyValue>, String> {
        let mut end = format!("{}/members/", self.root).into_bytes();
        let key = end.clone().into();
        // The prefix ends in a slash, whose successor is the end of its range.
        end.pop();
        end.push(b'/' + 1);
        let request = RangeRequest {
            key,
            range_end: end.into(),
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            ..Default::default()
        };
        self.range(request).await
    }

    async fn check_room(&mut self, size: usize, own_key: &str) -> Result<(), String> {
        let members = self.members().await?;
        let known = members.iter().take(size).any(|member| member.key == own_key.as_bytes());
        if members.len() >= size && !known {
            return Err("discovery: cluster is full".to_owned());
        }
        Ok(())
    }

    /// Puts the member's key, unless a former start did: its place in the order must stay.
    async fn register(&mut self, key: &str, value: &str) -> Result<(), String> {
        let key: bytes::Bytes = key.as_bytes().to_vec().into();
        let put = PutRequest {
            key: key.clone(),
            value: value.as_bytes().to_vec().into(),
            ..Default::default()
        };
        let request = TxnRequest {
            compare: vec![Compare {
                result: compare::CompareResult::Equal as i32,
                target: compare::CompareTarget::Create as i32,
                key,
                target_union: Some(compare::TargetUnion::CreateRevision(0)),
                ..Default::default()
            }],
            success: vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
            failure: Vec::new(),
        };
        self.retry(async |client, timeout| {
            let mut request = Request::new(request.clone());
            request.set_timeout(timeout);
            client.txn(request).await.map(drop)
        })
        .await
    }

    async fn range(&mut self, request: RangeRequest) -> Result<Vec<KeyValue>, String> {
        self.retry(async |client, timeout| {
            let mut request = Request::new(request.clone());
            request.set_timeout(timeout);
            Ok(client.range(request).await?.into_inner().kvs)
        })
        .await
    }

    /// Asks until there is an answer, with growing pauses; what the service refuses is final.
    async fn retry<T>(
        &mut self,
        ask: impl AsyncFn(&mut KvClient<Channel>, Duration) -> Result<T, Status>,
    ) -> Result<T, String> {
        let mut pause = POLL;
        for attempt in 1.. {
            match ask(&mut self.client, self.timeout).await {
                Ok(answer) => return Ok(answer),
                Err(status) if attempt >= RETRIES || is_final(&status) => {
                    return Err(format!("discovery: {}", status.message()));
                }
                Err(status) => {
                    tracing::warn!(
                        error = status.message(),
                        "the discovery service does not answer; asking again"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(4));
                }
            }
        }
        Err("discovery: too many retries".to_owned())
    }
}

fn is_final(status: &Status) -> bool {
    use tonic::Code;
    !matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled)
}
