//! One database file: redb over the platform's files, and a checksum on every value.

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use redb::{ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};

use super::layer::Layer;
use super::{Bucket, Entries, files};
use crate::error::{Fatal, hex};
use crate::platform::{Disk, File};

type Definition = TableDefinition<'static, &'static [u8], &'static [u8]>;
type Table = ReadOnlyTable<&'static [u8], &'static [u8]>;

/// What this program keeps about the file itself: its format, and how much it holds. Numbers as
/// bytes, little-endian, in a table as all others: redb's code for a type of table is large.
const ABOUT: Definition = TableDefinition::new("coracle");
const FORMAT: &[u8] = b"format";
const FORMAT_VERSION: u64 = 1;
const LIVE_BYTES: &[u8] = b"live bytes";
/// Length of the checksum behind every value, in bytes.
const CHECKSUM: usize = 4;
/// What a stored entry takes beside its bytes, about: offsets in its page, its share of branches.
const ENTRY_OVERHEAD: u64 = 16;

/// A database file as of one commit: reads see that commit, for as long as this lives.
pub(super) struct Database {
    // Before the file: redb ends reads when its database is dropped.
    tables: [Table; Bucket::ALL.len()],
    file: Arc<DatabaseFile>,
    live_bytes: u64,
    size: u64,
}

struct DatabaseFile {
    redb: redb::Database,
    file: Arc<dyn File>,
    name: String,
    number: u64,
}

fn definition(bucket: Bucket) -> Definition {
    TableDefinition::new(bucket.name())
}

fn make_tables(write: &redb::WriteTransaction) -> Result<(), redb::Error> {
    for bucket in Bucket::ALL {
        write.open_table(definition(bucket))?;
    }
    Ok(())
}

impl Database {
    /// Creates file `number` with empty tables; durable when this returns.
    pub(super) fn create(disk: &dyn Disk, number: u64, cache: usize) -> Result<Database, Fatal> {
        let file = DatabaseFile::open(disk, number, true, cache)?;
        let created = file.redb.begin_write().map_err(redb::Error::from).and_then(|mut write| {
            write.set_quick_repair(true);
            make_tables(&write)?;
            let mut about = write.open_table(ABOUT)?;
            about.insert(FORMAT, &FORMAT_VERSION.to_le_bytes()[..])?;
            about.insert(LIVE_BYTES, &0_u64.to_le_bytes()[..])?;
            drop(about);
            Ok(write.commit()?)
        });
        created.map_err(|error| file.failed(error))?;
        Database::read(Arc::new(file))
    }

    /// Opens the complete file `number`.
    pub(super) fn open(disk: &dyn Disk, number: u64, cache: usize) -> Result<Database, Fatal> {
        let file = DatabaseFile::open(disk, number, false, cache)?;
        file.complete_tables().map_err(|error| file.failed(error))?;
        Database::read(Arc::new(file))
    }

    /// The file's state as of its last commit.
    fn read(file: Arc<DatabaseFile>) -> Result<Database, Fatal> {
        let opened = file.redb.begin_read().map_err(redb::Error::from).and_then(|read| {
            let about = read.open_table(ABOUT)?;
            let value = |name| {
                let stored = about.get(name)?;
                let bytes = stored.and_then(|stored| stored.value().try_into().ok());
                Ok::<u64, redb::Error>(bytes.map_or(0, u64::from_le_bytes))
            };
            let tables = Bucket::ALL.map(|bucket| read.open_table(definition(bucket)));
            Ok((value(FORMAT)?, value(LIVE_BYTES)?, tables))
        });
        let (format, live_bytes, tables) = opened.map_err(|error| file.failed(error))?;
        if format != FORMAT_VERSION {
            let detail = format!("its format is {format}, this program knows {FORMAT_VERSION}");
            return Err(file.corrupt(detail));
        }
        let mut opened = Vec::with_capacity(tables.len());
        for table in tables {
            opened.push(table.map_err(|error| file.failed(error.into()))?);
        }
        let Ok(tables) = opened.try_into() else {
            return Err(Fatal::Invariant("a table for each bucket".into()));
        };
        let size = file.file.len().map_err(|e| files::failed("measuring", &file.name, e))?;
        Ok(Database { tables, file, live_bytes, size })
    }

