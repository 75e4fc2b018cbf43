//! DNS discovery: the SRV records of a domain name the members of the initial cluster.
//!
//! `_etcd-server-ssl._tcp.<domain>` are members with https, `_etcd-server._tcp.<domain>` with http;
//! a suffix (`--discovery-srv-name`) follows the service's name. Who this member is among them is
//! found by its address; the others get numbers as names until they tell their own.

use std::net::SocketAddr;

use coracle_core::node::NodeConfig;

use super::dns;
use crate::config::settings::DiscoveryConfig;

pub(super) async fn initial_cluster(
    config: &DiscoveryConfig,
    node: &NodeConfig,
) -> Result<Vec<(String, String)>, String> {
    let suffix = match config.srv_name.as_str() {
        "" => String::new(),
        name => format!("-{name}"),
    };
    let mut cluster = Vec::new();
    let mut failures = Vec::new();
    for (scheme, service) in [("https", "etcd-server-ssl"), ("http", "etcd-server")] {
        let service = format!("{service}{suffix}");
        match members(config, node, scheme, &service, cluster.len()).await {
            Ok(found) => {
                tracing::info!(
                    service_scheme = scheme,
                    service_name = service,
                    server_name = node.name,
                    discovery_srv = config.srv,
                    found_cluster = format!("{found:?}"),
                    "get cluster for {service} SRV"
                );
                cluster.extend(found);
            }
            Err(error) => failures.push(error),
        }
    }
    if cluster.is_empty() {
        return Err(failures.join("\n"));
    }
    for (name, url) in &cluster {
        tracing::info!(node = format!("{name}={url}"), "got bootstrap from DNS for etcd-server");
    }
    if !cluster.iter().any(|(name, _)| *name == node.name) {
        return Err(format!("cannot find local etcd member {:?} in SRV records", node.name));
    }
    Ok(cluster)
}

/// The members that one service names; `number` is the first free one for a name.
async fn members(
    config: &DiscoveryConfig,
    node: &NodeConfig,
    scheme: &str,
    service: &str,
    mut number: usize,
) -> Result<Vec<(String, String)>, String> {
    let failed = |error: String| format!("error querying DNS SRV records for _{service} {error}");
    let mut own = Vec::new();
    for url in &node.advertise_peer_urls {
        let (url_scheme, host) = url.split_once("://").unwrap_or(("", url));
        let address = resolve(host).await.map_err(failed)?;
        own.push((address, url_scheme, url));
    }
    let name = format!("_{service}._tcp.{}", config.srv);
    let records = dns::lookup_srv(&name, config.nameserver.as_deref()).await.map_err(failed)?;
    let mut members = Vec::new();
    let mut failure = None;
    for record in records {
        let host = format!("{}:{}", record.target.trim_end_matches('.'), record.port);
        let address = match resolve(&host).await {
            Ok(address) => address,
            Err(error) => {
                failure = Some(error);
                continue;
            }
        };
        let url = format!("{scheme}://{host}");
        match own.iter().find(|(own, ..)| *own == address) {
            Some((_, own_scheme, own_url)) if *own_scheme != scheme => {
                failure = Some(format!(
                    "bootstrap at {url} from DNS for {service} has scheme mismatch with expected \
                     peer {own_url}"
                ));
            }
            Some(_) => members.push((node.name.clone(), url)),
            None => {
                members.push((number.to_string(), url));
                number += 1;
            }
        }
    }
    match failure {
        Some(error) if members.is_empty() => Err(failed(error)),
        _ => Ok(members),
    }
}

async fn resolve(host: &str) -> Result<SocketAddr, String> {
    let mut addresses =
        tokio::net::lookup_host(host).await.map_err(|error| format!("lookup {host}: {error}"))?;
    addresses.next().ok_or_else(|| format!("lookup {host}: no such host"))
}
