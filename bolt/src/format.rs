//! The numbers of the format, and the meta page.

/// The size of the pages that are written here; etcd's on machines whose pages are of 4 KiB.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Before the elements of a page: id, flags, count, overflow.
pub(crate) const PAGE_HEADER_BYTES: usize = 16;
/// An element of a leaf or of a branch, without its key and value.
pub(crate) const ELEMENT_BYTES: usize = 16;
/// Before an inlined page in the value of a bucket's entry: root page and sequence.
pub(crate) const BUCKET_HEADER_BYTES: usize = 16;
/// A bucket whose only leaf is not larger than this is inlined.
pub(crate) const LARGEST_INLINE_BYTES: usize = PAGE_BYTES / 4;

/// Flags of pages.
pub(crate) const BRANCH: u16 = 0x01;
pub(crate) const LEAF: u16 = 0x02;
pub(crate) const META: u16 = 0x04;
/// Flag of a leaf's element whose value is a bucket.
pub(crate) const BUCKET: u32 = 0x01;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
/// The page number of a freelist that was not written.
const NO_FREELIST: u64 = u64::MAX;
/// The meta's fields with the checksum, which covers all before itself.
const META_BYTES: usize = 64;
const CHECKSUM_AT: usize = 56;

/// What a meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) page_size: u32,
    /// The page of the tree of buckets.
    pub(crate) root: u64,
    /// The first page number that was never used.
    pub(crate) high_water: u64,
    pub(crate) transaction: u64,
}

impl Meta {
    /// Bytes of the page that count.
    pub(crate) const BYTES: usize = PAGE_HEADER_BYTES + META_BYTES;

    /// A meta page, page header included, with the page number `id`.
    pub(crate) fn page(&self, id: u64) -> [u8; Meta::BYTES] {
        let mut page = [0; Meta::BYTES];
        page[..PAGE_HEADER_BYTES].copy_from_slice(&page_header(id, META, 0, 0));
        let meta = &mut page[PAGE_HEADER_BYTES..];
        meta[..4].copy_from_slice(&MAGIC.to_le_bytes());
        meta[4..8].copy_from_slice(&VERSION.to_le_bytes());
        meta[8..12].copy_from_slice(&self.page_size.to_le_bytes());
        // 12..16: flags, always 0; 24..32: the root's sequence, never used.
        meta[16..24].copy_from_slice(&self.root.to_le_bytes());
        meta[32..40].copy_from_slice(&NO_FREELIST.to_le_bytes());
        meta[40..48].copy_from_slice(&self.high_water.to_le_bytes());
        meta[48..CHECKSUM_AT].copy_from_slice(&self.transaction.to_le_bytes());
        let checksum = fnv1a(&meta[..CHECKSUM_AT]);
        meta[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        page
    }

    /// Reads a meta page; nothing if it is none, or damaged.
    pub(crate) fn parse(page: &[u8]) -> Option<Meta> {
        let meta = page.get(PAGE_HEADER_BYTES..Meta::BYTES)?;
        let page_size = u32_at(meta, 8);
        let valid = u32_at(meta, 0) == MAGIC
            && u32_at(meta, 4) == VERSION
            && u64_at(meta, CHECKSUM_AT) == fnv1a(&meta[..CHECKSUM_AT])
            && page_size.is_power_of_two()
            && (512..=1 << 16).contains(&page_size);
        valid.then(|| Meta {
            page_size,
            root: u64_at(meta, 16),
            high_water: u64_at(meta, 40),
            transaction: u64_at(meta, 48),
        })
    }
}

/// The header of a page.
pub(crate) fn page_header(
    id: u64,
    flags: u16,
    count: u16,
    overflow: u32,
) -> [u8; PAGE_HEADER_BYTES] {
    let mut header = [0; PAGE_HEADER_BYTES];
    header[..8].copy_from_slice(&id.to_le_bytes());
    header[8..10].copy_from_slice(&flags.to_le_bytes());
    header[10..12].copy_from_slice(&count.to_le_bytes());
    header[12..].copy_from_slice(&overflow.to_le_bytes());
    header
}

/// The number at `at`, which must lie inside.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The number at `at`, which must lie inside.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The number at `at`, which must lie inside.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The 64-bit FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
