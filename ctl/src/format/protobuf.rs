//! `-w protobuf`: the reply's bytes.
//!
//! For a lease, etcdctl writes the bytes of the reply's *header* alone, and for `revoke` nothing:
//! its client wraps those replies in structs that only embed the header. A program that decodes
//! them expects just that, so it stays.

use coracle_core::api::etcdserverpb::{AuthEnableResponse, ResponseHeader, WatchResponse};
use prost::Message;

use super::{Output, Unsupported};

pub(super) fn render(output: &Output) -> Result<Vec<u8>, Unsupported> {
    Ok(match output {
        Output::Put(response) => response.encode_to_vec(),
        Output::Get(response) => response.encode_to_vec(),
        Output::Delete(response) => response.encode_to_vec(),
        Output::Txn(response) => response.encode_to_vec(),
        Output::Watch(response) => {
            // The Go client's struct has neither the ID nor the reason.
            let (watch_id, cancel_reason) = (0, String::new());
            let shown = WatchResponse { watch_id, cancel_reason, ..response.clone() };
            shown.encode_to_vec()
        }
        Output::LeaseGrant(response) => header(&response.header),
        Output::LeaseKeepAlive(response) => header(&response.header),
        Output::LeaseTimeToLive(response, _) => header(&response.header),
        Output::LeaseList(response) => header(&response.header),
        Output::MemberList(response) => response.encode_to_vec(),
        Output::MemberAdd(response) => response.encode_to_vec(),
        Output::MemberRemove(_, response) => response.encode_to_vec(),
        Output::MemberUpdate(_, response) => response.encode_to_vec(),
        Output::MemberPromote(_, response) => response.encode_to_vec(),
        Output::Alarm(response) => response.encode_to_vec(),
        Output::MoveLeader { response, .. } => response.encode_to_vec(),
        Output::Downgrade(_, response) => response.encode_to_vec(),
        // All replies that are a header are the same bytes.
        Output::AuthChanged { header, .. } => {
            AuthEnableResponse { header: *header }.encode_to_vec()
        }
        Output::AuthStatus(response) => response.encode_to_vec(),
        Output::UserGet(_, response) => response.encode_to_vec(),
        Output::UserList(response) => response.encode_to_vec(),
        Output::RoleGet(_, response) => response.encode_to_vec(),
        Output::RoleList(response) => response.encode_to_vec(),
        Output::LeaseRevoke(..)
        | Output::EndpointHealth(_)
        | Output::EndpointStatus(_)
        | Output::EndpointHashKv(_) => return Err(Unsupported),
    })
}

fn header(header: &Option<ResponseHeader>) -> Vec<u8> {
    header.unwrap_or_default().encode_to_vec()
}
