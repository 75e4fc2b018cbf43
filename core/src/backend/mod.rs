//! The backend: the state machine's durable state, in one file, written behind.
//!
//! The WAL is the durability of a reply; the backend only has to hold *some* past state, whole. So
//! a put costs an insertion into a map in memory, and now and then a flush moves everything since
//! the last one into redb as one durable transaction:
//!
//! ```text
//!   put, delete ──► pending ──flush──► flushing ──commit──► redb file (checksummed values)
//!                      │                  │                     │
//!   get, scan  ◄───────┴──────────────────┴───── recent ────────┘    the newest layer wins
//! ```
//!
//! - [`Backend::batch`] marks what belongs together: a flush never cuts inside a batch. The state
//!   machine holds one while it applies a group of entries and puts the applied log id into
//!   [`Bucket::Meta`], so every commit holds exactly the state of the log id that it names.
//! - Flushed values of keys stay in memory as `recent`, up to a bound, because what was written
//!   last is read first.
//! - Every stored value ends in a CRC-32C over bucket, key and value. redb does not promise to
//!   notice a flipped page; we do: a damaged value is a [`Fatal`], never an answer.
//! - A member's state is one file, `db-<16 hex digits>`. It counts once a file of that name and
//!   `.complete` stands beside it; creating a file is the one atomic step that a
//!   [`Disk`] has. A raft snapshot (and a defragmentation) writes a new,
//!   higher-numbered file, and a crash in between leaves the old one.
//!
//! After any failure to write, the backend refuses further flushes: what reached the disk is then
//! unknown, and only a restart, which reads it again, can tell.
//!
//! Opening a file verifies the checksum of every page in it, so what is damaged while the member
//! is down stops it at start. A page that goes bad under a running member is noticed when a value
//! in it is read; a branch page read anew from a failing disk could make redb report an error or,
//! at worst, hide keys until the members' hashes are compared.

mod database;
mod defragment;
mod fence;
mod files;
mod layer;
mod recent;
mod replace;
mod restore;
mod snapshot;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;

use crate::error::Fatal;
use crate::platform::Disk;

use database::Database;
use defragment::{FileCopy, Writing};
use fence::FencedDisk;
use layer::{Layer, Overlay};
use recent::Recent;
pub use replace::{Replaced, Restored};
pub use restore::Restorer;
pub use snapshot::{BackendView, Chunks};

/// A part of the state; the names on disk are etcd's bucket names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// Every version of every key, by revision.
    Key,
    /// Leases, by identifier.
    Lease,
    Members,
    MembersRemoved,
    Alarm,
    /// Single values: compaction revisions, the applied log id, Raft's membership.
    Meta,
    /// Whether authentication is on, and the auth revision.
    Auth,
    /// Users, by name.
    AuthUsers,
    /// Roles, by name.
    AuthRoles,
    /// What holds for the cluster as a whole: its version, a downgrade under way.
    Cluster,
}

impl Bucket {
    /// All buckets, in the order of their numbers.
    pub const ALL: [Bucket; 10] = [
        Bucket::Key,
        Bucket::Lease,
        Bucket::Members,
        Bucket::MembersRemoved,
        Bucket::Alarm,
        Bucket::Meta,
        Bucket::Auth,
        Bucket::AuthUsers,
        Bucket::AuthRoles,
        Bucket::Cluster,
    ];

    /// etcd's name of the bucket.
    pub fn name(self) -> &'static str {
        match self {
            Bucket::Key => "key",
            Bucket::Lease => "lease",
            Bucket::Members => "members",
            Bucket::MembersRemoved => "members_removed",
            Bucket::Alarm => "alarm",
            Bucket::Meta => "meta",
            Bucket::Auth => "auth",
            Bucket::AuthUsers => "authUsers",
            Bucket::AuthRoles => "authRoles",
            Bucket::Cluster => "cluster",
        }
    }

    fn from_number(number: u8) -> Option<Bucket> {
        Bucket::ALL.get(usize::from(number)).copied()
    }
}