    /// Closes the file, of which this must be the last handle. Dropping it does the same, but
    /// cannot say that it failed.
    pub(super) fn close(self) -> Result<(), Fatal> {
        let Database { tables, file, .. } = self;
        drop(tables);
        match Arc::try_unwrap(file) {
            Ok(file) => {
                let closed = file.redb.close();
                closed.map_err(|error| redb_failed(&file.name, error.into()))
            }
            Err(file) => Err(Fatal::Invariant(format!("{} is closed while in use", file.name))),
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.file.number
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn size_in_use(&self) -> u64 {
        self.live_bytes.min(self.size)
    }

    pub(super) fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        let stored = self.tables[bucket as usize].get(key);
        match stored.map_err(|error| self.file.failed(error.into()))? {
            Some(stored) => self.file.verified(bucket, key, stored.value()).map(Some),
            None => Ok(None),
        }
    }

    /// The first `limit` entries from `from` on, but no more once they have `bytes`; at least one
    /// if there is one.
    pub(super) fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        limit: usize,
        bytes: usize,
    ) -> Result<Entries, Fatal> {
        let entries = self.tables[bucket as usize].range(from..);
        let mut entries = entries.map_err(|error| self.file.failed(error.into()))?;
        let (mut page, mut read) = (Entries::new(), 0);
        while page.len() < limit && (page.is_empty() || read < bytes) {
            let Some(entry) = entries.next() else { break };
            let (key, value) = entry.map_err(|error| self.file.failed(error.into()))?;
            let value = self.file.verified(bucket, key.value(), value.value())?;
            read += key.value().len() + value.len();
            page.push((Bytes::copy_from_slice(key.value()), value));
        }
        Ok(page)
    }

    /// Carries out the writes of `layer` in one durable transaction; returns the state after it.
    pub(super) fn commit(&self, layer: &Layer) -> Result<Database, Fatal> {
        let file = &self.file;
        let committed = file.redb.begin_write().map_err(redb::Error::from).and_then(|mut write| {
            // In two phases: so redb never takes an older commit for the newest when a page of
            // the newest is damaged. (It also saves a repair after a crash.)
            write.set_quick_repair(true);
            write_layer(&write, layer, self.live_bytes)?;
            Ok(write.commit()?)
        });
        committed.map_err(|error| file.failed(error))?;
        Database::read(file.clone())
    }

    /// Carries out the writes of `layer` without making them durable: the next
    /// [`Database::commit`] does. Only for a file that is not complete yet.
    pub(super) fn stage(&self, layer: &Layer) -> Result<Database, Fatal> {
        let file = &self.file;
        let staged = file.redb.begin_write().map_err(redb::Error::from).and_then(|mut write| {
            write.set_durability(redb::Durability::None)?;
            write_layer(&write, layer, self.live_bytes)?;
            Ok(write.commit()?)
        });
        staged.map_err(|error| file.failed(error))?;
        Database::read(file.clone())
    }
}

