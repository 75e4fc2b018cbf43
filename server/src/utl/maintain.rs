//! `defrag` and `migrate`: a data directory of ours, while no member runs on it.

use std::path::Path;
use std::sync::Arc;

use coracle_core::backend::{Backend, BackendOptions};
use coracle_core::node::STORAGE_VERSION;
use coracle_core::platform::Disk;
use coracle_ctl::args::Parsed;

use super::Failure;
use super::adopt::etcds_database;
use crate::platform::NativeDisk;

/// The oldest version that etcd's migration knows.
const OLDEST_VERSION: (u64, u64) = (3, 5);

/// Opens and locks the member's folder in `data_dir`, which must hold one.
pub(super) fn open(data_dir: &str) -> Result<Arc<dyn Disk>, Failure> {
    let path = Path::new(data_dir);
    if let Some(database) = etcds_database(path) {
        return Err(Failure::error(format!(
            "{data_dir} is a data directory of etcd's own, not Coracle's: make it one by starting \
             on it, or with `snapshot restore {} --skip-hash-check`",
            database.display()
        )));
    }
    if !path.join("member").is_dir() {
        return Err(Failure::error(format!("{data_dir} is not a data directory")));
    }
    let disk = NativeDisk::open(path, true).map_err(Failure::error)?;
    Ok(Arc::new(disk))
}

pub(super) fn defrag(parsed: &Parsed) -> Result<String, Failure> {
    let data_dir = parsed.text("data-dir");
    let defragment = || -> Result<(), Failure> {
        let backend = Backend::open(open(data_dir)?, BackendOptions::default());
        let backend = backend.map_err(Failure::error)?;
        let before = backend.size();
        backend.defragment().map_err(Failure::error)?;
        let after = backend.size();
        tracing::info!(data_dir, before, after, "finished defragmenting directory");
        Ok(())
    };
    defragment().map_err(|failure| {
        let reason = failure.message;
        Failure::error(format!("Failed to defragment etcd data[{data_dir}] ({reason})"))
    })?;
    Ok(String::new())
}

/// Our directories have one form, whatever version of etcd they are told to be for.
pub(super) fn migrate(parsed: &Parsed) -> Result<String, Failure> {
    let target = parsed.text("target-version");
    if target.matches('.').count() != 1 {
        let message = format!("wrong target version format, expected \"X.Y\", got {target:?}");
        return Err(Failure::arguments(message));
    }
    let numbers = target
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse::<u64>().ok()?, minor.parse::<u64>().ok()?)));
    let version = numbers
        .ok_or_else(|| Failure::arguments(format!("failed to parse target version: {target}.0")))?;
    if version < OLDEST_VERSION {
        let message = format!("target version {target:?} not supported. Minimal \"3.5\"");
        return Err(Failure::arguments(message));
    }
    let data_dir = parsed.text("data-dir");
    open(data_dir)?;
    let (own, _) = STORAGE_VERSION.rsplit_once('.').unwrap_or((STORAGE_VERSION, ""));
    if target != own {
        return Err(Failure::error(format!(
            "a Coracle data directory is of storage version {own} and cannot become {target}: to \
             go to etcd {target}, save a snapshot and restore it there with `etcdutl snapshot \
             restore`"
        )));
    }
    tracing::info!(storage_version = own, "storage version up-to-date");
    Ok(String::new())
}
