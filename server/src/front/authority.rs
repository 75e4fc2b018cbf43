//! Mends the `:authority` of old Go clients before h2 refuses their calls.
//!
//! etcdctl 3.4 and other users of grpc-go's early resolvers send what they dialled as `:authority`
//! (`endpoint://client-…/…`), which is no authority by RFC 3986. Go's server does not look at it;
//! the h2 crate resets the stream with PROTOCOL_ERROR before anybody sees it. So the first header
//! block of each connection is looked at here. If its authority is sound, all later bytes pass
//! untouched, at no cost. If not, every header block of the connection is written anew without it.
//!
//! ```text
//! Watching ── sound first header block ──► Passing
//!     └────── broken authority ──────────► Rewriting (each HEADERS and its CONTINUATIONs)
//! ```

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use loona_hpack::Decoder;

use super::limits;

/// Octets before a frame's payload (RFC 9113, 4.1).
const FRAME_HEADER: usize = 9;
/// Octets of the connection preface.
const PREFACE: usize = 24;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// The size of the table of headers that we let clients fill: h2's, which is the protocol's.
const TABLE_BYTES: usize = 4096;
/// What a header counts for beyond its octets (RFC 9113, 6.5.2).
const HEADER_OVERHEAD: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Watching,
    Passing,
    Rewriting,
}

/// The filter of one connection's incoming bytes.
pub(super) struct AuthorityFilter {
    mode: Mode,
    preface_left: usize,
    /// Bytes of a frame that is not complete yet.
    incoming: BytesMut,
    /// Bytes for the protocol.
    outgoing: BytesMut,
    /// A header block under way: stream, flags of its HEADERS, fragments so far.
    block: Option<(u32, u8, BytesMut)>,
    decoder: Decoder<'static>,
    max_frame: usize,
}

impl AuthorityFilter {
    pub(super) fn new(max_frame: u32) -> AuthorityFilter {
        let mut decoder = Decoder::new();
        decoder.set_max_allowed_table_size(TABLE_BYTES);
        AuthorityFilter {
            mode: Mode::Watching,
            preface_left: PREFACE,
            incoming: BytesMut::new(),
            outgoing: BytesMut::new(),
            block: None,
            decoder,
            max_frame: max_frame as usize,
        }
    }

    /// Whether bytes may go around the filter.
    pub(super) fn is_passing(&self) -> bool {
        self.mode == Mode::Passing && self.outgoing.is_empty()
    }

    /// Bytes that the protocol may read now.
    pub(super) fn outgoing(&mut self) -> &mut BytesMut {
        &mut self.outgoing
    }

