//! `snapshot restore`: a member's data directory from an etcd snapshot.

use std::path::Path;
use std::sync::Arc;

use coracle_core::platform::Disk;
use coracle_core::snapshot::{Import, NewCluster};
use coracle_ctl::args::Parsed;

use super::snapshot_file::{self, Positioned};
use super::{Failure, only_argument};
use crate::config::parse_initial_cluster;
use crate::config::urls::Url;
use crate::platform::NativeDisk;

pub(super) fn restore(parsed: &Parsed) -> Result<String, Failure> {
    let path = only_argument(parsed, "snapshot restore requires exactly one argument")?;
    let bump = parsed.uint64("bump-revision");
    if (bump > 0) != parsed.is_on("mark-compacted") {
        return Err(Failure::arguments("--mark-compacted required if --revision-bump > 0"));
    }
    let cluster = cluster(parsed, (bump > 0).then_some(bump))?;
    let data_dir = match parsed.text("data-dir") {
        "" => format!("{}.etcd", parsed.text("name")),
        given => given.to_owned(),
    };
    check_folders(&data_dir, parsed.text("wal-dir"))?;
    if !parsed.is_on("skip-hash-check") {
        snapshot_file::check_hash(&path)?;
    }
    let database = snapshot_file::open(&path)?;
    tracing::info!(path, data_dir, "restoring snapshot");
    let wal_dir = match parsed.text("wal-dir") {
        "" => Path::new(&data_dir).join("member/wal"),
        given => given.into(),
    };
    restore_into(&data_dir, &wal_dir, &database, &cluster)?;
    for member in cluster.members() {
        tracing::info!(
            added_peer_id = format!("{:x}", member.id),
            added_peer_peer_urls = member.peer_ur_ls.join(","),
            "added member"
        );
    }
    tracing::info!(path, data_dir, "restored snapshot");
    Ok(String::new())
}

/// Makes `data_dir`, which is empty or not there, the data directory of a member whose log is in
/// `wal_dir`, which is not there. If that fails they are as before: another attempt may have the
/// same names.
fn restore_into(
    data_dir: &str,
    wal_dir: &Path,
    database: &coracle_bolt::Database<Positioned>,
    cluster: &NewCluster,
) -> Result<(), Failure> {
    let folder = Path::new(data_dir);
    let existed = folder.exists();
    let disk = NativeDisk::open_with_wal(folder, wal_dir, true)
        .map_err(|error| Failure::error(format!("cannot use the data-dir {data_dir}: {error}")))?;
    let imported = import(database, Arc::new(disk), cluster);
    if imported.is_err() {
        // What cannot be removed is said by the next attempt.
        _ = std::fs::remove_dir_all(wal_dir);
        _ = std::fs::remove_dir_all(folder.join("member"));
        if !existed {
            _ = std::fs::remove_dir(folder);
        }
    }
    imported
}

/// Makes what `database` holds the state of a new member on the empty `disk`.
pub(super) fn import(
    database: &coracle_bolt::Database<Positioned>,
    disk: Arc<dyn Disk>,
    cluster: &NewCluster,
) -> Result<(), Failure> {
    let mut import = Import::create(disk).map_err(Failure::error)?;
    snapshot_file::for_each(database, |bucket, entry| match entry {
        None => Ok(()),
        Some((key, value)) => import.entry(bucket, key, value).map_err(Failure::error),
    })?;
    for (bucket, entries) in import.unknown() {
        tracing::warn!(bucket, entries, "left out a bucket that is not known here");
    }
    import.finish(cluster).map_err(Failure::error)
}

/// The cluster that the flags describe, checked as etcd checks it.
fn cluster(parsed: &Parsed, bump_revision: Option<u64>) -> Result<NewCluster, Failure> {
    let urls = Url::parse_list(parsed.text("initial-advertise-peer-urls"));
    let urls: Vec<_> = urls.map_err(Failure::error)?.iter().map(ToString::to_string).collect();
    let initial = parse_initial_cluster(parsed.text("initial-cluster")).map_err(Failure::error)?;
    let token = parsed.text("initial-cluster-token");
    let cluster = NewCluster::new(&initial, token, parsed.text("name"), &urls);
    let mut cluster = cluster.map_err(Failure::error)?;
    cluster.bump_revision = bump_revision;
    Ok(cluster)
}

/// Refuses what would be overwritten.
fn check_folders(data_dir: &str, wal_dir: &str) -> Result<(), Failure> {
    let folder = Path::new(data_dir);
    let is_empty = || folder.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    if folder.exists() && !is_empty() {
        let message = format!("data-dir {data_dir:?} not empty or could not be read");
        return Err(Failure::error(message));
    }
    if !wal_dir.is_empty() && Path::new(wal_dir).exists() {
        return Err(Failure::error(format!("wal-dir {wal_dir:?} exists")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use coracle_bolt::Writer;

    use super::*;

    /// A database with an entry in the bucket of keys that cannot be one.
    fn broken_database(path: &Path) {
        let fill = |writer: &mut Writer| {
            writer.bucket(b"key").unwrap();
            writer.put(b"no revision", b"no value").unwrap();
        };
        let mut measuring = Writer::measuring();
        fill(&mut measuring);
        let mut writer = Writer::writing(measuring.finish().unwrap());
        fill(&mut writer);
        writer.finish().unwrap();
        std::fs::write(path, writer.take()).unwrap();
    }

    #[test]
    fn mnt_07_a_restore_that_fails_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.db");
        broken_database(&path);
        let database = snapshot_file::open(path.to_str().unwrap()).unwrap();
        let (name, url) = ("default".to_owned(), "http://localhost:2380".to_owned());
        let cluster =
            NewCluster::new(&[(name.clone(), url.clone())], "token", &name, &[url]).unwrap();
        let data_dir = folder.path().join("new");
        let text = data_dir.to_str().unwrap();
        let elsewhere = folder.path().join("elsewhere");
        for (exists, wal_dir) in
            [(false, data_dir.join("member/wal")), (true, elsewhere.join("wal"))]
        {
            if exists {
                std::fs::create_dir(&data_dir).unwrap();
            }
            assert!(restore_into(text, &wal_dir, &database, &cluster).is_err());
            assert_eq!(data_dir.exists(), exists);
            let wal_dir = wal_dir.to_str().unwrap();
            assert!(check_folders(text, wal_dir).is_ok(), "another attempt is possible");
        }
    }
}
