//! Lock and Election, the same against real etcd and Coracle, and with Go's own `concurrency`
//! package (real `etcdctl`) in the same queues.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coracle_core::api::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, RangeRequest};
use coracle_core::api::v3electionpb::*;
use coracle_core::api::v3lockpb::*;
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::grpc::{ElectionClient, KvClient, LeaseClient, LockClient};
use coracle_tests::programs::{self, EtcdctlRelease};
use coracle_tests::raw::RawClient;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};
use tonic::Code;
use tonic::transport::Channel;

const DEADLINE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// Runs `test` against a member of each kind.
fn on_both(test: impl AsyncFn(&Cluster, RawClient) -> Result<()>) {
    for kind in [Kind::Etcd, Kind::Coracle] {
        let cluster = Cluster::start(kind, 1).expect("a cluster starts");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let outcome = runtime.expect("a runtime").block_on(async {
            let client = RawClient::connect(cluster.endpoint(0)).await?;
            test(&cluster, client).await
        });
        if let Err(error) = outcome {
            panic!("{kind:?}: {error:#}");
        }
    }
}

async fn lease(channel: &Channel) -> Result<i64> {
    let request = LeaseGrantRequest { ttl: 600, id: 0 };
    Ok(LeaseClient::new(channel.clone()).lease_grant(request).await?.into_inner().id)
}

async fn keys(channel: &Channel, prefix: &'static str, end: &'static str) -> Result<Vec<String>> {
    let request =
        RangeRequest { key: prefix.into(), range_end: end.into(), ..RangeRequest::default() };
    let found = KvClient::new(channel.clone()).range(request).await?.into_inner();
    Ok(found.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect())
}

/// Waits until `count` keys stand below `prefix`.
async fn wait_for_keys(
    channel: &Channel,
    prefix: &'static str,
    end: &'static str,
    count: usize,
) -> Result<Vec<String>> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let found = keys(channel, prefix, end).await?;
        if found.len() == count {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "{found:?} is not {count} keys");
        sleep(POLL).await;
    }
}

fn lock_request(lease: i64) -> LockRequest {
    LockRequest { name: "lock".into(), lease }
}

#[test]
fn lk_01_a_lock_goes_from_one_session_to_the_next_in_their_order() {
    on_both(async |_, client| {
        let channel = client.channel();
        let mut locks = LockClient::new(channel.clone());
        let (one, two, three) =
            (lease(&channel).await?, lease(&channel).await?, lease(&channel).await?);
        let first = locks.lock(lock_request(one)).await?.into_inner();
        ensure!(first.key == format!("lock/{one:x}"), "{first:?}");
        ensure!(first.header.context("a header")?.revision == 2, "{first:?}");
        let again = locks.lock(lock_request(one)).await?.into_inner();
        ensure!(again == first, "the session has the lock already: {again:?}");
        let mut waiting = Vec::new();
        for (count, lease) in [(2, two), (3, three)] {
            let mut locks = locks.clone();
            let request = lock_request(lease);
            waiting.push(tokio::spawn(async move { locks.lock(request).await }));
            wait_for_keys(&channel, "lock/", "lock0", count).await?;
        }
        for (waiting, before, own) in
            [(waiting.remove(0), one, two), (waiting.remove(0), two, three)]
        {
            ensure!(!waiting.is_finished(), "two sessions own the lock");
            let key = format!("lock/{before:x}").into();
            locks.unlock(UnlockRequest { key }).await?;
            let next = waiting.await??.into_inner();
            ensure!(next.key == format!("lock/{own:x}"), "{next:?}");
        }
        // Without a lease of its own a session gets one of a minute.
        let own = locks.lock(LockRequest { name: "other".into(), lease: 0 }).await?.into_inner();
        let digits = std::str::from_utf8(&own.key)?.strip_prefix("other/").context("its name")?;
        ensure!(i64::from_str_radix(digits, 16)? > 0, "{own:?}");
        Ok(())
    });
}

