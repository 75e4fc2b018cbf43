//! Who this member is: read from its data, computed from the flags, or learned from the cluster
//! that it joins.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::version::OWN_VERSION;
use super::{InitialClusterState, NodeConfig, StartError};
use crate::api::coraclepb as pb;
use crate::api::coraclepb::peer_request::Request;
use crate::api::coraclepb::peer_response::Response;
use crate::api::etcdserverpb::Member;
use crate::backend::{Backend, Bucket};
use crate::cluster::{ClusterVersion, Members, Version, bootstrap_members, cluster_id};
use crate::error::Fatal;
use crate::platform::{PeerTarget, Platform, parse_peer_url};
use crate::raft::types::AsyncRuntime;

/// The key in the Meta bucket of the member's and the cluster's identifier.
const IDENTITY_KEY: &[u8] = b"identity";
/// How long one member of the cluster to join may take to answer.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a joining member asks around, and how long it waits in between.
const JOIN_PATIENCE: Duration = Duration::from_secs(3);
const JOIN_PAUSE: Duration = Duration::from_millis(100);

/// This member's place in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) member_id: u64,
    pub(super) cluster_id: u64,
}

/// What a start found out.
pub(super) struct Bootstrap {
    pub(super) identity: Identity,
    /// The voters of a cluster to be formed; empty for a restart or a joining member.
    pub(super) form: BTreeSet<u64>,
}

/// Finds this member's identity and seeds the member table. Flags about the initial cluster count
/// only for a new data directory, as in etcd.
pub(super) async fn bootstrap<P: Platform>(
    config: &NodeConfig,
    platform: &P,
    backend: &Backend,
    members: &Members,
) -> Result<Bootstrap, StartError> {
    let stored = load_identity(backend)?;
    let initial = bootstrap_members(&config.initial_cluster, &config.initial_cluster_token);
    if let Some(identity) = stored {
        return Ok(restart(identity, initial, members));
    }
    check_initial_cluster(config)?;
    let (identity, form) = match config.initial_cluster_state {
        InitialClusterState::New => {
            let formed = form_new(config, initial, members)?;
            refuse_a_second_start(config, platform, formed.0).await?;
            formed
        }
        InitialClusterState::Existing => (join(config, platform, members).await?, BTreeSet::new()),
    };
    store_identity(backend, identity);
    backend.flush()?;
    Ok(Bootstrap { identity, form })
}

/// Data that a newer release may have written is left alone: this one would not know what it means.
pub(super) fn check_version(stored: &ClusterVersion) -> Result<(), StartError> {
    match stored.get() {
        Some(version) if version > OWN_VERSION => Err(StartError::Config(format!(
            "invalid downgrade; server version is lower than determined cluster version \
             (current-server-version: {}, determined-cluster-version: {version})",
            super::ETCD_VERSION
        ))),
        _ => Ok(()),
    }
}

/// A member that stopped before the first leader recorded the members still needs the seeds.
fn restart(identity: Identity, initial: Vec<Member>, members: &Members) -> Bootstrap {
    let mut form = BTreeSet::new();
    if cluster_id(&initial) == identity.cluster_id {
        form = initial.iter().map(|member| member.id).collect();
        members.seed(initial, true);
    }
    Bootstrap { identity, form }
}

fn form_new(
    config: &NodeConfig,
    initial: Vec<Member>,
    members: &Members,
) -> Result<(Identity, BTreeSet<u64>), StartError> {
    let own = own_member(&initial, &config.name, &config.advertise_peer_urls);
    let own = own.map_err(StartError::Config)?;
    let identity = Identity { member_id: own.id, cluster_id: cluster_id(&initial) };
    let voters = initial.iter().map(|member| member.id).collect();
    members.seed(initial, true);
    Ok((identity, voters))
}

/// A member whose data is lost must not come back as if it were new: it would vote for leaders that
/// lack what it has acknowledged. The others know it if it has started before. (etcd
/// `isMemberBootstrapped`)
async fn refuse_a_second_start<P: Platform>(
    config: &NodeConfig,
    platform: &P,
    own: Identity,
) -> Result<(), StartError> {
    if config.bootstrap_patience.is_zero() {
        return Ok(());
    }
    let others = config.initial_cluster.iter().filter(|(name, _)| *name != config.name);
    for (_, url) in others {
        // Who does not answer has not started either, as far as can be known.
        let Ok(answer) = ask_for_members(platform, url, config.bootstrap_patience).await else {
            continue;
        };
        let known = answer.members.iter().find(|member| member.id == own.member_id);
        if known.is_some_and(|member| !member.client_ur_ls.is_empty()) {
            return Err(StartError::Join(format!(
                "member {:x} has already been bootstrapped: a member whose data is lost must be \
                 removed and added again",
                own.member_id
            )));
        }
    }
    Ok(())
}

