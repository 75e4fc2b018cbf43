//! Every RPC × who asks: no token, a bad one, a user without the right, a user with it, root; and
//! the same on every member, with every kind of token.
//!
//! One table ([`coracle_tests::auth_matrix`]) says what each RPC needs; the answers of all five
//! follow from that. Rows whose rule is as old as etcd 3.5.1 are asked of a real etcd too, in the
//! same way.

use anyhow::{Result, ensure};
use coracle_core::api::etcdserverpb::*;
use coracle_tests::auth_matrix::*;
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::grpc::{AuthClient, KvClient, LeaseClient};
use coracle_tests::tls::pki::Pki;
use coracle_tests::tls::server::Server;
use coracle_tests::tls::{self, channel};
use tonic::Code;
use tonic::transport::Channel;

const FLAGS: [&str; 4] =
    ["--unsafe-no-fsync", "--log-level=error", "--bcrypt-cost=4", "--auth-token-ttl=300"];
#[tokio::test]
async fn auth_06_every_rpc_of_coracle_by_everybody() {
    matrix(Kind::Coracle).await.unwrap_or_else(|error| panic!("{error:#}"));
}

#[tokio::test]
async fn auth_06_the_old_rules_are_those_of_etcd() {
    matrix(Kind::Etcd).await.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn matrix(kind: Kind) -> Result<()> {
    let cluster = Cluster::start_with(kind, 1, &FLAGS)?;
    let channel = Channel::from_shared(cluster.endpoint(0))?.connect().await?;
    prepare(&channel).await?;
    let peer_url = format!("http://{}", cluster.peer_address(0));
    let mut wrong = Vec::new();
    for row in table(&peer_url).into_iter().filter(|row| row.old || kind == Kind::Coracle) {
        for (asker, expected) in ASKERS.into_iter().zip(expected(row.needs)) {
            let token = token_of(asker, &channel).await?;
            let error = (row.ask)(channel.clone(), token).await.err();
            let got = error.as_ref().map(|status| (status.code(), status.message()));
            // Where rights are no obstacle, the request itself may be refused (an unknown member).
            let about_rights = [USER_EMPTY, BAD_TOKEN, DENIED];
            let got = got.filter(|got| expected.is_some() || about_rights.contains(got));
            if got != expected {
                wrong.push(format!("{} by {asker}: {got:?}, not {expected:?}", row.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Three members, one of which was away and gets everything in a snapshot.
const CLUSTER: [&str; 5] = [
    "--unsafe-no-fsync",
    "--log-level=debug",
    "--bcrypt-cost=4",
    "--snapshot-count=20",
    "--snapshot-catchup-entries=5",
];

#[tokio::test]
async fn auth_03_auth_07_every_member_knows_users_tokens_and_rights() {
    every_member().await.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn every_member() -> Result<()> {
    let mut cluster = Cluster::start_with(Kind::Coracle, 3, &CLUSTER)?;
    cluster.kill(2)?;
    let first = Channel::from_shared(cluster.endpoint(0))?.connect().await?;
    prepare(&first).await?;
    let root = token_of("root", &first).await?;
    for number in 0..60 {
        let request = with_token(put(&format!("a/{number}")), root.clone());
        KvClient::new(first.clone()).put(request).await?;
    }
    cluster.restart(2)?;
    cluster.wait_healthy()?;
    let mut tokens = everybodys_rights(&cluster).await?;
    for member in 0..3 {
        cluster.kill(member)?;
        cluster.restart(member)?;
        cluster.wait_healthy()?;
    }
    tokens.extend(everybodys_rights(&cluster).await?);
    let logs = cluster.logs();
    ensure!(!logs.contains("secret"), "a password is in the logs");
    for token in tokens {
        ensure!(!logs.contains(&token), "a token is in the logs");
    }
    Ok(())
}

/// Asks each member, with tokens that another one gave out a moment ago; returns the tokens.
async fn everybodys_rights(cluster: &Cluster) -> Result<Vec<String>> {
    let mut tokens = Vec::new();
    for (member, other) in [(0, 1), (1, 2), (2, 0)] {
        let giver = Channel::from_shared(cluster.endpoint(other))?.connect().await?;
        let channel = Channel::from_shared(cluster.endpoint(member))?.connect().await?;
        for (asker, may) in [("alice", true), ("mallory", false)] {
            let token = token_of(asker, &giver).await?;
            tokens.extend(token.as_ref().map(|t| t.to_str().map(str::to_owned)).transpose()?);
            let mut kv = KvClient::new(channel.clone());
            let local = RangeRequest { serializable: true, ..get("a/held", "") };
            let read = kv.range(with_token(local, token.clone())).await;
            let written = kv.put(with_token(put("a/held"), token.clone())).await;
            let mut lease = LeaseClient::new(channel.clone());
            let left = lease.lease_time_to_live(with_token(time_left(OWN, true), token.clone()));
            let left = left.await;
            let requests = tokio_stream::iter([LeaseKeepAliveRequest { id: OWN }]);
            let renewed = async {
                let replies = lease.lease_keep_alive(with_token(requests, token)).await?;
                replies.into_inner().message().await.map(drop)
            };
            let answers = [read.map(drop), written.map(drop), left.map(drop), renewed.await];
            for (number, answer) in answers.into_iter().enumerate() {
                let answer = answer.map_err(|status| (status.code(), status.message().to_owned()));
                let denied = Err((DENIED.0, text(DENIED.1)));
                let expected = if may { Ok(()) } else { denied };
                ensure!(answer == expected, "request {number} to {member}: {answer:?}");
            }
        }
    }
    Ok(tokens)
}

#[tokio::test]
async fn auth_03_signed_tokens_age_with_the_store() {
    signed_tokens().await.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn signed_tokens() -> Result<()> {
    let key = |name: &str| format!("{}/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    let (private, public) = (key("jwt-P-256.pem"), key("jwt-P-256.pub.pem"));
    let signing = format!("--auth-token=jwt,sign-method=ES256,priv-key={private},ttl=1m");
    let cluster = Cluster::start_with(Kind::Coracle, 1, &["--bcrypt-cost=4", &signing])?;
    let channel = Channel::from_shared(cluster.endpoint(0))?.connect().await?;
    prepare(&channel).await?;
    let (alice, root) = (token_of("alice", &channel).await?, token_of("root", &channel).await?);
    let mut kv = KvClient::new(channel.clone());
    kv.range(with_token(get("a", ""), alice.clone())).await?;
    let mut auth = AuthClient::new(channel.clone());
    for name in ["one", "two"] {
        // An administrator's own change does not end its token.
        auth.role_add(with_token(AuthRoleAddRequest { name: text(name) }, root.clone())).await?;
    }
    let old = (Code::InvalidArgument, text("etcdserver: revision of auth store is old"));
    for answer in [
        kv.range(with_token(get("a", ""), alice.clone())).await.map(drop),
        kv.put(with_token(put("a"), alice.clone())).await.map(drop),
        watch("a", "", channel.clone(), alice.clone()).await,
    ] {
        let refused = answer.expect_err("a token of an earlier revision");
        ensure!((refused.code(), text(refused.message())) == old, "{refused:?}");
    }
    let again = token_of("alice", &channel).await?;
    kv.range(with_token(get("a", ""), again)).await?;

    // With the public key alone a member verifies what others sign, and signs nothing.
    let verifying = format!("--auth-token=jwt,sign-method=ES256,pub-key={public}");
    let cluster = Cluster::start_with(Kind::Coracle, 1, &["--bcrypt-cost=4", &verifying])?;
    let channel = Channel::from_shared(cluster.endpoint(0))?.connect().await?;
    prepare(&channel).await?;
    let refused = token_of("alice", &channel).await.expect_err("there is no key to sign with");
    ensure!(format!("{refused:#}").contains("verify-only key"), "{refused:#}");
    let mut kv = KvClient::new(channel.clone());
    let old = kv.range(with_token(get("a", ""), alice)).await;
    ensure!(old.is_ok() || old.is_err_and(|status| status.message().contains("is old")));
    Ok(())
}

/// One cluster of each kind with the same users takes the other's tokens.
#[tokio::test]
async fn auth_03_signed_tokens_are_etcds() {
    tokens_of_both().await.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn tokens_of_both() -> Result<()> {
    let key = |name: &str| format!("{}/keys/{name}", env!("CARGO_MANIFEST_DIR"));
    for (method, name) in [("RS256", "jwt-rsa"), ("PS384", "jwt-rsa"), ("ES512", "jwt-P-521")] {
        let (private, public) = (key(&format!("{name}.pem")), key(&format!("{name}.pub.pem")));
        let flag =
            format!("--auth-token=jwt,sign-method={method},priv-key={private},pub-key={public}");
        let start = |kind| Cluster::start_with(kind, 1, &["--bcrypt-cost=4", &flag]);
        let (etcd, coracle) = (start(Kind::Etcd)?, start(Kind::Coracle)?);
        let etcd = Channel::from_shared(etcd.endpoint(0))?.connect().await.map(|c| (c, etcd))?;
        let coracle =
            Channel::from_shared(coracle.endpoint(0))?.connect().await.map(|c| (c, coracle))?;
        prepare(&etcd.0).await?;
        prepare(&coracle.0).await?;
        for (giver, taker) in [(&etcd.0, &coracle.0), (&coracle.0, &etcd.0)] {
            let token = token_of("alice", giver).await?;
            let mut kv = KvClient::new(taker.clone());
            let got = kv.range(with_token(get("a/own", ""), token)).await?.into_inner();
            ensure!(got.count == 1, "{method}: {got:?}");
        }
    }
    Ok(())
}

/// The password `changed`, hashed with the least cost, in base64.
const HASH: &str =
    "JDJhJDA0JFpzTmZZcUxOUUM5UzZ3VDZieUo5a3VRY0RvOUNCU0dhcDEvd0Jhanp3SGZmd213VGNmRmhh";

#[tokio::test]
async fn auth_05_a_password_may_come_hashed() {
    for kind in [Kind::Etcd, Kind::Coracle] {
        hashed(kind).await.unwrap_or_else(|error| panic!("{kind:?}: {error:#}"));
    }
}

async fn hashed(kind: Kind) -> Result<()> {
    let cluster = Cluster::start_with(kind, 1, &FLAGS)?;
    let channel = Channel::from_shared(cluster.endpoint(0))?.connect().await?;
    prepare(&channel).await?;
    let client = AuthClient::new(channel.clone());
    let root = token_of("root", &channel).await?;
    let change = async |name: &str, hash: &str| {
        let request = AuthUserChangePasswordRequest {
            name: name.to_owned(),
            hashed_password: hash.to_owned(),
            ..Default::default()
        };
        let changed = client.clone().user_change_password(with_token(request, root.clone())).await;
        changed.err().map(|status| status.message().to_owned())
    };
    let useless = "auth: authentication failed, password was given for no password user";
    ensure!(change("mallory", "no base64!").await.as_deref() == Some(useless));
    let unknown = change("nobody", HASH).await;
    ensure!(unknown.as_deref() == Some("etcdserver: user name not found"), "{unknown:?}");
    ensure!(change("mallory", HASH).await.is_none());
    let login = AuthenticateRequest { name: "mallory".into(), password: "changed".into() };
    client.clone().authenticate(login).await?;
    Ok(())
}

#[tokio::test]
async fn auth_07_a_streamed_range_ends_when_rights_change() {
    rights_of_a_stream().await.unwrap_or_else(|error| panic!("{error:#}"));
}

async fn rights_of_a_stream() -> Result<()> {
    let cluster = Cluster::start_with(Kind::Coracle, 1, &FLAGS)?;
    let channel = Channel::from_shared(cluster.endpoint(0))?.connect().await?;
    prepare(&channel).await?;
    let (alice, root) = (token_of("alice", &channel).await?, token_of("root", &channel).await?);
    let mut kv = KvClient::new(channel.clone());
    // Far more than what a connection takes while nobody reads.
    for number in 0..40 {
        let large =
            PutRequest { value: vec![b'x'; 1_000_000].into(), ..put(&format!("a/{number}")) };
        kv.put(with_token(large, root.clone())).await?;
    }
    let mut pieces = kv.range_stream(with_token(get("a", "b"), alice)).await?.into_inner();
    ensure!(pieces.message().await?.is_some(), "a first piece");
    let revoke = AuthUserRevokeRoleRequest { name: text("alice"), role: text("a") };
    AuthClient::new(channel.clone()).user_revoke_role(with_token(revoke, root)).await?;
    let ended = loop {
        match pieces.message().await {
            Ok(Some(_)) => {}
            Ok(None) => anyhow::bail!("everything was told"),
            Err(status) => break status,
        }
    };
    let expected = (Code::InvalidArgument, "etcdserver: revision of auth store is old");
    ensure!((ended.code(), ended.message()) == expected, "{ended:?}");
    Ok(())
}

/// The right to `key` of whoever shows `certificate`, with the token of `user` if there is one.
struct Signed {
    certificate: &'static str,
    user: Option<&'static str>,
    key: &'static str,
    expected: Option<(Code, &'static str)>,
}

const SIGNED: [Signed; 8] = [
    Signed { certificate: "root", user: None, key: "z", expected: None },
    Signed { certificate: "alice", user: None, key: "a", expected: None },
    Signed { certificate: "alice", user: None, key: "z", expected: Some(DENIED) },
    // Nobody has this name.
    Signed { certificate: "client", user: None, key: "a", expected: Some(DENIED) },
    Signed { certificate: "nameless", user: None, key: "a", expected: Some(USER_EMPTY) },
    // A token wins.
    Signed { certificate: "root", user: Some("alice"), key: "z", expected: Some(DENIED) },
    Signed { certificate: "nameless", user: Some("alice"), key: "a", expected: None },
    Signed { certificate: "alice", user: Some("root"), key: "z", expected: None },
];

#[tokio::test]
async fn auth_11_gw_08_a_certificates_name_is_a_user_but_in_json() {
    for kind in [Kind::Etcd, Kind::Coracle] {
        signed_in(kind).await.unwrap_or_else(|error| panic!("{kind:?}: {error:#}"));
    }
}

async fn signed_in(kind: Kind) -> Result<()> {
    let pki = Pki::new()?;
    // The gateway of etcd is a client of its server, and shows this certificate.
    let flags = "--cert-file=$D/peer.pem --key-file=$D/peer.key --trusted-ca-file=$D/ca.pem \
                 --client-cert-auth --bcrypt-cost=4 --unsafe-no-fsync --log-level=error";
    let server = Server::start(kind, "https", &pki.fill(flags))?;
    let shown = |name: &str| {
        pki.fill(&format!("--cacert=$D/ca.pem --cert=$D/{name}.pem --key=$D/{name}.key"))
    };
    let nameless = channel::connect(&server.address, &shown("nameless")).await?;
    prepare(&nameless).await?;
    for Signed { certificate, user, key, expected } in SIGNED {
        let channel = channel::connect(&server.address, &shown(certificate)).await?;
        let token = match user {
            Some(user) => token_of(user, &nameless).await?,
            None => None,
        };
        // U-5: 3.5.1 takes nobody for a user, who has no rights.
        let is_nobody = kind == Kind::Etcd && expected == Some(USER_EMPTY);
        let expected = if is_nobody { Some(DENIED) } else { expected };
        let put = KvClient::new(channel).put(with_token(put(key), token)).await;
        let got = put.as_ref().err().map(|status| (status.code(), status.message()));
        ensure!(got == expected, "{certificate}, {user:?}, {key}: {got:?}");
    }
    let token = token_of("alice", &nameless).await?;
    let token = token.as_ref().map(|token| token.to_str()).transpose()?;
    let address = server.address.clone();
    let post = |name: &str| {
        let (flags, body) = (shown(name), r#"{"key":"YQ=="}"#);
        tls::client::post(&address, &flags, "/v3/kv/range", token, body)
    };
    // etcd answers this for a name that would be ignored, whatever token there is.
    let (status, body) = post("alice")?;
    let ignored = "CommonName of client sending a request against gateway will be ignored and not \
                   used as expected";
    ensure!((status, body.trim_end()) == (400, ignored), "{status} {body}");
    let (status, body) = post("nameless")?;
    ensure!(status == 200 && body.contains("\"header\""), "{status} {body}");
    Ok(())
}
