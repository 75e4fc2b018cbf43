//! `grpc.reflection.v1` and `v1alpha`, whose messages are the same: a server tells its own
//! services, so that `grpcurl` and its like need no `.proto` files. Behind
//! `--enable-grpc-reflection`; etcd has nothing of the kind. W-09.
//!
//! What is told are the descriptors of `core/proto` and `server/proto`, as the generator wrote them
//! down. They are no secret, so nobody is asked who he is.

use std::collections::{HashSet, VecDeque};
use std::sync::LazyLock;

use bytes::Bytes;
use coracle_core::error::Code;
use prost_reflect::{DescriptorPool, FileDescriptor};

use super::messages::reflection::server_reflection_request::MessageRequest;
use super::messages::reflection::server_reflection_response::MessageResponse;
use super::messages::reflection::{
    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse, ListServiceResponse,
    ServerReflectionRequest, ServerReflectionResponse, ServiceResponse,
};
use super::{Context, Method, method};
use crate::front::call::{Call, Status};

pub(super) const V1: [Method; 1] = [method!(
    "grpc.reflection.v1.ServerReflection"
    "ServerReflectionInfo" "bidi_stream" reflect
)];
pub(super) const V1_ALPHA: [Method; 1] = [method!(
    "grpc.reflection.v1alpha.ServerReflection"
    "ServerReflectionInfo" "bidi_stream" reflect
)];

/// gRPC's own services: a `FileDescriptorSet`.
const GRPC_DESCRIPTORS: &[u8] = include_bytes!("../generated/grpc.bin");

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::new();
    for set in [coracle_gateway::DESCRIPTORS, GRPC_DESCRIPTORS] {
        pool.decode_file_descriptor_set(set).expect("the generated descriptors are sound");
    }
    pool
});

/// Answers each request of the stream. Files that were told on it are not told again as the
/// imports of others.
async fn reflect(_: Context, call: Call) {
    let Some((mut requests, mut responses)) = call.stream() else { return };
    let mut told = HashSet::new();
    while let Some(request) = requests.next().await {
        let response = match request.and_then(|request| answer(request, &mut told)) {
            Ok(response) => response,
            Err(status) => return responses.finish(Err(status)),
        };
        if !responses.send_when_ready(&response).await {
            return;
        }
    }
    responses.finish(Ok(()));
}

fn answer(
    request: ServerReflectionRequest,
    told: &mut HashSet<String>,
) -> Result<ServerReflectionResponse, Status> {
    let answer = match &request.message_request {
        Some(MessageRequest::FileByFilename(name)) => {
            files(POOL.get_file_by_name(name), "File", name, told)
        }
        Some(MessageRequest::FileContainingSymbol(symbol)) => {
            files(file_of(symbol), "Symbol", symbol, told)
        }
        // The messages here are proto3's, which have no extensions.
        Some(MessageRequest::FileContainingExtension(extension)) => {
            let number = extension.extension_number.to_string();
            files(None, "Extension", &format!("{}:{number}", extension.containing_type), told)
        }
        Some(MessageRequest::AllExtensionNumbersOfType(name)) => {
            match POOL.get_message_by_name(name) {
                Some(_) => MessageResponse::AllExtensionNumbersResponse(ExtensionNumberResponse {
                    base_type_name: name.clone(),
                    extension_number: Vec::new(),
                }),
                None => not_found("Type", name),
            }
        }
        Some(MessageRequest::ListServices(_)) => {
            let mut names: Vec<_> =
                POOL.services().map(|service| service.full_name().to_owned()).collect();
            names.sort_unstable();
            let service = names.into_iter().map(|name| ServiceResponse { name }).collect();
            MessageResponse::ListServicesResponse(ListServiceResponse { service })
        }
        None => return Err(Status::new(Code::InvalidArgument, "invalid MessageRequest: <nil>")),
    };
    Ok(ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: Some(answer),
    })
}

