//! Writing a whole new database file: from a raft snapshot, or to defragment.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::database::Database;
use super::layer::Layer;
use super::snapshot::{END, FRAME_HEADER, RECORD_HEADER};
use super::{Bucket, files};
use crate::error::Fatal;
use crate::limits::{MAX_REQUEST_BYTES, PEER_SNAPSHOT_CHUNK_BYTES};
use crate::platform::Disk;

/// Bytes collected before they are written to the new file.
const STAGE_BYTES: usize = 16 << 20;
/// redb's cache while a file is written front to back, in bytes.
const CACHE_BYTES: usize = 32 << 20;
/// No frame is longer: what claims to be is not ours.
const LONGEST_FRAME: usize = 64 * (PEER_SNAPSHOT_CHUNK_BYTES + MAX_REQUEST_BYTES);

/// Builds a new database file. Without [`Restorer::finish`] it leaves nothing behind.
pub struct Restorer {
    disk: Arc<dyn Disk>,
    /// `None` once the file is complete.
    database: Option<Database>,
    layer: Layer,
    /// Received bytes that are not a whole frame yet.
    partial: BytesMut,
    records: u64,
    ended: bool,
}

impl Restorer {
    /// A new file on a disk that nobody else makes files on: see
    /// [`Backend::restorer`](super::Backend::restorer).
    pub(crate) fn create(disk: Arc<dyn Disk>) -> Result<Restorer, Fatal> {
        let number = files::highest(&*disk)? + 1;
        let database = Some(Database::create(&*disk, number, CACHE_BYTES)?);
        let layer = Layer::default();
        Ok(Restorer { disk, database, layer, partial: BytesMut::new(), records: 0, ended: false })
    }

    /// Takes the next bytes of the stream that [`Chunks`](super::Chunks) yields, cut anywhere.
    ///
    /// Fails if they are damaged; the restorer is then of no more use.
    pub fn write_chunk(&mut self, bytes: &[u8]) -> Result<(), Fatal> {
        self.partial.extend_from_slice(bytes);
        while self.partial.len() >= FRAME_HEADER {
            let mut header = &self.partial[..FRAME_HEADER];
            let (length, checksum) = (header.get_u32_le(), header.get_u32_le());
            let end = length == END;
            let length = if end { 8 } else { length as usize };
            if self.ended || length > LONGEST_FRAME {
                return Err(damaged("it goes on after its end, or has a frame too long"));
            }
            if self.partial.len() < FRAME_HEADER + length {
                break;
            }
            self.partial.advance(FRAME_HEADER);
            let mut payload = self.partial.split_to(length).freeze();
            if crc32c::crc32c(&payload) != checksum {
                return Err(damaged("a frame fails its checksum"));
            }
            if end {
                self.ended = true;
                if payload.get_u64_le() != self.records {
                    return Err(damaged("records are missing"));
                }
            } else {
                self.records_of(payload)?;
            }
        }
        Ok(())
    }

    fn records_of(&mut self, mut payload: Bytes) -> Result<(), Fatal> {
        while !payload.is_empty() {
            if payload.len() < RECORD_HEADER {
                return Err(damaged("a record is cut short"));
            }
            let bucket = Bucket::from_number(payload.get_u8());
            let (key, value) = (payload.get_u32_le() as usize, payload.get_u32_le() as usize);
            let Some(bucket) = bucket.filter(|_| key.saturating_add(value) <= payload.len()) else {
                return Err(damaged("a record is cut short or of no known bucket"));
            };
            let (key, value) = (payload.split_to(key), payload.split_to(value));
            self.record(bucket, key, value)?;
            self.records += 1;
        }
        Ok(())
    }

    /// Adds one entry.
    pub(crate) fn record(&mut self, bucket: Bucket, key: Bytes, value: Bytes) -> Result<(), Fatal> {
        self.layer.put(bucket, key, value);
        self.stage_if_full()
    }

    /// Removes an entry that was added.
    pub(super) fn remove(&mut self, bucket: Bucket, key: Bytes) -> Result<(), Fatal> {
        self.layer.delete(bucket, key);
        self.stage_if_full()
    }

    fn stage_if_full(&mut self) -> Result<(), Fatal> {
        if self.layer.bytes() < STAGE_BYTES {
            return Ok(());
        }
        let layer = std::mem::take(&mut self.layer);
        if let Some(database) = &self.database {
            self.database = Some(database.stage(&layer)?);
        }
        Ok(())
    }

    /// Makes the file durable and lets it count. Fails if the stream has not ended.
    pub fn finish(self) -> Result<(), Fatal> {
        if !self.ended || !self.partial.is_empty() {
            return Err(damaged("it ended early"));
        }
        self.complete()
    }

    pub(crate) fn complete(mut self) -> Result<(), Fatal> {
        let Some(database) = self.database.take() else {
            return Err(Fatal::Invariant("a restorer finishes once".into()));
        };
        let number = database.number();
        // The staged commits become durable with this one.
        let committed = database.commit(&self.layer)?;
        drop(database);
        // Whoever opens the file next must have it alone, and what closing writes must be there.
        committed.close()?;
        files::mark_complete(&*self.disk, number)
    }
}

impl Drop for Restorer {
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            let name = files::name(database.number());
            drop(database);
            // An abandoned file does no harm: the next start removes what is incomplete.
            if let Err(error) = files::remove(&*self.disk, &name) {
                tracing::warn!(%error, "an abandoned database file remains until the next start");
            }
        }
    }
}

fn damaged(detail: &str) -> Fatal {
    Fatal::Backend(format!("the received snapshot is damaged: {detail}"))
}