    /// Takes bytes from the socket. Fails on what no HTTP/2 peer may send.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let preface = self.preface_left.min(bytes.len());
        self.outgoing.put_slice(&bytes[..preface]);
        self.preface_left -= preface;
        bytes.advance(preface);
        self.incoming.put_slice(bytes);
        while self.mode != Mode::Passing && self.incoming.len() >= FRAME_HEADER {
            let length = self.incoming[..3].iter().fold(0, |n, byte| (n << 8) | usize::from(*byte));
            if length > self.max_frame {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame above the limit"));
            }
            if self.incoming.len() < FRAME_HEADER + length {
                return Ok(());
            }
            let frame = self.incoming.split_to(FRAME_HEADER + length);
            self.frame(frame)?;
        }
        if self.mode == Mode::Passing {
            let rest = self.incoming.split();
            self.outgoing.put_slice(&rest);
        }
        Ok(())
    }

    fn frame(&mut self, frame: BytesMut) -> io::Result<()> {
        let (kind, flags) = (frame[3], frame[4]);
        let stream = frame[5..9].iter().fold(0, |n, byte| (n << 8) | u32::from(*byte));
        match kind {
            HEADERS => {
                let fragment = fragment(flags, &frame[FRAME_HEADER..])?;
                self.block = Some((stream, flags, BytesMut::from(fragment)));
            }
            CONTINUATION => {
                let Some((_, _, block)) = self.block.as_mut() else {
                    self.outgoing.put_slice(&frame);
                    return Ok(());
                };
                if block.len() + frame.len() > self.max_frame {
                    return Err(too_large());
                }
                block.put_slice(&frame[FRAME_HEADER..]);
            }
            _ => {
                self.outgoing.put_slice(&frame);
                return Ok(());
            }
        }
        if flags & END_HEADERS != 0
            && let Some((stream, first_flags, block)) = self.block.take()
        {
            return self.block_complete(stream, first_flags, &block);
        }
        Ok(())
    }

    fn block_complete(&mut self, stream: u32, flags: u8, block: &[u8]) -> io::Result<()> {
        let headers = headers(&mut self.decoder, block)?;
        let sound = |(name, value): &Header| {
            name != b":authority" || http::uri::Authority::try_from(value.as_slice()).is_ok()
        };
        let flags = (flags & END_STREAM) | END_HEADERS;
        if self.mode == Mode::Watching
            && headers.as_ref().is_none_or(|headers| headers.iter().all(sound))
        {
            // The decoder's state is h2's to keep from here on: this block goes as it came. One
            // that says too much is h2's to refuse.
            self.mode = Mode::Passing;
            return self.put_headers(stream, flags, block);
        }
        let headers = headers.ok_or_else(too_large)?;
        self.mode = Mode::Rewriting;
        let mut rewritten = BytesMut::with_capacity(block.len() + 64);
        for (name, value) in headers.iter().filter(|header| sound(header)) {
            // A literal that is not indexed (RFC 7541, 6.2.2) leaves h2's table empty for good.
            rewritten.put_u8(0);
            put_string(&mut rewritten, name);
            put_string(&mut rewritten, value);
        }
        self.put_headers(stream, flags, &rewritten)
    }

    fn put_headers(&mut self, stream: u32, flags: u8, block: &[u8]) -> io::Result<()> {
        if block.len() > self.max_frame {
            return Err(too_large());
        }
        let length = (block.len() as u32).to_be_bytes();
        self.outgoing.put_slice(&length[1..]);
        self.outgoing.put_slice(&[HEADERS, flags]);
        self.outgoing.put_u32(stream);
        self.outgoing.put_slice(block);
        Ok(())
    }
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "headers too large")
}

/// Name and value.
type Header = (Vec<u8>, Vec<u8>);

/// The headers of a block; `None` if they are more than the front takes. A block may say a long
/// header once and then refer to it with an octet each time: what is kept is counted, not what
/// came.
fn headers(decoder: &mut Decoder<'_>, block: &[u8]) -> io::Result<Option<Vec<Header>>> {
    let mut headers = Vec::new();
    let mut size = 0;
    let decoded = decoder.decode_with_cb(block, |name, value| {
        size += name.len() + value.len() + HEADER_OVERHEAD;
        if size <= limits::MAX_HEADER_LIST as usize {
            headers.push((name.into_owned(), value.into_owned()));
        }
    });
    let broken = |_| io::Error::new(io::ErrorKind::InvalidData, "headers that do not decode");
    decoded.map_err(broken)?;
    Ok((size <= limits::MAX_HEADER_LIST as usize).then_some(headers))
}

/// The header block fragment of a HEADERS payload, without padding and priority.
fn fragment(flags: u8, payload: &[u8]) -> io::Result<&[u8]> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a malformed HEADERS frame");
    let mut fragment = payload;
    let mut padding = 0;
    if flags & PADDED != 0 {
        let (length, rest) = fragment.split_first().ok_or_else(malformed)?;
        padding = usize::from(*length);
        fragment = rest;
    }
    if flags & PRIORITY != 0 {
        fragment = fragment.get(5..).ok_or_else(malformed)?;
    }
    let end = fragment.len().checked_sub(padding).ok_or_else(malformed)?;
    Ok(&fragment[..end])
}

