//! What a log may hold, whoever wrote it.

use std::sync::Arc;

use prost::Message;

use super::*;
use crate::backend::BackendOptions;
use crate::platform::MemoryDisk;

fn applier() -> Applier {
    let disk = Arc::new(MemoryDisk::default());
    let backend = Arc::new(Backend::open(disk, BackendOptions::default()).unwrap());
    let members = Arc::new(Members::open(backend.clone()).unwrap());
    Applier::open(backend, members, 1 << 20).unwrap()
}

/// A command that the gRPC door would let in by itself, and that no decoder takes out of the log.
fn too_deep() -> Bytes {
    let innermost = pb::TxnRequest::default();
    let txn = (0..50).fold(innermost, |inner, _| pb::TxnRequest {
        success: vec![pb::RequestOp { request: Some(OpRequest::RequestTxn(inner)) }],
        ..Default::default()
    });
    assert_eq!(pb::TxnRequest::decode(&txn.encode_to_vec()[..]), Ok(txn.clone()));
    Command { id: 7, request: Some(Request::Txn(txn)), asker: None }.encode_to_vec().into()
}

#[test]
fn txn_04_a_committed_command_that_cannot_be_decoded_is_refused_alike_by_all() {
    for encoded in [too_deep(), Bytes::from_static(b"\xffgarbage")] {
        let outcomes = [applier(), applier()].map(|applier| {
            let applied = applier.apply(1, encoded.clone()).expect("it does not stop the member");
            assert_eq!(applier.store.current_revision(), 1);
            applied.2
        });
        let refused = outcomes[0].clone().expect_err("nothing to carry out");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(outcomes[0], outcomes[1]);
    }
}
