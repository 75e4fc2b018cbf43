//! How member and cluster identifiers are made: SHA-1 prefixes, as etcd makes them. CL-02.

use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

use crate::api::etcdserverpb::Member;

/// The identifier of a member: of its sorted peer URLs and the cluster token when the cluster is
/// formed; of its URLs and the moment, in Unix seconds, when it is added later.
pub fn member_id(peer_urls: &[String], token: &str, added_unix_seconds: Option<u64>) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut text = urls.concat();
    text.push_str(token);
    if let Some(seconds) = added_unix_seconds {
        text.push_str(&seconds.to_string());
    }
    prefix(text.as_bytes())
}

/// The identifier of a cluster: of the sorted identifiers of its first members.
pub fn cluster_id(members: &[Member]) -> u64 {
    let mut ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    ids.sort_unstable();
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_be_bytes()).collect();
    prefix(&bytes)
}

/// The members that `--initial-cluster` describes, with their identifiers, ordered by name.
pub fn bootstrap_members(initial_cluster: &[(String, String)], token: &str) -> Vec<Member> {
    let mut urls_by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, url) in initial_cluster {
        urls_by_name.entry(name).or_default().push(url.clone());
    }
    urls_by_name
        .into_iter()
        .map(|(name, mut urls)| {
            urls.sort_unstable();
            Member {
                id: member_id(&urls, token, None),
                name: name.to_owned(),
                peer_ur_ls: urls,
                client_ur_ls: Vec::new(),
                is_learner: false,
            }
        })
        .collect()
}

fn prefix(bytes: &[u8]) -> u64 {
    let digest = Sha1::digest(bytes);
    digest.iter().take(8).fold(0, |id, byte| (id << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The identifiers that etcd itself prints for its default one-member cluster.
    #[test]
    fn cl_02_default_cluster_has_etcds_identifiers() {
        let initial = [("default".to_owned(), "http://localhost:2380".to_owned())];
        let members = bootstrap_members(&initial, "etcd-cluster");
        assert_eq!(members[0].id, 0x8e9e_05c5_2164_694d);
        assert_eq!(cluster_id(&members), 0xcdf8_1819_4e3a_8c32);
    }
}
