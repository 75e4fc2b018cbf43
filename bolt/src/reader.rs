//! Reading a file that may be anything: truncated, damaged, made to hurt.
//!
//! Every number read from the file is compared with the file's own bounds before it is used: page
//! numbers with the high water, lengths with the page, keys with their order. A walk visits no page
//! twice (so it ends, whatever the pages point at), holds one page per level, and goes no deeper
//! than [`DEEPEST`] levels. What is wrong is said with the page and its offset in the file.

use std::io;

use bytes::Bytes;

use crate::format::{
    BRANCH, BUCKET, BUCKET_HEADER_BYTES, ELEMENT_BYTES, LEAF, Meta, PAGE_HEADER_BYTES, u16_at,
    u32_at, u64_at,
};

/// Levels of a tree. With two children each, forty would hold more pages than a disk.
const DEEPEST: usize = 64;
/// The largest node that is read into memory, in bytes. A leaf holds a value of any size, but etcd
/// takes none of more than some megabytes; a branch holds keys only.
const LARGEST_LEAF: u64 = 1 << 28;
const LARGEST_BRANCH: u64 = 1 << 24;
/// Buckets of a file; etcd has ten.
const MOST_BUCKETS: usize = 1024;
/// What bbolt reads to find a meta page: a shorter file is none to it.
const SMALLEST_FILE: u64 = 4096;
/// Where the second meta page may be if the first is damaged: pages are of 512 bytes to 64 KiB.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 9..=16;

/// A file, or what acts as one.
pub trait ReadAt {
    /// Fills `buffer` from `offset` on.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

impl ReadAt for Bytes {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).ok();
        let part = start.and_then(|start| self.get(start..)?.get(..buffer.len()));
        let part = part.ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(part);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(Bytes::len(self) as u64)
    }
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// bbolt's words.
    #[error("file size too small")]
    TooSmall,
    /// bbolt's words: no valid meta page.
    #[error("invalid database")]
    Invalid,
    #[error("page {page} at offset {offset} is damaged: {detail}")]
    Damaged { page: u64, offset: u64, detail: String },
    #[error("reading page {page} at offset {offset}: {source}")]
    Io { page: u64, offset: u64, source: io::Error },
}

/// A file, as of its newest valid meta page.
pub struct Database<R> {
    file: R,
    meta: Meta,
    buckets: Vec<Bucket>,
    /// The pages of the tree of buckets.
    seen: Seen,
}

/// A bucket of a file.
#[derive(Clone, Debug)]
pub struct Bucket {
    name: Bytes,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Page(u64),
    /// An inlined leaf, and the page that it stands in.
    Inline(Bytes, u64),
}

impl Bucket {
    pub fn name(&self) -> &[u8] {
        &self.name
    }
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Bytes,
    pub value: Bytes,
}

/// The pages that were visited, one bit each.
#[derive(Clone, Debug, Default)]
pub struct Seen(Vec<u64>);

impl Seen {
    /// Notes a page; `false` if it was noted before.
    fn add(&mut self, page: u64) -> bool {
        let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let first = self.0[word] & bit == 0;
        self.0[word] |= bit;
        first
    }
}

impl<R: ReadAt> Database<R> {
    /// Opens a file: reads its meta pages and the names of its buckets.
    pub fn open(file: R) -> Result<Database<R>, ReadError> {
        let length = file.len().map_err(|source| ReadError::Io { page: 0, offset: 0, source })?;
        let meta = newest_meta(&file, length)?;
        let (page_size, high_water) = (u64::from(meta.page_size), meta.high_water);
        if high_water.checked_mul(page_size).is_none_or(|end| end > length) {
            let detail =
                format!("the file has {length} bytes, of {high_water} pages of {page_size} each");
            return Err(ReadError::Damaged { page: 0, offset: 0, detail });
        }
        let mut database = Database { file, meta, buckets: Vec::new(), seen: Seen::default() };
        let mut buckets = Vec::new();
        let mut names = Cursor::new(&database, &Content::Page(meta.root), BUCKET, Seen::default())?;
        while let Some((page, entry)) = names.next_entry()? {
            if buckets.len() == MOST_BUCKETS {
                return Err(database.damaged(page, format!("more than {MOST_BUCKETS} buckets")));
            }
            buckets.push(database.bucket_of(page, entry)?);
        }
        database.seen = names.into_seen();
        database.buckets = buckets;
        Ok(database)
    }