/// How much memory the backend may use beside what waits to be flushed.
#[derive(Clone, Copy, Debug)]
pub struct BackendOptions {
    /// redb's page cache, in bytes.
    pub cache_bytes: usize,
    /// Flushed values of keys kept in memory because they were written last, in bytes.
    pub recent_bytes: usize,
}

impl Default for BackendOptions {
    fn default() -> Self {
        BackendOptions { cache_bytes: 128 << 20, recent_bytes: 64 << 20 }
    }
}

/// Flushed entries remembered under one lock.
const REMEMBER_BATCH: usize = 1_000;
/// Entries of [`Pages`] read at a time, and about how many bytes of them (one entry more at most).
const PAGE_ENTRIES: usize = 1_024;
const PAGE_BYTES: usize = 256 << 10;

/// The durable state of one member. Shared between threads; see the module's description.
pub struct Backend {
    disk: Arc<FencedDisk>,
    options: BackendOptions,
    state: RwLock<State>,
    /// Held while a group of entries is applied, and while `pending` is cut off for a flush.
    batch: Mutex<()>,
    /// Held by whoever writes files: flush, defragmentation, replacement. In it is the copy of the
    /// file that a defragmentation is making.
    writing: Mutex<Option<FileCopy>>,
    /// Held while a new file gets its number: the ways to a new file do not wait for each other.
    numbering: Mutex<()>,
    /// Set once durable state may differ from what memory believes.
    failed: AtomicBool,
}

/// What readers see, swapped as a whole under one lock, so that no write is ever invisible.
struct State {
    pending: Layer,
    /// What is being written to the database now; still undurable.
    flushing: Option<Arc<Layer>>,
    /// A cache: the database holds the same.
    recent: Recent,
    database: Arc<Database>,
}

/// A state that can be read: the one that goes on, or one that stands still.
pub trait Contents {
    /// The value at `key`.
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal>;

    /// The first `limit` entries from `from` on (inclusive), in key order, but no more once those
    /// read from disk have `bytes`. None only if there is none.
    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        limit: usize,
        bytes: usize,
    ) -> Result<Entries, Fatal>;

    /// All entries of a small bucket.
    fn all(&self, bucket: Bucket) -> Result<Entries, Fatal> {
        self.scan(bucket, &[], usize::MAX, usize::MAX)
    }
}

/// Keys and values.
pub type Entries = Vec<(Bytes, Bytes)>;

/// A way through a bucket, page by page: a page is in memory at once, and its size depends neither
/// on the bucket's nor on the entries'.
pub struct Pages {
    bucket: Bucket,
    from: Bytes,
}

impl Pages {
    pub fn new(bucket: Bucket, from: impl Into<Bytes>) -> Pages {
        Pages { bucket, from: from.into() }
    }

    /// The next entries; none at the end.
    pub fn next(&mut self, contents: &dyn Contents) -> Result<Entries, Fatal> {
        let page = contents.scan(self.bucket, &self.from, PAGE_ENTRIES, PAGE_BYTES)?;
        if let Some((last, _)) = page.last() {
            self.from = [last, &[0][..]].concat().into();
        }
        Ok(page)
    }
}

impl Contents for Backend {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        Backend::get(self, bucket, key)
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        limit: usize,
        bytes: usize,
    ) -> Result<Entries, Fatal> {
        let mut page = Vec::new();
        let mut from = Bytes::copy_from_slice(from);
        while page.len() < limit {
            let (mut overlay, database) = {
                let state = self.state();
                let newest_first = [Some(&state.pending), state.flushing.as_deref()];
                let layers = newest_first.into_iter().flatten();
                (Overlay::new(layers, bucket, &from, limit), state.database.clone())
            };
            let wanted = (limit - page.len()).saturating_add(overlay.removals());
            let stored = database.scan(bucket, &from, wanted, bytes)?;
            let read: usize = stored.iter().map(|(key, value)| key.len() + value.len()).sum();
            if let Some((last, _)) = stored.last().filter(|_| read >= bytes) {
                overlay.end_at(last);
            }
            let horizon = overlay.horizon();
            overlay.merge(stored, limit, &mut page);
            match horizon {
                Some(horizon) if page.is_empty() || read < bytes => {
                    from = [&horizon, &[0][..]].concat().into();
                }
                _ => break,
            }
        }
        Ok(page)
    }
}

