//! The pooled files of the node in this worker: open handles, each free or with a name.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Weak};

use futures_util::future::join_all;
use wasm_bindgen::JsValue;
use web_sys::{FileSystemReadWriteOptions, FileSystemSyncAccessHandle};

use super::super::scope;
use super::folder::{Folder, site};
use super::header::{self, HEADER_BYTES, NAME_BYTES_MAX};

/// More are opened when fewer than this are free …
const FREE_MIN: usize = 4;
/// … until there are so many: more than a step of a node creates.
const FREE_WANTED: usize = 8;

thread_local! {
    static POOL: RefCell<Option<Pool>> = const { RefCell::new(None) };
}

struct Pool {
    folder: Folder,
    slots: Vec<Slot>,
}

struct Slot {
    handle: FileSystemSyncAccessHandle,
    name: Option<String>,
    /// Those who have the file open. A removed file's place is not given away while it is read.
    users: Weak<Place>,
}

/// Where an open file is in the pool.
pub(super) struct Place(usize);

/// Opens the pool in this folder, with whatever files an earlier worker left there.
pub(super) async fn open(folder: &str) -> Result<(), JsValue> {
    let folder = site().await?.folder(folder, true).await?;
    let mut slots = Vec::new();
    while let Some(handle) = folder.open(&slots.len().to_string(), false).await? {
        slots.push(Slot::read(handle).map_err(|error| error.to_string())?);
    }
    POOL.set(Some(Pool { folder, slots }));
    refill().await
}

/// How many more files should be open.
pub(super) fn is_short() -> bool {
    with(|pool| Ok(pool.free().count() < FREE_MIN)).unwrap_or(false)
}

/// Opens more files.
pub(super) async fn refill() -> Result<(), JsValue> {
    let missing = with(|pool| {
        let first = pool.slots.len();
        let count = FREE_WANTED.saturating_sub(pool.free().count());
        Ok((pool.folder.clone(), first..first + count))
    });
    let (folder, numbers) = missing.map_err(|error| error.to_string())?;
    // All at once: each takes several questions to another process of the browser.
    let opened = join_all(numbers.map(|number| {
        let folder = folder.clone();
        async move { folder.open(&number.to_string(), true).await }
    }));
    let mut failed = None;
    for handle in opened.await {
        match handle {
            // Places are files' names: behind a gap none has its own.
            Ok(Some(handle)) if failed.is_some() => handle.close(),
            Ok(Some(handle)) => {
                let slot = Slot { handle, name: None, users: Weak::new() };
                let pushed = with(|pool| {
                    pool.slots.push(slot);
                    Ok(())
                });
                pushed.map_err(|error| error.to_string())?;
            }
            Ok(None) => failed = Some("a file vanished while it was created".into()),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(()), Err)
}

fn with<T>(work: impl FnOnce(&mut Pool) -> io::Result<T>) -> io::Result<T> {
    POOL.with_borrow_mut(|pool| match pool {
        Some(pool) => work(pool),
        None => Err(io::Error::other("the disk is not open")),
    })
}

/// The names of all files, sorted.
pub(super) fn names() -> io::Result<Vec<String>> {
    with(|pool| {
        let mut names: Vec<String> =
            pool.slots.iter().filter_map(|slot| slot.name.clone()).collect();
        names.sort();
        Ok(names)
    })
}

/// The place of the file with this name, which is created if it is missing and `create`.
pub(super) fn find(name: &str, create: bool) -> io::Result<Arc<Place>> {
    with(|pool| {
        let index = match (pool.index(name), create) {
            (Some(index), _) => index,
            (None, true) => pool.create(name)?,
            (None, false) => return Err(no_file(name)),
        };
        let slot = &mut pool.slots[index];
        let place = slot.users.upgrade().unwrap_or_else(|| Arc::new(Place(index)));
        slot.users = Arc::downgrade(&place);
        Ok(place)
    })
}

/// Takes the name off a file; durable when this returns.
pub(super) fn remove(name: &str) -> io::Result<()> {
    with(|pool| {
        let index = pool.index(name).ok_or_else(|| no_file(name))?;
        let slot = &mut pool.slots[index];
        slot.write(0, &[0; HEADER_BYTES])?;
        slot.name = None;
        if slot.users.strong_count() == 0 {
            slot.truncate(HEADER_BYTES as u64)?;
        }
        slot.flush()
    })
}

/// Does something with the data of an open file.
pub(super) fn at<T>(place: &Place, work: impl FnOnce(&Data) -> io::Result<T>) -> io::Result<T> {
    with(|pool| work(&Data(&pool.slots[place.0])))
}

impl Pool {
    fn index(&self, name: &str) -> Option<usize> {
        self.slots.iter().position(|slot| slot.name.as_deref() == Some(name))
    }

    fn free(&self) -> impl Iterator<Item = usize> {
        let is_free = |slot: &Slot| slot.name.is_none() && slot.users.strong_count() == 0;
        self.slots.iter().enumerate().filter(move |(_, slot)| is_free(slot)).map(|(index, _)| index)
    }

    /// Gives a free file the name; durable when this returns.
    fn create(&mut self, name: &str) -> io::Result<usize> {
        if name.len() > NAME_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidFilename, format!("too long: {name}")));
        }
        let index = self.free().next().ok_or_else(|| {
            io::Error::new(ErrorKind::StorageFull, "no file is free in the browser's file system")
        })?;
        let slot = &mut self.slots[index];
        // What an earlier file left is cut off before the name makes it ours.
        slot.truncate(HEADER_BYTES as u64)?;
        slot.write(0, &header::encode(name))?;
        slot.flush()?;
        slot.name = Some(name.to_owned());
        Ok(index)
    }
}