/// A string literal without Huffman coding (RFC 7541, 5.2).
fn put_string(out: &mut BytesMut, text: &[u8]) {
    if text.len() < 127 {
        out.put_u8(text.len() as u8);
    } else {
        out.put_u8(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            out.put_u8((rest % 128) as u8 | 128);
            rest /= 128;
        }
        out.put_u8(rest as u8);
    }
    out.put_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn headers_with(authority: &str) -> BytesMut {
        let mut block = BytesMut::new();
        for (name, value) in [(":path", "/etcdserverpb.KV/Put"), (":authority", authority)] {
            // With incremental indexing, as real clients send it.
            block.put_u8(0x40);
            put_string(&mut block, name.as_bytes());
            put_string(&mut block, value.as_bytes());
        }
        block
    }

    fn filter(input: &[u8], piece: usize) -> (AuthorityFilter, Vec<u8>) {
        let mut filter = AuthorityFilter::new(65_536);
        for piece in input.chunks(piece) {
            filter.feed(piece).unwrap();
        }
        let output = filter.outgoing().split().to_vec();
        (filter, output)
    }

    #[test]
    fn w_01_sound_connections_pass_untouched() {
        let mut input = vec![b'P'; PREFACE];
        input.extend(frame(4, 0, 0, b"settin"));
        input.extend(frame(HEADERS, END_HEADERS, 1, &headers_with("127.0.0.1:2379")));
        input.extend(frame(0, END_STREAM, 1, b"data"));
        for piece in [1, 7, 1_000] {
            let (filter, output) = filter(&input, piece);
            assert_eq!(output, input);
            assert!(filter.is_passing());
        }
    }

    #[test]
    fn w_01_a_broken_authority_is_taken_out_of_every_block() {
        let mut input = vec![b'P'; PREFACE];
        let block = headers_with("endpoint://client-0b/127.0.0.1:2379");
        // Padded, with priority, and continued.
        let mut first = vec![2, 0, 0, 0, 0, 16];
        first.extend(&block[..10]);
        first.extend([0, 0]);
        input.extend(frame(HEADERS, PADDED | PRIORITY | END_STREAM, 1, &first));
        input.extend(frame(CONTINUATION, END_HEADERS, 1, &block[10..]));
        // The second block refers to the table that the first one filled.
        input.extend(frame(HEADERS, END_HEADERS, 3, &[0x80 | 62, 0x80 | 63]));
        let mut wanted = vec![b'P'; PREFACE];
        let mut path = vec![0];
        let mut text = BytesMut::new();
        put_string(&mut text, b":path");
        put_string(&mut text, b"/etcdserverpb.KV/Put");
        path.extend(text);
        wanted.extend(frame(HEADERS, END_STREAM | END_HEADERS, 1, &path));
        wanted.extend(frame(HEADERS, END_HEADERS, 3, &path));
        for piece in [1, 7, 1_000] {
            assert_eq!(filter(&input, piece).1, wanted);
        }
    }

    /// A header of `length` octets that goes into the table, and `count` references to it.
    fn bomb(length: usize, count: usize) -> BytesMut {
        let mut block = BytesMut::new();
        block.put_u8(0x40);
        put_string(&mut block, b"x");
        put_string(&mut block, &vec![b'v'; length]);
        block.put_bytes(0x80 | 62, count);
        block
    }

    #[test]
    fn w_01_a_few_octets_do_not_become_a_gigabyte() {
        let mut decoder = Decoder::new();
        decoder.set_max_allowed_table_size(TABLE_BYTES);
        let kept = |count| headers(&mut decoder, &bomb(4000, count)).unwrap().map(|all| all.len());
        assert_eq!([0, 3, 4, 60_000].map(kept), [Some(1), Some(4), None, None]);
        // A sound client's first block that is too large is refused by h2, which has the same
        // limit; behind a broken authority there is nobody else to do it.
        let preface = [b'P'; PREFACE];
        let large = frame(HEADERS, END_HEADERS, 1, &bomb(4000, 60_000));
        let (filter, output) = filter(&[&preface[..], &large].concat(), 1_000);
        assert!(filter.is_passing() && output.ends_with(&large));
        let mut filter = AuthorityFilter::new(65_536);
        filter.feed(&preface).unwrap();
        filter.feed(&frame(HEADERS, END_HEADERS, 1, &headers_with("endpoint://x/y"))).unwrap();
        assert_eq!(filter.feed(&large).unwrap_err().to_string(), "headers too large");
        // The table is not made larger than h2's.
        let mut growth = BytesMut::from(&[0x3f, 0xe2, 0x1f][..]);
        growth.put_slice(&headers_with("127.0.0.1:2379"));
        let mut filter = AuthorityFilter::new(65_536);
        filter.feed(&preface).unwrap();
        assert!(filter.feed(&frame(HEADERS, END_HEADERS, 1, &growth)).is_err());
    }

    #[test]
    fn w_01_garbage_is_an_error_and_no_panic() {
        let mut input = vec![b'P'; PREFACE];
        input.extend(frame(HEADERS, PADDED | END_HEADERS, 1, &[200, 1]));
        assert!(AuthorityFilter::new(65_536).feed(&input).is_err());
        let mut filter = AuthorityFilter::new(65_536);
        assert!(filter.feed(&[0xff; 64]).is_err());
    }
}