/// While this lives, no flush cuts off what was written. See [`Backend::batch`].
#[must_use]
pub struct BatchGuard<'a> {
    backend: &'a Backend,
    ended: bool,
    _held: MutexGuard<'a, ()>,
}

impl BatchGuard<'_> {
    /// Ends the batch: all of it is there.
    pub fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for BatchGuard<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // Before the lock goes: a flush may be waiting for it.
            self.backend.fail();
        }
    }
}

impl Backend {
    /// Opens the newest complete database file of `disk`, or creates the first one; removes the
    /// others.
    ///
    /// Fails if the file is damaged or of another format. A file whose writing a crash cut short
    /// was never complete and is removed.
    pub fn open(disk: Arc<dyn Disk>, options: BackendOptions) -> Result<Backend, Fatal> {
        let disk = Arc::new(FencedDisk::new(disk));
        let database = match files::newest_complete(&*disk)? {
            Some(number) => Database::open(&*disk, number, options.cache_bytes)?,
            None => {
                files::remove_incomplete(&*disk)?;
                let database = Database::create(&*disk, 1, options.cache_bytes)?;
                files::mark_complete(&*disk, 1)?;
                database
            }
        };
        files::remove_all_but(&*disk, database.number())?;
        let state = State {
            pending: Layer::default(),
            flushing: None,
            recent: Recent::new(options.recent_bytes),
            database: Arc::new(database),
        };
        Ok(Backend {
            disk,
            options,
            state: RwLock::new(state),
            batch: Mutex::new(()),
            writing: Mutex::new(None),
            numbering: Mutex::new(()),
            failed: AtomicBool::new(false),
        })
    }