    /// The bucket that an entry of the root describes.
    fn bucket_of(&self, page: u64, entry: Entry) -> Result<Bucket, ReadError> {
        let Entry { key: name, value } = entry;
        if value.len() < BUCKET_HEADER_BYTES {
            let detail = format!("the bucket {} has no header", name.escape_ascii());
            return Err(self.damaged(page, detail));
        }
        let content = match u64_at(&value, 0) {
            0 => Content::Inline(value.slice(BUCKET_HEADER_BYTES..), page),
            root => Content::Page(root),
        };
        Ok(Bucket { name, content })
    }

    /// The buckets, by name.
    pub fn buckets(&self) -> &[Bucket] {
        &self.buckets
    }

    /// Length of the part of the file that counts, in bytes.
    pub fn size(&self) -> u64 {
        self.meta.high_water * u64::from(self.meta.page_size)
    }

    /// The entries of a bucket, by key.
    pub fn entries<'a>(&'a self, bucket: &Bucket) -> Result<Cursor<'a, R>, ReadError> {
        self.entries_unseen(bucket, Seen::default())
    }

    /// The same, where the pages in `seen` belong to other buckets and must not be met.
    pub fn entries_unseen<'a>(
        &'a self,
        bucket: &Bucket,
        seen: Seen,
    ) -> Result<Cursor<'a, R>, ReadError> {
        Cursor::new(self, &bucket.content, 0, seen)
    }

    /// The pages of the tree of buckets, to begin [`Database::entries_unseen`] with.
    pub fn seen(&self) -> Seen {
        self.seen.clone()
    }

    /// Reads the node that begins at `page`, overflow and all.
    fn node(&self, page: u64) -> Result<Node, ReadError> {
        let page_size = u64::from(self.meta.page_size);
        if !(2..self.meta.high_water).contains(&page) {
            let detail = format!("there is no such page among {}", self.meta.high_water);
            return Err(self.damaged(page, detail));
        }
        let offset = page * page_size;
        let failed = |source| ReadError::Io { page, offset, source };
        let mut bytes = vec![0; self.meta.page_size as usize];
        self.file.read_exact_at(offset, &mut bytes).map_err(failed)?;
        let (id, overflow) = (u64_at(&bytes, 0), u64::from(u32_at(&bytes, 12)));
        if id != page {
            return Err(self.damaged(page, format!("it says that it is page {id}")));
        }
        let flags = u16_at(&bytes, 8);
        let largest = if flags == BRANCH { LARGEST_BRANCH } else { LARGEST_LEAF };
        let length = (overflow + 1) * page_size;
        if overflow >= self.meta.high_water - page || length > largest {
            return Err(self.damaged(page, format!("it runs on for {overflow} pages")));
        }
        if overflow > 0 {
            bytes.resize(length as usize, 0);
            let rest = &mut bytes[page_size as usize..];
            self.file.read_exact_at(offset + page_size, rest).map_err(failed)?;
        }
        Node::new(bytes.into(), page).map_err(|detail| self.damaged(page, detail))
    }

    fn damaged(&self, page: u64, detail: String) -> ReadError {
        let offset = page.saturating_mul(u64::from(self.meta.page_size));
        ReadError::Damaged { page, offset, detail }
    }
}

/// The valid meta page with the higher transaction.
fn newest_meta<R: ReadAt>(file: &R, length: u64) -> Result<Meta, ReadError> {
    if length < SMALLEST_FILE {
        return Err(ReadError::Invalid);
    }
    let read = |page, offset: u64| {
        let mut header = [0; Meta::BYTES];
        if offset + header.len() as u64 > length {
            return Ok(None);
        }
        let read = file.read_exact_at(offset, &mut header);
        read.map_err(|source| ReadError::Io { page, offset, source })?;
        Ok(Meta::parse(&header))
    };
    let first = read(0, 0)?;
    let second = match first {
        Some(first) if length < 2 * u64::from(first.page_size) => {
            return Err(ReadError::TooSmall);
        }
        Some(first) => read(1, u64::from(first.page_size))?,
        None => {
            let mut found = None;
            for shift in PAGE_SIZES {
                let size = 1 << shift;
                found = found.or(read(1, size)?.filter(|meta| u64::from(meta.page_size) == size));
            }
            found
        }
    };
    let newest = [first, second].into_iter().flatten().max_by_key(|meta| meta.transaction);
    newest.ok_or(ReadError::Invalid)
}

/// A page with its overflow, in memory.
struct Node {
    bytes: Bytes,
    page: u64,
    is_branch: bool,
    count: usize,
    next: usize,
}

