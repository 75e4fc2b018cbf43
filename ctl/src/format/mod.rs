//! What the commands print: one value per kind of result, five ways to show it (`-w`).
//!
//! | format | what it is |
//! |---|---|
//! | `simple` | lines for people and shell scripts (default) |
//! | `fields` | one `"Name" : value` line per field |
//! | `json` | one line, as Go's `encoding/json` writes the Go client's structs |
//! | `protobuf` | the reply message's bytes |
//! | `table` | only for members and endpoints |
//!
//! A format that cannot show a result is an error with exit code 4. It comes *after* the request
//! was made, as in etcdctl: `put -w table` puts.
//!
//! The looks are those of etcdctl 3.5. That holds for the columns of `endpoint status` too: 3.6 and
//! later have more (storage version, quota, downgrade) and draw tables with Unicode boxes.

mod auth;
mod fields;
mod json;
mod protobuf;
mod simple;
mod table;
#[cfg(test)]
mod tests;

pub use table::draw as draw_table;

use coracle_core::api::etcdserverpb::downgrade_request::DowngradeAction;
use coracle_core::api::etcdserverpb::{
    AlarmResponse, AuthRoleGetResponse, AuthRoleListResponse, AuthStatusResponse,
    AuthUserGetResponse, AuthUserListResponse, DeleteRangeResponse, DowngradeResponse,
    HashKvResponse, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, MemberAddResponse, MemberListResponse,
    MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse, MoveLeaderResponse,
    PutResponse, RangeResponse, ResponseHeader, StatusResponse, TxnResponse, WatchResponse,
};

/// The value of `--write-out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Simple,
    Fields,
    Json,
    Protobuf,
    Table,
}

impl Format {
    pub(crate) fn parse(name: &str) -> Option<Format> {
        Some(match name {
            "simple" => Format::Simple,
            "fields" => Format::Fields,
            "json" => Format::Json,
            "protobuf" => Format::Protobuf,
            "table" => Format::Table,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Simple => "simple",
            Format::Fields => "fields",
            Format::Json => "json",
            Format::Protobuf => "protobuf",
            Format::Table => "table",
        }
    }
}

/// How to show a result, apart from the format.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    /// `--hex`: keys and values as `\x66\x6f`, and in the member list's JSON hexadecimal IDs.
    pub(crate) hex: bool,
    /// `get --print-value-only`.
    pub(crate) value_only: bool,
}

/// The result of `endpoint health` for one endpoint.
#[derive(Clone, Debug)]
pub(crate) struct EndpointHealth {
    pub(crate) endpoint: String,
    pub(crate) is_healthy: bool,
    /// A Go duration.
    pub(crate) took: String,
    /// Why it is not healthy, or empty.
    pub(crate) error: String,
}

/// A result to print.
#[derive(Clone, Debug)]
pub(crate) enum Output {
    Put(PutResponse),
    Get(RangeResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    Watch(WatchResponse),
    LeaseGrant(LeaseGrantResponse),
    LeaseRevoke(i64, LeaseRevokeResponse),
    LeaseKeepAlive(LeaseKeepAliveResponse),
    /// The reply, and whether the lease's keys were asked for.
    LeaseTimeToLive(LeaseTimeToLiveResponse, bool),
    LeaseList(LeaseLeasesResponse),
    MemberList(MemberListResponse),
    MemberAdd(MemberAddResponse),
    MemberRemove(u64, MemberRemoveResponse),
    MemberUpdate(u64, MemberUpdateResponse),
    MemberPromote(u64, MemberPromoteResponse),
    EndpointHealth(Vec<EndpointHealth>),
    EndpointStatus(Vec<(String, StatusResponse)>),
    EndpointHashKv(Vec<(String, HashKvResponse)>),
    Alarm(AlarmResponse),
    Downgrade(DowngradeAction, DowngradeResponse),
    /// A change of users or roles: what it was, and the header, which is all of the reply.
    AuthChanged {
        text: String,
        header: Option<ResponseHeader>,
    },
    AuthStatus(AuthStatusResponse),
    UserGet(String, AuthUserGetResponse),
    UserList(AuthUserListResponse),
    RoleGet(String, AuthRoleGetResponse),
    RoleList(AuthRoleListResponse),
    MoveLeader {
        from: u64,
        to: u64,
        response: MoveLeaderResponse,
    },
}

/// What to write where.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// The format cannot show this kind of result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsupported;

/// Shows `output` in `format`.
pub(crate) fn render(
    output: &Output,
    format: Format,
    style: Style,
) -> Result<Rendered, Unsupported> {
    let stdout = match format {
        Format::Simple => return Ok(simple::render(output, style)),
        Format::Fields => fields::render(output)?,
        Format::Json => json::render(output, style),
        Format::Protobuf => protobuf::render(output)?,
        Format::Table => table::render(output)?,
    };
    Ok(Rendered { stdout, stderr: Vec::new() })
}
