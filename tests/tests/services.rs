//! What every service has in common, and the small ones: health, downgrade, streamed ranges,
//! metadata of calls, what a learner answers.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use coracle_core::api::etcdserverpb::downgrade_request::DowngradeAction;
use coracle_core::api::etcdserverpb::range_request::{SortOrder, SortTarget};
use coracle_core::api::etcdserverpb::*;
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::grpc::reflection::server_reflection_request::MessageRequest;
use coracle_tests::grpc::reflection::server_reflection_response::MessageResponse;
use coracle_tests::grpc::reflection::{ServerReflectionRequest, ServerReflectionResponse};
use coracle_tests::grpc::{ClusterClient, KvClient, MaintenanceClient};
use coracle_tests::raw::{RawClient, leader_of, metadata};
use prost::Message;
use prost_reflect::DescriptorPool;
use tokio::time::{Instant, sleep, timeout};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

fn block_on(test: impl Future<Output = Result<()>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    if let Err(error) = runtime.expect("a runtime").block_on(test) {
        panic!("{error:#}");
    }
}

fn told(answer: Result<Bytes, Status>) -> (Code, String) {
    match answer {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => (status.code(), status.message().to_owned()),
    }
}

/// A message of one string in field 1.
fn text(value: &str) -> Bytes {
    let mut message = vec![0x0a, value.len() as u8];
    message.extend_from_slice(value.as_bytes());
    message.into()
}

#[test]
fn w_08_health_is_told_and_watched() {
    const SERVING: &[u8] = &[0x08, 1];
    for kind in [Kind::Etcd, Kind::Coracle] {
        let mut cluster = Cluster::start(kind, 1).expect("a cluster starts");
        block_on(async {
            let client = RawClient::connect(cluster.endpoint(0)).await?;
            let check =
                async |name: &str| client.call("/grpc.health.v1.Health/Check", text(name)).await;
            ensure!(check("").await? == SERVING, "{kind:?}");
            let unknown = told(check("etcdserverpb.KV").await);
            ensure!(unknown == (Code::NotFound, "unknown service".into()), "{unknown:?}");
            let path = "/grpc.health.v1.Health/Watch";
            let mut watch = client.stream(path, vec![text("")], MetadataMap::new()).await?;
            ensure!(watch.message().await?.context("a status")? == SERVING);
            let mut unknown = client.stream(path, vec![text("x")], MetadataMap::new()).await?;
            ensure!(unknown.message().await?.context("a status")?[..] == [0x08, 3]);
            if kind == Kind::Coracle {
                let list = client.call("/grpc.health.v1.Health/List", Bytes::new()).await?;
                ensure!(list[..] == [0x0a, 4, 0x12, 2, 0x08, 1], "{list:?}");
            }
            if kind == Kind::Coracle {
                // 3.5.1 breaks the connection before it could say so.
                let stopping = std::thread::spawn(move || cluster.stop(0));
                ensure!(watch.message().await?.context("a status")?[..] == [0x08, 2]);
                drop((watch, unknown, client));
                stopping.join().expect("no panic")?;
            }
            Ok(())
        });
    }
}

