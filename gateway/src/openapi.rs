//! The gateway's paths and messages as an OpenAPI document (GW-10), made of the same descriptors
//! and routes as the mapping itself.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use crate::routes::ROUTES;
use crate::{Method, find};

/// The name of the schema of errors.
const ERROR: &str = "Error";

/// The document for an API of this `version`, as JSON.
pub fn document(version: &str) -> String {
    let mut paths = Map::new();
    let mut operations = BTreeSet::new();
    let mut schemas = Schemas::default();
    for route in ROUTES {
        let Some(method) = find(route.path) else { continue };
        let service = route.service.rsplit('.').next().unwrap_or_default();
        let mut id = format!("{service}_{}", route.rpc);
        // Some have two paths.
        while !operations.insert(id.clone()) {
            id.push('2');
        }
        paths.insert(route.path.to_owned(), json!({ "post": operation(id, service, method) }));
        schemas.add(&method.input);
        schemas.add(&method.output);
    }
    let document = json!({
        "openapi": "3.0.3",
        "info": {
            "title": "etcd",
            "description": "etcd's v3 API in JSON. Integers of 64 bits are strings, bytes are \
                            base64, and what has its default value is left out of answers. \
                            Requests and answers of streams are any number of objects, one after \
                            another.",
            "version": version,
        },
        "paths": paths,
        "security": [{}, { "token": [] }],
        "components": {
            "securitySchemes": {
                "token": { "type": "apiKey", "in": "header", "name": "Authorization" },
            },
            "schemas": schemas.finish(),
        },
    });
    document.to_string()
}

fn operation(id: String, tag: &str, method: &Method) -> Value {
    let content = |schema: Value| json!({ "application/json": { "schema": schema } });
    let result = match method.server_streams() {
        false => reference(method.output.full_name()),
        true => json!({
            "type": "object",
            "properties": {
                "result": reference(method.output.full_name()),
                "error": reference(ERROR),
            },
        }),
    };
    let (request, answer) = match (method.client_streams(), method.server_streams()) {
        (true, _) => ("Any number of these objects.", "Any number of these objects, one a line."),
        (false, true) => ("The request.", "Any number of these objects, one a line."),
        (false, false) => ("The request.", "The answer."),
    };
    json!({
        "operationId": id,
        "tags": [tag],
        "requestBody": {
            "description": request,
            "required": true,
            "content": content(reference(method.input.full_name())),
        },
        "responses": {
            "200": { "description": answer, "content": content(result) },
            "default": { "description": "An error.", "content": content(reference(ERROR)) },
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// The messages and enums that are mentioned.
#[derive(Default)]
struct Schemas {
    named: BTreeMap<String, Value>,
}

impl Schemas {
    /// Adds `message` and everything that it is made of.
    fn add(&mut self, message: &MessageDescriptor) {
        if self.named.contains_key(message.full_name()) {
            return;
        }
        // Its place first: messages may hold each other.
        self.named.insert(message.full_name().to_owned(), Value::Null);
        let mut properties = Map::new();
        for field in message.fields() {
            properties.insert(field.name().to_owned(), self.of_field(&field));
        }
        let schema = json!({ "type": "object", "properties": properties });
        self.named.insert(message.full_name().to_owned(), schema);
    }

    fn of_field(&mut self, field: &FieldDescriptor) -> Value {
        let of_item = self.of_kind(&field.kind());
        match field.is_list() {
            true => json!({ "type": "array", "items": of_item }),
            false => of_item,
        }
    }

    fn of_kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Message(message) => {
                self.add(message);
                reference(message.full_name())
            }
            Kind::Enum(of_enum) => {
                self.add_enum(of_enum);
                reference(of_enum.full_name())
            }
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "format": "byte" }),
            Kind::Double => json!({ "type": "number", "format": "double" }),
            Kind::Float => json!({ "type": "number", "format": "float" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "format": "int32" })
            }
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "format": "int64" }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "format": "int64" })
            }
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64" }),
        }
    }

    fn add_enum(&mut self, of_enum: &EnumDescriptor) {
        let names: Vec<_> = of_enum.values().map(|value| value.name().to_owned()).collect();
        let schema = json!({
            "type": "string",
            "enum": names,
            "default": of_enum.default_value().name(),
        });
        self.named.insert(of_enum.full_name().to_owned(), schema);
    }

    fn finish(mut self) -> BTreeMap<String, Value> {
        let error = json!({
            "type": "object",
            "properties": {
                "code": { "type": "integer", "format": "int32" },
                "message": { "type": "string" },
            },
        });
        self.named.insert(ERROR.to_owned(), error);
        self.named
    }
}
