//! The crate `etcd-client` against one server: put, get, delete, txn, lease, watch, maintenance.
//! Usage: `coracle-client-smoke ENDPOINT`. Ends with `ok`.

use anyhow::{Context, Result, ensure};
use etcd_client::*;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let endpoint = std::env::args().nth(1).context("usage: coracle-client-smoke ENDPOINT")?;
    let mut client = Client::connect([endpoint], None).await?;
    kv(&mut client).await.context("kv")?;
    txn(&mut client).await.context("txn")?;
    lease(&mut client).await.context("lease")?;
    watch(&mut client).await.context("watch")?;
    maintenance(&mut client).await.context("maintenance")?;
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