/// Writes `layer` into the tables of `write`, which hold about `live_bytes`.
fn write_layer(
    write: &redb::WriteTransaction,
    layer: &Layer,
    live_bytes: u64,
) -> Result<(), redb::Error> {
    let entry_bytes = |key: &[u8], stored: usize| (key.len() + stored) as u64 + ENTRY_OVERHEAD;
    let (mut added, mut removed) = (0, 0);
    for bucket in Bucket::ALL {
        if layer.entries(bucket).is_empty() {
            continue;
        }
        let mut table = write.open_table(definition(bucket))?;
        for (key, value) in layer.entries(bucket) {
            let key: &[u8] = key;
            let Some(value) = value else {
                if let Some(old) = table.remove(key)? {
                    removed += entry_bytes(key, old.value().len());
                }
                continue;
            };
            // A revision is written once; in the other buckets values are replaced.
            if bucket != Bucket::Key {
                let old = table.get(key)?;
                removed += old.map_or(0, |old| entry_bytes(key, old.value().len()));
            }
            let length = value.len() + CHECKSUM;
            let mut stored = table.insert_reserve(key, length)?;
            stored.as_mut()[..value.len()].copy_from_slice(value);
            let checksum = checksum(bucket, key, value).to_le_bytes();
            stored.as_mut()[value.len()..].copy_from_slice(&checksum);
            added += entry_bytes(key, length);
        }
    }
    let mut about = write.open_table(ABOUT)?;
    let live_bytes = (live_bytes + added).saturating_sub(removed);
    about.insert(LIVE_BYTES, &live_bytes.to_le_bytes()[..])?;
    Ok(())
}

/// The checksum of a value: also of where it belongs, so that a misplaced one is noticed.
fn checksum(bucket: Bucket, key: &[u8], value: &[u8]) -> u32 {
    let of_place = crc32c::crc32c_append(crc32c::crc32c(&[bucket as u8]), key);
    crc32c::crc32c_append(of_place, value)
}

impl DatabaseFile {
    fn open(disk: &dyn Disk, number: u64, create: bool, cache: usize) -> Result<Self, Fatal> {
        let name = files::name(number);
        let file =
            disk.open(&name, create).map_err(|error| files::failed("opening", &name, error))?;
        let length = file.len().map_err(|error| files::failed("measuring", &name, error))?;
        if !create && length == 0 {
            let detail = "the file is empty".to_owned();
            return Err(Fatal::Corrupt { file: name, offset: 0, detail });
        }
        let storage = Storage { file: file.clone() };
        let mut builder = redb::Builder::new();
        // Reads the whole file once and compares every page with its checksum; a plain open would
        // trust it, and could panic later. The index reads all of it at start anyway.
        builder.set_cache_size(cache).set_check_integrity_on_open(true);
        let opened = builder.create_with_backend(storage);
        let redb = opened.map_err(|error| redb_failed(&name, error.into()))?;
        Ok(DatabaseFile { redb, file, name, number })
    }

    /// Makes the tables that a file of an earlier release lacks.
    fn complete_tables(&self) -> Result<(), redb::Error> {
        let present = self.redb.begin_read()?.list_tables()?.count();
        // One more than the buckets: what the file says about itself.
        if present > Bucket::ALL.len() {
            return Ok(());
        }
        let mut write = self.redb.begin_write()?;
        write.set_quick_repair(true);
        make_tables(&write)?;
        Ok(write.commit()?)
    }

    /// The value in `stored`, if its checksum holds.
    fn verified(&self, bucket: Bucket, key: &[u8], stored: &[u8]) -> Result<Bytes, Fatal> {
        if let Some((value, sum)) = stored.split_last_chunk::<CHECKSUM>()
            && u32::from_le_bytes(*sum) == checksum(bucket, key, value)
        {
            return Ok(Bytes::copy_from_slice(value));
        }
        let (key, bucket) = (hex(key), bucket.name());
        let detail = format!("the value at {key} in '{bucket}' fails its checksum");
        Err(self.corrupt(detail))
    }

    fn corrupt(&self, detail: String) -> Fatal {
        Fatal::Corrupt { file: self.name.clone(), offset: 0, detail }
    }

    fn failed(&self, error: redb::Error) -> Fatal {
        redb_failed(&self.name, error)
    }
}

fn redb_failed(file: &str, error: redb::Error) -> Fatal {
    match error {
        redb::Error::Io(source) => files::failed("using", file, source),
        redb::Error::Corrupted(detail) => {
            Fatal::Corrupt { file: file.to_owned(), offset: 0, detail }
        }
        other => Fatal::Backend(format!("{file}: {other}")),
    }
}

/// redb's storage over a file of the platform.
struct Storage {
    file: Arc<dyn File>,
}

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Storage")
    }
}

impl redb::StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }
}
