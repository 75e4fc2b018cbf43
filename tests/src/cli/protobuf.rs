//! What `-w protobuf` prints, read back and written down without what differs in every run.

use coracle_core::api::etcdserverpb::*;
use prost::Message;

/// The message of a reply. For leases etcdctl prints the header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    Header,
    Put,
    Range,
    DeleteRange,
    Txn,
    MemberList,
    MemberAdd,
    MemberRemove,
    Alarm,
}

/// The decoded message as Rust prints it, its header without ids and term.
macro_rules! shown {
    ($message:ident $bytes:ident $(by $key:ident)?) => {
        match $message::decode($bytes) {
            Ok(mut message) => {
                even_header(message.header.as_mut());
                // Members come in the order of their random ids.
                $(message.members.sort_by(|one, other| one.$key.cmp(&other.$key));)?
                format!("[{message:?}]")
            }
            Err(error) => format!("no {}: {error}", stringify!($message)),
        }
    };
}

impl Reply {
    /// The reply in `bytes`, as one line of text: in brackets, so that its numbers are decimal.
    pub(super) fn lines(self, bytes: &[u8]) -> Vec<String> {
        vec![match self {
            Reply::Header => match ResponseHeader::decode(bytes) {
                Ok(mut header) => {
                    even_header(Some(&mut header));
                    format!("[{header:?}]")
                }
                Err(error) => format!("no header: {error}"),
            },
            Reply::Put => shown!(PutResponse bytes),
            Reply::Range => shown!(RangeResponse bytes),
            Reply::DeleteRange => shown!(DeleteRangeResponse bytes),
            Reply::Txn => shown!(TxnResponse bytes),
            Reply::MemberList => shown!(MemberListResponse bytes by name),
            Reply::MemberAdd => shown!(MemberAddResponse bytes by name),
            Reply::MemberRemove => shown!(MemberRemoveResponse bytes by name),
            Reply::Alarm => shown!(AlarmResponse bytes),
        }]
    }
}

fn even_header(header: Option<&mut ResponseHeader>) {
    if let Some(header) = header {
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    }
}
