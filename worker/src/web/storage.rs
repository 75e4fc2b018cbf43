//! Where the disks are, and which tab may use them.
//!
//! One tab holds the browser's file system, by a Web Lock: nodes of two tabs would write to the
//! same files. Another tab runs in memory until it takes the lock over.

use std::rc::Rc;

use coracle_core::small_map::SmallMap;
use futures_channel::oneshot;
use futures_util::future::try_join_all;
use js_sys::{Function, Object, Promise, Reflect};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{AbortSignal, FileSystemReadWriteOptions, FileSystemSyncAccessHandle};

use super::opfs::{self, Folder};
use super::scope;
use crate::conductor::DiskImage;
use crate::protocol::{MAX_NODES, NodeNumber, Report, StorageKind};

const LOCK: &str = "coracle";
/// The page before a reload lets go a moment after the new one has begun.
const LOCK_PATIENCE_MS: u32 = 500;

/// The disks of all nodes.
pub(super) enum Storage {
    Browser(Disks),
    /// The sentence says why, and whether another tab has what we could use.
    Memory {
        sentence: String,
        can_take_over: bool,
    },
}

/// Our part of the browser's file system, with everybody else kept out.
#[derive(Clone)]
pub(super) struct Disks {
    site: Folder,
    memory: Rc<Memory>,
}

impl Storage {
    /// The browser's file system if we get it. `steal`: from another tab. `lost` is called when
    /// another tab takes it from us.
    pub(super) async fn open(steal: bool, lost: impl FnOnce() + 'static) -> Storage {
        let memory = |sentence: String, can_take_over| Storage::Memory { sentence, can_take_over };
        match lock(steal, lost).await {
            Ok(true) => {}
            Ok(false) => {
                return memory(
                    "Another tab has this browser's disks, so those of this tab are in memory \
                     and end with it; you can take the others over."
                        .to_owned(),
                    true,
                );
            }
            Err(error) => return memory(missing(&error), false),
        }
        match Disks::open().await {
            Ok(disks) => Storage::Browser(disks),
            Err(error) => memory(missing(&error), false),
        }
    }

    /// What the page is told of it, when the visitor wants this kind.
    pub(super) fn report(&self, wanted: StorageKind) -> Report {
        let (kind, sentence, can_take_over) = match (wanted, self) {
            (StorageKind::Browser, Storage::Browser(_)) => (
                StorageKind::Browser,
                "The disks are files of this browser and survive a reload.".to_owned(),
                false,
            ),
            (StorageKind::Browser, Storage::Memory { sentence, can_take_over }) => {
                (StorageKind::Memory, sentence.clone(), *can_take_over)
            }
            (StorageKind::Memory, _) => (
                StorageKind::Memory,
                "The disks are in memory, as you wanted them, and end with this page.".to_owned(),
                false,
            ),
        };
        Report::Storage { kind, sentence, can_take_over }
    }
}

fn missing(error: &JsValue) -> String {
    format!(
        "This browser has no files for us here ({}; it takes HTTPS or localhost), so the disks are \
         in memory and end with this page. Everything else works.",
        scope::text(error)
    )
}

/// Gets the lock of the file system and keeps it as long as this worker lives; false if another
/// tab has it. Through reflection, since the library calls this interface unstable.
async fn lock(steal: bool, lost: impl FnOnce() + 'static) -> Result<bool, JsValue> {
    let locks = Reflect::get(&scope::worker().navigator(), &"locks".into())?;
    if locks.is_undefined() {
        return Err(JsValue::from_str("it offers no locks"));
    }
    let options = Object::new();
    if steal {
        Reflect::set(&options, &"steal".into(), &JsValue::TRUE)?;
    } else {
        let patience = AbortSignal::timeout_with_u32(LOCK_PATIENCE_MS);
        Reflect::set(&options, &"signal".into(), &patience)?;
    }
    let (granted, outcome) = oneshot::channel();
    let hold = Closure::once_into_js(move |_lock: JsValue| {
        let _ = granted.send(());
        // Held until this promise is settled: never.
        Promise::new(&mut |_, _| ())
    });
    let request: Function = Reflect::get(&locks, &"request".into())?.dyn_into()?;
    let held: Promise = request.call3(&locks, &LOCK.into(), &options, &hold)?.dyn_into()?;
    // Rejected when the patience ends, and when another tab steals the lock.
    let (given_up, refused) = oneshot::channel();
    wasm_bindgen_futures::spawn_local(async move {
        let _ = JsFuture::from(held).await;
        if given_up.send(()).is_err() {
            lost();
        }
    });
    match futures_util::future::select(outcome, refused).await {
        // Drops `refused`: whatever ends the request from now on is a loss.
        futures_util::future::Either::Left((granted, _)) => Ok(granted.is_ok()),
        futures_util::future::Either::Right(_) => Ok(false),
    }
}

