//! A node's worker: steps the node whenever the conductor says so, and nothing else.

use std::cell::RefCell;
use std::sync::Arc;

use coracle_core::platform::{Disk, MemoryDisk};
use wasm_bindgen_futures::spawn_local;

use super::opfs::OpfsDisk;
use super::scope;
use super::wire::{self, Boot, FromNode, ToNode};
use crate::conductor::DiskImage;
use crate::node::NodeProcess;
use crate::protocol::StepInput;

thread_local! {
    static PROCESS: RefCell<Option<NodeProcess>> = const { RefCell::new(None) };
    /// Apart from the process: what a disk in memory holds is asked for even after a panic.
    static DISK: RefCell<Option<Storage>> = const { RefCell::new(None) };
}

#[derive(Clone)]
enum Storage {
    Memory(MemoryDisk),
    Browser(OpfsDisk),
}

impl Storage {
    fn disk(&self) -> Arc<dyn Disk> {
        match self {
            Storage::Memory(disk) => Arc::new(disk.clone()),
            Storage::Browser(disk) => Arc::new(disk.clone()),
        }
    }
}

pub(super) fn main() {
    scope::on_panic(|panic| scope::post(&FromNode::Died(format!("it panicked: {panic}"))));
    scope::listen(|message| match wire::read(&message) {
        Ok(ToNode::Boot(boot)) => spawn_local(async {
            match start(boot).await {
                Ok(()) => scope::post(&FromNode::Ready),
                Err(reason) => scope::post(&FromNode::Died(reason)),
            }
        }),
        Ok(ToNode::Step(input)) => step(input),
        Ok(ToNode::Image) => scope::post(&match image() {
            Ok(image) => FromNode::Image(image),
            Err(reason) => FromNode::Died(reason),
        }),
        Err(reason) => scope::post(&FromNode::Died(reason)),
    });
}

/// Opens the disk, and makes a process on it that has yet to be started.
async fn start(boot: Boot) -> Result<(), String> {
    let storage = match &boot.folder {
        None => Storage::Memory(MemoryDisk::default()),
        Some(folder) => Storage::Browser(OpfsDisk::open(folder).await?),
    };
    let disk = storage.disk();
    if let Some(image) = &boot.image {
        fill(&*disk, image).map_err(|error| format!("its disk cannot be written: {error}"))?;
    }
    PROCESS.set(Some(NodeProcess::new(disk)));
    DISK.set(Some(storage));
    Ok(())
}

fn step(input: StepInput) {
    let output = PROCESS.with_borrow_mut(|process| process.as_mut().map(|node| node.step(input)));
    let message = match output {
        Some(output) => FromNode::Stepped(output),
        None => FromNode::Died("it was to take a step before it had a disk".to_owned()),
    };
    let short = DISK.with_borrow(|storage| match storage {
        Some(Storage::Browser(disk)) if disk.is_short() => Some(disk.clone()),
        _ => None,
    });
    match short {
        None => scope::post(&message),
        // The next step begins with files in reserve, or it fails as on a full disk.
        Some(disk) => spawn_local(async move {
            let _ = disk.refill().await;
            scope::post(&message);
        }),
    }
}

/// Makes the disk hold exactly what the image says.
fn fill(disk: &dyn Disk, image: &DiskImage) -> std::io::Result<()> {
    for name in disk.list()? {
        disk.remove(&name)?;
    }
    for (name, bytes) in image.iter() {
        let file = disk.open(name, true)?;
        file.write_at(0, bytes)?;
        file.sync()?;
    }
    Ok(())
}

fn image() -> Result<DiskImage, String> {
    let storage = DISK.with_borrow(|storage| storage.clone());
    let disk = storage.ok_or("it has no disk yet")?.disk();
    let read = || -> std::io::Result<DiskImage> {
        let mut image = DiskImage::new();
        for name in disk.list()? {
            let file = disk.open(&name, false)?;
            let length = usize::try_from(file.len()?).map_err(std::io::Error::other)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(0, &mut bytes)?;
            image.insert(name, bytes);
        }
        Ok(image)
    };
    read().map_err(|error| format!("its disk cannot be read: {error}"))
}
