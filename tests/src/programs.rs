//! Where the programs under test are: paths from the environment, as `cargo xtask test` sets them.
//!
//! | variable | program |
//! |---|---|
//! | `CORACLE_BIN` | Coracle; by default `coracle` in the target folder of the running test |
//! | `ETCD_BIN`, `ETCDUTL_BIN` | real etcd 3.5 and its `etcdutl` |
//! | `ETCD34_BIN` | real etcd 3.4 |
//! | `ETCDCTL35_BIN`, `ETCDCTL34_BIN` | `etcdctl` of 3.5 and of 3.4 |
//! | `CORACLE_PYTHON` | a Python that can import `etcd3` |
//! | `CORACLE_NODE_MODULES` | a `node_modules` folder that holds `etcd3` |
//! | `PROTOC` | the protobuf compiler that the crate `etcd-client` builds with |
//!
//! A missing one is an error that says what to do: a conformance test that skips itself where
//! etcd is missing would pass without having looked.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What the variable `name` points to, which must exist.
///
/// # Errors
/// If it is unset or names nothing; the text says which program is missing.
pub fn from_environment(name: &str, what: &str) -> Result<PathBuf> {
    let path = env::var_os(name)
        .map(PathBuf::from)
        .with_context(|| format!("{name} is not set: `cargo xtask test` provides {what}"))?;
    if !path.exists() {
        bail!("{name} should name {what}, but {} does not exist", path.display());
    }
    Ok(path)
}

/// The real etcd to compare with.
pub fn etcd() -> Result<PathBuf> {
    from_environment("ETCD_BIN", "the etcd server 3.5")
}

/// The real etcd of the release before, whose snapshots must be readable too.
pub fn etcd34() -> Result<PathBuf> {
    from_environment("ETCD34_BIN", "the etcd server 3.4")
}

/// The real tool for etcd's files.
pub fn etcdutl() -> Result<PathBuf> {
    from_environment("ETCDUTL_BIN", "etcdutl 3.5")
}

/// Coracle's binary: `CORACLE_BIN`, or the one built beside the running test.
pub fn coracle() -> Result<PathBuf> {
    if env::var_os("CORACLE_BIN").is_some() {
        return from_environment("CORACLE_BIN", "the coracle binary");
    }
    // target/<profile>/deps/<test> → target/<profile>/coracle
    let test = env::current_exe().context("the path of the running test")?;
    let built = test.parent().and_then(Path::parent).map(|folder| folder.join("coracle"));
    match built {
        Some(path) if path.exists() => Ok(path),
        _ => bail!("no coracle binary: run `cargo build -p coracle-server`, or set CORACLE_BIN"),
    }
}

/// `etcdctl` of the given release line.
pub fn etcdctl(release: EtcdctlRelease) -> Result<PathBuf> {
    match release {
        EtcdctlRelease::V34 => from_environment("ETCDCTL34_BIN", "etcdctl 3.4"),
        EtcdctlRelease::V35 => from_environment("ETCDCTL35_BIN", "etcdctl 3.5"),
    }
}

/// The release lines of `etcdctl` whose output is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcdctlRelease {
    V34,
    V35,
}

impl EtcdctlRelease {
    /// Both, in the order in which transcripts list them.
    pub const ALL: [EtcdctlRelease; 2] = [EtcdctlRelease::V34, EtcdctlRelease::V35];

    /// The name in a transcript's section header.
    pub fn name(self) -> &'static str {
        match self {
            EtcdctlRelease::V34 => "3.4",
            EtcdctlRelease::V35 => "3.5",
        }
    }
}
