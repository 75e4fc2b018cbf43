//! What a host hands to the core: files, transport, clock, runtime, randomness.
//!
//! The core has no platform in it. Each host (native server, browser worker, simulator) implements
//! these small traits; the code above them is the same everywhere.

mod disk;
mod faulty_disk;
mod memory_disk;

pub use disk::{Disk, File};
pub use faulty_disk::{Fault, FaultyDisk, SplitMix64};
pub use memory_disk::MemoryDisk;

mod host;
pub use host::{
    Claims, Passwords, PeerTarget, Platform, TokenSigner, Transport, TransportError, Worker,
};

pub mod step;

mod url;
pub use url::{PeerUrl, parse_peer_url};
