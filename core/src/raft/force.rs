//! `--force-new-cluster`: a member whose cluster is lost goes on alone, with its data. FS-04.

use std::collections::BTreeSet;
use std::io;

use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, RaftLogReader};

use super::log::LogStore;
use super::types::{AsyncRuntime, CommittedLeaderId, Entry, LogId, Membership, TypeConfig, Vote};

/// Appends a membership of `own_id` alone to the log, in a term above all before it. openraft goes
/// by the last membership of the log, committed or not, so the member can then elect itself and
/// commit what the log holds. What was never committed becomes so: etcd drops it, but either is
/// right for a write whose client had no answer.
///
/// The log may end before what is `applied`, which came by a snapshot then: that of a leader, or
/// the file that `utl snapshot restore` made this member of. It goes on behind that.
///
/// Answers whether there was anything to do it to.
pub async fn force_single_voter<R: AsyncRuntime>(
    log: &mut LogStore<R>,
    own_id: u64,
    applied: Option<LogId>,
) -> io::Result<bool> {
    let logged = log.get_log_state().await?.last_log_id;
    let last = match (logged, applied) {
        (None, None) => return Ok(false),
        (Some(logged), None) => logged,
        (Some(logged), Some(applied)) if logged.index >= applied.index => logged,
        (_, Some(applied)) => {
            log.purge(applied).await?;
            applied
        }
    };
    let voted = log.read_vote().await?.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.leader_id.term) + 1;
    log.save_vote(&Vote::new(term, own_id)).await?;
    let alone = Membership::new_with_defaults(vec![BTreeSet::from([own_id])], []);
    let log_id = LogId { leader_id: CommittedLeaderId::new(term), index: last.index + 1 };
    let entry = Entry { log_id, payload: EntryPayload::Membership(alone) };
    let (done, durable) = TypeConfig::<R>::oneshot();
    log.append([entry], IOFlushed::signal(done)).await?;
    durable.await.map_err(|_| io::Error::other("the log's worker is gone"))??;
    Ok(true)
}
