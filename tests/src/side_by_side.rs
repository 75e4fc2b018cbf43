//! etcd and Coracle asked the same over plain HTTP, and their JSON made comparable.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cluster::{Cluster, Kind};
use crate::http::HttpClient;

/// Flags of every member that a test of HTTP starts.
pub const FLAGS: [&str; 2] = ["--unsafe-no-fsync", "--log-level=error"];

/// Fields that tell servers apart, or sizes that do.
const MASKED: &[&str] = &[
    "cluster_id",
    "member_id",
    "raft_term",
    "memberID",
    "leader",
    "version",
    "dbSize",
    "dbSizeInUse",
    "raftIndex",
    "raftTerm",
    "raftAppliedIndex",
    "hash",
    "peerURLs",
    "clientURLs",
    "remaining_bytes",
    "blob",
];
/// Fields that etcd 3.5.1 does not have, and the one that only it has (GW-04).
const LEFT_OUT: &[&str] =
    &["hash_revision", "storageVersion", "dbSizeQuota", "downgradeInfo", "error"];

/// etcd and Coracle with one member each, and `flags`.
pub fn start_both(flags: &[&str]) -> Result<(Cluster, Cluster)> {
    let flags = [&FLAGS, flags].concat();
    Ok((
        Cluster::start_with(Kind::Etcd, 1, &flags)?,
        Cluster::start_with(Kind::Coracle, 1, &flags)?,
    ))
}

/// A client of each.
pub fn clients(clusters: &(Cluster, Cluster)) -> [HttpClient; 2] {
    [&clusters.0, &clusters.1].map(|cluster| HttpClient::new(&cluster.client_address(0)))
}

/// `value` without what may differ.
pub fn comparable(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str()));
            let masked = kept.map(|(name, value)| {
                let value = match MASKED.contains(&name.as_str()) {
                    // The type is compared all the same.
                    true if value.is_string() => json!("masked"),
                    true if value.is_number() => json!(0),
                    true => json!([]),
                    // A member's own identifier; others are leases, and small.
                    false if name == "ID" && value.as_str().is_some_and(|id| id.len() > 6) => {
                        json!("masked")
                    }
                    // What is left of a lease of 100 seconds.
                    false if name == "TTL" && (value == "99" || value == "98") => json!("100"),
                    false => comparable(value),
                };
                (name.clone(), value)
            });
            Value::Object(masked.collect())
        }
        Value::Array(items) => items.iter().map(comparable).collect(),
        other => other.clone(),
    }
}
