//! DNS discovery for clients: the SRV records of a domain name the members' client URLs.
//!
//! `_etcd-client-ssl._tcp.<domain>` are members with https, `_etcd-client._tcp.<domain>` with http;
//! a suffix follows the service's name.

use std::fmt;

use super::dns;

/// The DNS server to ask (`address:port`) instead of the system's: for tests.
const NAMESERVER: &str = "CORACLE_NAMESERVER";

/// A member as a record names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) secure: bool,
    /// `host:port`
    pub(crate) address: String,
    pub(crate) priority: u16,
    pub(crate) weight: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.secure { "https" } else { "http" }, self.address)
    }
}

/// The members that `domain` names; those with https first.
pub(crate) async fn clients(domain: &str, suffix: &str) -> Result<Vec<Endpoint>, String> {
    let nameserver = std::env::var(NAMESERVER).ok();
    let mut endpoints = Vec::new();
    let mut failures = Vec::new();
    for (secure, service) in [(true, "etcd-client-ssl"), (false, "etcd-client")] {
        let service = if suffix.is_empty() { service } else { &format!("{service}-{suffix}") };
        let name = format!("_{service}._tcp.{domain}");
        match dns::lookup_srv(&name, nameserver.as_deref()).await {
            Ok(records) => endpoints.extend(records.into_iter().map(|record| Endpoint {
                secure,
                address: format!("{}:{}", record.target.trim_end_matches('.'), record.port),
                priority: record.priority,
                weight: record.weight,
            })),
            Err(error) => failures.push(error),
        }
    }
    match &failures[..] {
        [https, http] => Err(format!("dns lookup errors: {https} and {http}")),
        _ => Ok(endpoints),
    }
}
