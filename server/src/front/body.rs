//! Bodies of plain HTTP: read and written piece by piece, the same over HTTP/1 and HTTP/2.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, Stream, StreamExt};
use h2::{RecvStream, SendStream};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::upgrade::Upgraded;
use tokio::time::timeout;

use super::limits;

/// What a client sends. An error means that it broke off.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, BrokenOff>;
/// What is sent to it.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, Infallible>;

/// What a request is answered with.
pub(crate) struct Answer {
    pub(crate) response: http::Response<ResponseBody>,
    /// What the connection speaks from then on, if the answer says that it speaks something else.
    pub(crate) session: Option<Session>,
}

/// Another protocol on a connection that was HTTP/1's.
pub(crate) type Session = Box<dyn FnOnce(Upgraded) -> BoxFuture<'static, ()> + Send>;

impl From<http::Response<ResponseBody>> for Answer {
    fn from(response: http::Response<ResponseBody>) -> Answer {
        Answer { response, session: None }
    }
}

/// A body that its sender did not finish.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off: {0}")]
pub(crate) struct BrokenOff(String);

/// A body that is here as a whole.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> ResponseBody {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body whose pieces come when they come.
pub(crate) fn pieces(pieces: impl Stream<Item = Bytes> + Send + 'static) -> ResponseBody {
    StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece)))).boxed_unsync()
}

/// A body whose pieces are the texts of a WebSocket.
pub(crate) fn of_texts(texts: impl Stream<Item = Bytes> + Send + 'static) -> RequestBody {
    StreamBody::new(texts.map(|text| Ok(Frame::data(text)))).boxed_unsync()
}

pub(super) fn of_http1(body: Incoming) -> RequestBody {
    body.map_err(|error| BrokenOff(error.to_string())).boxed_unsync()
}

pub(super) fn of_http2(mut body: RecvStream) -> RequestBody {
    let frames = stream::poll_fn(move |cx| {
        let piece = ready!(poll_piece(&mut body, cx));
        Poll::Ready(piece.map(|piece| match piece {
            Ok(piece) => Ok(Frame::data(piece)),
            Err(error) => Err(BrokenOff(error.to_string())),
        }))
    });
    StreamBody::new(frames).boxed_unsync()
}

/// The next bytes of a stream, whatever their borders. The window is opened again at once: readers
/// bound what they take.
pub(super) fn poll_piece(
    stream: &mut RecvStream,
    cx: &mut Context<'_>,
) -> Poll<Option<Result<Bytes, h2::Error>>> {
    let piece = ready!(stream.poll_data(cx));
    if let Some(Ok(piece)) = &piece {
        // Fails only on a stream that is closed already.
        _ = stream.flow_control().release_capacity(piece.len());
    }
    Poll::Ready(piece)
}

/// A request's body whose rest comes back when its reader drops it.
struct Lent {
    body: Option<RequestBody>,
    back: Option<oneshot::Sender<RequestBody>>,
}

impl Body for Lent {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Fails if nobody waits for it any more.
            _ = back.send(body);
        }
    }
}

/// What the reader of a request's body may leave of it.
pub(super) struct Rest(oneshot::Receiver<RequestBody>);

/// `body` for its reader, and what will be left of it.
pub(super) fn lend(body: RequestBody) -> (RequestBody, Rest) {
    let (back, rest) = oneshot::channel();
    (Lent { body: Some(body), back: Some(back) }.boxed_unsync(), Rest(rest))
}

impl Rest {
    /// Reads what is left, `most` bytes of it, unless somebody still reads it. Clients that are
    /// answered before they have sent everything take the end of the stream, or of the connection,
    /// for a failure; curl does.
    pub(super) async fn read(mut self, most: usize) {
        if let Ok(Some(body)) = self.0.try_recv() {
            read_rest(body, most).await;
        }
    }
}

/// Reads what comes of `body`, `most` bytes of it, until the client has ended it. Whoever is slower
/// than [`limits::REST_DEADLINE`] is cut off.
pub(super) async fn read_rest(mut body: RequestBody, most: usize) {
    let mut read = 0;
    let reading = async {
        while read < most
            && let Some(Ok(frame)) = body.frame().await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    _ = timeout(limits::REST_DEADLINE, reading).await;
}

/// Sends `body` on an HTTP/2 stream, no faster than the client takes it. Ends early, and drops the
/// body, when the client has gone.
pub(super) async fn send(mut stream: SendStream<Bytes>, body: ResponseBody) {
    let mut body = pin!(body);
    while let Some(piece) = poll_fn(|cx| next_piece(&mut stream, body.as_mut(), cx)).await {
        let mut rest = piece;
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
            if stream.send_data(rest.split_to(room.min(rest.len())), false).is_err() {
                return;
            }
        }
    }
    // Fails if the client has gone.
    _ = stream.send_data(Bytes::new(), true);
}

/// The next piece, or `None` at the end of the body or of the client's interest.
fn next_piece(
    stream: &mut SendStream<Bytes>,
    body: Pin<&mut ResponseBody>,
    cx: &mut Context<'_>,
) -> Poll<Option<Bytes>> {
    if stream.poll_reset(cx).is_ready() {
        return Poll::Ready(None);
    }
    let frame = ready!(body.poll_frame(cx));
    Poll::Ready(frame.map(|frame| frame.map_or_else(|never| match never {}, data)))
}

/// Trailers do not occur in our bodies.
fn data(frame: Frame<Bytes>) -> Bytes {
    frame.into_data().unwrap_or_default()
}
