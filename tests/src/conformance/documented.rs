//! Where Coracle deliberately differs from etcd 3.5.1, with the answers it has to give instead.
//!
//! Every entry stands in `tests/conformance_differences.md` under the same label.

use coracle_core::api::etcdserverpb::*;

use super::operation::{Answer, Operation};

/// The answer that is documented for `operation` where etcd 3.5.1 cannot be asked, on a store at
/// `revision`.
///
/// S-1: etcd 3.5.1 does not check sort options, and an unknown target kills it. The check for an
/// empty key comes first in newer releases. W-3: it takes negative start revisions of watches.
pub fn answer(operation: &Operation, revision: i64) -> Option<Answer> {
    let message = match operation {
        Operation::Range(request) if unknown_sort(request) => match request.key.is_empty() {
            true => "etcdserver: key is not provided",
            false => "etcdserver: invalid sort option",
        },
        Operation::Txn(request) if has_unknown_sort(request) => "etcdserver: invalid sort option",
        Operation::WatchCreate { request, .. } if request.start_revision < 0 => {
            let header = ResponseHeader { cluster_id: 1, member_id: 1, revision, raft_term: 1 };
            return Some(Answer::Watch(WatchResponse {
                header: Some(header),
                watch_id: -1,
                created: true,
                canceled: true,
                cancel_reason: "etcdserver: mvcc: required revision has been compacted".to_string(),
                ..Default::default()
            }));
        }
        _ => return None,
    };
    Some(Answer::Error { code: tonic::Code::InvalidArgument as i32, message: message.to_string() })
}

fn unknown_sort(request: &RangeRequest) -> bool {
    range_request::SortOrder::try_from(request.sort_order).is_err()
        || range_request::SortTarget::try_from(request.sort_target).is_err()
}

/// The generator puts such a range only into a transaction that has nothing else.
fn has_unknown_sort(request: &TxnRequest) -> bool {
    request.success.iter().any(|operation| match &operation.request {
        Some(request_op::Request::RequestRange(range)) => unknown_sort(range),
        _ => false,
    })
}