#[test]
fn el_02_who_gives_up_waiting_leaves_the_queue() {
    on_both(async |_, client| {
        let channel = client.channel();
        let mut locks = LockClient::new(channel.clone());
        let mut elections = ElectionClient::new(channel.clone());
        let owner = lease(&channel).await?;
        let held = locks.lock(lock_request(owner)).await?.into_inner().key;
        let waiting = tokio::spawn({
            let (mut locks, lease) = (locks.clone(), lease(&channel).await?);
            async move { locks.lock(lock_request(lease)).await }
        });
        wait_for_keys(&channel, "lock/", "lock0", 2).await?;
        waiting.abort();
        let left = wait_for_keys(&channel, "lock/", "lock0", 1).await?;
        ensure!(held == left[0], "{left:?}");

        let request = |lease| CampaignRequest { name: "e".into(), lease, value: "v".into() };
        let led = elections.campaign(request(owner)).await?.into_inner();
        let waiting = tokio::spawn({
            let (mut elections, lease) = (elections.clone(), lease(&channel).await?);
            async move { elections.campaign(request(lease)).await }
        });
        wait_for_keys(&channel, "e/", "e0", 2).await?;
        waiting.abort();
        let left = wait_for_keys(&channel, "e/", "e0", 1).await?;
        ensure!(led.leader.context("a leader")?.key == left[0], "{left:?}");
        Ok(())
    });
}

#[test]
fn lk_01_a_session_that_ends_while_it_waits_is_told() {
    on_both(async |_, client| {
        let channel = client.channel();
        let mut locks = LockClient::new(channel.clone());
        let (one, two) = (lease(&channel).await?, lease(&channel).await?);
        let held = locks.lock(lock_request(one)).await?.into_inner().key;
        let waiting = tokio::spawn({
            let mut locks = locks.clone();
            async move { locks.lock(lock_request(two)).await }
        });
        wait_for_keys(&channel, "lock/", "lock0", 2).await?;
        LeaseClient::new(channel.clone()).lease_revoke(LeaseRevokeRequest { id: two }).await?;
        // etcd looks only when its turn comes.
        locks.unlock(UnlockRequest { key: held }).await?;
        let refused = waiting.await?.err().context("the session is gone")?;
        let told = (refused.code(), refused.message());
        ensure!(told == (Code::Unknown, "mutex: session is expired"), "{told:?}");
        Ok(())
    });
}

/// Clients try again what is unavailable, and nothing that is unknown.
#[test]
fn lk_01_el_01_who_waits_at_a_member_that_stops_is_told_that_it_is_unavailable() {
    on_both(async |cluster, client| {
        let channel = client.channel();
        let (one, two) = (lease(&channel).await?, lease(&channel).await?);
        let mut locks = LockClient::new(channel.clone());
        let mut elections = ElectionClient::new(channel.clone());
        locks.lock(lock_request(one)).await?;
        let campaign = |lease| CampaignRequest { name: "e".into(), lease, value: "v".into() };
        elections.campaign(campaign(one)).await?;
        let lock = tokio::spawn(async move { locks.lock(lock_request(two)).await.err() });
        let campaign = campaign(two);
        let election = tokio::spawn(async move { elections.campaign(campaign).await.err() });
        wait_for_keys(&channel, "lock/", "lock0", 2).await?;
        wait_for_keys(&channel, "e/", "e0", 2).await?;
        let id = i32::try_from(cluster.process_id(0).context("a process")?)?;
        kill_process(Pid::from_raw(id).context("an id")?, Signal::TERM)?;
        for waiting in [lock, election] {
            let refused = waiting.await?.context("nobody let go of it")?;
            // What tonic says of a connection that broke; other libraries: unavailable.
            let broken = refused.message() == "transport error";
            ensure!(broken || refused.code() == Code::Unavailable, "{refused:?}");
        }
        Ok(())
    });
}

