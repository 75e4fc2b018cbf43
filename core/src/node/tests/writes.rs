//! Writes, when the leader goes.

use std::time::Duration;

use bytes::Bytes;

use super::cluster::Cluster;
use crate::api::coraclepb::Propose;
use crate::api::coraclepb::peer_request::Request;
use crate::api::etcdserverpb as pb;
use crate::auth::Caller;
use crate::error::Code;

#[test]
fn txn_04_a_forwarded_command_that_cannot_be_decoded_is_not_proposed() {
    let cluster = Cluster::new(1);
    let node = cluster.nodes[&1].clone();
    let before = node.progress().last_log_index;
    let commands = vec![Bytes::from_static(b"\xffgarbage")];
    let asked = node.clone();
    let answer = cluster.run_on(1, async move { asked.handle_propose(Propose { commands }).await });
    let refused = answer.results[0].error.clone().expect("it is refused");
    assert_eq!(refused.code, Code::InvalidArgument as u32);
    assert_eq!(node.progress().last_log_index, before);
}

#[test]
fn rev_07_a_forwarded_write_is_applied_once_when_the_leader_stops_in_the_middle() {
    let cluster = Cluster::new(3);
    let leader = cluster.leader();
    let through = cluster.others(leader)[0];
    cluster.put(through, "a", "before");
    // From now on the leader's entries reach the others, and it never learns that they did, nor
    // can it hand over.
    cluster.lose(move |sent| match sent.request {
        Request::AppendEntries(_) => sent.is_answer && sent.to == leader,
        Request::TransferLeader(_) => true,
        _ => false,
    });
    let before = cluster.nodes[&leader].progress().last_log_index;
    let node = cluster.nodes[&through].clone();
    let request = pb::PutRequest { key: "a".into(), value: "once".into(), ..Default::default() };
    let written =
        cluster.spawn_on(through, async move { node.put(&Caller::Internal, request).await });
    cluster.until("the entry is on every member", |nodes| {
        nodes.values().all(|node| node.progress().last_log_index > before)
    });
    let stopping = cluster.nodes[&leader].clone();
    let stopped = cluster.spawn_on(leader, async move { stopping.shutdown().await });
    cluster.wait(stopped);
    // The next leader has the entry, and commits it.
    cluster.wait(written).expect("it took place, and the member that was asked saw it");
    cluster.run(Duration::from_secs(1));
    let node = cluster.nodes[&through].clone();
    let get = pb::RangeRequest { key: "a".into(), ..Default::default() };
    let read = cluster.run_on(through, async move { node.range(&Caller::Internal, get).await });
    let read = read.expect("a read");
    assert_eq!((&read.kvs[0].value[..], read.kvs[0].version), (&b"once"[..], 2));
}