#[test]
fn rs_01_a_streamed_range_is_the_range_in_pieces() {
    let cluster = Cluster::start(Kind::Coracle, 1).expect("a cluster starts");
    block_on(async {
        let client = RawClient::connect(cluster.endpoint(0)).await?;
        let mut kv = KvClient::new(client.channel()).max_decoding_message_size(usize::MAX);
        for n in 0..40 {
            let value = vec![b'v'; 150_000].into();
            let request =
                PutRequest { key: format!("k{n:02}").into(), value, ..Default::default() };
            kv.put(request).await?;
        }
        let all = RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
        for (limit, pieces) in [(0, 4), (5, 1), (20, 2)] {
            let request = RangeRequest { limit, ..all.clone() };
            let whole = kv.range(request.clone()).await?.into_inner();
            let mut stream = kv.range_stream(request).await?.into_inner();
            let (mut merged, mut count) = (RangeResponse::default(), 0);
            while let Some(piece) = stream.message().await? {
                let piece = piece.range_response.context("a piece")?;
                merged.merge(&piece.encode_to_vec()[..])?;
                count += 1;
            }
            ensure!(merged == whole, "limit {limit}");
            ensure!(count >= pieces, "{count} pieces for limit {limit}");
        }
        let path = "/etcdserverpb.KV/RangeStream";
        let (descend, version) = (SortOrder::Descend as i32, SortTarget::Version as i32);
        let ascend = SortOrder::Ascend as i32;
        let unimplemented = |text: &str| (Code::Unimplemented, text.to_owned());
        let orders = unimplemented("RangeStream does not support custom sort orders");
        let filters = unimplemented("RangeStream does not support revision filters");
        let ok = (Code::Ok, String::new());
        for (request, expected) in [
            (RangeRequest { sort_order: descend, ..all.clone() }, &orders),
            (RangeRequest { sort_order: ascend, sort_target: version, ..all.clone() }, &orders),
            (RangeRequest { sort_order: ascend, ..all.clone() }, &ok),
            (RangeRequest { sort_target: version, ..all.clone() }, &ok),
            (RangeRequest { min_mod_revision: 1, ..all.clone() }, &filters),
            (RangeRequest { max_create_revision: 1, ..all.clone() }, &filters),
            (
                RangeRequest { key: Bytes::new(), min_mod_revision: 1, ..all.clone() },
                &(Code::InvalidArgument, "etcdserver: key is not provided".into()),
            ),
            (
                RangeRequest { sort_order: 9, ..all.clone() },
                &(Code::InvalidArgument, "etcdserver: invalid sort option".into()),
            ),
            (
                RangeRequest { revision: 1_000, ..all.clone() },
                &(
                    Code::OutOfRange,
                    "etcdserver: mvcc: required revision is a future revision".into(),
                ),
            ),
        ] {
            let answer = told(client.call(path, request.encode_to_vec().into()).await);
            ensure!(answer == *expected, "{request:?}: {answer:?}");
        }
        Ok(())
    });
}

async fn downgrade(
    client: &RawClient,
    action: DowngradeAction,
    version: &str,
) -> Result<DowngradeResponse, Status> {
    let request = DowngradeRequest { action: action as i32, version: version.to_owned() };
    let mut maintenance = MaintenanceClient::new(client.channel());
    maintenance.downgrade(request).await.map(tonic::Response::into_inner)
}

async fn downgrade_info(client: &RawClient) -> Result<DowngradeInfo> {
    let status = MaintenanceClient::new(client.channel()).status(StatusRequest {}).await?;
    status.into_inner().downgrade_info.context("it is always there")
}

/// Waits until every member tells of `expected`.
async fn wait_for_downgrade(cluster: &Cluster, expected: &DowngradeInfo) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    for index in 0..cluster.size() {
        let client = RawClient::connect(cluster.endpoint(index)).await?;
        while downgrade_info(&client).await? != *expected {
            ensure!(Instant::now() < deadline, "member {index} does not tell of {expected:?}");
            sleep(POLL).await;
        }
    }
    Ok(())
}

/// Waits until every member says that it stores in the form of `version`.
async fn wait_for_version(cluster: &Cluster, version: &str) -> Result<()> {
    let deadline = Instant::now() + DEADLINE;
    for index in 0..cluster.size() {
        let mut maintenance = MaintenanceClient::connect(cluster.endpoint(index)).await?;
        while maintenance.status(StatusRequest {}).await?.into_inner().storage_version != version {
            ensure!(Instant::now() < deadline, "member {index} does not go to {version}");
            sleep(POLL).await;
        }
    }
    Ok(())
}

