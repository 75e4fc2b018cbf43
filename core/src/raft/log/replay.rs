//! Reading the log back from its records.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::Index;
use super::record::{Change, LogBase};
use crate::error::Fatal;
use crate::platform::Disk;
use crate::wal::{Kind, Recovered, Wal, WalOptions};

/// What the records read so far add up to.
#[derive(Default)]
pub(super) struct Replay {
    pub(super) base: LogBase,
    pub(super) index: Index,
    /// The highest entry in each segment.
    pub(super) highest: BTreeMap<u64, u64>,
    started: bool,
}

/// Opens the WAL on `disk` and replays it.
pub(super) fn open(disk: Arc<dyn Disk>, options: WalOptions) -> Result<(Wal, Replay), Fatal> {
    let mut replay = Replay::default();
    let empty = replay.base.encode();
    let wal = Wal::open(disk, options, &empty, &mut |record| replay.take(record))?;
    match replay.index.hole() {
        Some(entry) => Err(wal.segments().begin_too_late(entry)),
        None => Ok((wal, replay)),
    }
}

impl Replay {
    fn take(&mut self, record: Recovered<'_>) -> Result<(), String> {
        if record.kind == Kind::Start {
            return self.start(record.payload);
        }
        let change = Change::decode(record.kind, record.payload).map_err(|e| e.to_string())?;
        let Some(change) = change else { return Ok(()) };
        if let Change::Appended(id) = change {
            let highest = self.highest.entry(record.position.segment).or_default();
            *highest = id.index.max(*highest);
        }
        self.index.replay(&change, record.position)?;
        self.base.apply(&change);
        Ok(())
    }

    /// A segment begins: the first that is left gives the state, later ones must confirm it.
    fn start(&mut self, payload: &[u8]) -> Result<(), String> {
        let base = LogBase::decode(payload).map_err(|e| e.to_string())?;
        if self.started && base != self.base {
            return Err("the segment's state is not that of the segments before it".to_owned());
        }
        if !self.started {
            self.base = base;
            self.index = Index::without_entries(base.purged, base.last);
            self.started = true;
        }
        Ok(())
    }
}
