//! Writing a file front to back, in two passes over the same entries.
//!
//! The first pages of a file say where its root is and how many pages there are, so nothing can be
//! written before everything is known. A first writer therefore only *measures*: it lays the pages
//! out and keeps none. A second one is told the [`Layout`] and hands out the bytes, the same
//! entries in the same order given. Both hold a page per level of the tree, whatever the size of
//! the file.

use crate::format::{BUCKET, BUCKET_HEADER_BYTES, Meta, PAGE_BYTES};
use crate::tree::{Pages, Tree};

/// The transaction numbers of the two meta pages; any two neighbours would do.
const TRANSACTIONS: [u64; 2] = [2, 1];
/// Longest key and longest value of bbolt, in bytes.
const LONGEST_KEY: usize = 32_768;
const LONGEST_VALUE: usize = (1 << 31) - 2;

/// What a measuring writer found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    root: u64,
    pages: u64,
}

impl Layout {
    /// The length of the file, in bytes.
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}

/// What is wrong with the entries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error("{0} come in the order of their names, each once")]
    Order(&'static str),
    #[error("a key of {0} bytes: it must have 1 to {LONGEST_KEY}")]
    Key(usize),
    #[error("a value of {0} bytes: it may have {LONGEST_VALUE}")]
    Value(usize),
    #[error("an entry that is in no bucket")]
    NoBucket,
    #[error("the content is not what was measured")]
    Changed,
}

/// Writes a file, or measures it. Buckets come in the order of their names, entries in the order
/// of their keys.
pub struct Writer {
    /// What was measured; `None` while measuring.
    layout: Option<Layout>,
    pages: Pages,
    /// The tree of buckets.
    root: Tree,
    /// The open bucket: its name, the last key, and its tree, which is reused.
    bucket: Option<Vec<u8>>,
    last_bucket: Vec<u8>,
    last_key: Vec<u8>,
    tree: Tree,
}

impl Writer {
    /// A writer that only finds out the layout.
    pub fn measuring() -> Writer {
        Writer::new(None, Pages { next: 2, out: None })
    }

    /// A writer of the file with this layout.
    pub fn writing(layout: Layout) -> Writer {
        let mut out = Vec::new();
        for (id, transaction) in (0_u64..).zip(TRANSACTIONS) {
            let high_water = layout.pages;
            let page_size = PAGE_BYTES as u32;
            let meta = Meta { page_size, root: layout.root, high_water, transaction };
            let end = out.len() + PAGE_BYTES;
            out.extend_from_slice(&meta.page(id));
            out.resize(end, 0);
        }
        Writer::new(Some(layout), Pages { next: 2, out: Some(out) })
    }

    fn new(layout: Option<Layout>, pages: Pages) -> Writer {
        Writer {
            layout,
            pages,
            root: Tree::default(),
            bucket: None,
            last_bucket: Vec::new(),
            last_key: Vec::new(),
            tree: Tree::default(),
        }
    }

    /// Begins the bucket `name`; ends the one before.
    pub fn bucket(&mut self, name: &[u8]) -> Result<(), WriteError> {
        self.end_bucket();
        if name <= self.last_bucket.as_slice() {
            return Err(WriteError::Order("buckets"));
        }
        if name.len() > LONGEST_KEY {
            return Err(WriteError::Key(name.len()));
        }
        self.last_bucket = name.to_vec();
        self.bucket = Some(name.to_vec());
        self.last_key.clear();
        Ok(())
    }

    /// Adds an entry to the open bucket.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
        if self.bucket.is_none() {
            return Err(WriteError::NoBucket);
        }
        if key.is_empty() || key.len() > LONGEST_KEY {
            return Err(WriteError::Key(key.len()));
        }
        if value.len() > LONGEST_VALUE {
            return Err(WriteError::Value(value.len()));
        }
        if key <= self.last_key.as_slice() {
            return Err(WriteError::Order("keys"));
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.tree.put(0, key, value, &mut self.pages);
        Ok(())
    }

    fn end_bucket(&mut self) {
        let Some(name) = self.bucket.take() else { return };
        let value = self.tree.inline().unwrap_or_else(|| {
            let root = self.tree.finish(&mut self.pages);
            let mut value = vec![0; BUCKET_HEADER_BYTES];
            value[..8].copy_from_slice(&root.to_le_bytes());
            value
        });
        self.root.put(BUCKET, &name, &value, &mut self.pages);
    }

    /// The bytes of the file that are ready and were not taken yet.
    pub fn take(&mut self) -> Vec<u8> {
        self.pages.out.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many bytes [`Writer::take`] would give.
    pub fn ready(&self) -> usize {
        self.pages.out.as_ref().map_or(0, Vec::len)
    }

    /// Ends the last bucket and the file. Take what is ready once more.
    ///
    /// Fails if the layout is not the one that was measured: then the file is of no use.
    pub fn finish(&mut self) -> Result<Layout, WriteError> {
        self.end_bucket();
        let root = self.root.finish(&mut self.pages);
        let layout = Layout { root, pages: self.pages.next };
        match self.layout {
            Some(measured) if measured != layout => Err(WriteError::Changed),
            _ => Ok(layout),
        }
    }
}
