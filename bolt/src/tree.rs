//! One B+tree, built from its sorted entries in one pass: an open page per level, no more.
//!
//! A page that is full goes out under the next page number, and its first key and number become an
//! entry of the page above. So children stand before their parents in the file, which bbolt does
//! not mind, and the whole tree never has to be in memory.

use crate::format::{
    BRANCH, BUCKET_HEADER_BYTES, ELEMENT_BYTES, LARGEST_INLINE_BYTES, LEAF, PAGE_BYTES,
    PAGE_HEADER_BYTES, page_header,
};

/// A branch of fewer would lead nowhere: with keys of half a page each level would have as many
/// pages as the one below.
const LEAST_CHILDREN: usize = 2;

/// Where finished pages go: counted always, kept unless the tree is only measured.
pub(crate) struct Pages {
    /// The number of the next page.
    pub(crate) next: u64,
    pub(crate) out: Option<Vec<u8>>,
}

impl Pages {
    /// Takes over a node; returns its page number.
    fn add(&mut self, flags: u16, node: &Node) -> u64 {
        let id = self.next;
        let bytes = node.bytes();
        let pages = bytes.div_ceil(PAGE_BYTES);
        self.next += pages as u64;
        if let Some(out) = &mut self.out {
            let end = out.len() + pages * PAGE_BYTES;
            node.write(id, flags, pages as u32 - 1, out);
            out.resize(end, 0);
        }
        id
    }
}

/// The content of a page that is being filled.
#[derive(Default)]
struct Node {
    elements: Vec<Element>,
    /// Keys and values, in the order of the elements.
    data: Vec<u8>,
}

struct Element {
    key: u32,
    /// A leaf's: length of the value, and flags. A branch's: no value, and the child.
    value: u32,
    tag: u64,
}

impl Node {
    fn bytes(&self) -> usize {
        PAGE_HEADER_BYTES + self.elements.len() * ELEMENT_BYTES + self.data.len()
    }

    /// Whether another entry of `bytes` would not fit any more. A node takes `least` entries of
    /// any size.
    fn is_full_for(&self, bytes: usize, least: usize) -> bool {
        self.elements.len() >= least && self.bytes() + ELEMENT_BYTES + bytes > PAGE_BYTES
    }

    fn push(&mut self, tag: u64, key: &[u8], value: &[u8]) {
        let (key_bytes, value_bytes) = (key.len() as u32, value.len() as u32);
        self.elements.push(Element { key: key_bytes, value: value_bytes, tag });
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
    }

    fn first_key(&self) -> &[u8] {
        let length = self.elements.first().map_or(0, |element| element.key as usize);
        &self.data[..length]
    }

    fn write(&self, id: u64, flags: u16, overflow: u32, out: &mut Vec<u8>) {
        let count = self.elements.len();
        out.extend_from_slice(&page_header(id, flags, count as u16, overflow));
        let mut data = 0;
        for (index, element) in self.elements.iter().enumerate() {
            // From the element itself to its key, behind the elements that follow.
            let position = ((count - index) * ELEMENT_BYTES + data) as u32;
            if flags == LEAF {
                out.extend_from_slice(&(element.tag as u32).to_le_bytes());
                out.extend_from_slice(&position.to_le_bytes());
                out.extend_from_slice(&element.key.to_le_bytes());
                out.extend_from_slice(&element.value.to_le_bytes());
            } else {
                out.extend_from_slice(&position.to_le_bytes());
                out.extend_from_slice(&element.key.to_le_bytes());
                out.extend_from_slice(&element.tag.to_le_bytes());
            }
            data += (element.key + element.value) as usize;
        }
        out.extend_from_slice(&self.data);
    }

    fn clear(&mut self) {
        self.elements.clear();
        self.data.clear();
    }
}

/// A tree that is being built.
#[derive(Default)]
pub(crate) struct Tree {
    leaf: Node,
    /// Open branch pages, the lowest level first.
    branches: Vec<Node>,
}

impl Tree {
    /// Adds an entry behind all others.
    pub(crate) fn put(&mut self, flags: u32, key: &[u8], value: &[u8], pages: &mut Pages) {
        if self.leaf.is_full_for(key.len() + value.len(), 1) {
            self.close_leaf(pages);
        }
        self.leaf.push(u64::from(flags), key, value);
    }

    fn close_leaf(&mut self, pages: &mut Pages) {
        let child = pages.add(LEAF, &self.leaf);
        let first = self.leaf.first_key().to_vec();
        self.leaf.clear();
        self.add_child(0, first, child, pages);
    }

    /// Enters a finished page in the branches from `level` on.
    fn add_child(
        &mut self,
        mut level: usize,
        mut first: Vec<u8>,
        mut child: u64,
        pages: &mut Pages,
    ) {
        while let Some(branch) = self.branches.get_mut(level) {
            if !branch.is_full_for(first.len(), LEAST_CHILDREN) {
                branch.push(child, &first, &[]);
                return;
            }
            let full = pages.add(BRANCH, branch);
            let first_of_full = branch.first_key().to_vec();
            branch.clear();
            branch.push(child, &first, &[]);
            (first, child) = (first_of_full, full);
            level += 1;
        }
        let mut top = Node::default();
        top.push(child, &first, &[]);
        self.branches.push(top);
    }

    /// The value of a bucket with this content, if that is little: header and leaf page. The tree
    /// is empty then.
    pub(crate) fn inline(&mut self) -> Option<Vec<u8>> {
        if !self.branches.is_empty() || self.leaf.bytes() > LARGEST_INLINE_BYTES {
            return None;
        }
        let mut value = vec![0; BUCKET_HEADER_BYTES];
        self.leaf.write(0, LEAF, 0, &mut value);
        self.leaf.clear();
        Some(value)
    }

    /// Writes out what is open; returns the page number of the root. The tree is empty then.
    pub(crate) fn finish(&mut self, pages: &mut Pages) -> u64 {
        if self.branches.is_empty() {
            let root = pages.add(LEAF, &self.leaf);
            self.leaf.clear();
            return root;
        }
        self.close_leaf(pages);
        let mut level = 0;
        loop {
            let branch = std::mem::take(&mut self.branches[level]);
            let child = pages.add(BRANCH, &branch);
            level += 1;
            if level == self.branches.len() {
                self.branches.clear();
                return child;
            }
            self.add_child(level, branch.first_key().to_vec(), child, pages);
        }
    }
}
