//! Plain HTTP on the client port: health checks, version, metrics (ETCD.md 1.6).

mod health;
mod metrics;
mod process;

use bytes::Bytes;
use coracle_core::node::{ETCD_VERSION, STORAGE_VERSION};
use http::header::{ALLOW, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::rpc::{Member, Router};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// Answers a request by its path.
pub(crate) async fn answer(
    member: &Member,
    router: &Router,
    request: &Request<()>,
) -> Response<Bytes> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return method_not_allowed();
    }
    let query = Query(request.uri().query().unwrap_or_default());
    let path = request.uri().path();
    match path {
        "/health" => health::health(member, &query).await,
        "/metrics" => metrics::metrics(member, router),
        "/version" => content(JSON, version()),
        _ => match health::probe(member, path, &query).await {
            Some(response) => response,
            None => error(StatusCode::NOT_FOUND, "404 page not found"),
        },
    }
}

fn version() -> String {
    format!(
        "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{STORAGE_VERSION}\",\
         \"storage\":\"{STORAGE_VERSION}\"}}"
    )
}

/// The parameters after `?`. None of the values that matter is percent-encoded.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The values of `name`; empty where it has none.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (key == name).then_some(value)
        })
    }
}

fn content(content_type: HeaderValue, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A failure in the form of Go's `http.Error`: the text and a line break.
fn error(status: StatusCode, text: &str) -> Response<Bytes> {
    let mut response = content(TEXT, format!("{text}\n"));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE_OPTIONS, NO_SNIFF);
    response
}

fn method_not_allowed() -> Response<Bytes> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h_03_version() {
        let parsed: serde_json::Value = serde_json::from_str(&version()).unwrap();
        let expected = serde_json::json!({
            "etcdserver": ETCD_VERSION, "etcdcluster": STORAGE_VERSION, "storage": STORAGE_VERSION
        });
        assert_eq!(parsed, expected);
    }

    #[test]
    fn errors_are_gos() {
        let response = error(StatusCode::NOT_FOUND, "404 page not found");
        assert_eq!(response.body(), "404 page not found\n");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        let response = method_not_allowed();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &"GET".parse().unwrap())
        );
    }

    #[test]
    fn query_parameters() {
        let query = Query("verbose&exclude=a&exclude=b");
        assert_eq!(query.all("exclude").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(query.all("verbose").next(), Some(""));
        assert_eq!(query.all("x").next(), None);
    }
}