#[test]
fn mnt_09_a_downgrade_is_checked_replicated_and_kept() {
    use DowngradeAction::{Cancel, Enable, Validate};
    let mut cluster = Cluster::start(Kind::Coracle, 3).expect("a cluster starts");
    let none = DowngradeInfo::default();
    let begun = DowngradeInfo { enabled: true, target_version: "3.6.0".into() };
    block_on(async {
        let client = RawClient::connect(cluster.endpoint(0)).await?;
        // The first leader has just found the cluster's version, or is about to.
        let deadline = Instant::now() + DEADLINE;
        while let Err(status) = downgrade(&client, Validate, "3.6").await {
            // While a member is silent the cluster speaks the oldest version of all.
            let passing = [
                "etcdserver: cluster version not found during downgrade",
                "etcdserver: invalid downgrade target version",
            ];
            ensure!(passing.contains(&status.message()), "{status:?}");
            ensure!(Instant::now() < deadline, "the cluster does not find its version");
            sleep(POLL).await;
        }
        wait_for_downgrade(&cluster, &none).await?;
        for (version, message) in [
            ("", "etcdserver: wrong downgrade target version format"),
            ("three", "etcdserver: wrong downgrade target version format"),
            ("3.7", "etcdserver: invalid downgrade target version"),
            ("3.5", "etcdserver: invalid downgrade target version"),
            ("2.6", "etcdserver: invalid downgrade target version"),
        ] {
            for action in [Validate, Enable] {
                let refused = downgrade(&client, action, version).await.err();
                let refused = refused.with_context(|| format!("{version:?} was taken"))?;
                ensure!(refused.code() == Code::InvalidArgument, "{refused:?}");
                ensure!(refused.message() == message, "{refused:?}");
            }
        }
        for (action, version) in [(Validate, "3.6"), (Validate, "3.6.5"), (Cancel, "")] {
            let answer = downgrade(&client, action, version).await?;
            ensure!(answer.version == "3.7", "{answer:?}");
            ensure!(answer.header.context("a header")?.revision == 1);
        }
        let path = "/etcdserverpb.Maintenance/Downgrade";
        let unknown = DowngradeRequest { action: 9, version: "3.6".into() };
        let answer = client.refusal(path, &unknown).await;
        ensure!(answer == (Code::Unknown, "etcdserver: unknown method".into()), "{answer:?}");
        ensure!(downgrade(&client, Enable, "3.6").await?.version == "3.7");
        wait_for_downgrade(&cluster, &begun).await?;
        wait_for_version(&cluster, "3.6.0").await
    });
    for index in 0..3 {
        cluster.kill(index).expect("it dies");
    }
    for index in 0..3 {
        cluster.restart(index).expect("it starts");
    }
    cluster.wait_healthy().expect("the cluster is back");
    block_on(async {
        wait_for_downgrade(&cluster, &begun).await?;
        let client = RawClient::connect(cluster.endpoint(1)).await?;
        let refused = downgrade(&client, Enable, "3.5").await.err().context("it is under way")?;
        ensure!(refused.code() == Code::FailedPrecondition, "{refused:?}");
        ensure!(refused.message() == "etcdserver: cluster has a downgrade job in progress");
        downgrade(&client, Cancel, "").await?;
        wait_for_downgrade(&cluster, &none).await?;
        wait_for_version(&cluster, "3.7.0").await
    });
}

#[test]
fn w_06_calls_say_which_api_they_speak_and_whether_they_need_a_leader() {
    for kind in [Kind::Etcd, Kind::Coracle] {
        let mut cluster = Cluster::start(kind, 3).expect("a cluster starts");
        block_on(async {
            let client = RawClient::connect(cluster.endpoint(0)).await?;
            let range = RangeRequest { key: "a".into(), serializable: true, ..Default::default() };
            let range: Bytes = range.encode_to_vec().into();
            let path = "/etcdserverpb.KV/Range";
            let call = async |metadata| told(client.call_with(path, range.clone(), metadata).await);
            let ok = (Code::Ok, String::new());
            let answer = call(metadata("client-api-version", b"3.7.0")?).await;
            ensure!(answer == ok, "{kind:?}: {answer:?}");
            let answer = call(metadata("hasleader", b"true")?).await;
            ensure!(answer == ok, "{kind:?}: {answer:?}");
            if kind == Kind::Coracle {
                // Go's HTTP/2 gives the connection up before 3.5.1 could answer.
                let refused = call(metadata("client-api-version", b"3.\xff")?).await;
                let text = "etcdserver: invalid client api version".to_owned();
                ensure!(refused == (Code::InvalidArgument, text), "{refused:?}");
            }

            cluster.kill(1)?;
            cluster.kill(2)?;
            let lost = (Code::Unavailable, "etcdserver: no leader".to_owned());
            let deadline = Instant::now() + DEADLINE;
            loop {
                let answer = call(metadata("hasleader", b"true")?).await;
                if answer == lost {
                    break;
                }
                ensure!(answer == ok && Instant::now() < deadline, "{kind:?}: {answer:?}");
                sleep(POLL).await;
            }
            ensure!(call(metadata("hasleader", b"maybe")?).await == ok);
            let create = WatchCreateRequest { key: "a".into(), ..Default::default() };
            let union = watch_request::RequestUnion::CreateRequest(create);
            let create = WatchRequest { request_union: Some(union) }.encode_to_vec().into();
            let path = "/etcdserverpb.Watch/Watch";
            let metadata = metadata("hasleader", b"true")?;
            let opened = client.stream(path, vec![create], metadata).await;
            let answer = match opened {
                Ok(mut stream) => stream.message().await.map(|_| Bytes::new()),
                Err(status) => Err(status),
            };
            let answer = told(answer);
            ensure!(answer == lost, "{kind:?}: {answer:?}");
            Ok(())
        });
    }
}

