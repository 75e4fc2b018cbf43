//! Which API versions clients say that they speak (`client-api-version`), counted. W-06.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// Versions counted apart. A client may say anything, so what comes beyond is nobody's.
const MOST: usize = 64;
/// The version of who says nothing.
const UNKNOWN: &str = "unknown";

/// The longest version counted under its own name, in bytes.
const LONGEST: usize = 64;

/// Whether `version` may stand in a label as it is.
fn is_plain(version: &str) -> bool {
    version.len() <= LONGEST && version.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Requests by version and kind.
#[derive(Default)]
pub(crate) struct ClientVersions {
    known: RwLock<Vec<Requests>>,
}

#[derive(Default)]
struct Requests {
    version: String,
    unary: AtomicU64,
    stream: AtomicU64,
}

impl Requests {
    fn count(&self, unary: bool) {
        let counter = if unary { &self.unary } else { &self.stream };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientVersions {
    /// Counts a request of a client that speaks `version`, if it says so.
    pub(crate) fn count(&self, version: Option<&str>, unary: bool) {
        let version = version.filter(|version| is_plain(version)).unwrap_or(UNKNOWN);
        // Few versions, so looking through them costs less than a hash.
        let find = |known: &[Requests]| {
            let found = known.iter().find(|requests| requests.version == version);
            found.map(|requests| requests.count(unary)).is_some()
        };
        if find(&self.known.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if find(&known) {
            return;
        }
        let version = if known.len() < MOST { version } else { UNKNOWN };
        if let Some(requests) = known.iter().find(|requests| requests.version == version) {
            return requests.count(unary);
        }
        let requests = Requests { version: version.to_owned(), ..Requests::default() };
        requests.count(unary);
        known.push(requests);
    }

    /// (kind, version, requests) of all that were counted, in the order in which they came.
    pub(crate) fn list(&self) -> Vec<(&'static str, String, u64)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let of = |requests: &Requests| {
            let count = |kind, counter: &AtomicU64| {
                (kind, requests.version.clone(), counter.load(Ordering::Relaxed))
            };
            [count("unary", &requests.unary), count("stream", &requests.stream)]
        };
        known.iter().flat_map(of).filter(|(_, _, count)| *count > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w_06_versions_are_counted_and_bounded() {
        let versions = ClientVersions::default();
        versions.count(None, true);
        for _ in 0..3 {
            versions.count(Some("3.7"), true);
            versions.count(Some("3.7"), false);
        }
        let of = |kind, version: &str, count| (kind, version.to_owned(), count);
        let expected = [of("unary", "unknown", 1), of("unary", "3.7", 3), of("stream", "3.7", 3)];
        assert_eq!(versions.list(), expected);
        for n in 0..1_000 {
            versions.count(Some(&format!("made-up-{n}")), true);
        }
        versions.count(Some("3.7 \u{1}"), true);
        versions.count(Some(&"3".repeat(65)), true);
        let list = versions.list();
        assert_eq!(list.len(), MOST + 1, "one version in both kinds");
        assert_eq!(list[0].2, 3 + 1_000 - (MOST as u64 - 2));
    }
}
