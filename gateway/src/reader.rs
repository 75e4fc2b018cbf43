//! Cuts a body into its JSON values, as its pieces come in.

use bytes::{Buf, Bytes, BytesMut};

/// Finds the ends of JSON values in a growing buffer, looking at every byte once.
///
/// It does not check JSON: what it cuts off is a value or not JSON at all, and the parser that
/// gets it says which.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
    /// Bytes of `buffer` that were looked at.
    seen: usize,
    /// Brackets and braces that are open.
    depth: usize,
    in_string: bool,
    /// The byte before was a backslash in a string.
    escaped: bool,
}

impl Reader {
    /// Adds what came in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that are held: of values that are not complete, or not taken yet.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// The next value that is complete.
    pub fn take(&mut self) -> Option<Bytes> {
        if self.seen == 0 {
            let blanks = self.buffer.len() - self.buffer.trim_ascii_start().len();
            self.buffer.advance(blanks);
        }
        while let Some(byte) = self.buffer.get(self.seen).copied() {
            // A number or a word outside of braces ends before what follows it.
            if self.depth == 0 && !self.in_string && self.seen > 0 && byte.is_ascii_whitespace() {
                return Some(self.cut());
            }
            self.seen += 1;
            if self.look(byte) {
                return Some(self.cut());
            }
        }
        None
    }

    /// Whether `byte` ends a value.
    fn look(&mut self, byte: u8) -> bool {
        if self.in_string {
            self.in_string = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return !self.in_string && self.depth == 0;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            _ => {}
        }
        false
    }

    /// What is left at the end of the body: a value that did not end, or nothing.
    pub fn rest(&mut self) -> Option<Bytes> {
        let rest = std::mem::take(self).buffer.freeze();
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }

    fn cut(&mut self) -> Bytes {
        let value = self.buffer.split_to(self.seen).freeze();
        self.seen = 0;
        value
    }
}
