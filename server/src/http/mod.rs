//! Plain HTTP on the client port: JSON, health checks, version, metrics (ETCD.md 1.5, 1.6).
//!
//! ```text
//! request ─► whitelist, CORS ─► /v3/…  gateway (websocket)   /health, /livez, /readyz  health
//!                               /metrics  metrics            /debug/vars  vars
//!                               /openapi.json                /debug/pprof/…  profile
//! ```

mod access;
mod gateway;
mod health;
mod metrics;
mod profile;
mod vars;
mod websocket;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use coracle_core::cluster::Version;
use coracle_core::node::ETCD_VERSION;
use coracle_gateway::ErrorForm;
use coracle_gateway::openapi;
use http::header::{ALLOW, CONTENT_TYPE, HeaderName, LOCATION};
use http::{HeaderValue, Method, Request, Response, StatusCode, request};

use self::access::Access;
use self::gateway::Gateway;
use self::health::HealthCounters;
use crate::config::HttpConfig;
use crate::config::gates::FeatureGates;
use crate::front::body::{Answer, RequestBody, ResponseBody, whole};
use crate::front::{Plain, Remote, Settings};
use crate::rpc::{Member, Router};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CONTENT_TYPE_OPTIONS: HeaderName = HeaderName::from_static("x-content-type-options");
const NO_SNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// What plain HTTP is answered with and under which rules.
pub(crate) struct Pages {
    member: Arc<Member>,
    router: Arc<Router>,
    access: Access,
    /// `None` without `--enable-grpc-gateway`.
    gateway: Option<Arc<Gateway>>,
    health: HealthCounters,
    gates: FeatureGates,
    extensive_metrics: bool,
    pprof: bool,
    scrapes: AtomicU64,
}

impl Pages {
    pub(crate) fn new(
        member: Arc<Member>,
        router: Arc<Router>,
        config: &HttpConfig,
        gates: FeatureGates,
        max_message_bytes: usize,
        max_concurrent_streams: u32,
    ) -> Pages {
        let form =
            if config.gateway_error_key { ErrorForm::WithErrorKey } else { ErrorForm::Current };
        let gateway = Gateway::new(router.clone(), max_message_bytes, max_concurrent_streams, form);
        Pages {
            access: Access::new(&config.host_whitelist, &config.cors),
            gateway: config.enable_grpc_gateway.then(|| Arc::new(gateway)),
            health: HealthCounters::default(),
            gates,
            extensive_metrics: config.extensive_metrics,
            pprof: config.pprof,
            scrapes: AtomicU64::new(0),
            member,
            router,
        }
    }

    /// Runs the checks of health once, so that metrics tell of them before anybody asks.
    pub(crate) async fn check_health(&self) {
        self.health.fill(&self.member).await;
    }

    /// Answers a request that came by a listener with `settings`.
    pub(crate) async fn answer(
        &self,
        settings: Settings,
        mut request: Request<RequestBody>,
    ) -> Answer {
        match settings.http {
            Plain::Nothing => {
                let text = "invalid gRPC request content-type";
                return whole_page(error(StatusCode::UNSUPPORTED_MEDIA_TYPE, text)).into();
            }
            Plain::Metrics => {
                let (head, _) = request.into_parts();
                return whole_page(self.metrics_page(&head).await).into();
            }
            Plain::Client => {}
        }
        modernise(&mut request);
        if let Some(refusal) = self.refusal(&request) {
            return whole_page(refusal).into();
        }
        let origin = access::origin(request.headers());
        let mut answer = if request.method() == Method::OPTIONS {
            Response::new(whole(Bytes::new())).into()
        } else {
            self.client_page(request).await
        };
        self.access.allow_origin(origin, &mut answer.response);
        answer
    }

