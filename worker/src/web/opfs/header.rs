//! The page before the data of a pooled file: whose data it is, or that it is nobody's.
//!
//! ```text
//! magic (8) | CRC-32C of the rest (4) | length of the name (4) | name
//! ```
//!
//! A header that does not check out is that of a free file: of one that was never used, or that was
//! being given a name when the power went, so that its creation was never confirmed.

/// Data begins here: a page, so that the data's own pages stay aligned.
pub(super) const HEADER_BYTES: usize = 4096;

const MAGIC: &[u8; 8] = b"coracle1";
const FIXED_BYTES: usize = 16;

/// The longest name that fits.
pub(super) const NAME_BYTES_MAX: usize = HEADER_BYTES - FIXED_BYTES;

/// The header of a file with this name.
pub(super) fn encode(name: &str) -> Vec<u8> {
    let mut tail = u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes().to_vec();
    tail.extend_from_slice(name.as_bytes());
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&crc32c::crc32c(&tail).to_le_bytes());
    header.extend_from_slice(&tail);
    header
}

/// The name in a header; `None` is a free file.
pub(super) fn decode(header: &[u8]) -> Option<String> {
    let tail = header.strip_prefix(MAGIC)?;
    let (sum, tail) = tail.split_first_chunk::<4>()?;
    let (length, rest) = tail.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let name = rest.get(..length)?;
    let intact = crc32c::crc32c(&tail[..4 + length]) == u32::from_le_bytes(*sum);
    if intact { String::from_utf8(name.to_vec()).ok() } else { None }
}

/// Name and data of a whole pooled file.
pub(in crate::web) fn split(file: &[u8]) -> Option<(String, &[u8])> {
    let name = decode(&file[..file.len().min(HEADER_BYTES)])?;
    Some((name, file.get(HEADER_BYTES..).unwrap_or_default()))
}