/// The file and what it imports, directly or not, as far as that was not told before.
fn files(
    file: Option<FileDescriptor>,
    what: &str,
    name: &str,
    told: &mut HashSet<String>,
) -> MessageResponse {
    let Some(file) = file else { return not_found(what, name) };
    let mut found: Vec<Bytes> = Vec::new();
    let mut queue = VecDeque::from([file]);
    while let Some(file) = queue.pop_front() {
        let is_new = told.insert(file.name().to_owned());
        if is_new || found.is_empty() {
            found.push(file.encode_to_vec().into());
            queue.extend(file.dependencies());
        }
    }
    let response = FileDescriptorResponse { file_descriptor_proto: found };
    MessageResponse::FileDescriptorResponse(response)
}

fn not_found(what: &str, name: &str) -> MessageResponse {
    MessageResponse::ErrorResponse(ErrorResponse {
        error_code: Code::NotFound as i32,
        error_message: format!("{what} not found: {name}"),
    })
}

/// The file that declares `symbol`.
fn file_of(symbol: &str) -> Option<FileDescriptor> {
    let declared = |name: &str| {
        let message = || POOL.get_message_by_name(name).map(|message| message.parent_file());
        let service = || POOL.get_service_by_name(name).map(|service| service.parent_file());
        let of_enum = || POOL.get_enum_by_name(name).map(|of_enum| of_enum.parent_file());
        message().or_else(service).or_else(of_enum)
    };
    declared(symbol).or_else(|| {
        let (parent, member) = symbol.rsplit_once('.')?;
        let of_message = || {
            let message = POOL.get_message_by_name(parent)?;
            let is_oneof = message.oneofs().any(|oneof| oneof.name() == member);
            let is_member = is_oneof || message.get_field_by_name(member).is_some();
            is_member.then(|| message.parent_file())
        };
        let of_service = || {
            let service = POOL.get_service_by_name(parent)?;
            let is_member = service.methods().any(|method| method.name() == member);
            is_member.then(|| service.parent_file())
        };
        // A value is declared beside its enum, not in it.
        let of_enum = || {
            let mut all = POOL.all_enums();
            let found = all.find(|of_enum| {
                let scope = of_enum.full_name().strip_suffix(of_enum.name());
                scope.and_then(|scope| scope.strip_suffix('.')) == Some(parent)
                    && of_enum.get_value_by_name(member).is_some()
            });
            found.map(|of_enum| of_enum.parent_file())
        };
        of_message().or_else(of_service).or_else(of_enum)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w_09_symbols_of_every_kind_lead_to_their_files() {
        for (symbol, file) in [
            ("etcdserverpb.KV", Some("rpc.proto")),
            ("etcdserverpb.KV.RangeStream", Some("rpc.proto")),
            ("etcdserverpb.RangeRequest", Some("rpc.proto")),
            ("etcdserverpb.RangeRequest.range_end", Some("rpc.proto")),
            ("etcdserverpb.RequestOp.request", Some("rpc.proto")),
            ("etcdserverpb.AlarmType", Some("rpc.proto")),
            ("etcdserverpb.NOSPACE", Some("rpc.proto")),
            ("etcdserverpb.RangeRequest.SortOrder", Some("rpc.proto")),
            ("etcdserverpb.RangeRequest.ASCEND", Some("rpc.proto")),
            ("mvccpb.KeyValue", Some("kv.proto")),
            ("v3lockpb.Lock", Some("v3lock.proto")),
            ("grpc.health.v1.Health.Watch", Some("grpc/health/v1/health.proto")),
            ("etcdserverpb.KV.Nothing", None),
            ("etcdserverpb", None),
            ("", None),
        ] {
            let found = file_of(symbol).map(|file| file.name().to_owned());
            assert_eq!(found.as_deref(), file, "{symbol}");
        }
    }

    #[test]
    fn w_09_every_service_that_is_told_is_served() {
        let told: HashSet<_> =
            POOL.services().map(|service| service.full_name().to_owned()).collect();
        let served: HashSet<_> =
            super::super::SERVICES.iter().map(|methods| methods[0].service.to_owned()).collect();
        assert_eq!(told, served);
    }
}
