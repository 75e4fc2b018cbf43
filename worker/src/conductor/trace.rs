//! The trace of a run: its hash over everything, and the latest records for the page.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

use crate::protocol::Record;

/// Records kept for the next frame: nobody reads more in a sixtieth of a second, and handing them
/// over costs more than a fast run itself.
const KEPT: usize = 500;

/// All that happened, as a hash; and what happened since the last frame.
#[derive(Default)]
pub(super) struct Trace {
    hash: Sha256,
    fresh: VecDeque<Record>,
    omitted: u64,
}

impl Trace {
    /// Appends a record; the order of the calls is the trace's.
    pub(super) fn push(&mut self, record: Record) {
        // A record is plain data: it cannot fail to be encoded.
        if let Ok(bytes) = postcard::to_stdvec(&record) {
            self.hash.update((bytes.len() as u64).to_le_bytes());
            self.hash.update(&bytes);
        }
        if self.fresh.len() == KEPT {
            self.fresh.pop_front();
            self.omitted += 1;
        }
        self.fresh.push_back(record);
    }

    /// The hash of all records so far, in hex.
    pub(super) fn hash(&self) -> String {
        let digest = self.hash.clone().finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The records since the last call, oldest first, and how many are left out before them.
    pub(super) fn take(&mut self) -> (Vec<Record>, u64) {
        (self.fresh.drain(..).collect(), std::mem::take(&mut self.omitted))
    }
}
