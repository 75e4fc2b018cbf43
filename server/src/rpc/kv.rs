//! `etcdserverpb.KV`. (`RangeStream` is not served: clients fall back to `Range`.)

use super::{Method, unary};

pub(super) const METHODS: [Method; 5] = [
    unary!("etcdserverpb.KV" "Range" range),
    unary!("etcdserverpb.KV" "Put" put),
    unary!("etcdserverpb.KV" "DeleteRange" delete_range),
    unary!("etcdserverpb.KV" "Txn" txn),
    unary!("etcdserverpb.KV" "Compact" compact),
];
