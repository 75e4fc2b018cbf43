//! The modules of the state do not know each other; what one needs of another is joined here.

use bytes::Bytes;

use super::LeaseKeeper;
use crate::api::mvccpb::KeyValue;
use crate::error::{Error, Fatal};
use crate::lease::Lessor;
use crate::mvcc::Store;
use crate::watch::{History, RevisionEvents};

impl LeaseKeeper for Lessor {
    fn exists(&self, id: i64) -> bool {
        Lessor::exists(self, id)
    }

    fn attach(&self, id: i64, key: Bytes) {
        Lessor::attach(self, id, key);
    }

    fn detach(&self, id: i64, key: &[u8]) {
        Lessor::detach(self, id, key);
    }

    fn every_key(&self, id: i64, holds: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        Lessor::every_key(self, id, holds)
    }
}

impl History for Store {
    fn current_revision(&self) -> i64 {
        Store::current_revision(self)
    }

    fn compact_revision(&self) -> i64 {
        Store::compact_revision(self)
    }

    fn events(
        &self,
        from: i64,
        max_revisions: usize,
    ) -> Result<Result<Vec<RevisionEvents>, Error>, Fatal> {
        let past = Store::events(self, from, max_revisions)?;
        Ok(past.map(|revisions| {
            let told = revisions.into_iter();
            told.map(|past| RevisionEvents { revision: past.revision, events: past.events })
                .collect()
        }))
    }

    fn value_at(&self, key: &[u8], revision: i64) -> Result<Option<KeyValue>, Fatal> {
        Store::value_at(self, key, revision)
    }
}