/// Every method of the services, with whether a learner answers it.
const METHODS: [(&str, &[(&str, bool)]); 8] = [
    (
        "etcdserverpb.KV",
        &[
            ("RangeStream", false),
            ("Put", false),
            ("DeleteRange", false),
            ("Txn", false),
            ("Compact", false),
        ],
    ),
    ("etcdserverpb.Watch", &[("Watch", false)]),
    (
        "etcdserverpb.Lease",
        &[
            ("LeaseGrant", false),
            ("LeaseRevoke", false),
            ("LeaseKeepAlive", false),
            ("LeaseTimeToLive", false),
            ("LeaseLeases", false),
        ],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            ("MemberAdd", false),
            ("MemberRemove", false),
            ("MemberUpdate", false),
            ("MemberList", false),
            ("MemberPromote", false),
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            ("Alarm", false),
            ("Status", true),
            ("Defragment", false),
            ("Hash", false),
            ("HashKV", false),
            ("Snapshot", true),
            ("MoveLeader", false),
            ("Downgrade", false),
        ],
    ),
    ("v3lockpb.Lock", &[("Lock", false), ("Unlock", false)]),
    (
        "v3electionpb.Election",
        &[
            ("Campaign", false),
            ("Proclaim", false),
            ("Leader", false),
            ("Observe", false),
            ("Resign", false),
        ],
    ),
    ("grpc.health.v1.Health", &[("Check", false), ("Watch", false)]),
];

/// A put that was handed to the leader of before would fall with it, and its client would not know.
#[test]
fn a_put_waits_for_the_next_leader_where_nobody_leads() {
    for kind in [Kind::Etcd, Kind::Coracle] {
        let mut cluster = Cluster::start(kind, 3).expect("a cluster starts");
        block_on(async {
            let mut members = Vec::new();
            for index in 0..3 {
                members.push(RawClient::connect(cluster.endpoint(index)).await?);
            }
            let leader = leader_of(&members).await?;
            let [asked, other] = [(leader + 1) % 3, (leader + 2) % 3];
            cluster.pause(leader)?;
            cluster.pause(other)?;
            let mut maintenance = MaintenanceClient::new(members[asked].channel());
            let deadline = Instant::now() + DEADLINE;
            while maintenance.status(StatusRequest {}).await?.into_inner().leader != 0 {
                ensure!(Instant::now() < deadline, "{kind:?} goes on naming a leader");
                sleep(POLL).await;
            }
            let put = PutRequest { key: "a".into(), value: "1".into(), ..Default::default() };
            let mut kv = KvClient::new(members[asked].channel());
            let waiting = tokio::spawn(async move { kv.put(put).await });
            // As long as it takes to hand a put on: nothing tells that it has not been.
            sleep(POLL * 10).await;
            cluster.kill(leader)?;
            cluster.resume(other)?;
            waiting.await?.with_context(|| format!("{kind:?}: a put until somebody leads"))?;
            Ok(())
        });
    }
}

#[test]
fn w_07_a_learner_answers_status_snapshots_and_serializable_ranges() {
    for kind in [Kind::Etcd, Kind::Coracle] {
        let mut cluster = Cluster::start(kind, 1).expect("a cluster starts");
        let endpoint = cluster.endpoint(0);
        let announce = |peer_url: &str| {
            let peer_ur_ls = vec![peer_url.to_owned()];
            block_on(async {
                let client = RawClient::connect(endpoint).await?;
                let request = MemberAddRequest { peer_ur_ls, is_learner: true };
                ClusterClient::new(client.channel()).member_add(request).await?;
                Ok(())
            });
            Ok(())
        };
        let learner = cluster.join(announce).expect("a learner joins");
        block_on(async {
            let client = connect_learner(&cluster, learner).await?;
            // The code is that of etcd 3.6 and later; clients go by the text.
            let code = match kind {
                Kind::Etcd | Kind::Etcd34 => Code::Unavailable,
                Kind::Coracle => Code::FailedPrecondition,
            };
            let refused = (code, "etcdserver: rpc not supported for learner".to_owned());
            for (service, methods) in METHODS {
                for (method, answers) in methods {
                    // What 3.5.1 does not have it cannot refuse.
                    if kind == Kind::Etcd && *method == "RangeStream" {
                        continue;
                    }
                    let path = format!("/{service}/{method}");
                    let answer = told(client.call(&path, Bytes::new()).await);
                    match answers {
                        true => ensure!(answer.0 == Code::Ok, "{kind:?} {path}: {answer:?}"),
                        false => ensure!(answer == refused, "{kind:?} {path}: {answer:?}"),
                    }
                }
            }
            for (serializable, expected) in [(true, (Code::Ok, String::new())), (false, refused)] {
                let request = RangeRequest { key: "a".into(), serializable, ..Default::default() };
                let message = request.encode_to_vec().into();
                let answer = told(client.call("/etcdserverpb.KV/Range", message).await);
                ensure!(answer == expected, "{kind:?} serializable {serializable}: {answer:?}");
            }
            Ok(())
        });
    }
}

