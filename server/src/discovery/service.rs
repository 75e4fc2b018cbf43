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
use coracle_core::error::Code;
use coracle_core::node::NodeConfig;
use coracle_ctl::client::{Client, RpcError};
use coracle_ctl::environment::{Connection, Credentials, Tls};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use crate::config::parse_initial_cluster;
use crate::config::settings::DiscoveryConfig;
use crate::ctl_client::client::{GrpcClient, rpc_error};

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
    let mut registry = Registry::new(config);
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
    connection: Connection,
    /// None while nothing answered, or what did has failed since.
    client: Option<GrpcClient>,
    timeout: Duration,
}

impl Registry {
    fn new(config: &DiscoveryConfig) -> Registry {
        let file = |path: &str| Some(path.to_owned()).filter(|path| !path.is_empty());
        let credentials = (!config.user.is_empty()).then(|| {
            let given = (config.user.as_str(), config.password.as_str());
            let (user, password) = match config.user.split_once(':') {
                Some(both) if config.password.is_empty() => both,
                _ => given,
            };
            Credentials::User(user.to_owned(), password.to_owned())
        });
        let connection = Connection {
            endpoints: config.endpoints.clone(),
            dial_timeout: config.dial_timeout,
            keepalive_time: config.keepalive_time,
            keepalive_timeout: config.keepalive_timeout,
            max_request_bytes: 0,
            max_receive_bytes: 0,
            tls: Tls {
                certificate: file(&config.cert_file),
                key: file(&config.key_file),
                trusted_ca: file(&config.ca_file),
                skip_verify: config.insecure_skip_tls_verify,
                insecure_transport: config.insecure_transport,
                server_name: None,
            },
            credentials,
        };
        Registry {
            root: format!("{REGISTRY}/{}", config.token),
            connection,
            client: None,
            timeout: config.request_timeout,
        }
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
        self.retry(async |client| client.txn(request.clone()).await.map(drop)).await
    }

    async fn range(&mut self, request: RangeRequest) -> Result<Vec<KeyValue>, String> {
        self.retry(async |client| Ok(client.range(request.clone()).await?.kvs)).await
    }

    /// Asks until there is an answer, with growing pauses; what the service refuses is final.
    async fn retry<T>(
        &mut self,
        ask: impl AsyncFn(&GrpcClient) -> Result<T, RpcError>,
    ) -> Result<T, String> {
        let mut pause = POLL;
        for attempt in 1.. {
            match self.attempt(&ask).await {
                Ok(answer) => return Ok(answer),
                Err(error) if attempt >= RETRIES || is_final(&error) => {
                    return Err(format!("discovery: {error}"));
                }
                Err(error) => {
                    tracing::warn!(%error, "the discovery service does not answer; asking again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(4));
                }
            }
        }
        Err("discovery: too many retries".to_owned())
    }

    async fn attempt<T>(
        &mut self,
        ask: impl AsyncFn(&GrpcClient) -> Result<T, RpcError>,
    ) -> Result<T, RpcError> {
        let late =
            |_: Elapsed| rpc_error(Code::DeadlineExceeded, "context deadline exceeded".to_owned());
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let connect = GrpcClient::connect(self.connection.clone());
                let limit = self.connection.dial_timeout + self.timeout;
                timeout(limit, connect).await.map_err(late)??
            }
        };
        let answer = timeout(self.timeout, ask(&client)).await.map_err(late)??;
        self.client = Some(client);
        Ok(answer)
    }
}

/// A token that has expired is no refusal: the next attempt logs in again.
fn is_final(error: &RpcError) -> bool {
    let passing =
        [Code::Canceled, Code::DeadlineExceeded, Code::Unavailable, Code::Unauthenticated];
    !passing.into_iter().any(|code| code as u32 == error.code)
}
