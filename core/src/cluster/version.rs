//! The cluster's version, and a downgrade under way: replicated, because all members have to agree
//! which features they may use. MNT-09, CL-07.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use prost::Message;

use crate::api::etcdserverpb::DowngradeInfo;
use crate::backend::{Backend, Bucket};
use crate::error::{Fatal, hex};

/// Keys of [`Bucket::Cluster`]; etcd's own names.
const VERSION_KEY: &[u8] = b"clusterVersion";
const DOWNGRADE_KEY: &[u8] = b"downgrade";

/// A version without its patch, which is all that a cluster has: `3.7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u64,
    pub minor: u64,
}

impl Version {
    /// The only version that a cluster of this one may be downgraded to.
    pub fn one_lower(self) -> Option<Version> {
        Some(Version { minor: self.minor.checked_sub(1)?, ..self })
    }

    /// With the patch that it does not have: `3.7.0`, as etcd stores and compares it.
    pub fn full(self) -> String {
        format!("{self}.0")
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// No version: it is not `X.Y`, `X.Y.Z` or `X.Y.Z-pre+build`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Version, NoVersion> {
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().map_err(|_| NoVersion),
            false => Err(NoVersion),
        };
        let core = text.split(['-', '+']).next().unwrap_or_default();
        let parts = core.split('.').map(number).collect::<Result<Vec<u64>, _>>()?;
        match parts[..] {
            [major, minor, _] => Ok(Version { major, minor }),
            [major, minor] if core == text => Ok(Version { major, minor }),
            _ => Err(NoVersion),
        }
    }
}

/// The replicated state, shared by apply (the only writer) and everybody who asks.
pub struct ClusterVersion {
    backend: Arc<Backend>,
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    version: Option<Version>,
    downgrade: DowngradeInfo,
}

impl ClusterVersion {
    pub fn open(backend: Arc<Backend>) -> Result<ClusterVersion, Fatal> {
        let version = ClusterVersion { backend, state: RwLock::default() };
        version.reload()?;
        Ok(version)
    }

    /// Reads the state again, after a raft snapshot replaced the backend.
    pub fn reload(&self) -> Result<(), Fatal> {
        let mut state = State::default();
        if let Some(stored) = self.backend.get(Bucket::Cluster, VERSION_KEY)? {
            let version = std::str::from_utf8(&stored).ok().and_then(|text| text.parse().ok());
            let unreadable = || Fatal::Backend(format!("cluster version {}", hex(&stored)));
            state.version = Some(version.ok_or_else(unreadable)?);
        }
        if let Some(stored) = self.backend.get(Bucket::Cluster, DOWNGRADE_KEY)? {
            state.downgrade = DowngradeInfo::decode(stored)
                .map_err(|error| Fatal::Backend(format!("the stored downgrade: {error}")))?;
        }
        *self.write() = state;
        Ok(())
    }

    /// The version that all members can speak; none until the first leader has found it.
    pub fn get(&self) -> Option<Version> {
        self.read().version
    }

    /// The downgrade under way; `enabled` says whether there is one.
    pub fn downgrade(&self) -> DowngradeInfo {
        self.read().downgrade.clone()
    }

    /// Applies a new cluster version.
    pub fn set(&self, version: Version) {
        let stored = version.full().into();
        self.backend.put(Bucket::Cluster, Bytes::from_static(VERSION_KEY), stored);
        let mut state = self.write();
        match state.version.replace(version) {
            None => tracing::info!("cluster-version" = %version, "set initial cluster version"),
            Some(former) if former != version => {
                tracing::info!(from = %former, to = %version, "updated cluster version");
            }
            Some(_) => {}
        }
        if state.downgrade.enabled && state.downgrade.target_version == version.full() {
            tracing::info!("target-version" = %version, "The server is ready to downgrade");
        }
    }

    /// Applies the beginning or the end of a downgrade.
    pub fn set_downgrade(&self, downgrade: DowngradeInfo) {
        let stored = downgrade.encode_to_vec().into();
        self.backend.put(Bucket::Cluster, Bytes::from_static(DOWNGRADE_KEY), stored);
        self.write().downgrade = downgrade;
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::BackendOptions;
    use crate::platform::{Disk, MemoryDisk};

    #[test]
    fn mnt_09_versions_are_read_as_etcd_reads_them() {
        let version = |minor| Ok(Version { major: 3, minor });
        for (text, expected) in [
            ("3.6", version(6)),
            ("3.6.0", version(6)),
            ("3.16.12", version(16)),
            ("3.6.0-rc.1+git", version(6)),
            ("3", Err(NoVersion)),
            ("", Err(NoVersion)),
            ("3.6.0.1", Err(NoVersion)),
            ("v3.6", Err(NoVersion)),
            ("3.6-rc.1", Err(NoVersion)),
            ("3.-6", Err(NoVersion)),
            ("3.+6", Err(NoVersion)),
            ("3. 6", Err(NoVersion)),
            ("3.99999999999999999999", Err(NoVersion)),
        ] {
            assert_eq!(text.parse(), expected, "{text:?}");
        }
        let of = |major, minor| Version { major, minor };
        assert_eq!(of(3, 7).one_lower(), Some(of(3, 6)));
        assert_eq!(of(4, 0).one_lower(), None);
        assert_eq!((of(3, 7).to_string(), of(3, 7).full()), ("3.7".into(), "3.7.0".into()));
    }

    #[test]
    fn mnt_09_a_downgrade_and_the_version_outlive_a_restart() {
        let disk = MemoryDisk::default();
        let open = || {
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            Arc::new(Backend::open(shared, BackendOptions::default()).expect("opens"))
        };
        let backend = open();
        let version = ClusterVersion::open(backend.clone()).expect("opens");
        assert_eq!((version.get(), version.downgrade()), (None, DowngradeInfo::default()));
        let downgrade = DowngradeInfo { enabled: true, target_version: "3.6.0".into() };
        version.set(Version { major: 3, minor: 7 });
        version.set_downgrade(downgrade.clone());
        backend.flush().expect("flushes");
        drop((version, backend));
        let version = ClusterVersion::open(open()).expect("opens again");
        assert_eq!(version.get(), Some(Version { major: 3, minor: 7 }));
        assert_eq!(version.downgrade(), downgrade);
    }
}