    fn metrics_sources(&self) -> metrics::Sources<'_> {
        metrics::Sources {
            member: &self.member,
            router: &self.router,
            health: &self.health,
            gates: &self.gates,
            extensive: self.extensive_metrics,
            scrapes: &self.scrapes,
        }
    }

    /// Why a request is not answered, if so.
    fn refusal(&self, request: &Request<RequestBody>) -> Option<Response<Bytes>> {
        let remote = request.extensions().get::<Remote>().cloned().unwrap_or_default();
        if !remote.secure {
            return self.access.refusal(request.uri(), request.headers());
        }
        // Whoever believes to be known by a certificate must not be taken for nobody.
        let by_certificate = remote.common_name.is_some() && self.member.auth_enabled();
        let is_json = self.gateway.is_some() && request.uri().path().starts_with("/v3/");
        let text = "CommonName of client sending a request against gateway will be ignored and \
                    not used as expected";
        (by_certificate && is_json).then(|| error(StatusCode::BAD_REQUEST, text))
    }

    async fn client_page(&self, request: Request<RequestBody>) -> Answer {
        let (head, body) = request.into_parts();
        let path = head.uri.path();
        if path.starts_with("/v3/")
            && let Some(gateway) = &self.gateway
        {
            if websocket::is_asked_for(&head.headers) {
                return websocket::accept(gateway, head);
            }
            return gateway.answer(&head, body).await.into();
        }
        let page = match path {
            "/version" => only_get(&head, || content(JSON, version_of(&self.member))),
            "/openapi.json" if self.gateway.is_some() => {
                only_get(&head, || content(JSON, openapi::document(ETCD_VERSION)))
            }
            "/debug/vars" => only_get(&head, || vars::vars(&self.member.info())),
            "/debug/pprof" if self.pprof => redirect("/debug/pprof/"),
            _ if self.pprof && path.starts_with("/debug/pprof/") => {
                profile::page(path, &Query(head.uri.query().unwrap_or_default())).await
            }
            _ => self.metrics_page(&head).await,
        };
        whole_page(page).into()
    }

    /// What is also served where only metrics are.
    async fn metrics_page(&self, head: &request::Parts) -> Response<Bytes> {
        let query = Query(head.uri.query().unwrap_or_default());
        let path = head.uri.path();
        if path == "/metrics" {
            return metrics::metrics(&self.metrics_sources());
        }
        if !health::knows(path) {
            return error(StatusCode::NOT_FOUND, "404 page not found");
        }
        if head.method != Method::GET {
            health::log_refusal(path);
            return method_not_allowed();
        }
        health::page(&self.member, &self.health, path, &query).await
    }
}

/// Paths of the gateway's time before it was finished lead to today's.
fn modernise(request: &mut Request<RequestBody>) {
    let Some(rest) = request.uri().path().strip_prefix("/v3beta/") else { return };
    if let Ok(uri) = format!("/v3/{rest}").parse() {
        *request.uri_mut() = uri;
    }
}

fn only_get(head: &request::Parts, page: impl FnOnce() -> Response<Bytes>) -> Response<Bytes> {
    if head.method == Method::GET { page() } else { method_not_allowed() }
}

/// The page `/version` of `member`.
pub(crate) fn version_of(member: &Member) -> String {
    version(member.cluster_version(), &member.storage_version())
}

/// Until a leader has said which version the cluster runs, there is none.
fn version(cluster: Option<Version>, storage: &str) -> String {
    let cluster = cluster.map_or_else(|| "not_decided".to_owned(), Version::full);
    format!(
        "{{\"etcdserver\":\"{ETCD_VERSION}\",\"etcdcluster\":\"{cluster}\",\
         \"storage\":\"{storage}\"}}"
    )
}

/// The parameters after `?`.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// The values of `name`; empty where it has none.
    fn all(&self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        self.0.split('&').filter_map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if unescaped(key)? == name { unescaped(value) } else { None }
        })
    }
}

/// A text of a query as it is meant; `None` where a `%` has no two digits after it.
fn unescaped(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(16 * digit()? + digit()?).ok()?
            }
            byte => byte,
        });
    }
    Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

fn whole_page(page: Response<Bytes>) -> Response<ResponseBody> {
    page.map(whole)
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

fn redirect(path: &'static str) -> Response<Bytes> {
    let mut response = content(TEXT, "");
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static(path));
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
        for (cluster, text) in
            [(Some(Version { major: 3, minor: 7 }), "3.7.0"), (None, "not_decided")]
        {
            let page = version(cluster, "3.6.0");
            let parsed: serde_json::Value = serde_json::from_str(&page).unwrap();
            let expected = serde_json::json!({
                "etcdserver": ETCD_VERSION, "etcdcluster": text, "storage": "3.6.0"
            });
            assert_eq!(parsed, expected);
        }
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
        assert_eq!(query.all("verbose").next().as_deref(), Some(""));
        assert_eq!(query.all("x").next(), None);
    }

    #[test]
    fn h_02_query_parameters_are_unescaped() {
        let query = Query("exclude=linearizable%5Fread&ex%63lude=a+b&exclude=%c3%BC");
        let values: Vec<_> = query.all("exclude").collect();
        assert_eq!(values, ["linearizable_read", "a b", "ü"]);
        // Go leaves out what it cannot read.
        for broken in ["a=%", "a=%5", "a=%5g", "a%=1", "a=%+1"] {
            assert_eq!(Query(broken).all("a").next(), None, "{broken}");
        }
    }
}