/// A connection to the learner, once it knows that it is one.
async fn connect_learner(cluster: &Cluster, index: usize) -> Result<RawClient> {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if let Ok(client) = RawClient::connect(cluster.endpoint(index)).await {
            let mut maintenance = MaintenanceClient::new(client.channel());
            let status = timeout(DEADLINE, maintenance.status(StatusRequest {})).await?;
            if status
                .is_ok_and(|status| status.get_ref().is_learner && status.get_ref().leader != 0)
            {
                return Ok(client);
            }
        }
        sleep(POLL).await;
    }
    bail!("the learner does not answer")
}

/// As grpcurl asks: which services there are, and the file of each, until everything that a method
/// takes and gives is known.
#[test]
fn w_09_a_client_without_files_learns_every_method_by_reflection() {
    let cluster = Cluster::start_with(Kind::Coracle, 1, &["--enable-grpc-reflection"]);
    let cluster = cluster.expect("a cluster starts");
    block_on(async {
        let client = RawClient::connect(cluster.endpoint(0)).await?;
        for release in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{release}.ServerReflection/ServerReflectionInfo");
            let ask = async |question: MessageRequest| -> Result<MessageResponse> {
                let host = "somebody".to_owned();
                let request =
                    ServerReflectionRequest { host, message_request: Some(question.clone()) };
                let answer = client.call(&path, request.encode_to_vec().into()).await?;
                let answer = ServerReflectionResponse::decode(answer)?;
                ensure!(
                    answer.valid_host == "somebody" && answer.original_request == Some(request)
                );
                answer.message_response.context("an answer")
            };
            let services = ask(MessageRequest::ListServices("*".to_owned())).await?;
            let MessageResponse::ListServicesResponse(services) = services else {
                anyhow::bail!("{services:?}");
            };
            let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
            ensure!(names == SERVICES, "{names:?}");
            for name in names {
                let question = MessageRequest::FileContainingSymbol(name.clone());
                let MessageResponse::FileDescriptorResponse(files) = ask(question).await? else {
                    anyhow::bail!("no file has {name}");
                };
                // The file first, and with it all that it imports.
                let files: Vec<_> = files.file_descriptor_proto;
                let mut pool = DescriptorPool::new();
                for file in files.into_iter().rev() {
                    pool.decode_file_descriptor_proto(file)?;
                }
                let service = pool.get_service_by_name(&name).context("it is in its file")?;
                ensure!(service.methods().len() > 0);
            }
            let missing = MessageRequest::FileContainingSymbol("etcdserverpb.Nothing".to_owned());
            let MessageResponse::ErrorResponse(error) = ask(missing).await? else {
                anyhow::bail!("a file has what is nowhere");
            };
            ensure!(error.error_code == Code::NotFound as i32, "{error:?}");
        }
        Ok(())
    });
    // Nobody is told unless that was wanted.
    let cluster = Cluster::start(Kind::Coracle, 1).expect("a cluster starts");
    block_on(async {
        let client = RawClient::connect(cluster.endpoint(0)).await?;
        let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let refused = client.refusal(path, &ServerReflectionRequest::default()).await;
        let expected = "unknown service grpc.reflection.v1.ServerReflection";
        ensure!(refused == (Code::Unimplemented, expected.into()), "{refused:?}");
        Ok(())
    });
}

const SERVICES: [&str; 11] = [
    "etcdserverpb.Auth",
    "etcdserverpb.Cluster",
    "etcdserverpb.KV",
    "etcdserverpb.Lease",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Watch",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "v3electionpb.Election",
    "v3lockpb.Lock",
];
