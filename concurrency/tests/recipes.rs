//! The recipes against a server, and against Go's: real `etcdctl lock` and `etcdctl elect` wait in
//! the same queues.
//!
//! `ENDPOINT` is a server that is there for this test alone; `GO_ETCDCTL` a real etcdctl.

use std::env;
use std::process::Stdio;
use std::time::Duration;

use coracle_concurrency::{Election, Error, Isolation, Mutex, Result, Session, Stm, transact};
use etcd_client::{Client, PutOptions, Txn, TxnOp};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
const TTL: Duration = Duration::from_secs(30);

fn endpoint() -> String {
    env::var("ENDPOINT").expect("ENDPOINT says where a server is")
}

async fn client() -> Client {
    Client::connect([endpoint()], None).await.expect("the server is there")
}

async fn session(client: &Client) -> Session {
    Session::new(client, TTL).await.expect("a lease")
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    timeout(PATIENCE, work).await.expect("it happens soon")
}

async fn value(client: &Client, key: &str) -> Option<String> {
    let answer = client.clone().get(key, None).await.expect("a get");
    answer.kvs().first().map(|found| found.value_str().expect("text").to_owned())
}

/// How many keys stand under `prefix`.
async fn count(client: &Client, prefix: &str) -> i64 {
    let options = etcd_client::GetOptions::new().with_prefix().with_count_only();
    client.clone().get(prefix, Some(options)).await.expect("a count").count()
}

