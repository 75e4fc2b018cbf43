//! Another file in place of the current one: opened and read first, then swapped in one moment.

use std::sync::Arc;

use super::database::Database;
use super::defragment::Writing;
use super::layer::Layer;
use super::recent::Recent;
use super::{Backend, BackendView, files};
use crate::error::Fatal;

/// A complete file that is newer than the current one, ready to take its place. Flushes wait
/// meanwhile.
pub struct Restored<'a> {
    backend: &'a Backend,
    database: Arc<Database>,
    writing: Writing<'a>,
}

/// What was replaced. Letting go of it takes a while, and is done where nobody waits.
pub struct Replaced<'a> {
    backend: &'a Backend,
    _writing: Writing<'a>,
    /// What the new state made void, as far as it was in memory only.
    void: (Layer, Recent),
    old: Arc<Database>,
    /// The file that counts now.
    number: u64,
}

impl Backend {
    /// Opens what a [`Restorer`](super::Restorer) finished.
    pub fn restored(&self) -> Result<Restored<'_>, Fatal> {
        let mut writing = self.lock_writing();
        // A copy of the file that goes is of no more use.
        drop(writing.take());
        self.restored_while(writing)
    }

    pub(super) fn restored_while<'a>(
        &'a self,
        writing: Writing<'a>,
    ) -> Result<Restored<'a>, Fatal> {
        let newest = files::newest_complete(&*self.disk)?;
        let Some(number) = newest.filter(|number| *number > self.state().database.number()) else {
            return Err(Fatal::Invariant("there is no restored database to adopt".into()));
        };
        let database = Arc::new(Database::open(&*self.disk, number, self.options.cache_bytes)?);
        Ok(Restored { backend: self, database, writing })
    }
}

impl<'a> Restored<'a> {
    /// What the new state will be.
    pub fn view(&self) -> BackendView {
        BackendView::new(self.database.clone())
    }

    /// Makes it the state. Everything pending is dropped; open views keep reading the old state.
    pub fn adopt(self) -> Replaced<'a> {
        self.swap(true)
    }

    /// Makes its file the one under what is pending.
    pub(super) fn adopt_beside_pending(self) -> Replaced<'a> {
        self.swap(false)
    }

    fn swap(self, replaces_pending: bool) -> Replaced<'a> {
        let Restored { backend, database, writing } = self;
        let number = database.number();
        let mut state = backend.state_mut();
        let pending =
            if replaces_pending { std::mem::take(&mut state.pending) } else { Layer::default() };
        let empty = Recent::new(backend.options.recent_bytes);
        let recent = std::mem::replace(&mut state.recent, empty);
        let old = std::mem::replace(&mut state.database, database);
        drop(state);
        Replaced { backend, _writing: writing, void: (pending, recent), old, number }
    }
}

impl Replaced<'_> {
    /// Closes and removes the former file, and whatever is older.
    pub fn remove(self) -> Result<(), Fatal> {
        let Replaced { backend, _writing, void, old, number } = self;
        // Closing a file syncs it.
        drop((void, old));
        files::remove_below(&*backend.disk, number)
    }
}
