//! gRPC errors as HTTP answers (ETCD.md GW-04 to GW-06).

use serde_json::{Map, Value};

/// How an error is written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ErrorForm {
    /// `{"code":…,"message":…}`, as etcd 3.6 and later.
    #[default]
    Current,
    /// With the message as `error` besides, which clients of etcd 3.5 and before look for.
    WithErrorKey,
}

/// The HTTP status of a gRPC code.
pub fn http_status(code: u32) -> u16 {
    match code {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

/// An error as the whole of an answer.
pub fn error_reply(code: u32, message: &str, form: ErrorForm) -> String {
    object(code, message, form).to_string()
}

/// An error as the last line of a stream.
pub fn error_line(code: u32, message: &str, form: ErrorForm) -> String {
    let mut line = Map::new();
    let mut error = object(code, message, ErrorForm::Current);
    if let (ErrorForm::WithErrorKey, Some(fields)) = (form, error.as_object_mut()) {
        let status = http_status(code);
        fields.insert("grpc_code".to_owned(), code.into());
        fields.insert("http_code".to_owned(), status.into());
    }
    line.insert("error".to_owned(), error);
    Value::Object(line).to_string() + "\n"
}

/// Fields without a value are left out, as in every message.
fn object(code: u32, message: &str, form: ErrorForm) -> Value {
    let mut fields = Map::new();
    if form == ErrorForm::WithErrorKey {
        fields.insert("error".to_owned(), message.into());
    }
    if code != 0 {
        fields.insert("code".to_owned(), code.into());
    }
    if !message.is_empty() {
        fields.insert("message".to_owned(), message.into());
    }
    Value::Object(fields)
}