/// Waits until so many contenders are in a queue.
async fn queued(client: &Client, name: &str, contenders: i64) {
    soon(async {
        while count(client, &format!("{name}/")).await != contenders {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// A real etcdctl that goes on until it is dropped, and its lines.
fn etcdctl(words: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let program = env::var("GO_ETCDCTL").expect("GO_ETCDCTL is a real etcdctl");
    let mut child = Command::new(program)
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", endpoint()))
        .args(words)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("etcdctl starts");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    (child, lines)
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    soon(lines.next_line()).await.expect("readable").expect("a line")
}

/// Ends etcdctl as Ctrl-C does.
async fn interrupt(mut child: Child) {
    let number = child.id().expect("it runs").to_string();
    let killed = Command::new("kill").args(["-INT", &number]).status().await;
    assert!(killed.expect("kill runs").success());
    soon(child.wait()).await.expect("it ends");
}

#[tokio::test]
async fn cc_01_a_session_outlives_its_ttl_and_ends_with_its_lease() -> Result<()> {
    let mut client = client().await;
    let short = Session::new(&client, Duration::from_secs(2)).await?;
    let attached = PutOptions::new().with_lease(short.lease());
    client.put("cc01/key", "held", Some(attached)).await?;
    sleep(Duration::from_secs(7)).await;
    assert!(!short.is_over());
    assert_eq!(value(&client, "cc01/key").await.as_deref(), Some("held"));
    short.close().await?;
    assert_eq!(value(&client, "cc01/key").await, None);

    let revoked = Session::new(&client, Duration::from_secs(3)).await?;
    client.lease_revoke(revoked.lease()).await?;
    soon(revoked.ended()).await;
    assert!(revoked.is_over());

    let orphan = session(&client).await;
    let lease = orphan.orphan();
    assert!(client.lease_time_to_live(lease, None).await?.ttl() > 0);
    let adopted = Session::of_lease(&client, lease).await?;
    adopted.close().await?;
    assert!(Session::of_lease(&client, lease).await.is_err());
    Ok(())
}

#[tokio::test]
async fn cc_02_a_mutex_is_a_queue() -> Result<()> {
    let client = client().await;
    let (one, two, three) =
        (session(&client).await, session(&client).await, session(&client).await);
    let mut first = Mutex::new(&one, "cc02/lock");
    let mut second = Mutex::new(&two, "cc02/lock");
    assert!(matches!(first.unlock().await, Err(Error::NotLocked)));
    first.lock().await?;
    let key = format!("cc02/lock/{:x}", one.lease());
    assert_eq!(first.key(), Some(key.as_bytes()));
    assert!(matches!(second.try_lock().await, Err(Error::Locked)));
    assert_eq!(count(&client, "cc02/lock/").await, 1, "who does not get it does not stay");

    // Whoever stops waiting leaves the queue.
    let mut third = Mutex::new(&three, "cc02/lock");
    let waiting = async {
        tokio::select! {
            locked = third.lock() => panic!("it is not free: {locked:?}"),
            () = queued(&client, "cc02/lock", 2) => {}
        }
    };
    waiting.await;
    queued(&client, "cc02/lock", 1).await;

    let (unlocked, locked) = tokio::join!(
        async {
            queued(&client, "cc02/lock", 2).await;
            first.unlock().await
        },
        soon(second.lock())
    );
    unlocked?;
    locked?;

    // The owner's transactions go through as long as it is the owner.
    let write = |owner: etcd_client::Compare| {
        Txn::new().when([owner]).and_then([TxnOp::put("cc02/guarded", "x", None)])
    };
    let owner = second.is_owner()?;
    assert!(client.clone().txn(write(owner.clone())).await?.succeeded());
    client.clone().lease_revoke(two.lease()).await?;
    assert!(!client.clone().txn(write(owner)).await?.succeeded());
    assert!(matches!(second.unlock().await, Err(Error::NotLocked)));
    Ok(())
}

#[tokio::test]
async fn cc_02_a_session_that_ends_while_it_waits_does_not_own() -> Result<()> {
    let client = client().await;
    let (one, two) = (session(&client).await, Session::new(&client, Duration::from_secs(3)).await?);
    let mut first = Mutex::new(&one, "cc02/expired");
    let mut second = Mutex::new(&two, "cc02/expired");
    first.lock().await?;
    let (revoked, locked) = tokio::join!(
        async {
            queued(&client, "cc02/expired", 2).await;
            client.clone().lease_revoke(two.lease()).await
        },
        soon(second.lock())
    );
    revoked?;
    assert!(matches!(locked, Err(Error::SessionExpired)), "{locked:?}");
    first.unlock().await
}

#[tokio::test]
async fn cc_02_gos_mutex_waits_in_the_same_queue() -> Result<()> {
    let client = client().await;
    let session = session(&client).await;
    let mut mutex = Mutex::new(&session, "cc02/go");

    // Go first.
    let (holder, mut lines) = etcdctl(&["lock", "cc02/go"]);
    assert!(line(&mut lines).await.starts_with("cc02/go/"));
    assert!(matches!(mutex.try_lock().await, Err(Error::Locked)));
    let ((), locked) = tokio::join!(
        async {
            queued(&client, "cc02/go", 2).await;
            interrupt(holder).await;
        },
        soon(mutex.lock())
    );
    locked?;

    // And Go after us.
    let (mut follower, mut lines) = etcdctl(&["lock", "cc02/go", "echo", "mine"]);
    queued(&client, "cc02/go", 2).await;
    mutex.unlock().await?;
    assert_eq!(line(&mut lines).await, "mine");
    assert!(soon(follower.wait()).await.expect("it ends").success());
    Ok(())
}

#[tokio::test]
async fn cc_03_an_election_has_one_leader_after_the_other() -> Result<()> {
    let client = client().await;
    let (one, two) = (session(&client).await, session(&client).await);
    let mut first = Election::new(&one, "cc03/election");
    let mut second = Election::new(&two, "cc03/election");
    assert!(matches!(first.leader().await, Err(Error::NoLeader)));
    assert!(matches!(first.proclaim("x").await, Err(Error::NotLeader)));
    let mut observer = first.observe();
    let (observed, campaigned) = tokio::join!(soon(observer.next()), first.campaign("a"));
    campaigned?;
    assert_eq!(observed?.value, b"a");
    first.proclaim("b").await?;
    assert_eq!(soon(observer.next()).await?.value, b"b");
    let leader = second.leader().await?;
    assert_eq!((leader.value.as_slice(), Some(leader.key.as_slice())), (&b"b"[..], first.key()));
    assert_eq!(Some(leader.create_revision), first.revision());

    let (resigned, campaigned) = tokio::join!(
        async {
            queued(&client, "cc03/election", 2).await;
            first.resign().await
        },
        soon(second.campaign("c"))
    );
    resigned?;
    campaigned?;
    assert_eq!(soon(observer.next()).await?.value, b"c");
    assert!(matches!(first.proclaim("late").await, Err(Error::NotLeader)));
    // A campaign of the leader replaces its value.
    second.campaign("d").await?;
    assert_eq!(soon(observer.next()).await?.value, b"d");
    second.resign().await?;
    assert!(matches!(second.leader().await, Err(Error::NoLeader)));
    Ok(())
}

#[tokio::test]
async fn cc_03_gos_election_is_the_same() -> Result<()> {
    let client = client().await;
    let session = session(&client).await;
    let mut election = Election::new(&session, "cc03/go");
    let (holder, mut lines) = etcdctl(&["elect", "cc03/go", "gopher"]);
    assert!(line(&mut lines).await.starts_with("cc03/go/"));
    assert_eq!(line(&mut lines).await, "gopher");
    assert_eq!(election.leader().await?.value, b"gopher");
    let (_listener, mut heard) = etcdctl(&["elect", "--listen", "cc03/go"]);
    assert!(line(&mut heard).await.starts_with("cc03/go/"));
    assert_eq!(line(&mut heard).await, "gopher");
    let ((), campaigned) = tokio::join!(
        async {
            queued(&client, "cc03/go", 2).await;
            interrupt(holder).await;
        },
        soon(election.campaign("crab"))
    );
    campaigned?;
    assert_eq!(line(&mut heard).await, String::from_utf8_lossy(election.key().expect("a key")));
    assert_eq!(line(&mut heard).await, "crab");
    election.resign().await
}

const ALL: [Isolation; 4] = [
    Isolation::SerializableSnapshot,
    Isolation::Serializable,
    Isolation::RepeatableReads,
    Isolation::ReadCommitted,
];

#[tokio::test]
async fn cc_04_a_transaction_sees_its_writes_and_leaves_none_when_it_fails() -> Result<()> {
    let client = client().await;
    for isolation in ALL {
        let name = |key: &str| format!("cc04/{isolation:?}/{key}");
        let (a, b) = (name("a"), name("b"));
        let seen = transact(&client, isolation, async |stm: &mut Stm| {
            assert_eq!(stm.get(&a).await?, None);
            assert_eq!(stm.mod_revision(&a).await?, 0);
            stm.put(a.clone(), "1");
            stm.put(b.clone(), "2");
            stm.delete(b.clone());
            assert_eq!(stm.get(&b).await?, None);
            assert_eq!(stm.get_any(&[b.as_bytes(), a.as_bytes()]).await?, Some(b"1".to_vec()));
            stm.get(&a).await
        });
        assert_eq!(seen.await?, Some(b"1".to_vec()));
        assert_eq!(value(&client, &a).await.as_deref(), Some("1"));
        assert_eq!(value(&client, &b).await, None);

        let failed = transact(&client, isolation, async |stm: &mut Stm| {
            stm.put(a.clone(), "never");
            Err::<(), _>(Error::NoLeader)
        });
        assert!(matches!(failed.await, Err(Error::NoLeader)));
        assert_eq!(value(&client, &a).await.as_deref(), Some("1"));
    }
    Ok(())
}

/// What others do between two reads of a transaction shows, or makes it run again, as its
/// isolation says.
#[tokio::test]
async fn cc_04_isolation_levels_differ_as_they_should() -> Result<()> {
    // (isolation, what the second read of the first try sees, tries)
    let table = [
        (Isolation::SerializableSnapshot, "old", 2),
        (Isolation::Serializable, "old", 2),
        (Isolation::RepeatableReads, "new", 2),
        (Isolation::ReadCommitted, "new", 1),
    ];
    let client = client().await;
    for (isolation, expected, expected_tries) in table {
        let (a, b) = (format!("cc04/{isolation:?}/x"), format!("cc04/{isolation:?}/y"));
        for key in [&a, &b] {
            client.clone().put(key.as_str(), "old", None).await?;
        }
        let mut seen = Vec::new();
        transact(&client, isolation, async |stm: &mut Stm| {
            stm.get(&a).await?;
            if seen.is_empty() {
                for key in [&a, &b] {
                    client.clone().put(key.as_str(), "new", None).await?;
                }
            }
            seen.push(stm.get(&b).await?.unwrap_or_default());
            assert_eq!(stm.get(&b).await?.as_ref(), seen.last(), "a read is read again");
            stm.put(format!("cc04/{isolation:?}/z"), "done");
            Ok::<_, Error>(())
        })
        .await?;
        assert_eq!(seen.len(), expected_tries, "{isolation:?}");
        assert_eq!(seen[0], expected.as_bytes(), "{isolation:?}");
        assert!(seen[1..].iter().all(|value| value == b"new"), "{isolation:?}");
    }
    Ok(())
}

/// A write that another made to what this transaction only writes counts in the first level alone.
#[tokio::test]
async fn cc_04_only_snapshots_mind_blind_writes() -> Result<()> {
    let client = client().await;
    for isolation in ALL {
        let (read, written) = (format!("cc04/{isolation:?}/r"), format!("cc04/{isolation:?}/w"));
        let mut tries = 0;
        transact(&client, isolation, async |stm: &mut Stm| {
            stm.get(&read).await?;
            if tries == 0 {
                client.clone().put(written.as_str(), "theirs", None).await?;
            }
            tries += 1;
            stm.put(written.clone(), "ours");
            Ok::<_, Error>(())
        })
        .await?;
        let expected = if isolation == Isolation::SerializableSnapshot { 2 } else { 1 };
        assert_eq!(tries, expected, "{isolation:?}");
        assert_eq!(value(&client, &written).await.as_deref(), Some("ours"));
    }
    Ok(())
}

async fn transfer(client: &Client, isolation: Isolation, from: &str, to: &str) -> Result<()> {
    let number = |value: Option<Vec<u8>>| -> i64 {
        let text = String::from_utf8(value.expect("an account")).expect("text");
        text.parse().expect("a number")
    };
    let mut stm = Stm::new(client, isolation);
    loop {
        let (left, right) = (number(stm.get(from).await?), number(stm.get(to).await?));
        stm.put(from, (left - 7).to_string());
        stm.put(to, (right + 7).to_string());
        if stm.commit().await? {
            return Ok(());
        }
    }
}

/// Tellers move money between accounts; none is lost where reads are compared.
#[tokio::test]
async fn cc_04_no_money_is_lost() -> Result<()> {
    const ACCOUNTS: usize = 4;
    const TELLERS: usize = 3;
    const TRANSFERS: usize = 15;
    let client = client().await;
    for isolation in &ALL[..3] {
        let account = |number: usize| format!("cc04/bank/{isolation:?}/{number}");
        for number in 0..ACCOUNTS {
            client.clone().put(account(number), "100", None).await?;
        }
        let mut tellers = Vec::new();
        for teller in 0..TELLERS {
            let names: Vec<String> = (0..ACCOUNTS).map(account).collect();
            let (client, isolation) = (self::client().await, *isolation);
            tellers.push(tokio::spawn(async move {
                for turn in 0..TRANSFERS {
                    let from = &names[(teller + turn) % ACCOUNTS];
                    let to = &names[(teller + turn * turn + 1) % ACCOUNTS];
                    if from != to {
                        transfer(&client, isolation, from, to).await?;
                    }
                }
                Ok::<_, Error>(())
            }));
        }
        for teller in tellers {
            soon(teller).await.expect("no panic")?;
        }
        let mut total = 0;
        for number in 0..ACCOUNTS {
            let money = value(&client, &account(number)).await.expect("an account");
            total += money.parse::<i64>().expect("a number");
        }
        assert_eq!(total, 100 * i64::try_from(ACCOUNTS).expect("few"), "{isolation:?}");
    }
    Ok(())
}
