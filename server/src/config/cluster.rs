//! The initial cluster: who forms it, or who is asked.

use super::build::{advertisable, boolean, duration, is_default, list, text};
use super::settings::DiscoveryConfig;
use super::sources::Values;
use super::urls::Url;

pub(super) fn discovery_config(values: &Values) -> Result<DiscoveryConfig, String> {
    let endpoints = list(values, "discovery-endpoints");
    let config = DiscoveryConfig {
        token: text(values, "discovery-token"),
        endpoints,
        dial_timeout: duration(values, "discovery-dial-timeout"),
        request_timeout: duration(values, "discovery-request-timeout"),
        keepalive_time: duration(values, "discovery-keepalive-time"),
        keepalive_timeout: duration(values, "discovery-keepalive-timeout"),
        insecure_transport: boolean(values, "discovery-insecure-transport"),
        insecure_skip_tls_verify: boolean(values, "discovery-insecure-skip-tls-verify"),
        cert_file: text(values, "discovery-cert"),
        key_file: text(values, "discovery-key"),
        ca_file: text(values, "discovery-cacert"),
        user: text(values, "discovery-user"),
        password: text(values, "discovery-password"),
        srv: text(values, "discovery-srv"),
        srv_name: text(values, "discovery-srv-name"),
        nameserver: Some(text(values, "nameserver")).filter(|server| !server.is_empty()),
    };
    let ways = [
        !is_default(values, "initial-cluster"),
        !config.srv.is_empty(),
        !config.endpoints.is_empty(),
    ];
    if ways.into_iter().filter(|given| *given).count() > 1 {
        return Err("multiple discovery or bootstrap flags are set. Choose one of \
                    \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\""
            .to_owned());
    }
    if config.token.is_empty() != config.endpoints.is_empty() {
        return Err("both --discovery-token and --discovery-endpoints must be set".to_owned());
    }
    if config.endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err("--discovery-endpoints must not contain empty endpoints".to_owned());
    }
    Ok(config)
}

/// This member's peer URLs.
pub(super) fn advertised_peer_urls(values: &Values) -> Result<Vec<String>, String> {
    advertisable(values, "initial-advertise-peer-urls").map_err(|(given, error)| {
        format!("--initial-advertise-peer-urls {given:?} must be \"host:port\" ({error})")
    })
}

pub(super) fn advertised_client_urls(values: &Values) -> Result<Vec<String>, String> {
    advertisable(values, "advertise-client-urls").map_err(|(given, error)| {
        format!(
            "--advertise-client-urls {given:?} must be in the format \"host:port\", \
             \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({error})"
        )
    })
}

/// The initial cluster as (name, peer URL); a member alone if nothing is said, and only itself as
/// long as a discovery is to come.
pub(super) fn initial_cluster(
    values: &Values,
    name: &str,
    advertised: &[String],
) -> Result<Vec<(String, String)>, String> {
    match values.get("initial-cluster") {
        "" => Ok(advertised.iter().map(|url| (name.to_owned(), url.clone())).collect()),
        text => parse_initial_cluster(text),
    }
}

/// `name=URL,name=URL,…`; one name may have several URLs.
pub(crate) fn parse_initial_cluster(text: &str) -> Result<Vec<(String, String)>, String> {
    text.split(',')
        .map(|entry| {
            let (name, url) = entry.trim().split_once('=').ok_or_else(|| {
                format!("--initial-cluster has {entry:?}, which is not of the form name=URL")
            })?;
            let url = Url::parse(url)?;
            url.check_advertisable()?;
            Ok((name.to_owned(), url.to_string()))
        })
        .collect()
}