#[test]
fn el_01_a_leader_is_elected_proclaims_is_observed_and_resigns() {
    on_both(async |_, client| {
        let channel = client.channel();
        let mut elections = ElectionClient::new(channel.clone());
        let election = || LeaderRequest { name: "e".into() };
        // etcd opens the stream with its first message.
        let observed = tokio::spawn({
            let (mut elections, election) = (elections.clone(), election());
            async move { elections.observe(election).await }
        });
        let (one, two) = (lease(&channel).await?, lease(&channel).await?);
        let campaign = |lease, value: &'static str| CampaignRequest {
            name: "e".into(),
            lease,
            value: value.into(),
        };
        let won = elections.campaign(campaign(one, "a")).await?.into_inner();
        let leader = won.leader.context("a leader")?;
        ensure!(leader.key == format!("e/{one:x}") && leader.rev == 2, "{leader:?}");
        ensure!(leader.name == "e" && leader.lease == one, "{leader:?}");
        let mut observed = observed.await??.into_inner();
        let mut told = async || -> Result<(String, i64, i64)> {
            let told = observed.message().await?.context("the stream goes on")?;
            let (header, kv) = (told.header.context("a header")?, told.kv.context("a leader")?);
            Ok((String::from_utf8(kv.value.to_vec())?, kv.create_revision, header.revision))
        };
        ensure!(told().await? == ("a".into(), 2, 2));
        // The same session campaigns again, with another value.
        let again = elections.campaign(campaign(one, "b")).await?.into_inner();
        ensure!(again.leader.context("a leader")?.rev == 2);
        ensure!(told().await? == ("b".into(), 2, 3));
        let waiting = tokio::spawn({
            let mut elections = elections.clone();
            async move { elections.campaign(campaign(two, "c")).await }
        });
        wait_for_keys(&channel, "e/", "e0", 2).await?;
        let value = "d".into();
        let request = ProclaimRequest { leader: Some(leader.clone()), value };
        let proclaimed = elections.proclaim(request.clone()).await?.into_inner();
        ensure!(proclaimed.header.context("a header")?.revision == 5);
        ensure!(told().await? == ("d".into(), 2, 5));
        let now = elections.leader(election()).await?.into_inner();
        ensure!(now.kv.context("a leader")?.value == "d");
        elections.resign(ResignRequest { leader: Some(leader.clone()) }).await?;
        let next = waiting.await??.into_inner().leader.context("a leader")?;
        ensure!((next.rev, next.lease) == (4, two), "{next:?}");
        ensure!(told().await? == ("c".into(), 4, 6));
        // The former leader has nothing more to say, and may resign as often as it likes.
        let refused = elections.proclaim(request).await.err().context("it does not lead")?;
        ensure!((refused.code(), refused.message()) == (Code::Unknown, "election: not leader"));
        elections.resign(ResignRequest { leader: Some(leader) }).await?;
        Ok(())
    });
}

#[test]
fn lk_01_el_01_errors_are_texts_without_a_code() {
    on_both(async |_, client| {
        let leader = || LeaderKey { name: "e".into(), key: "e/1".into(), rev: 9, lease: 77 };
        const NO_LEASE: &str = "etcdserver: requested lease not found";
        let lock = LockRequest { name: "n".into(), lease: 77 };
        let campaign = CampaignRequest { name: "n".into(), lease: 77, value: "v".into() };
        let proclaim = ProclaimRequest { leader: Some(leader()), value: "v".into() };
        let path = |method: &str| format!("/v3electionpb.Election/{method}");
        let told = [
            (client.refusal("/v3lockpb.Lock/Lock", &lock).await, NO_LEASE),
            (
                client.refusal("/v3lockpb.Lock/Unlock", &UnlockRequest::default()).await,
                "etcdserver: key is not provided",
            ),
            (client.refusal(&path("Campaign"), &campaign).await, NO_LEASE),
            (
                client.refusal(&path("Leader"), &LeaderRequest { name: "n".into() }).await,
                "election: no leader",
            ),
            (client.refusal(&path("Proclaim"), &proclaim).await, "election: not leader"),
            (
                client.refusal(&path("Proclaim"), &ProclaimRequest::default()).await,
                "\"leader\" field must be provided",
            ),
            (
                client.refusal(&path("Resign"), &ResignRequest::default()).await,
                "\"leader\" field must be provided",
            ),
        ];
        for ((code, message), expected) in told {
            ensure!((code, message.as_str()) == (Code::Unknown, expected), "{code:?} {message}");
        }
        Ok(())
    });
}