impl Disks {
    async fn open() -> Result<Disks, JsValue> {
        let site = opfs::site().await?;
        let memory = Memory::open(&site).await?;
        Ok(Disks { site, memory: Rc::new(memory) })
    }

    /// The folder of a node's disk.
    pub(super) fn folder(node: NodeNumber) -> String {
        format!("node-{node}")
    }

    /// Forgets a node's disk.
    pub(super) async fn discard(&self, node: NodeNumber) -> Result<(), JsValue> {
        self.site.remove(&Disks::folder(node)).await
    }

    /// What all disks hold, while no node runs.
    pub(super) async fn images(&self) -> Result<SmallMap<NodeNumber, DiskImage>, JsValue> {
        let images = try_join_all((1..=MAX_NODES).map(|node| async move {
            Ok::<_, JsValue>(self.image(node).await?.map(|image| (node, image)))
        }));
        Ok(images.await?.into_iter().flatten().collect())
    }

    /// What a node's disk holds, if it has one.
    async fn image(&self, node: NodeNumber) -> Result<Option<DiskImage>, JsValue> {
        let folder = match self.site.folder(&Disks::folder(node), false).await {
            Err(error) if scope::name(&error) == "NotFoundError" => return Ok(None),
            folder => folder?,
        };
        let mut image = DiskImage::new();
        let mut index = 0;
        while let Some(file) = folder.read(&index.to_string()).await? {
            if let Some((name, data)) = opfs::split(&file) {
                image.insert(name, data.to_vec());
            }
            index += 1;
        }
        Ok(Some(image))
    }

    /// What the conductor wanted to be remembered.
    pub(super) fn remembered(&self) -> Option<String> {
        self.memory.read()
    }

    pub(super) fn remember(&self, text: &str) -> Result<(), JsValue> {
        self.memory.write(text)
    }

    /// Lets the files go, for the tab that took them.
    pub(super) fn close(&self) {
        self.memory.copies.iter().for_each(FileSystemSyncAccessHandle::close);
    }
}

/// A text in two files, written in turn, so that one is whole whenever the page ends.
///
/// ```text
/// CRC-32C of the rest (4) | number of the write (8) | text
/// ```
struct Memory {
    copies: [FileSystemSyncAccessHandle; 2],
}

impl Memory {
    async fn open(site: &Folder) -> Result<Memory, JsValue> {
        let gone = || JsValue::from_str("a file vanished while it was created");
        let first = site.open("memory-0", true).await?.ok_or_else(gone)?;
        let second = site.open("memory-1", true).await?.ok_or_else(gone)?;
        Ok(Memory { copies: [first, second] })
    }

    fn read(&self) -> Option<String> {
        self.newest().map(|(_, text)| text)
    }

    fn newest(&self) -> Option<(u64, String)> {
        self.copies.iter().filter_map(|copy| whole(copy).ok()?).max_by_key(|(number, _)| *number)
    }

    fn write(&self, text: &str) -> Result<(), JsValue> {
        let number = self.newest().map_or(0, |(number, _)| number + 1);
        let mut tail = number.to_le_bytes().to_vec();
        tail.extend_from_slice(text.as_bytes());
        let mut bytes = crc32c::crc32c(&tail).to_le_bytes().to_vec();
        bytes.extend_from_slice(&tail);
        let copy = &self.copies[usize::from(number % 2 == 1)];
        copy.truncate_with_u32(0)?;
        copy.write_with_u8_array_and_options(&bytes, &start())?;
        copy.flush()
    }
}

/// Number and text of a copy that was written to its end.
fn whole(copy: &FileSystemSyncAccessHandle) -> Result<Option<(u64, String)>, JsValue> {
    let mut bytes = vec![0; copy.get_size()? as usize];
    copy.read_with_u8_array_and_options(&mut bytes, &start())?;
    let parse = || {
        let (sum, tail) = bytes.split_first_chunk::<4>()?;
        let (number, text) = tail.split_first_chunk::<8>()?;
        let intact = crc32c::crc32c(tail) == u32::from_le_bytes(*sum);
        let text = String::from_utf8(text.to_vec()).ok()?;
        intact.then(|| (u64::from_le_bytes(*number), text))
    };
    Ok(parse())
}

/// From the first byte on, wherever the handle was before.
fn start() -> FileSystemReadWriteOptions {
    let options = FileSystemReadWriteOptions::new();
    options.set_at(0.0);
    options
}