impl Node {
    fn new(bytes: Bytes, page: u64) -> Result<Node, String> {
        if bytes.len() < PAGE_HEADER_BYTES {
            return Err("it has no header".to_owned());
        }
        let (flags, count) = (u16_at(&bytes, 8), usize::from(u16_at(&bytes, 10)));
        if flags != BRANCH && flags != LEAF {
            return Err(format!("its flags are {flags:#x}, neither branch nor leaf"));
        }
        if PAGE_HEADER_BYTES + count * ELEMENT_BYTES > bytes.len() {
            return Err(format!("it has no room for {count} elements"));
        }
        Ok(Node { bytes, page, is_branch: flags == BRANCH, count, next: 0 })
    }

    /// The position of the next element; `None` behind the last.
    fn next_element(&mut self) -> Option<usize> {
        let at = PAGE_HEADER_BYTES + self.next * ELEMENT_BYTES;
        self.next += 1;
        (self.next <= self.count).then_some(at)
    }

    /// The child of the branch element at `at`.
    fn child(&self, at: usize) -> u64 {
        u64_at(&self.bytes, at + 8)
    }

    /// Flags and entry of the leaf element at `at`.
    fn entry(&self, at: usize) -> Result<(u32, Entry), String> {
        let number = |field: usize| u64::from(u32_at(&self.bytes, at + 4 * field));
        let key = at as u64 + number(1);
        let value = key + number(2);
        let end = value + number(3);
        if end > self.bytes.len() as u64 {
            return Err(format!("element {} reaches behind its end", self.next - 1));
        }
        let part = |from: u64, to: u64| self.bytes.slice(from as usize..to as usize);
        let entry = Entry { key: part(key, value), value: part(value, end) };
        Ok((u32_at(&self.bytes, at), entry))
    }
}

/// A walk over the entries of one tree.
pub struct Cursor<'a, R> {
    database: &'a Database<R>,
    /// The flags that the entries of this tree have.
    flags: u32,
    path: Vec<Node>,
    last: Option<Bytes>,
    seen: Seen,
}

impl<'a, R: ReadAt> Cursor<'a, R> {
    fn new(
        database: &'a Database<R>,
        content: &Content,
        flags: u32,
        seen: Seen,
    ) -> Result<Cursor<'a, R>, ReadError> {
        let mut cursor = Cursor { database, flags, path: Vec::new(), last: None, seen };
        match content {
            Content::Page(page) => cursor.descend(*page)?,
            Content::Inline(bytes, page) => {
                let node = Node::new(bytes.clone(), *page);
                let node = node.map_err(|detail| database.damaged(*page, detail))?;
                if node.is_branch {
                    let detail = "a branch stands in an inlined bucket".to_owned();
                    return Err(database.damaged(*page, detail));
                }
                cursor.path.push(node);
            }
        }
        Ok(cursor)
    }

    fn descend(&mut self, page: u64) -> Result<(), ReadError> {
        if self.path.len() == DEEPEST {
            return Err(self.database.damaged(page, format!("it is {DEEPEST} levels deep")));
        }
        let node = self.database.node(page)?;
        let pages = node.bytes.len() as u64 / u64::from(self.database.meta.page_size);
        if !(page..page + pages).all(|page| self.seen.add(page)) {
            return Err(self.database.damaged(page, "two others lead to it".to_owned()));
        }
        self.path.push(node);
        Ok(())
    }

    /// The next entry; `None` behind the last. After an error the walk is over.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Entry>, ReadError> {
        Ok(self.next_entry()?.map(|(_, entry)| entry))
    }

    /// The next entry and its page.
    fn next_entry(&mut self) -> Result<Option<(u64, Entry)>, ReadError> {
        while let Some(node) = self.path.last_mut() {
            let Some(at) = node.next_element() else {
                self.path.pop();
                continue;
            };
            if node.is_branch {
                let child = node.child(at);
                self.descend(child)?;
                continue;
            }
            let page = node.page;
            let database = self.database;
            let damaged = |detail| database.damaged(page, detail);
            let (flags, entry) = node.entry(at).map_err(damaged)?;
            if flags != self.flags {
                return Err(damaged(format!("an entry has the flags {flags:#x}")));
            }
            if self.last.as_ref().is_some_and(|last| *last >= entry.key) {
                return Err(damaged("its keys are out of order".to_owned()));
            }
            self.last = Some(entry.key.clone());
            return Ok(Some((page, entry)));
        }
        Ok(None)
    }

    /// The pages visited so far.
    pub fn into_seen(self) -> Seen {
        self.seen
    }
}
