//! Where Coracle deliberately differs from etcd 3.5.1, with the answers it has to give instead.
//!
//! Every entry stands in `tests/conformance_differences.md` under the same label.

use coracle_core::api::etcdserverpb::*;

use super::operation::{Answer, Operation};
use crate::cluster::Kind;

/// The answer that is documented for `operation` where etcd 3.5.1 cannot be asked.
///
/// S-1: etcd 3.5.1 does not check sort options, and an unknown target kills it. The other checks
/// that a newer etcd makes first keep their precedence.
pub fn answer(operation: &Operation) -> Option<Answer> {
    let message = match operation {
        Operation::Range(request) if unknown_sort(request) => match request.key.is_empty() {
            true => "etcdserver: key is not provided",
            false => "etcdserver: invalid sort option",
        },
        Operation::Txn(request) if has_unknown_sort(request) => "etcdserver: invalid sort option",
        _ => return None,
    };
    Some(Answer::Error { code: tonic::Code::InvalidArgument as i32, message: message.to_string() })
}

/// Turns etcd 3.5.1's answer into the one that Coracle has to give.
pub fn adapt(_operation: &Operation, _expected: &mut Answer, _subject: Kind) {}

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