/// A running `etcdctl`, killed when the test ends.
struct Etcdctl(Child);

impl Etcdctl {
    fn start(cluster: &Cluster, arguments: &[&str]) -> Result<Etcdctl> {
        let child = Command::new(programs::etcdctl(EtcdctlRelease::V35)?)
            .env("ETCDCTL_API", "3")
            .env_remove("ETCDCTL35_BIN")
            .env_remove("ETCDCTL34_BIN")
            .args(["--endpoints", &cluster.endpoint(0)])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()?;
        Ok(Etcdctl(child))
    }

    /// Interrupts it once it has printed its key: before that, it may forget to take it out.
    fn interrupt(&mut self) -> Result<()> {
        let stdout = self.0.stdout.as_mut().context("its output is a pipe")?;
        let read = stdout.read(&mut [0; 1024])?;
        ensure!(read > 0, "etcdctl ended before it had what it waited for");
        let pid = Pid::from_raw(i32::try_from(self.0.id())?).context("a process has an id")?;
        Ok(kill_process(pid, Signal::INT)?)
    }
}

impl Drop for Etcdctl {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn cc_02_cc_03_go_s_own_sessions_stand_in_the_same_queue() {
    on_both(async |cluster, client| {
        let channel = client.channel();
        let mut locks = LockClient::new(channel.clone());
        let mut go = Etcdctl::start(cluster, &["lock", "lock"])?;
        wait_for_keys(&channel, "lock/", "lock0", 1).await?;
        let waiting = tokio::spawn({
            let (mut locks, lease) = (locks.clone(), lease(&channel).await?);
            async move { locks.lock(lock_request(lease)).await }
        });
        wait_for_keys(&channel, "lock/", "lock0", 2).await?;
        let behind = Etcdctl::start(cluster, &["lock", "lock", "true"])?;
        wait_for_keys(&channel, "lock/", "lock0", 3).await?;
        ensure!(!waiting.is_finished(), "a Go session and ours own the lock");
        go.interrupt()?;
        let key = waiting.await??.into_inner().key;
        locks.unlock(UnlockRequest { key }).await?;
        wait_for_keys(&channel, "lock/", "lock0", 0).await?;
        drop(behind);

        let mut elections = ElectionClient::new(channel.clone());
        let mut go = Etcdctl::start(cluster, &["elect", "e", "gopher"])?;
        wait_for_keys(&channel, "e/", "e0", 1).await?;
        let request = LeaderRequest { name: "e".into() };
        let led = elections.leader(request.clone()).await?.into_inner().kv.context("a leader")?;
        ensure!(led.value == "gopher", "{led:?}");
        let mut observed = elections.clone().observe(request).await?.into_inner();
        let seen = observed.message().await?.context("a leader")?;
        ensure!(seen.kv.context("a leader")?.value == "gopher");
        let campaign = CampaignRequest {
            name: "e".into(),
            lease: lease(&channel).await?,
            value: "crab".into(),
        };
        let waiting = tokio::spawn(async move { elections.campaign(campaign).await });
        wait_for_keys(&channel, "e/", "e0", 2).await?;
        go.interrupt()?;
        waiting.await??;
        let seen = observed.message().await?.context("a leader")?;
        ensure!(seen.kv.context("a leader")?.value == "crab");
        Ok(())
    });
}
