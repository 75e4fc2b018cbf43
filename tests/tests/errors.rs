//! The errors of etcd's table (`core/src/error.rs`, ETCD.md 2.12) that a client can provoke, by
//! code and text. What real etcd 3.5.1 has too is asked of both.
//!
//! | errors | provoked by |
//! |---|---|
//! | of keys, leases, members, maintenance; `request timed out` | this file |
//! | `no leader`, `invalid client api version`, `rpc not supported for learner` | `services.rs` |
//! | `cluster has a downgrade job in progress` | `services.rs` |
//! | of users, roles, tokens and rights | the tests of authentication |
//!
//! Which test provokes which error stands in `docs/errors.md` (see `provoked.rs`).

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coracle_core::api::etcdserverpb::alarm_request::AlarmAction;
use coracle_core::api::etcdserverpb::request_op::Request as OpRequest;
use coracle_core::api::etcdserverpb::*;
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::grpc::{KvClient, MaintenanceClient};
use coracle_tests::raw::{RawClient, leader_of};
use prost::Message;
use tonic::Code;

const DEADLINE: Duration = Duration::from_secs(30);

/// A call, and how it is refused.
struct Case {
    path: &'static str,
    request: Vec<u8>,
    code: Code,
    message: &'static str,
    /// Whether 3.5.1 refuses it in the same way.
    etcd: bool,
}

fn case(path: &'static str, request: impl Message, code: Code, message: &'static str) -> Case {
    Case { path, request: request.encode_to_vec(), code, message, etcd: true }
}

fn not_etcd(case: Case) -> Case {
    Case { etcd: false, ..case }
}

fn put() -> PutRequest {
    PutRequest { key: "k".into(), value: "v".into(), ..Default::default() }
}

fn range() -> RangeRequest {
    RangeRequest { key: "k".into(), ..Default::default() }
}

fn puts(count: usize) -> TxnRequest {
    let op = |n: usize| {
        let put = PutRequest { key: format!("k{n}").into(), ..Default::default() };
        RequestOp { request: Some(OpRequest::RequestPut(put)) }
    };
    TxnRequest { success: (0..count).map(op).collect(), ..Default::default() }
}

/// What is wrong with a request whatever the state is, on a store whose revision 2 is compacted.
fn of_keys() -> Vec<Case> {
    use Code::{InvalidArgument, NotFound, OutOfRange};
    let (kv_range, kv_put) = ("/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put");
    let (txn, compact) = ("/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Compact");
    let empty_key = "etcdserver: key is not provided";
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    let future = "etcdserver: mvcc: required revision is a future revision";
    let no_key = "etcdserver: key not found";
    let no_lease = "etcdserver: requested lease not found";
    let twice =
        TxnRequest { success: [puts(1).success, puts(1).success].concat(), ..Default::default() };
    let nothing = TxnRequest { success: vec![RequestOp::default()], ..Default::default() };
    vec![
        case(kv_range, RangeRequest::default(), InvalidArgument, empty_key),
        case(kv_put, PutRequest::default(), InvalidArgument, empty_key),
        case(
            "/etcdserverpb.KV/DeleteRange",
            DeleteRangeRequest::default(),
            InvalidArgument,
            empty_key,
        ),
        case(
            kv_put,
            PutRequest { key: "none".into(), ignore_value: true, ..Default::default() },
            InvalidArgument,
            no_key,
        ),
        case(txn, nothing, InvalidArgument, no_key),
        case(
            kv_put,
            PutRequest { ignore_value: true, ..put() },
            InvalidArgument,
            "etcdserver: value is provided",
        ),
        case(
            kv_put,
            PutRequest { ignore_lease: true, lease: 1, ..put() },
            InvalidArgument,
            "etcdserver: lease is provided",
        ),
        case(txn, puts(129), InvalidArgument, "etcdserver: too many operations in txn request"),
        case(txn, twice, InvalidArgument, "etcdserver: duplicate key given in txn request"),
        not_etcd(case(
            kv_range,
            RangeRequest { sort_order: 9, ..range() },
            InvalidArgument,
            "etcdserver: invalid sort option",
        )),
        case(kv_range, RangeRequest { revision: 2, ..range() }, OutOfRange, compacted),
        case(kv_range, RangeRequest { revision: 999, ..range() }, OutOfRange, future),
        case(compact, CompactionRequest { revision: 2, physical: false }, OutOfRange, compacted),
        case(compact, CompactionRequest { revision: 999, physical: false }, OutOfRange, future),
        case(kv_put, PutRequest { lease: 77, ..put() }, NotFound, no_lease),
        case(
            kv_put,
            PutRequest { value: vec![0; 1_572_864].into(), ..put() },
            InvalidArgument,
            "etcdserver: request is too large",
        ),
    ]
}

