//! In and out: snapshots of real etcd become Coracle's, and Coracle's become real etcd's.
//!
//! Real servers, real `etcdctl` and real `etcdutl` do their half of each way; what a client then
//! sees of the state (keys at old revisions, leases, hashes) must be what it saw before.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::picture::{Member, Picture};
use coracle_tests::programs::{self, EtcdctlRelease};
use tempfile::TempDir;

/// How long a cluster may need until it lets members come.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who restores a snapshot.
#[derive(Clone, Copy, Debug)]
enum Restorer {
    Coracle,
    /// `etcdutl` 3.5.
    Etcdutl,
    /// `etcdctl snapshot restore` of 3.4.
    Etcdctl34,
}

impl Restorer {
    fn command(self) -> Result<Command> {
        let mut command = match self {
            Restorer::Coracle => coracle_utl()?,
            Restorer::Etcdutl => Command::new(programs::etcdutl()?),
            Restorer::Etcdctl34 => Command::new(programs::etcdctl(EtcdctlRelease::V34)?),
        };
        command.env("ETCDCTL_API", "3");
        Ok(command)
    }
}

fn coracle_utl() -> Result<Command> {
    let mut command = Command::new(programs::coracle()?);
    command.arg("utl");
    Ok(command)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Saves a snapshot of the first member with a real etcdctl.
fn save(cluster: &Cluster, release: EtcdctlRelease, path: &Path) -> Result<()> {
    let mut command = Command::new(programs::etcdctl(release)?);
    command.env("ETCDCTL_API", "3").args(["--endpoints", &cluster.endpoint(0)]);
    run(command.args(["snapshot", "save"]).arg(path)).map(drop)
}

/// A cluster of `kind` whose members are restored from `snapshot`.
fn restored(
    kind: Kind,
    size: usize,
    restorer: Restorer,
    snapshot: &Path,
    flags: &[&str],
) -> Result<Cluster> {
    Cluster::start_prepared(kind, size, &[], |cluster, index| {
        let mut command = restorer.command()?;
        command.args(["snapshot", "restore"]).arg(snapshot).args(flags);
        command.args(["--name", cluster.name(index), "--data-dir"]).arg(cluster.data_dir(index));
        command.args(["--initial-cluster", cluster.initial_cluster(index)]);
        let peer = format!("http://{}", cluster.peer_address(index));
        run(command.args(["--initial-advertise-peer-urls", &peer])).map(drop)
    })
}

/// Runs real etcdctl against the first member.
fn etcdctl(cluster: &Cluster, line: &str) -> Result<String> {
    let mut command = Command::new(programs::etcdctl(EtcdctlRelease::V35)?);
    command.args(["--endpoints", &cluster.endpoint(0)]);
    run(command.args(line.split_whitespace()))
}

/// Users, roles and rights that a snapshot must keep. Authentication stays off.
fn add_users(cluster: &Cluster) -> Result<()> {
    for line in [
        "role add root",
        "role add reader",
        "role grant-permission reader read /key/ --prefix=true",
        "role grant-permission reader readwrite /own",
        "user add root:secret",
        "user add eve:password",
        "user grant-role root root",
        "user grant-role eve reader",
    ] {
        etcdctl(cluster, line)?;
    }
    Ok(())
}

/// The users have their roles, passwords and rights; authentication is on afterwards.
fn check_users(cluster: &Cluster) -> Result<()> {
    ensure!(etcdctl(cluster, "user list")? == "eve\nroot\n");
    ensure!(etcdctl(cluster, "user get eve")? == "User: eve\nRoles: reader\n");
    let role = etcdctl(cluster, "role get reader")?;
    ensure!(role.contains("[/key/, /key0) (prefix /key/)") && role.contains("/own"), "{role}");
    etcdctl(cluster, "auth enable")?;
    etcdctl(cluster, "--user eve:password put /own x")?;
    etcdctl(cluster, "--user eve:password get /key/5")?;
    for line in ["--user eve:password put /key/5 x", "--user eve:wrong get /key/5", "get /key/5"] {
        ensure!(etcdctl(cluster, line).is_err(), "{line}");
    }
    Ok(())
}

async fn member(cluster: &Cluster, index: usize) -> Result<Member> {
    Member::connect(cluster.endpoint(index)).await
}

/// Every member shows `expected`.
async fn check(cluster: &Cluster, expected: &Picture) -> Result<()> {
    for index in 0..cluster.size() {
        let found = member(cluster, index).await?.picture(&expected.revisions()).await?;
        ensure!(found.revision == expected.revision, "revision {}", found.revision);
        ensure!(found.hashes == expected.hashes, "hashes {:?}", found.hashes);
        ensure!(found.leases == expected.leases, "leases {:?}", found.leases);
        ensure!(found == *expected, "the ranges of member {index} differ");
    }
    Ok(())
}

/// What `snapshot status` says in every format; our answer must be the real one's.
fn status(path: &Path) -> Result<String> {
    let formats = ["simple", "json", "fields", "table"];
    let of = |mut command: Command, format| {
        run(command.args(["snapshot", "status", "-w", format]).arg(path))
    };
    let mut all = String::new();
    for format in formats {
        let real = of(Command::new(programs::etcdutl()?), format)?;
        let ours = of(coracle_utl()?, format)?;
        ensure!(ours == real, "-w {format}: {ours} instead of {real}");
        all += &ours;
    }
    Ok(all)
}

fn snapshot_path(folder: &TempDir) -> PathBuf {
    folder.path().join("snapshot.db")
}

/// From a real etcd into three members of Coracle, and a fourth that joins them later.
async fn from_etcd(kind: Kind, release: EtcdctlRelease) -> Result<()> {
    let folder = TempDir::new()?;
    let path = snapshot_path(&folder);
    let etcd = Cluster::start(kind, 1)?;
    let expected = member(&etcd, 0).await?.fill().await?;
    add_users(&etcd)?;
    save(&etcd, release, &path)?;
    drop(etcd);
    status(&path)?;
    let mut cluster = restored(Kind::Coracle, 3, Restorer::Coracle, &path, &[])?;
    check(&cluster, &expected).await?;
    let revision = member(&cluster, 1).await?.put("/after", b"1", 77).await?;
    ensure!(revision == expected.revision + 1, "the next revision is {revision}");
    let announced = cluster.endpoint(0);
    cluster.join(|peer_url| {
        let mut command = Command::new(programs::etcdctl(EtcdctlRelease::V35)?);
        command.args(["--endpoints", &announced, "member", "add", "n4"]);
        command.args(["--peer-urls", peer_url]);
        let deadline = Instant::now() + PATIENCE;
        loop {
            match run(&mut command) {
                // The members have not been up for five seconds.
                Err(error) if error.to_string().contains("unhealthy cluster") => {
                    ensure!(Instant::now() < deadline, "{error}");
                }
                added => return added.map(drop),
            }
        }
    })?;
    cluster.wait_healthy()?;
    let expected = member(&cluster, 0).await?.picture(&expected.revisions()).await?;
    check(&cluster, &expected).await?;
    check_users(&cluster)
}

#[tokio::test]
async fn mnt_07_a_snapshot_of_etcd_3_5_becomes_a_cluster_of_coracle() -> Result<()> {
    from_etcd(Kind::Etcd, EtcdctlRelease::V35).await
}

#[tokio::test]
async fn mnt_07_a_snapshot_of_etcd_3_4_becomes_a_cluster_of_coracle() -> Result<()> {
    from_etcd(Kind::Etcd34, EtcdctlRelease::V34).await
}

/// From Coracle into real etcd 3.5 and 3.4, and into Coracle again.
#[tokio::test]
async fn mnt_07_a_snapshot_of_coracle_becomes_a_cluster_of_etcd() -> Result<()> {
    let folder = TempDir::new()?;
    let path = snapshot_path(&folder);
    let coracle = Cluster::start(Kind::Coracle, 1)?;
    let expected = member(&coracle, 0).await?.fill().await?;
    add_users(&coracle)?;
    save(&coracle, EtcdctlRelease::V34, &path)?;
    save(&coracle, EtcdctlRelease::V35, &path)?;
    let saved = std::fs::read(&path)?;
    let mut command = Command::new(programs::coracle()?);
    command.args(["ctl", "--endpoints", &coracle.endpoint(0), "snapshot", "save"]);
    run(command.arg(&path))?;
    ensure!(std::fs::read(&path)? == saved, "one state, two different snapshots");
    drop(coracle);
    let status = status(&path)?;
    let revision = format!(", {}, ", expected.revision);
    ensure!(status.contains(&revision), "{status}");
    for (kind, size, restorer) in [
        (Kind::Etcd, 1, Restorer::Etcdutl),
        (Kind::Etcd34, 1, Restorer::Etcdctl34),
        (Kind::Etcd, 3, Restorer::Etcdutl),
        (Kind::Coracle, 1, Restorer::Coracle),
    ] {
        let cluster = restored(kind, size, restorer, &path, &[])?;
        check(&cluster, &expected).await.with_context(|| format!("{kind:?} by {restorer:?}"))?;
        let revision = member(&cluster, 0).await?.put("/after", b"1", 77).await?;
        ensure!(revision == expected.revision + 1, "the next revision is {revision}");
        check_users(&cluster)?;
    }
    Ok(())
}

/// `--wal-dir`: the log of the restored member has a folder of its own from the start.
#[tokio::test]
async fn mnt_07_a_member_is_restored_with_a_folder_for_its_log() -> Result<()> {
    let folder = TempDir::new()?;
    let path = snapshot_path(&folder);
    let etcd = Cluster::start(Kind::Etcd, 1)?;
    let expected = member(&etcd, 0).await?.fill().await?;
    save(&etcd, EtcdctlRelease::V35, &path)?;
    drop(etcd);
    let wal = folder.path().join("wal");
    let flag = format!("--wal-dir={}", wal.display());
    let restore = |cluster: &Cluster| -> Result<String> {
        let mut command = coracle_utl()?;
        command.args(["snapshot", "restore"]).arg(&path).args([&flag, "--name"]);
        command.arg(cluster.name(0)).arg("--data-dir").arg(cluster.data_dir(0));
        command.args(["--initial-cluster", cluster.initial_cluster(0)]);
        let peer = format!("http://{}", cluster.peer_address(0));
        run(command.args(["--initial-advertise-peer-urls", &peer]))
    };
    let cluster = Cluster::start_prepared(Kind::Coracle, 1, &[&flag], |cluster, _| {
        // Another attempt at starting it has other ports, and so another cluster.
        _ = std::fs::remove_dir_all(&wal);
        restore(cluster).map(drop)
    })?;
    check(&cluster, &expected).await?;
    ensure!(std::fs::read_dir(&wal)?.next().is_some(), "the log is in its folder");
    ensure!(!cluster.data_dir(0).join("member/wal").exists(), "and in no other");
    std::fs::remove_dir_all(cluster.data_dir(0))?;
    let refused = restore(&cluster).expect_err("the folder is there already").to_string();
    ensure!(refused.contains("wal-dir") && refused.contains("exists"), "{refused}");
    Ok(())
}

/// `--bump-revision` with `--mark-compacted`: who watched the old cluster is told to begin anew.
#[tokio::test]
async fn mnt_07_a_bumped_revision_ends_old_watches() -> Result<()> {
    let folder = TempDir::new()?;
    let path = snapshot_path(&folder);
    let coracle = Cluster::start(Kind::Coracle, 1)?;
    let before = member(&coracle, 0).await?.fill().await?;
    save(&coracle, EtcdctlRelease::V35, &path)?;
    drop(coracle);
    let flags = ["--bump-revision", "1000000", "--mark-compacted"];
    let cluster = restored(Kind::Coracle, 1, Restorer::Coracle, &path, &flags)?;
    let bumped = before.revision + 1_000_000;
    let mut client = member(&cluster, 0).await?;
    let found = client.picture(&[]).await?;
    ensure!(found.revision == bumped, "the revision is {}", found.revision);
    ensure!(found.ranges[&0] == before.ranges[&0] && found.leases == before.leases);
    let error = client.all(before.revision).await.err().context("history is gone")?;
    ensure!(error.to_string().contains("has been compacted"), "{error}");
    let mut command = Command::new(programs::etcdctl(EtcdctlRelease::V35)?);
    command.args(["--endpoints", &cluster.endpoint(0), "watch", "/", "--prefix", "--rev"]);
    let watch = command.arg(before.revision.to_string()).output()?;
    let said = String::from_utf8_lossy(&watch.stderr).into_owned();
    ensure!(said.contains("required revision has been compacted"), "{said}");
    // Real etcd sees the same in what is saved of it.
    let after = client.put("/after", b"1", 77).await?;
    ensure!(after == bumped + 1, "the next revision is {after}");
    save(&cluster, EtcdctlRelease::V35, &path)?;
    let expected = client.picture(&[after]).await?;
    drop(cluster);
    check(&restored(Kind::Etcd, 1, Restorer::Etcdutl, &path, &[])?, &expected).await
}

/// A stopped etcd's own database, and `hashkv` of it without a server.
#[tokio::test]
async fn fs_01_a_data_directory_of_etcd_is_taken_over() -> Result<()> {
    let mut etcd = Cluster::start(Kind::Etcd, 1)?;
    let expected = member(&etcd, 0).await?.fill().await?;
    etcd.stop(0)?;
    let database = etcd.data_dir(0).join("member/snap/db");
    let refused = coracle_utl()?
        .args(["snapshot", "restore", "--data-dir"])
        .arg(etcd.folder().join("refused"))
        .arg(&database)
        .output()?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(said == "Error: snapshot missing hash but --skip-hash-check=false\n", "{said}");
    for (revision, (hash, compacted)) in &expected.hashes {
        let mut command = coracle_utl()?;
        command.args(["hashkv", "--rev", &revision.to_string()]).arg(&database);
        let found = run(&mut command)?;
        ensure!(found == format!("{hash}, {revision}, {compacted}\n"), "{found}");
    }
    let flags = ["--skip-hash-check"];
    let mut cluster = restored(Kind::Coracle, 1, Restorer::Coracle, &database, &flags)?;
    check(&cluster, &expected).await?;
    // Our own directory, too, is hashed and defragmented without a server.
    cluster.stop(0)?;
    let folder = cluster.data_dir(0);
    run(coracle_utl()?.arg("defrag").arg("--data-dir").arg(&folder))?;
    let (revision, (hash, compacted)) = expected.hashes.last_key_value().context("hashes")?;
    let found = run(coracle_utl()?.args(["hashkv", "-w", "json"]).arg(&folder))?;
    let wanted = format!(
        "{{\"hash\":{hash},\"hashRevision\":{revision},\"compactRevision\":{compacted}}}\n"
    );
    ensure!(found == wanted, "{found} instead of {wanted}");
    cluster.restart(0)?;
    cluster.wait_healthy()?;
    check(&cluster, &expected).await
}

/// Where etcd's own tools restored a snapshot, Coracle starts in the place of etcd.
#[tokio::test]
async fn fs_01_what_etcds_tools_restored_is_taken_over_at_the_start() -> Result<()> {
    let folder = TempDir::new()?;
    let path = folder.path().join("s.db");
    let etcd = Cluster::start(Kind::Etcd, 1)?;
    let expected = member(&etcd, 0).await?.fill().await?;
    add_users(&etcd)?;
    save(&etcd, EtcdctlRelease::V35, &path)?;
    for (size, restorer) in
        [(1, Restorer::Etcdutl), (3, Restorer::Etcdutl), (1, Restorer::Etcdctl34)]
    {
        let mut cluster = restored(Kind::Coracle, size, restorer, &path, &[])?;
        check(&cluster, &expected).await.with_context(|| format!("{size} by {restorer:?}"))?;
        member(&cluster, 0).await?.put("/after", b"1", 77).await?;
        check_users(&cluster)?;
        // From now on the folder is ours, though etcd's files are still in it.
        cluster.stop(0)?;
        ensure!(cluster.data_dir(0).join("member/snap/db").exists());
        run(coracle_utl()?.arg("defrag").arg("--data-dir").arg(cluster.data_dir(0)))?;
        cluster.restart(0)?;
        cluster.wait_healthy()?;
        let found = etcdctl(&cluster, "--user root:secret get /after --print-value-only")?;
        ensure!(found == "1\n", "{found}");
    }
    Ok(())
}

/// Coracle started on the folder of the only member of an etcd.
fn successor(folder: &Path) -> Result<Cluster> {
    Cluster::start_prepared(Kind::Coracle, 1, &[], |cluster, _| {
        run(Command::new("cp").arg("-r").arg(folder).arg(cluster.data_dir(0))).map(drop)
    })
}

#[tokio::test]
async fn fs_01_a_server_started_where_etcd_was_stopped_goes_on() -> Result<()> {
    let mut etcd = Cluster::start(Kind::Etcd, 1)?;
    let expected = member(&etcd, 0).await?.fill().await?;
    etcd.stop(0)?;
    check(&successor(&etcd.data_dir(0))?, &expected).await
}

/// What only the log of a killed etcd has is not forgotten silently.
#[tokio::test]
async fn fs_01_a_log_beyond_etcds_database_is_refused() -> Result<()> {
    let flags = ["--backend-batch-interval=1h", "--backend-batch-limit=100000"];
    let mut etcd = Cluster::start_with(Kind::Etcd, 1, &flags)?;
    member(&etcd, 0).await?.put("a", b"1", 0).await?;
    etcd.kill(0)?;
    let output = Command::new(programs::coracle()?)
        .args(["serve", "--data-dir"])
        .arg(etcd.data_dir(0))
        .args(["--listen-client-urls", "http://127.0.0.1:0"])
        .args(["--advertise-client-urls", "http://127.0.0.1:0"])
        .args(["--listen-peer-urls", "http://127.0.0.1:0"])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "{said}");
    let expected = " entries of its log are not in its database; start etcd and stop it";
    ensure!(said.contains(expected) && said.contains("--skip-hash-check"), "{said}");
    Ok(())
}

