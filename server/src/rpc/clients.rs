//! Which API versions clients speak, by what their calls tell (`client-api-version`, W-06).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Versions that are counted apart. Any text may come, and each counted one costs for ever.
const MAX_VERSIONS: usize = 32;
/// Calls that tell no version, or one too many.
const UNKNOWN: &str = "unknown";

/// Calls by version.
#[derive(Default)]
pub(crate) struct Clients {
    versions: RwLock<Vec<Version>>,
}

struct Version {
    name: String,
    unary: AtomicU64,
    streams: AtomicU64,
}

impl Clients {
    /// Counts one call.
    pub(crate) fn count(&self, unary: bool, version: Option<&str>) {
        let version = version.unwrap_or(UNKNOWN);
        if self.count_known(unary, version) {
            return;
        }
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        let name = if versions.len() < MAX_VERSIONS { version } else { UNKNOWN };
        if !versions.iter().any(|known| known.name == name) {
            let (unary, streams) = Default::default();
            versions.push(Version { name: name.to_owned(), unary, streams });
        }
        drop(versions);
        self.count_known(unary, name);
    }

    fn count_known(&self, unary: bool, version: &str) -> bool {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = versions.iter().find(|known| known.name == version) else { return false };
        let counter = if unary { &known.unary } else { &known.streams };
        counter.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// (type, version, calls), for each that there were calls of.
    pub(crate) fn counted(&self) -> Vec<(&'static str, String, u64)> {
        let versions = self.versions.read().unwrap_or_else(PoisonError::into_inner);
        let both = versions.iter().flat_map(|version| {
            [("unary", &version.unary), ("stream", &version.streams)]
                .map(|(kind, count)| (kind, version.name.clone(), count.load(Ordering::Relaxed)))
        });
        both.filter(|(_, _, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w_06_versions_are_counted_and_bounded() {
        let clients = Clients::default();
        clients.count(true, Some("3.5"));
        clients.count(true, Some("3.5"));
        clients.count(false, Some("3.5"));
        clients.count(true, None);
        let counted = clients.counted();
        assert_eq!(
            counted,
            [
                ("unary", "3.5".to_owned(), 2),
                ("stream", "3.5".to_owned(), 1),
                ("unary", UNKNOWN.to_owned(), 1)
            ]
        );
        for version in 0..1000 {
            clients.count(true, Some(&version.to_string()));
        }
        assert!(clients.counted().len() <= MAX_VERSIONS + 2);
        let total: u64 = clients.counted().iter().map(|(_, _, count)| count).sum();
        assert_eq!(total, 1004);
    }
}