fn of_leases_and_members(member: u64) -> Vec<Case> {
    use Code::{FailedPrecondition, InvalidArgument, NotFound, OutOfRange};
    let grant = "/etcdserverpb.Lease/LeaseGrant";
    let (add, remove) = ("/etcdserverpb.Cluster/MemberAdd", "/etcdserverpb.Cluster/MemberRemove");
    let no_member = "etcdserver: member not found";
    let urls = |url: &str| vec![url.to_owned()];
    vec![
        case(
            "/etcdserverpb.Lease/LeaseRevoke",
            LeaseRevokeRequest { id: 77 },
            NotFound,
            "etcdserver: requested lease not found",
        ),
        case(
            grant,
            LeaseGrantRequest { id: 5, ttl: 600 },
            FailedPrecondition,
            "etcdserver: lease already exists",
        ),
        case(
            grant,
            LeaseGrantRequest { id: 0, ttl: 9_000_000_001 },
            OutOfRange,
            "etcdserver: too large lease TTL",
        ),
        case(
            add,
            MemberAddRequest { peer_ur_ls: urls("no url"), is_learner: false },
            InvalidArgument,
            "etcdserver: given member URLs are invalid",
        ),
        case(remove, MemberRemoveRequest { id: 77 }, NotFound, no_member),
        case(
            remove,
            MemberRemoveRequest { id: member },
            Code::Unknown,
            "etcdserver: re-configuration failed due to not enough started members",
        ),
        case(
            "/etcdserverpb.Cluster/MemberUpdate",
            MemberUpdateRequest { id: 77, peer_ur_ls: urls("http://127.0.0.1:1") },
            NotFound,
            no_member,
        ),
        case(
            "/etcdserverpb.Cluster/MemberPromote",
            MemberPromoteRequest { id: member },
            FailedPrecondition,
            "etcdserver: can only promote a learner member",
        ),
        case(
            "/etcdserverpb.Maintenance/MoveLeader",
            MoveLeaderRequest { target_id: 77 },
            FailedPrecondition,
            "etcdserver: bad leader transferee",
        ),
        case(
            "/etcdserverpb.Maintenance/Downgrade",
            DowngradeRequest { action: 0, version: "x".into() },
            InvalidArgument,
            "etcdserver: wrong downgrade target version format",
        ),
        case(
            "/etcdserverpb.Maintenance/Downgrade",
            DowngradeRequest { action: 0, version: "3.1".into() },
            InvalidArgument,
            "etcdserver: invalid downgrade target version",
        ),
    ]
}

/// What a cluster with one learner that does not run refuses.
fn with_a_learner(learner: u64, own_url: &str) -> Vec<Case> {
    use Code::FailedPrecondition;
    let add = "/etcdserverpb.Cluster/MemberAdd";
    let one = |url: &str| MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner: true };
    vec![
        case(
            add,
            one("http://127.0.0.1:2"),
            FailedPrecondition,
            "etcdserver: too many learner members in cluster",
        ),
        case(add, one(own_url), FailedPrecondition, "etcdserver: Peer URLs already exists"),
        case(
            "/etcdserverpb.Cluster/MemberPromote",
            MemberPromoteRequest { id: learner },
            FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
    ]
}