/// Mistakes, and what is printed of them, as by the real etcdutl.
#[tokio::test]
async fn ctl_02_etcdutls_words_and_exit_codes() -> Result<()> {
    let folder = TempDir::new()?;
    let etcd = Cluster::start(Kind::Etcd, 1)?;
    member(&etcd, 0).await?.put("a", b"1", 0).await?;
    save(&etcd, EtcdctlRelease::V35, &folder.path().join("s.db"))?;
    let bytes = std::fs::read(folder.path().join("s.db"))?;
    let mut flipped = bytes.clone();
    flipped[9_000] ^= 1;
    for (name, bytes) in [("short.db", &bytes[..5_000]), ("tiny.db", &bytes[..70])] {
        std::fs::write(folder.path().join(name), bytes)?;
    }
    std::fs::write(folder.path().join("flipped.db"), &flipped)?;
    std::fs::write(folder.path().join("plain.db"), &bytes[..bytes.len() - 32])?;
    std::fs::create_dir_all(folder.path().join("full/member"))?;
    for line in [
        "bogus",
        "version --help",
        "snapshot",
        "snapshot --help",
        "snapshot status",
        "snapshot status --help",
        "snapshot status nothing.db",
        "snapshot status short.db",
        "snapshot status tiny.db",
        "snapshot status s.db -w bogus",
        "snapshot status s.db -wprotobuf",
        "snapshot status s.db --bogus",
        "snap stat s.db",
        "snapshot save x",
        "snapshot restore s.db --data-dir full",
        "snapshot restore plain.db --data-dir new",
        "snapshot restore s.db --data-dir new --name x",
        "snapshot restore s.db --data-dir new --initial-cluster default=bogus",
        "snapshot restore flipped.db --data-dir new2",
        "snapshot restore s.db x --data-dir new3",
        "defrag",
        "defrag --help",
    ] {
        let words = || line.split_whitespace();
        let in_folder = |mut command: Command| command.args(words()).current_dir(&folder).output();
        let real = in_folder(Command::new(programs::etcdutl()?))?;
        // What etcd's leaves behind when it fails is in nobody's way.
        _ = std::fs::remove_dir_all(folder.path().join("new"));
        _ = std::fs::remove_dir_all(folder.path().join("new2"));
        let ours = in_folder(coracle_utl()?)?;
        ensure!(said(&ours) == said(&real), "{line}:\n{ours:#?}\n{real:#?}");
        _ = std::fs::remove_dir_all(folder.path().join("new"));
    }
    let lone = coracle_utl()?
        .args(["snapshot", "restore", "s.db", "--data-dir", "n"])
        .arg("--mark-compacted")
        .output()?;
    ensure!(lone.status.code() == Some(128), "{lone:?}");
    Ok(())
}