    /// Begins a batch: until [`BatchGuard::end`] no flush cuts off what is written. A guard that is
    /// dropped before, by an error or a panic, keeps all of it from ever becoming durable.
    ///
    /// Do not flush on the same thread while holding it.
    pub fn batch(&self) -> BatchGuard<'_> {
        BatchGuard { backend: self, ended: false, _held: self.lock_batch() }
    }

    fn lock_batch(&self) -> MutexGuard<'_, ()> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes `value` at `key`; visible to reads at once, durable after the next flush.
    pub fn put(&self, bucket: Bucket, key: Bytes, value: Bytes) {
        self.state_mut().pending.put(bucket, key, value);
    }

    /// Removes `key`; visible to reads at once, durable after the next flush.
    pub fn delete(&self, bucket: Bucket, key: Bytes) {
        self.state_mut().pending.delete(bucket, key);
    }

    /// Removes all of `keys` in one step.
    pub fn delete_all(&self, bucket: Bucket, keys: Vec<Bytes>) {
        let mut state = self.state_mut();
        for key in keys {
            state.pending.delete(bucket, key);
        }
    }

    /// The value at `key`.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        let database = {
            let state = self.state();
            if let Some(found) = state.in_memory(bucket, key) {
                return Ok(found);
            }
            state.database.clone()
        };
        database.get(bucket, key)
    }

    /// The values at `keys`, in their order: cheaper than as many calls of [`Backend::get`].
    pub fn get_all<K: AsRef<[u8]>>(
        &self,
        bucket: Bucket,
        keys: &[K],
    ) -> Result<Vec<Option<Bytes>>, Fatal> {
        let (found, database) = {
            let state = self.state();
            let found = keys.iter().map(|key| state.in_memory(bucket, key.as_ref()));
            (found.collect::<Vec<_>>(), state.database.clone())
        };
        let of_database = |key: &K| database.get(bucket, key.as_ref());
        keys.iter()
            .zip(found)
            .map(|(key, found)| found.map_or_else(|| of_database(key), Ok))
            .collect()
    }

    /// Bytes written since the last flush began.
    pub fn pending_bytes(&self) -> usize {
        self.state().pending.bytes()
    }

    /// Moves everything written so far into one durable transaction. Blocks; call it off the
    /// node's thread.
    ///
    /// After a failure nothing is known of the file, and every later flush fails too.
    pub fn flush(&self) -> Result<(), Fatal> {
        self.flush_while(&mut self.lock_writing())
    }

    fn lock_writing(&self) -> Writing<'_> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush_while(&self, writing: &mut Writing<'_>) -> Result<(), Fatal> {
        let (layer, database) = {
            let _batch = self.lock_batch();
            // Asked when no batch is under way: one that broke off says so before it lets go.
            self.check_not_failed()?;
            let mut state = self.state_mut();
            if state.pending.is_empty() {
                return Ok(());
            }
            let layer = Arc::new(std::mem::take(&mut state.pending));
            state.flushing = Some(layer.clone());
            (layer, state.database.clone())
        };
        let committed = database.commit(&layer).inspect_err(|_| self.fail())?;
        if let Some(copy) = writing.as_mut() {
            copy.follow(&layer).inspect_err(|_| self.fail())?;
        }
        self.remember(&layer);
        let flushed = {
            let mut state = self.state_mut();
            state.database = Arc::new(committed);
            state.flushing.take()
        };
        // Outside the lock: there may be many entries to free.
        drop((layer, flushed));
        Ok(())
    }

    /// Flushes, and leaves the disk to whoever opens it next: nothing changes its files afterwards.
    /// Reads go on. Blocks; call it off the node's thread.
    pub fn close(&self) -> Result<(), Fatal> {
        let mut writing = self.lock_writing();
        // A copy under way will not be finished, and removes itself.
        drop(writing.take());
        let flushed = self.flush_while(&mut writing);
        self.disk.fence_off();
        flushed
    }

    /// Keeps the values of the key bucket in `layer`, which is still being read as `flushing`.
    fn remember(&self, layer: &Layer) {
        let mut entries = layer.entries(Bucket::Key).iter().peekable();
        while entries.peek().is_some() {
            let mut state = self.state_mut();
            for (key, value) in entries.by_ref().take(REMEMBER_BATCH) {
                state.recent.set(key, value);
            }
        }
    }

    fn check_not_failed(&self) -> Result<(), Fatal> {
        match self.failed.load(Ordering::Acquire) {
            true => Err(Fatal::Backend("an earlier failure left its contents unknown".into())),
            false => Ok(()),
        }
    }

    /// Refuses all further flushes: what is pending is half of something.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }

    /// Length of the database file in bytes, as of the last flush.
    pub fn size(&self) -> u64 {
        self.state().database.size()
    }

    /// About how many of [`Backend::size`]'s bytes hold data, as of the last flush.
    pub fn size_in_use(&self) -> u64 {
        self.state().database.size_in_use()
    }

    /// Who reads the file at this moment, beside the backend itself: gets, scans, views.
    pub fn open_reads(&self) -> u64 {
        Arc::strong_count(&self.state().database).saturating_sub(1) as u64
    }

    /// Flushes, then hands out a consistent view of everything durable.
    pub fn view(&self) -> Result<BackendView, Fatal> {
        self.flush()?;
        Ok(BackendView::new(self.state().database.clone()))
    }

    /// Begins a new database file from the chunks of a [`BackendView`] (a raft snapshot).
    pub fn restorer(&self) -> Result<Restorer, Fatal> {
        let _numbering = self.numbering.lock().unwrap_or_else(PoisonError::into_inner);
        Restorer::create(self.disk.clone())
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What memory knows of `key`: its value, that it is removed (`Some(None)`), or nothing.
    fn in_memory(&self, bucket: Bucket, key: &[u8]) -> Option<Option<Bytes>> {
        let found = self.pending.get(bucket, key);
        let found = found.or_else(|| self.flushing.as_ref()?.get(bucket, key));
        found.or_else(|| if bucket == Bucket::Key { self.recent.get(key) } else { None })
    }
}