async fn check(kind: Kind, client: &RawClient, cases: Vec<Case>) -> Result<()> {
    for case in cases {
        if kind == Kind::Etcd && !case.etcd {
            continue;
        }
        // etcd's raft drops a membership change that follows another one too closely.
        let patience = if case.path.contains("Cluster") { 3 } else { 1 };
        let mut told = (Code::Ok, String::new());
        for _ in 0..patience {
            let call = client.call(case.path, case.request.clone().into());
            told = match tokio::time::timeout(DEADLINE / 4, call).await {
                Ok(Ok(_)) => (Code::Ok, String::new()),
                Ok(Err(status)) => (status.code(), status.message().to_owned()),
                Err(_) => continue,
            };
            break;
        }
        let expected = (case.code, case.message.to_owned());
        ensure!(told == expected, "{kind:?} {}: {told:?} is not {expected:?}", case.path);
    }
    Ok(())
}

fn block_on(test: impl Future<Output = Result<()>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    if let Err(error) = runtime.expect("a runtime").block_on(test) {
        panic!("{error:#}");
    }
}

#[test]
fn every_error_of_one_member_has_etcd_s_code_and_text() {
    for kind in [Kind::Etcd, Kind::Coracle] {
        let cluster = Cluster::start(kind, 1).expect("a cluster starts");
        block_on(async {
            let client = RawClient::connect(cluster.endpoint(0)).await?;
            let mut kv = KvClient::new(client.channel());
            for _ in 0..3 {
                kv.put(put()).await?;
            }
            kv.compact(CompactionRequest { revision: 3, physical: true }).await?;
            let lease = LeaseGrantRequest { id: 5, ttl: 600 }.encode_to_vec();
            client.call("/etcdserverpb.Lease/LeaseGrant", lease.into()).await?;
            check(kind, &client, of_keys()).await?;
            let mut maintenance = MaintenanceClient::new(client.channel());
            let status = maintenance.status(StatusRequest {}).await?.into_inner();
            let member = status.header.context("a header")?.member_id;
            check(kind, &client, of_leases_and_members(member)).await?;

            let url = format!("http://{}", cluster.peer_address(0));
            let peer_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
            let add = MemberAddRequest { peer_ur_ls, is_learner: true }.encode_to_vec();
            let added = client.call("/etcdserverpb.Cluster/MemberAdd", add.into()).await?;
            let learner = MemberAddResponse::decode(added)?.member.context("a member")?.id;
            check(kind, &client, with_a_learner(learner, &url)).await
        });
    }
}

#[test]
fn mnt_02_mnt_03_an_alarm_has_etcd_s_code_and_text() {
    use Code::{DataLoss, ResourceExhausted};
    for kind in [Kind::Etcd, Kind::Coracle] {
        let cluster = Cluster::start(kind, 1).expect("a cluster starts");
        block_on(async {
            let client = RawClient::connect(cluster.endpoint(0)).await?;
            let mut maintenance = MaintenanceClient::new(client.channel());
            let full = "etcdserver: mvcc: database space exceeded";
            for (alarm, code, text) in [
                (AlarmType::Nospace, ResourceExhausted, full),
                (AlarmType::Corrupt, DataLoss, "etcdserver: corrupt cluster"),
            ] {
                let request = |action: AlarmAction| AlarmRequest {
                    action: action as i32,
                    member_id: 7,
                    alarm: alarm as i32,
                };
                maintenance.alarm(request(AlarmAction::Activate)).await?;
                let path = "/etcdserverpb.KV/Put";
                check(kind, &client, vec![case(path, put(), code, text)]).await?;
                maintenance.alarm(request(AlarmAction::Deactivate)).await?;
            }
            Ok(())
        });
    }
}

