//! A consistent view of the durable state, and its form as a stream of chunks.
//!
//! A chunk is a *frame*: payload length and CRC-32C of the payload (4 bytes each, little endian),
//! then the payload, a sequence of records: bucket (1 byte), key length and value length (4 bytes
//! each, little endian), key, value. The stream ends with an empty frame whose "length" is
//! [`END`], followed by the number of records (8 bytes): a stream that was cut short is noticed.

use std::sync::Arc;

use bytes::Bytes;

use super::database::Database;
use super::{Bucket, Contents, Entries};
use crate::error::Fatal;
use crate::limits::PEER_SNAPSHOT_CHUNK_BYTES;

/// The length field of the frame that ends a stream.
pub(super) const END: u32 = u32::MAX;
/// Length and checksum before a payload, in bytes.
pub(super) const FRAME_HEADER: usize = 8;
/// Bucket and lengths before a record's key, in bytes.
pub(super) const RECORD_HEADER: usize = 9;

/// The durable state as of one commit. Holding it keeps the file's old pages from being reused.
pub struct BackendView {
    database: Arc<Database>,
}

impl BackendView {
    pub(super) fn new(database: Arc<Database>) -> BackendView {
        BackendView { database }
    }

    /// The value at `key`.
    pub fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        self.database.get(bucket, key)
    }

    /// Everything in the view, as chunks of about
    /// [`PEER_SNAPSHOT_CHUNK_BYTES`] each (one record more at most) for a
    /// [`Restorer`](super::Restorer). The iterator owns the view.
    pub fn chunks(&self) -> Chunks {
        let view = BackendView { database: self.database.clone() };
        Chunks { view, position: Some((0, Bytes::new())), records: 0 }
    }
}

impl Contents for BackendView {
    fn get(&self, bucket: Bucket, key: &[u8]) -> Result<Option<Bytes>, Fatal> {
        BackendView::get(self, bucket, key)
    }

    fn scan(
        &self,
        bucket: Bucket,
        from: &[u8],
        limit: usize,
        bytes: usize,
    ) -> Result<Entries, Fatal> {
        self.database.scan(bucket, from, limit, bytes)
    }
}

/// The chunks of a [`BackendView`], in order. After an error it yields nothing more.
pub struct Chunks {
    view: BackendView,
    /// Number of the bucket and the key to go on from; `None` when the end was written.
    position: Option<(usize, Bytes)>,
    records: u64,
}

impl Iterator for Chunks {
    type Item = Result<Bytes, Fatal>;

    fn next(&mut self) -> Option<Self::Item> {
        let (mut bucket, mut from) = self.position.take()?;
        let mut chunk = vec![0; FRAME_HEADER];
        while chunk.len() < PEER_SNAPSHOT_CHUNK_BYTES {
            let Some(at) = Bucket::ALL.get(bucket) else {
                break;
            };
            let room = PEER_SNAPSHOT_CHUNK_BYTES - chunk.len();
            let page = match self.view.scan(*at, &from, usize::MAX, room) {
                Ok(page) => page,
                Err(fatal) => return Some(Err(fatal)),
            };
            if page.is_empty() {
                (bucket, from) = (bucket + 1, Bytes::new());
            }
            for (key, value) in page {
                if chunk.len() >= PEER_SNAPSHOT_CHUNK_BYTES {
                    break;
                }
                chunk.push(bucket as u8);
                chunk.extend((key.len() as u32).to_le_bytes());
                chunk.extend((value.len() as u32).to_le_bytes());
                chunk.extend_from_slice(&key);
                chunk.extend_from_slice(&value);
                self.records += 1;
                from = [&key, &[0][..]].concat().into();
            }
        }
        let payload = chunk.len() - FRAME_HEADER;
        if payload == 0 {
            return Some(Ok(self.end()));
        }
        self.position = Some((bucket, from));
        let checksum = crc32c::crc32c(&chunk[FRAME_HEADER..]);
        chunk[..4].copy_from_slice(&(payload as u32).to_le_bytes());
        chunk[4..FRAME_HEADER].copy_from_slice(&checksum.to_le_bytes());
        Some(Ok(chunk.into()))
    }
}

impl Chunks {
    fn end(&self) -> Bytes {
        let records = self.records.to_le_bytes();
        [&END.to_le_bytes()[..], &crc32c::crc32c(&records).to_le_bytes(), &records].concat().into()
    }
}
