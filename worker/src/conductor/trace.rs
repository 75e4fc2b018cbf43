//! The trace of a run: its hash over everything, and the latest records for the page.

use std::collections::VecDeque;

use sha2::{Digest, Sha256};

use crate::protocol::{Record, What};

/// Records kept for the next frame: nobody reads more in a sixtieth of a second, and handing them
/// over costs more than a fast run itself.
const KEPT: usize = 500;

/// All that happened, as a hash; and what happened since the last frame.
#[derive(Default)]
pub(super) struct Trace {
    hash: Sha256,
    /// What the visitor did and what must not happen, when `fresh` has no room for it any more.
    notable: VecDeque<Record>,
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
        self.fresh.push_back(record);
        if self.fresh.len() <= KEPT {
            return;
        }
        let oldest = self.fresh.pop_front();
        let is_notable = |record: &Record| {
            matches!(record.what, What::Acted(_) | What::Failed(_) | What::Violation(_))
        };
        match oldest.filter(is_notable) {
            Some(record) if self.notable.len() < KEPT => self.notable.push_back(record),
            _ => self.omitted += 1,
        }
    }

    /// The hash of all records so far, in hex.
    pub(super) fn hash(&self) -> String {
        let digest = self.hash.clone().finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The records since the last call, oldest first, and how many are left out before them.
    pub(super) fn take(&mut self) -> (Vec<Record>, u64) {
        let records = self.notable.drain(..).chain(self.fresh.drain(..)).collect();
        (records, std::mem::take(&mut self.omitted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Action, Loss};

    #[test]
    fn what_the_visitor_did_is_never_left_out() {
        let mut trace = Trace::default();
        let lost = |id| Record { at: id, node: 1, what: What::Lost { id, to: 2, why: Loss::Cut } };
        trace.push(lost(0));
        let crash = Record { at: 1, node: 0, what: What::Acted(Action::Crash(1)) };
        trace.push(crash.clone());
        (2..2 + KEPT as u64).map(lost).for_each(|record| trace.push(record));
        let (records, omitted) = trace.take();
        assert_eq!((records.len(), omitted), (KEPT + 1, 1));
        assert_eq!(records[..2], [crash, lost(2)]);
        assert_eq!(trace.take(), (Vec::new(), 0));
    }
}
