//! bbolt's file format, as far as etcd uses it: a writer that streams, and a reader that trusts
//! nothing.
//!
//! etcd keeps its state in a [bbolt](https://github.com/etcd-io/bbolt) file, and a snapshot of etcd
//! is such a file. This crate is how Coracle's state becomes one and how one becomes Coracle's
//! state. It does no I/O of its own: the writer hands out bytes, the reader is given a [`ReadAt`].
//!
//! ```text
//!   page 0   page 1   page 2 …                                       high water
//!  ┌────────┬────────┬────────┬────────┬────────┬─────────────────┬────────┐
//!  │ meta   │ meta   │ leaf   │ leaf   │ branch │ leaf, overflow  │ root   │
//!  └────────┴────────┴────────┴────────┴────────┴─────────────────┴────────┘
//!   page:   id 8 · flags 2 · count 2 · overflow 4 · elements · keys and values
//!   leaf:   flags 4 · position 4 · key length 4 · value length 4        (16 bytes an element)
//!   branch: position 4 · key length 4 · child 8                         (16 bytes an element)
//!   meta:   magic 4 · version 4 · page size 4 · flags 4 · root 8 · sequence 8 · freelist 8 ·
//!           high water 8 · transaction 8 · FNV-1a checksum of all before 8
//! ```
//!
//! Numbers are little endian; an element's position counts from the element itself. A node that is
//! larger than a page runs on into `overflow` pages behind it. The root is a tree whose keys are
//! the names of buckets; such an entry has the flag 1, and its value is the bucket's root page and
//! a sequence (8 bytes each). A bucket of little content has root 0 and its only leaf page follows
//! inside the value. Of the two meta pages the valid one of the higher transaction counts. etcd
//! writes no freelist (its page number is all ones): what no tree reaches is free.
//!
//! What the crate leaves out: writing into an existing file, buckets in buckets (etcd has none) and
//! reading a freelist, which says nothing that the trees do not.

#![forbid(unsafe_code)]

mod format;
mod reader;
mod tree;
mod writer;

pub use reader::{Bucket, Cursor, Database, Entry, ReadAt, ReadError, Seen};
pub use writer::{Layout, WriteError, Writer};

#[cfg(test)]
mod tests;
