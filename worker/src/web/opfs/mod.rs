//! A disk in the browser's own file system (OPFS), whose files survive a reload of the page.
//!
//! A node opens, creates and removes files between two instructions; OPFS does all three
//! asynchronously, and only reads and writes of an open *access handle* at once. So the handles of
//! a pool of files are opened before the node starts, and a name is given to one when a file is
//! created. More are opened between two steps of the node when few are free.
//!
//! ```text
//! coracle/                 the site's folder
//!   node-1/                a node's disk
//!     0, 1, 2, …           pooled files: one page of header, which holds the name, then the data
//! ```
//!
//! Handles belong to the worker's thread. They stay in a table of the thread, files and disk hold
//! places in it: so they may be `Send`, as [`Disk`](coracle_core::platform::Disk) wants it, though
//! a handle is not.

mod disk;
mod folder;
mod header;
mod pool;

pub(super) use disk::OpfsDisk;
pub(super) use folder::{Folder, site};
pub(super) use header::split;