impl Slot {
    /// The slot of a file that was there before.
    fn read(handle: FileSystemSyncAccessHandle) -> io::Result<Slot> {
        let mut slot = Slot { handle, name: None, users: Weak::new() };
        let mut page = vec![0; HEADER_BYTES];
        let count = slot.read_at(0, &mut page)?;
        slot.name = header::decode(&page[..count]);
        Ok(slot)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.handle.read_with_u8_array_and_options(buffer, &at_offset(offset));
        Ok(count.map_err(failure)? as usize)
    }

    fn write(&self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let options = at_offset(offset);
            let count = self.handle.write_with_u8_array_and_options(data, &options);
            let count = count.map_err(failure)? as usize;
            if count == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            data = &data[count..];
            offset += count as u64;
        }
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.handle.truncate_with_f64(length as f64).map_err(failure)
    }

    fn flush(&self) -> io::Result<()> {
        self.handle.flush().map_err(failure)
    }
}

/// What comes after the header.
pub(super) struct Data<'a>(&'a Slot);

impl Data<'_> {
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(HEADER_BYTES as u64 + offset, buffer)
    }

    pub(super) fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(HEADER_BYTES as u64 + offset, data)
    }

    pub(super) fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.truncate(HEADER_BYTES as u64 + length)
    }

    pub(super) fn len(&self) -> io::Result<u64> {
        let size = self.0.handle.get_size().map_err(failure)?;
        Ok((size as u64).saturating_sub(HEADER_BYTES as u64))
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.0.flush()
    }
}

fn at_offset(offset: u64) -> FileSystemReadWriteOptions {
    let options = FileSystemReadWriteOptions::new();
    options.set_at(offset as f64);
    options
}

fn no_file(name: &str) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("no file {name}"))
}

fn failure(error: JsValue) -> io::Error {
    let kind = match scope::name(&error).as_str() {
        "QuotaExceededError" => ErrorKind::StorageFull,
        _ => ErrorKind::Other,
    };
    io::Error::new(kind, scope::text(&error))
}
