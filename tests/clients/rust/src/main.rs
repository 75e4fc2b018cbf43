//! The crate `etcd-client` against one server: put, get, delete, txn, lease, watch, lock, election,
//! maintenance, users and roles.
//! Usage: `coracle-client-smoke ENDPOINT`. Ends with `ok`.

use anyhow::{Context, Result, ensure};
use etcd_client::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let endpoint = std::env::args().nth(1).context("usage: coracle-client-smoke ENDPOINT")?;
    let mut client = Client::connect([&endpoint], None).await?;
    kv(&mut client).await.context("kv")?;
    txn(&mut client).await.context("txn")?;
    lease(&mut client).await.context("lease")?;
    watch(&mut client).await.context("watch")?;
    lock(&mut client).await.context("lock")?;
    election(&mut client).await.context("election")?;
    maintenance(&mut client).await.context("maintenance")?;
    auth(&mut client, &endpoint).await.context("auth")?;
    println!("ok");
    Ok(())
}

async fn kv(client: &mut Client) -> Result<()> {
    client.put("/rs/a", "1", None).await?;
    let previous = client.put("/rs/a", "2", Some(PutOptions::new().with_prev_key())).await?;
    ensure!(previous.prev_key().is_some_and(|kv| kv.value() == b"1"));
    client.put("/rs/b", [0u8, 255], None).await?;
    let all = client.get("/rs/", Some(GetOptions::new().with_prefix())).await?;
    ensure!(all.count() == 2 && all.kvs()[1].value() == [0, 255]);
    let options = GetOptions::new()
        .with_prefix()
        .with_limit(1)
        .with_sort(SortTarget::Mod, SortOrder::Descend);
    let newest = client.get("/rs/", Some(options)).await?;
    ensure!(newest.more() && newest.kvs()[0].key() == b"/rs/b");
    let deleted = client.delete("/rs/b", Some(DeleteOptions::new().with_prev_key())).await?;
    ensure!(deleted.deleted() == 1 && deleted.prev_kvs().len() == 1);
    let refused = client.put("", "x", None).await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("key is not provided")));
    Ok(())
}

async fn txn(client: &mut Client) -> Result<()> {
    let swap = Txn::new()
        .when([Compare::value("/rs/a", CompareOp::Equal, "2")])
        .and_then([TxnOp::put("/rs/a", "3", None), TxnOp::get("/rs/a", None)])
        .or_else([TxnOp::get("/rs/a", None)]);
    let first = client.txn(swap.clone()).await?;
    ensure!(first.succeeded() && first.op_responses().len() == 2);
    ensure!(!client.txn(swap).await?.succeeded());
    Ok(())
}

async fn lease(client: &mut Client) -> Result<()> {
    let lease = client.lease_grant(600, None).await?;
    let options = PutOptions::new().with_lease(lease.id());
    client.put("/rs/leased", "1", Some(options)).await?;
    let (mut keeper, mut replies) = client.lease_keep_alive(lease.id()).await?;
    keeper.keep_alive().await?;
    ensure!(replies.message().await?.is_some_and(|reply| reply.ttl() == 600));
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let times = client.lease_time_to_live(lease.id(), Some(options)).await?;
    ensure!(times.granted_ttl() == 600 && times.keys() == [b"/rs/leased".to_vec()]);
    ensure!(client.leases().await?.leases().iter().any(|one| one.id() == lease.id()));
    client.lease_revoke(lease.id()).await?;
    ensure!(client.get("/rs/leased", None).await?.kvs().is_empty());
    Ok(())
}

async fn watch(client: &mut Client) -> Result<()> {
    let options = WatchOptions::new().with_prefix().with_prev_key();
    let mut stream = client.watch("/rs/watched/", Some(options)).await?;
    let created = stream.message().await?.context("the stream ended")?;
    ensure!(created.created());
    let watch_id = created.watch_id();
    client.put("/rs/watched/k", "1", None).await?;
    client.delete("/rs/watched/k", None).await?;
    let mut events = Vec::new();
    while events.len() < 2 {
        let response = stream.message().await?.context("the stream ended")?;
        events.extend(response.events().iter().cloned());
    }
    ensure!(events[0].event_type() == EventType::Put);
    ensure!(events[1].event_type() == EventType::Delete);
    ensure!(events[1].prev_kv().is_some_and(|kv| kv.value() == b"1"));
    stream.cancel(watch_id).await?;
    Ok(())
}

/// A second session waits for the lock of the first, and owns it after it.
async fn lock(client: &mut Client) -> Result<()> {
    let sessions =
        [client.lease_grant(60, None).await?.id(), client.lease_grant(60, None).await?.id()];
    let options = LockOptions::new().with_lease(sessions[0]);
    let held = client.lock("rs-lock", Some(options)).await?;
    ensure!(held.key() == format!("rs-lock/{:x}", sessions[0]).as_bytes());
    let mut second = client.clone();
    let waiting = tokio::spawn(async move {
        let options = LockOptions::new().with_lease(sessions[1]);
        second.lock("rs-lock", Some(options)).await
    });
    let queue = || GetOptions::new().with_prefix().with_count_only();
    while client.get("rs-lock/", Some(queue())).await?.count() < 2 {
        tokio::task::yield_now().await;
    }
    ensure!(!waiting.is_finished());
    client.unlock(held.key()).await?;
    let held = waiting.await??;
    ensure!(held.key() == format!("rs-lock/{:x}", sessions[1]).as_bytes());
    // A session that ends gives its lock up.
    client.lease_revoke(sessions[1]).await?;
    ensure!(client.get("rs-lock/", Some(queue())).await?.count() == 0);
    Ok(())
}