#[test]
fn errors_of_a_cluster_without_its_quorum_have_etcd_s_code_and_text() {
    use Code::{DeadlineExceeded, FailedPrecondition, Unavailable, Unknown};
    for kind in [Kind::Etcd, Kind::Coracle] {
        let mut cluster = Cluster::start(kind, 3).expect("a cluster starts");
        block_on(async {
            let mut clients = Vec::new();
            for index in 0..3 {
                clients.push(RawClient::connect(cluster.endpoint(index)).await?);
            }
            let follower = (leader_of(&clients).await? + 1) % 3;
            let path = "/etcdserverpb.Maintenance/MoveLeader";
            let request = MoveLeaderRequest { target_id: 7 };
            let not_leader = "etcdserver: not leader";
            let cases = vec![case(path, request, FailedPrecondition, not_leader)];
            check(kind, &clients[follower], cases).await?;
            let others: Vec<usize> = (0..3).filter(|index| *index != follower).collect();
            for index in others {
                cluster.kill(index)?;
            }
            let client = &clients[follower];
            // The read first: a member that has just lost its leader may still hand a put to it,
            // and then does not know what became of it.
            let mut told = Vec::new();
            for (path, request) in [
                ("/etcdserverpb.KV/Range", range().encode_to_vec()),
                ("/etcdserverpb.KV/Put", put().encode_to_vec()),
            ] {
                let status = client.call(path, request.into()).await.err().context("no quorum")?;
                told.push((status.code(), status.message().to_owned()));
            }
            // gRPC's library for Go has given this error its code since then.
            let in_time = if kind == Kind::Etcd { Unknown } else { DeadlineExceeded };
            let expected = [
                (Unavailable, "etcdserver: request timed out"),
                (in_time, "context deadline exceeded"),
            ];
            let expected = expected.map(|(code, text)| (code, text.to_owned()));
            ensure!(told == expected, "{kind:?} {told:?}");
            Ok(())
        });
    }
}

#[test]
fn cl_01_peer_urls_are_trimmed_and_sorted_and_have_no_path() {
    const ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
    let add = |urls: &[&str]| MemberAddRequest {
        peer_ur_ls: urls.iter().map(|url| (*url).to_owned()).collect(),
        is_learner: true,
    };
    let (invalid, taken) =
        ("etcdserver: given member URLs are invalid", "etcdserver: Peer URLs already exists");
    for kind in [Kind::Etcd, Kind::Coracle] {
        let cluster = Cluster::start(kind, 1).expect("a cluster starts");
        block_on(async {
            let client = RawClient::connect(cluster.endpoint(0)).await?;
            let path = case(ADD, add(&["http://127.0.0.1:1/"]), Code::InvalidArgument, invalid);
            check(kind, &client, vec![path]).await?;
            let two = add(&["http://127.0.0.1:2", " http://127.0.0.1:1"]);
            let added = client.call(ADD, two.encode_to_vec().into()).await?;
            let added = MemberAddResponse::decode(added)?.member.context("a member")?;
            ensure!(added.peer_ur_ls == ["http://127.0.0.1:1", "http://127.0.0.1:2"], "{added:?}");
            let again = add(&["http://127.0.0.1:2 "]);
            let again = case(ADD, again, Code::FailedPrecondition, taken);
            check(kind, &client, vec![again]).await
        });
    }
}

/// Whether the members that there are bear another one is asked before what is wrong with it.
#[test]
fn cl_01_a_cluster_does_not_grow_while_a_voter_is_not_there() {
    const ADD: &str = "/etcdserverpb.Cluster/MemberAdd";
    let add = |url: &str| MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner: false };
    let not_started = "etcdserver: re-configuration failed due to not enough started members";
    let unhealthy = "etcdserver: unhealthy cluster";
    for kind in [Kind::Etcd, Kind::Coracle] {
        let cluster = Cluster::start(kind, 1).expect("a cluster starts");
        block_on(async {
            let client = RawClient::connect(cluster.endpoint(0)).await?;
            client.call(ADD, add("http://127.0.0.1:1").encode_to_vec().into()).await?;
            let mut cases = Vec::new();
            for url in ["http://127.0.0.1:1", "http://127.0.0.1:2"] {
                cases.push(case(ADD, add(url), Code::Unknown, not_started));
            }
            check(kind, &client, cases).await
        });
        let mut cluster = Cluster::start(kind, 3).expect("a cluster starts");
        cluster.kill(2).expect("it is killed");
        block_on(async {
            for index in 0..2 {
                let client = RawClient::connect(cluster.endpoint(index)).await?;
                let case = case(ADD, add("http://127.0.0.1:1"), Code::Unavailable, unhealthy);
                check(kind, &client, vec![case]).await?;
            }
            Ok(())
        });
    }
}