/// A page that two others lead to.
#[tokio::test]
async fn mnt_07_a_damaged_snapshot_is_told_in_etcdutls_words() -> Result<()> {
    const PAGE: usize = 4096;
    /// Where the page of the first child stands in a branch, and that of the second.
    const CHILDREN: [usize; 2] = [16 + 8, 16 + 16 + 8];
    let folder = TempDir::new()?;
    let path = snapshot_path(&folder);
    let etcd = Cluster::start(Kind::Etcd, 1)?;
    let mut client = member(&etcd, 0).await?;
    for number in 0..40 {
        client.put(&format!("/{number}"), &[b'x'; 1000], 0).await?;
    }
    save(&etcd, EtcdctlRelease::V35, &path)?;
    let mut bytes = std::fs::read(&path)?;
    let mut pages = bytes.chunks_exact_mut(PAGE);
    let branch = pages.find(|page| page[8..10] == [1, 0]).context("a branch")?;
    let [first, second] = CHILDREN.map(|at| at..at + 8);
    branch.copy_within(first, second.start);
    std::fs::write(&path, bytes)?;
    // etcdutl says the same, or panics: its own two searches for pages race.
    let output = coracle_utl()?.args(["snapshot", "status"]).arg(&path).output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let summary = "Error: snapshot file integrity check failed. 1 errors found.\npage ";
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(told.starts_with(summary) && told.ends_with(": two others lead to it\n"), "{told}");
    Ok(())
}

/// Exit code and output, without the log lines, which begin with the time, and the flag that
/// etcdutl has since 3.7.
fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let lines = text.lines();
        let lines = lines.filter(|line| !line.contains("\tinfo\t") && !line.contains("--timeout "));
        lines.collect::<Vec<_>>().join("\n")
    };
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
