//! Compaction: the history below a revision is forgotten (CMP-01).

use super::context::ApplyContext;
use super::header;
use crate::api::etcdserverpb::{CompactionRequest, CompactionResponse};
use crate::error::Error;

/// Applies a compaction. It counts at once; [`Store::compact_step`](crate::mvcc::Store) carries
/// it out afterwards.
pub fn compact(
    context: &ApplyContext<'_>,
    request: &CompactionRequest,
) -> Result<CompactionResponse, Error> {
    context.store.compact(request.revision)?;
    Ok(CompactionResponse { header: header(context.store.current_revision()) })
}