/// One leads, the other follows when it resigns; an observer sees both, and what they proclaim.
async fn election(client: &mut Client) -> Result<()> {
    let sessions =
        [client.lease_grant(60, None).await?.id(), client.lease_grant(60, None).await?.id()];
    ensure!(client.leader("rs-vote").await.is_err_and(|e| e.to_string().contains("no leader")));
    let elected = client.campaign("rs-vote", "one", sessions[0]).await?;
    let leader = elected.leader().context("who is elected has a key")?.clone();
    ensure!(leader.name() == b"rs-vote" && leader.lease() == sessions[0]);
    let mut seen = client.observe("rs-vote").await?;
    let first = seen.message().await?.context("the stream ended")?;
    ensure!(first.kv().is_some_and(|kv| kv.value() == b"one"));
    let mut second = client.clone();
    let waiting = tokio::spawn(async move { second.campaign("rs-vote", "two", sessions[1]).await });
    let options = ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("one again", Some(options)).await?;
    let next = seen.message().await?.context("the stream ended")?;
    ensure!(next.kv().is_some_and(|kv| kv.value() == b"one again"));
    ensure!(!waiting.is_finished());
    client.resign(Some(ResignOptions::new().with_leader(leader.clone()))).await?;
    waiting.await??;
    let next = seen.message().await?.context("the stream ended")?;
    ensure!(next.kv().is_some_and(|kv| kv.value() == b"two"));
    let stale = client.proclaim("late", Some(ProclaimOptions::new().with_leader(leader))).await;
    ensure!(stale.is_err_and(|error| error.to_string().contains("not leader")));
    ensure!(client.leader("rs-vote").await?.kv().is_some_and(|kv| kv.value() == b"two"));
    client.lease_revoke(sessions[1]).await?;
    Ok(())
}

/// A user may do what its role may, and nobody may do anything.
async fn auth(client: &mut Client, endpoint: &str) -> Result<()> {
    client.role_add("reader").await?;
    client.role_grant_permission("reader", Permission::read("/rs/").with_prefix()).await?;
    client.role_grant_permission("reader", Permission::read_write("/rs/a")).await?;
    client.user_add("carol", "secret", None).await?;
    client.user_grant_role("carol", "reader").await?;
    ensure!(client.user_get("carol").await?.roles() == ["reader"]);
    ensure!(client.role_get("reader").await?.permissions().len() == 2);
    client.user_add("root", "rooted", None).await?;
    client.user_grant_role("root", "root").await?;
    client.auth_enable().await?;

    let refused = client.get("/rs/a", None).await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("user name is empty")));
    let sign_in = |name: &str, password: &str| ConnectOptions::new().with_user(name, password);
    let wrong = Client::connect([endpoint], Some(sign_in("carol", "guess"))).await;
    ensure!(wrong.is_err_and(|error| error.to_string().contains("authentication failed")));
    let mut carol = Client::connect([endpoint], Some(sign_in("carol", "secret"))).await?;
    carol.put("/rs/a", "by carol", None).await?;
    carol.get("/rs/", Some(GetOptions::new().with_prefix())).await?;
    for refused in [
        carol.put("/rs/b", "x", None).await.map(drop),
        carol.get("/elsewhere", None).await.map(drop),
        carol.user_list().await.map(drop),
    ] {
        ensure!(refused.is_err_and(|error| error.to_string().contains("permission denied")));
    }
    let mut root = Client::connect([endpoint], Some(sign_in("root", "rooted"))).await?;
    root.user_revoke_role("carol", "reader").await?;
    let refused = carol.get("/rs/a", None).await;
    ensure!(refused.is_err_and(|error| error.to_string().contains("permission denied")));
    root.auth_disable().await?;
    client.user_delete("carol").await?;
    client.role_delete("reader").await?;
    ensure!(client.role_list().await?.roles().iter().all(|role| role != "reader"));
    Ok(())
}

async fn maintenance(client: &mut Client) -> Result<()> {
    ensure!(client.member_list().await?.members().len() == 1);
    let status = client.status().await?;
    ensure!(status.leader() != 0 && status.version().starts_with("3."));
    let revision = client.get("/rs/a", None).await?.header().context("a header")?.revision();
    client.compact(revision, None).await?;
    ensure!(client.alarm(AlarmAction::Get, AlarmType::None, None).await?.alarms().is_empty());
    client.defragment().await?;
    let mut snapshot = client.snapshot().await?;
    let mut bytes = 0;
    while let Some(chunk) = snapshot.message().await? {
        bytes += chunk.blob().len();
    }
    ensure!(bytes > 32, "a snapshot ends in the 32 bytes of its SHA-256");
    Ok(())
}
