//! Frames on a byte stream. See the module above for their form.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Largest frame, in bytes: many times the largest request, and a snapshot's piece.
pub(super) const MAX_FRAME: usize = 64 * 1024 * 1024;
/// Largest frame before the peer has said who it is.
pub(super) const MAX_HELLO: usize = 1024;
/// Length, request identifier, kind.
const HEADER: usize = 4 + 8 + 1;
/// What a read asks for at least.
const READ_BYTES: usize = 16 * 1024;
/// What a read reserves at most, whatever length a frame claims to have.
const RESERVE_BYTES: usize = 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Hello = 0,
    Request = 1,
    Response = 2,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) id: u64,
    pub(super) kind: Kind,
    pub(super) payload: Bytes,
}

/// `message` as a frame; `None` if it is larger than [`MAX_FRAME`].
pub(super) fn encode(id: u64, kind: Kind, message: &impl Message) -> Option<Bytes> {
    let length = HEADER - 4 + message.encoded_len();
    if length > MAX_FRAME {
        return None;
    }
    let mut buffer = BytesMut::with_capacity(4 + length);
    buffer.put_u32(u32::try_from(length).expect("MAX_FRAME is far below 4 GiB"));
    buffer.put_u64(id);
    buffer.put_u8(kind as u8);
    message.encode(&mut buffer).expect("a BytesMut has room for what was just measured");
    Some(buffer.freeze())
}

/// Cuts a byte stream into frames.
#[derive(Default)]
pub(super) struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    /// What was read and is no frame yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer
    }

    /// The next frame, of at most `limit` bytes. Cancel safe: what was read stays here.
    ///
    /// The errors `InvalidData` (not a frame) and `UnexpectedEof` (the peer has gone) are final.
    pub(super) async fn next(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        limit: usize,
    ) -> io::Result<Frame> {
        loop {
            let missing = match self.take(limit)? {
                Ok(frame) => return Ok(frame),
                Err(missing) => missing,
            };
            self.buffer.reserve(missing.clamp(READ_BYTES, RESERVE_BYTES));
            if stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The frame that the buffer begins with, or how many bytes it lacks.
    fn take(&mut self, limit: usize) -> io::Result<Result<Frame, usize>> {
        let Some(length) = self.buffer.first_chunk().copied().map(u32::from_be_bytes) else {
            return Ok(Err(HEADER));
        };
        let length = length as usize;
        if !(HEADER - 4..=limit).contains(&length) {
            return Err(invalid(format!("a frame of {length} bytes")));
        }
        let whole = 4 + length;
        if self.buffer.len() < whole {
            return Ok(Err(whole - self.buffer.len()));
        }
        // Small frames are copied, so that an entry in the log does not keep a large read buffer
        // alive; of large ones the buffer itself is handed on.
        let mut payload = if whole < READ_BYTES {
            let copy = Bytes::copy_from_slice(&self.buffer[4..whole]);
            self.buffer.advance(whole);
            copy
        } else {
            let mut frame = self.buffer.split_to(whole);
            frame.advance(4);
            frame.freeze()
        };
        let id = payload.get_u64();
        let kind = match payload.get_u8() {
            0 => Kind::Hello,
            1 => Kind::Request,
            2 => Kind::Response,
            other => return Err(invalid(format!("a frame of kind {other}"))),
        };
        Ok(Ok(Frame { id, kind, payload }))
    }
}

/// The message in `payload`, or an `InvalidData` error.
pub(super) fn decode<M: Message + Default>(payload: Bytes) -> io::Result<M> {
    M::decode(payload).map_err(|error| invalid(error.to_string()))
}

pub(super) fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use coracle_core::api::coraclepb::Status;

    use super::*;

    fn status(length: usize) -> Status {
        Status { code: 7, message: "m".repeat(length) }
    }

    #[tokio::test]
    async fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let mut bytes = Vec::new();
        let lengths = [0, 1, 100, 20_000, 300_000];
        for (id, length) in lengths.into_iter().enumerate() {
            bytes.extend(encode(id as u64, Kind::Request, &status(length)).unwrap());
        }
        for piece in [1000, 7, bytes.len()] {
            let mut stream = tokio_test_stream(bytes.clone(), piece);
            let mut reader = FrameReader::default();
            for (id, length) in lengths.into_iter().enumerate() {
                let frame = reader.next(&mut stream, MAX_FRAME).await.unwrap();
                assert_eq!((frame.id, frame.kind), (id as u64, Kind::Request));
                assert_eq!(decode::<Status>(frame.payload).unwrap(), status(length));
            }
            let end = reader.next(&mut stream, MAX_FRAME).await.unwrap_err();
            assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    /// A stream that gives `piece` bytes at a time.
    fn tokio_test_stream(bytes: Vec<u8>, piece: usize) -> impl AsyncRead + Unpin {
        let pieces: Vec<_> = bytes
            .chunks(piece)
            .map(|piece| Ok::<_, io::Error>(Bytes::copy_from_slice(piece)))
            .collect();
        tokio_util::io::StreamReader::new(tokio_stream::iter(pieces))
    }

    #[tokio::test]
    async fn nonsense_is_an_error_and_no_allocation() {
        for nonsense in [
            &b"GET / HTTP/1.1\r\n"[..],
            &[0, 0, 0, 1, 9],
            &[0xff; 64],
            &[0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 77],
        ] {
            let mut stream = nonsense;
            let error = FrameReader::default().next(&mut stream, MAX_HELLO).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
