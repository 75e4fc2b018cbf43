//! `/debug/vars`: what Go programs publish by expvar, as far as it means something here (H-04).

use bytes::Bytes;
use coracle_core::node::NodeInfo;
use http::Response;
use serde_json::json;

use super::metrics::Process;
use super::{content, error};

/// The names are etcd's. `memstats` holds what is known without Go's collector.
pub(super) fn vars(info: &NodeInfo) -> Response<Bytes> {
    let process = Process::read();
    let state = match info {
        info if info.is_leader => "StateLeader",
        info if info.leader == 0 => "StateCandidate",
        _ => "StateFollower",
    };
    let vars = json!({
        "cmdline": std::env::args().collect::<Vec<_>>(),
        "file_descriptor_limit": process.max_fds,
        "memstats": { "Sys": process.virtual_bytes, "HeapAlloc": process.resident_bytes },
        "raft.status": {
            "id": format!("{:x}", info.member_id),
            "term": info.term,
            "lead": format!("{:x}", info.leader),
            "raftState": state,
            "commit": info.committed,
            "applied": info.applied,
        },
    });
    let json = "application/json; charset=utf-8";
    let page = |text: String| content(http::HeaderValue::from_static(json), text);
    serde_json::to_string_pretty(&vars).map_or_else(
        |failure| error(http::StatusCode::INTERNAL_SERVER_ERROR, &failure.to_string()),
        page,
    )
}
