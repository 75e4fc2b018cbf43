//! KV.RangeStream: a range of any length, in pieces that the client's pace draws. RS-01.

use std::sync::Arc;

use super::Node;
use crate::api::etcdserverpb as pb;
use crate::api::validate;
use crate::auth::{Caller, Identity};
use crate::error::Error;
use crate::mvcc::{KeyRange, RangeCursor};
use crate::platform::Platform;
use crate::trace::Event;

/// A range that is being read; the reader sets the pace.
pub struct NodeRangeStream<P: Platform> {
    node: Arc<Node<P>>,
    cursor: RangeCursor,
    /// On whose behalf, as long as it may go on.
    who: Option<Identity>,
}

impl<P: Platform> Node<P> {
    /// KV.RangeStream: everything is read at the revision that the store has now.
    pub async fn range_stream(
        self: &Arc<Self>,
        by: &Caller,
        request: pb::RangeRequest,
    ) -> Result<NodeRangeStream<P>, Error> {
        validate::check_range(&request)?;
        validate::check_range_stream(&request)?;
        self.counters.ranges.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if !request.serializable {
            self.linearize().await?;
        }
        let who = self.identify(by).await?;
        self.auth.check_read(&who, &KeyRange::new(&request.key, &request.range_end))?;
        let serializable = request.serializable;
        let cursor = RangeCursor::open(&self.store, request, self.config.max_request_bytes)?;
        // The revision that is read may be newer than the rights that were looked at.
        self.auth.check_unchanged(&who)?;
        let revision = cursor.current_revision();
        self.trace.emit(|| Event::Read { serializable, revision });
        Ok(NodeRangeStream { node: self.clone(), cursor, who: Some(who) })
    }
}

impl<P: Platform> NodeRangeStream<P> {
    /// The next message of the stream; none behind the last or an error.
    #[allow(clippy::should_implement_trait)] // Its kin are asynchronous; they are called alike.
    pub fn next(&mut self) -> Option<Result<pb::RangeStreamResponse, Error>> {
        let who = self.who.as_ref()?;
        let answer = self.cursor.next(&self.node.store)?;
        // As with every read, its rights must hold when it was read. AUTH-07.
        let permitted = self.node.auth.check_unchanged(who);
        let piece = self.node.or_stop(answer).and_then(|piece| piece);
        let piece = permitted.and(piece).map(|mut piece| {
            piece.header = piece.header.map(|header| self.node.header(header.revision));
            pb::RangeStreamResponse { range_response: Some(piece) }
        });
        if piece.is_err() {
            self.who = None;
        }
        Some(piece)
    }
}
