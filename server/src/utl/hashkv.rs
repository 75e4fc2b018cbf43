//! `hashkv`: the hash of the key space in a file of etcd's, or in a data directory of ours.

use std::path::Path;
use std::sync::Arc;

use coracle_core::backend::{Backend, BackendOptions};
use coracle_core::mvcc::Store;
use coracle_core::platform::Disk;
use coracle_core::snapshot::NewCluster;
use coracle_ctl::args::Parsed;
use serde::Serialize;

use super::{Failure, Shown, check_format, maintain, only_argument, restore, show, snapshot_file};
use crate::platform::NativeDisk;

/// etcd's fields, by its names.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct HashKv {
    hash: u32,
    hash_revision: i64,
    compact_revision: i64,
}

pub(super) fn hashkv(parsed: &Parsed) -> Result<String, Failure> {
    let count = parsed.arguments.len();
    let path = only_argument(parsed, &format!("accepts 1 arg(s), received {count}"));
    let path = path.map_err(|failure| Failure::error(failure.message))?;
    check_format(parsed)?;
    let hash = if Path::new(&path).is_dir() {
        of_backend(maintain::open(&path, parsed)?, parsed.int64("rev"))?
    } else {
        of_file(&path, parsed.int64("rev"))?
    };
    show(parsed, shown(&hash))
}

/// The file's state is made a backend, in a folder that goes again: the hash is then the one that a
/// member with that state would answer.
fn of_file(path: &str, revision: i64) -> Result<HashKv, Failure> {
    let database = snapshot_file::open(path)?;
    let folder = tempfile::tempdir().map_err(Failure::error)?;
    let disk = NativeDisk::open(folder.path(), false).map_err(Failure::error)?;
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let url = "http://localhost:2380".to_owned();
    let alone = [("default".to_owned(), url.clone())];
    let cluster = NewCluster::new(&alone, "", "default", &[url]).map_err(Failure::error)?;
    restore::import(&database, disk.clone(), &cluster)?;
    of_backend(disk, revision)
}

fn of_backend(disk: Arc<dyn Disk>, revision: i64) -> Result<HashKv, Failure> {
    let backend = Backend::open(disk, BackendOptions::default()).map_err(Failure::error)?;
    let (store, _) = Store::open(Arc::new(backend)).map_err(Failure::error)?;
    let hash = store.hash_kv(revision).map_err(Failure::error)?;
    let hash =
        hash.map_err(|error| Failure::error(error.message().trim_start_matches("etcdserver: ")))?;
    Ok(HashKv {
        hash: hash.hash,
        hash_revision: hash.hash_revision,
        compact_revision: hash.compact_revision,
    })
}

fn shown(hash: &HashKv) -> Shown<'_, HashKv> {
    let numbers =
        [hash.hash.to_string(), hash.hash_revision.to_string(), hash.compact_revision.to_string()];
    let named = |names: [&'static str; 3]| names.into_iter().zip(numbers.clone()).collect();
    Shown {
        columns: named(["HASH", "HASH REVISION", "COMPACT REVISION"]),
        fields: named(["Hash", "Hash revision", "Compact revision"]),
        json: hash,
    }
}