/// The member table of who listens at `url`, or why there is none.
async fn ask_for_members<P: Platform>(
    platform: &P,
    url: &str,
    patience: Duration,
) -> Result<pb::MembersResponse, String> {
    let target = PeerTarget { id: 0, urls: vec![url.to_owned()] };
    let request = pb::PeerRequest { request: Some(Request::Members(pb::Members {})), asker: None };
    match platform.transport().call(target, request, patience).await {
        Ok(pb::PeerResponse { response: Some(Response::Members(answer)) }) => Ok(answer),
        Ok(_) => Err("an unexpected answer".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The record of this member in a cluster of itself alone: that of the table, or, where the log
/// ended before it told of this member, what its own flags say. A learner becomes a voter.
pub(super) fn member_alone(config: &NodeConfig, own: Identity, members: &Members) -> Member {
    let known = members.get(own.member_id).unwrap_or_else(|| Member {
        id: own.member_id,
        name: config.name.clone(),
        peer_ur_ls: config.advertise_peer_urls.clone(),
        ..Member::default()
    });
    Member { is_learner: false, ..known }
}

/// The member called `name` among the initial ones, which must have exactly the URLs that it
/// advertises.
pub(crate) fn own_member<'a>(
    initial: &'a [Member],
    name: &str,
    advertised: &[String],
) -> Result<&'a Member, String> {
    let own = initial.iter().find(|member| member.name == name).ok_or_else(|| {
        format!("couldn't find local name \"{name}\" in the initial cluster configuration")
    })?;
    check_own_urls(name, &own.peer_ur_ls, advertised)?;
    Ok(own)
}

fn check_own_urls(name: &str, own: &[String], advertised: &[String]) -> Result<(), String> {
    let mut advertised = advertised.to_vec();
    advertised.sort_unstable();
    let apart = |these: &[String], those: &[String]| {
        let apart: Vec<_> = these
            .iter()
            .filter(|url| !those.contains(url))
            .map(|url| format!("{name}={url}"))
            .collect();
        apart.join(",")
    };
    let given = advertised.join(",");
    let missing = apart(&advertised, own);
    let unknown = apart(own, &advertised);
    if !missing.is_empty() {
        return Err(format!(
            "--initial-cluster must include {missing} given --initial-advertise-peer-urls={given}"
        ));
    }
    if !unknown.is_empty() {
        return Err(format!(
            "--initial-cluster has {unknown} but missing from \
             --initial-advertise-peer-urls={given}"
        ));
    }
    Ok(())
}

fn check_initial_cluster(config: &NodeConfig) -> Result<(), StartError> {
    if config.initial_cluster.is_empty() {
        return Err(StartError::Config(
            "--initial-cluster is empty: it must name at least this member".to_owned(),
        ));
    }
    let mut seen = BTreeSet::new();
    for (_, url) in &config.initial_cluster {
        parse_peer_url(url).map_err(StartError::Config)?;
        if !seen.insert(url) {
            return Err(StartError::Config(format!(
                "--initial-cluster has the peer URL {url} more than once"
            )));
        }
    }
    Ok(())
}

/// Finds the cluster to join. A member that has not heard of `member add` yet says that there is no
/// such member, so those who know nothing, or do not answer, are asked again for a while.
async fn join<P: Platform>(
    config: &NodeConfig,
    platform: &P,
    members: &Members,
) -> Result<Identity, StartError> {
    let begin = platform.monotonic();
    loop {
        let refused = match ask_around(config, platform, members).await {
            Ok(identity) => return Ok(identity),
            Err(refused) => refused,
        };
        if platform.monotonic().saturating_sub(begin) > JOIN_PATIENCE {
            return Err(refused);
        }
        P::Runtime::sleep(JOIN_PAUSE).await;
    }
}

/// Asks the members of `--initial-cluster` for the member table, which `member add` must have put
/// this member into.
async fn ask_around<P: Platform>(
    config: &NodeConfig,
    platform: &P,
    members: &Members,
) -> Result<Identity, StartError> {
    let mut failures = Vec::new();
    let mut unknown = None;
    for (name, url) in &config.initial_cluster {
        if *name == config.name {
            continue;
        }
        match ask_for_members(platform, url, JOIN_TIMEOUT).await {
            Ok(answer) => match adopt(config, answer, members) {
                Ok(identity) => return Ok(identity),
                Err(refused) => unknown = Some(refused),
            },
            Err(error) => failures.push(format!("{url}: {error}")),
        }
    }
    // What a member says of us tells more than that another is silent.
    Err(unknown.unwrap_or_else(|| StartError::Join(format!(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the \
         given URLs ({})",
        failures.join("; ")
    ))))
}

fn adopt(
    config: &NodeConfig,
    answer: pb::MembersResponse,
    members: &Members,
) -> Result<Identity, StartError> {
    let mut advertised = config.advertise_peer_urls.clone();
    advertised.sort_unstable();
    let own = answer.members.iter().find(|member| {
        let mut urls = member.peer_ur_ls.clone();
        urls.sort_unstable();
        urls == advertised
    });
    let Some(own) = own else {
        return Err(StartError::Join(format!(
            "the cluster has no member with the peer URLs {}: run `etcdctl member add {} \
             --peer-urls={}` first",
            advertised.join(","),
            config.name,
            advertised.join(",")
        )));
    };
    if !own.name.is_empty() && own.name != config.name {
        return Err(StartError::Join(format!(
            "the member with these peer URLs has already started under the name {}; a member whose \
             data is lost must be removed and added again",
            own.name
        )));
    }
    if answer.cluster_version.parse().is_ok_and(|version: Version| version > OWN_VERSION) {
        return Err(StartError::Join(format!(
            "incompatible with current running cluster: its version is {}, this member's {}",
            answer.cluster_version,
            OWN_VERSION.full()
        )));
    }
    let identity = Identity { member_id: own.id, cluster_id: answer.cluster_id };
    members.seed(answer.members, false);
    Ok(identity)
}

fn load_identity(backend: &Backend) -> Result<Option<Identity>, Fatal> {
    let Some(bytes) = backend.get(Bucket::Meta, IDENTITY_KEY)? else { return Ok(None) };
    let bytes: [u8; 16] = bytes[..]
        .try_into()
        .map_err(|_| Fatal::Backend("the identity record has a wrong length".to_owned()))?;
    let number = |part: &[u8]| part.iter().fold(0, |id, byte| (id << 8) | u64::from(*byte));
    let (member, cluster) = bytes.split_at(8);
    Ok(Some(Identity { member_id: number(member), cluster_id: number(cluster) }))
}

fn store_identity(backend: &Backend, identity: Identity) {
    let (key, record) = identity_record(identity.member_id, identity.cluster_id);
    backend.put(Bucket::Meta, key, record);
}

/// The key in the Meta bucket and the value of a member's identity.
pub(crate) fn identity_record(member_id: u64, cluster_id: u64) -> (Bytes, Bytes) {
    let mut record = Vec::with_capacity(16);
    record.extend_from_slice(&member_id.to_be_bytes());
    record.extend_from_slice(&cluster_id.to_be_bytes());
    (Bytes::from_static(IDENTITY_KEY), record.into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::BackendOptions;
    use crate::platform::MemoryDisk;

    #[test]
    fn cl_07_a_member_does_not_join_a_cluster_that_speaks_a_newer_version() {
        let config = NodeConfig::single("new", "http://n:2380");
        let disk = Arc::new(MemoryDisk::default());
        let backend = Arc::new(Backend::open(disk, BackendOptions::default()).unwrap());
        let members = Members::open(backend).unwrap();
        let own = Member { id: 5, peer_ur_ls: vec!["http://n:2380".into()], ..<_>::default() };
        for (cluster_version, joins) in
            [("", true), ("3.6.0", true), ("3.7.0", true), ("3.8.0", false)]
        {
            let answer = pb::MembersResponse {
                cluster_id: 7,
                members: vec![own.clone()],
                cluster_version: cluster_version.to_owned(),
                ..<_>::default()
            };
            match adopt(&config, answer, &members) {
                Ok(identity) => assert!(joins && identity.cluster_id == 7, "{cluster_version}"),
                Err(refused) => {
                    let expected = "incompatible with current running cluster";
                    assert!(!joins && refused.to_string().starts_with(expected), "{refused}");
                }
            }
        }
    }
}
