//! [`Disk`] and [`File`] over the pool of this worker.

use std::io;
use std::sync::Arc;

use coracle_core::platform::{Disk, File};
use wasm_bindgen::JsValue;

use super::super::scope;
use super::pool::{self, Place};

/// The disk of the node in this worker.
#[derive(Clone)]
pub(in crate::web) struct OpfsDisk(());

impl OpfsDisk {
    /// Opens the disk in this folder of the site's; there is one in a worker.
    pub(in crate::web) async fn open(folder: &str) -> Result<OpfsDisk, String> {
        match pool::open(folder).await {
            Ok(()) => Ok(OpfsDisk(())),
            Err(error) => Err(format!("its disk does not open: {}", scope::text(&error))),
        }
    }

    /// Whether few files are left that can be created.
    pub(in crate::web) fn is_short(&self) -> bool {
        pool::is_short()
    }

    /// Makes room for more files.
    pub(in crate::web) async fn refill(&self) -> Result<(), JsValue> {
        pool::refill().await
    }
}

impl Disk for OpfsDisk {
    fn open(&self, name: &str, create: bool) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(OpfsFile(pool::find(name, create)?)))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        pool::names()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        pool::remove(name)
    }
}

/// An open file; its place is not given to another while this lives.
struct OpfsFile(Arc<Place>);

impl File for OpfsFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        pool::at(&self.0, |data| data.read_at(offset, buffer))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        pool::at(&self.0, |file| file.write_at(offset, data))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        pool::at(&self.0, |data| data.set_len(length))
    }

    fn len(&self) -> io::Result<u64> {
        pool::at(&self.0, |data| data.len())
    }

    fn sync(&self) -> io::Result<()> {
        pool::at(&self.0, |data| data.sync())
    }
}
