//! The JSON gateway without its sockets: paths to RPCs, JSON to messages, messages to JSON.
//!
//! ```text
//! POST /v3/kv/put {"key":"Zm9v"} ──find──► Method ──request──► PutRequest, encoded ──► host's RPC
//!                 {"header":{…}} ◄──reply── Method ◄── PutResponse, encoded ◄────────┘
//! ```
//!
//! Everything follows from the protobuf descriptors of `core/proto` (`cargo xtask codegen` writes
//! them down in `generated/`), so a new field or message needs nothing here, and a new RPC a line
//! in `routes`. Requests and replies are encoded messages, which is what any host has at hand: the
//! native server passes them through its RPC layer, and a host that speaks JSON alone decodes them
//! into the types of `coracle_core::api`.
//!
//! The mapping is proto3's for JSON as etcd's gateway sets it (ETCD.md 1.5): names as in the
//! `.proto` on the way out, those and lowerCamelCase on the way in; integers of 64 bits as strings;
//! bytes as base64; enums as names; what has its default value is left out; unknown fields are
//! passed over.

mod error;
pub mod openapi;
mod reader;
mod routes;

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};

pub use error::{ErrorForm, error_line, error_reply, http_status};
pub use reader::Reader;

use routes::ROUTES;

/// Every message and service of etcd's API: a `FileDescriptorSet`.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/etcd.bin");

static METHODS: LazyLock<HashMap<&'static str, Method>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(DESCRIPTORS).expect("the generated descriptors are sound");
    let method = |route: &routes::Route| {
        let service = pool.get_service_by_name(route.service)?;
        let method = service.methods().find(|method| method.name() == route.rpc)?;
        Some(Method {
            rpc: format!("/{}/{}", route.service, route.rpc),
            input: method.input(),
            output: method.output(),
            client_streams: method.is_client_streaming(),
            server_streams: method.is_server_streaming(),
        })
    };
    ROUTES.iter().filter_map(|route| Some((route.path, method(route)?))).collect()
});

/// The RPC behind a path of the gateway.
#[derive(Debug)]
pub struct Method {
    rpc: String,
    input: MessageDescriptor,
    output: MessageDescriptor,
    client_streams: bool,
    server_streams: bool,
}

/// A request that is not the JSON of its message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// The method behind `path`, if there is one.
pub fn find(path: &str) -> Option<&'static Method> {
    METHODS.get(path)
}

/// Every path of the gateway.
pub fn paths() -> impl Iterator<Item = &'static str> {
    ROUTES.iter().map(|route| route.path)
}

impl Method {
    /// `/package.Service/Method`, as in gRPC.
    pub fn rpc(&self) -> &str {
        &self.rpc
    }

    /// Whether the client sends any number of messages.
    pub fn client_streams(&self) -> bool {
        self.client_streams
    }

    /// Whether the answer is any number of messages, each wrapped as a `result` ([`result_line`]).
    pub fn server_streams(&self) -> bool {
        self.server_streams
    }

    /// The encoded request that `json` says. Nothing at all says the empty one.
    ///
    /// # Errors
    /// If `json` is none, or does not fit the message.
    pub fn request(&self, json: &[u8]) -> Result<Vec<u8>, Malformed> {
        if json.trim_ascii().is_empty() {
            return Ok(Vec::new());
        }
        let malformed = |error: serde_json::Error| Malformed(error.to_string());
        let options = DeserializeOptions::new().deny_unknown_fields(false);
        let mut json = serde_json::Deserializer::from_slice(json);
        let message =
            DynamicMessage::deserialize_with_options(self.input.clone(), &mut json, &options)
                .map_err(malformed)?;
        json.end().map_err(malformed)?;
        Ok(message.encode_to_vec())
    }

    /// The JSON of an encoded reply.
    ///
    /// # Errors
    /// If `reply` is not a message of this method: a fault of the host.
    pub fn reply(&self, reply: &[u8]) -> Result<String, Malformed> {
        let broken = |error: &dyn std::error::Error| Malformed(error.to_string());
        let message =
            DynamicMessage::decode(self.output.clone(), reply).map_err(|error| broken(&error))?;
        let options = SerializeOptions::new()
            .use_proto_field_name(true)
            .stringify_64_bit_integers(true)
            .skip_default_fields(true);
        let mut json = Vec::with_capacity(2 * reply.len());
        message
            .serialize_with_options(&mut serde_json::Serializer::new(&mut json), &options)
            .map_err(|error| broken(&error))?;
        String::from_utf8(json).map_err(|error| broken(&error))
    }
}

/// A reply as one line of a stream.
pub fn result_line(reply: &str) -> String {
    format!("{{\"result\":{reply}}}\n")
}

#[cfg(test)]
mod tests;
