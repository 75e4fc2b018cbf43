//! Who may ask over plain HTTP: the host whitelist and CORS (ETCD.md GW-09).

use std::collections::HashSet;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST,
    ORIGIN,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};

use super::error;

/// A set of names, or everybody: `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Allowed {
    All,
    Only(HashSet<String>),
}

impl Allowed {
    /// No names are everybody, as with etcd.
    fn new(names: &[String]) -> Allowed {
        if names.is_empty() || names.iter().any(|name| name == "*") {
            return Allowed::All;
        }
        Allowed::Only(names.iter().cloned().collect())
    }

    fn contains(&self, name: &str) -> bool {
        match self {
            Allowed::All => true,
            Allowed::Only(names) => names.contains(name),
        }
    }
}

/// `--host-whitelist` and `--cors`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Access {
    hosts: Allowed,
    origins: Allowed,
}

impl Access {
    pub(super) fn new(host_whitelist: &[String], cors: &[String]) -> Access {
        Access { hosts: Allowed::new(host_whitelist), origins: Allowed::new(cors) }
    }

    /// Why a request over a connection that is not encrypted is not answered: a page of some other
    /// site may have been made to ask it, by a name that was made to lead here.
    pub(super) fn refusal(&self, uri: &Uri, headers: &HeaderMap) -> Option<Response<Bytes>> {
        let host = host(uri, headers);
        if self.hosts.contains(&host) {
            return None;
        }
        let text = format!(
            "\netcd received your request, but the Host header was unrecognized.\n\n\
             To fix this, choose one of the following options:\n\
             - Enable TLS, then any HTTPS request will be allowed.\n\
             - Add the hostname you want to use to the whitelist in settings.\n  \
             - e.g. etcd --host-whitelist {host:?}\n\n\
             This requirement has been added to help prevent \"DNS Rebinding\" attacks \
             (CVE-2018-5702).\n"
        );
        Some(error(StatusCode::MISDIRECTED_REQUEST, &text))
    }

    /// Tells the browser which other sites' pages may read the answer.
    pub(super) fn allow_origin<B>(&self, origin: Option<HeaderValue>, answer: &mut Response<B>) {
        let origin = match (&self.origins, origin) {
            (Allowed::All, _) => HeaderValue::from_static("*"),
            (some, Some(origin)) if origin.to_str().is_ok_and(|name| some.contains(name)) => origin,
            _ => return,
        };
        let headers = answer.headers_mut();
        let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
        let accepted = HeaderValue::from_static("accept, content-type, authorization");
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, accepted);
    }
}

pub(super) fn origin(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(ORIGIN).cloned()
}

/// The name that the client asked for, without its port.
fn host(uri: &Uri, headers: &HeaderMap) -> String {
    let header = headers.get(HOST).and_then(|host| host.to_str().ok());
    // Over HTTP/2 the name stands in `:authority`.
    let authority = uri.authority().map(|authority| authority.as_str()).or(header);
    let Some(authority) = authority else { return String::new() };
    match authority.parse::<http::uri::Authority>() {
        Ok(parsed) => parsed.host().trim_matches(['[', ']']).to_owned(),
        Err(_) => authority.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(host: &str) -> HeaderMap {
        HeaderMap::from_iter([(HOST, host.parse().unwrap())])
    }

    #[test]
    fn gw_09_hosts() {
        let uri = Uri::from_static("/health");
        let access = Access::new(&["localhost".to_owned(), "::1".to_owned()], &[]);
        for (host, known) in [
            ("localhost", true),
            ("localhost:2379", true),
            ("[::1]:2379", true),
            ("evil.example", false),
            ("evil.example:2379", false),
        ] {
            let refusal = access.refusal(&uri, &headers(host));
            assert_eq!(refusal.is_none(), known, "{host}");
            if let Some(refusal) = refusal {
                assert_eq!(refusal.status().as_u16(), 421);
                let text = String::from_utf8(refusal.body().to_vec()).unwrap();
                assert!(text.contains("etcd --host-whitelist \"evil.example\"\n"), "{text}");
            }
        }
        assert!(access.refusal(&Uri::from_static("http://x.y/z"), &headers("localhost")).is_some());
        assert!(Access::new(&["*".to_owned()], &[]).refusal(&uri, &headers("anything")).is_none());
    }

    #[test]
    fn gw_09_origins() {
        let allowed = |cors: &str, origin: Option<&str>| {
            let mut answer = Response::new(());
            let origin = origin.map(|origin| origin.parse().unwrap());
            Access::new(&[], &[cors.to_owned()]).allow_origin(origin, &mut answer);
            let header = answer.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).cloned();
            header.map(|origin| origin.to_str().unwrap().to_owned())
        };
        assert_eq!(allowed("*", None).as_deref(), Some("*"));
        assert_eq!(allowed("http://a", Some("http://a")).as_deref(), Some("http://a"));
        assert_eq!(allowed("http://a", Some("http://b")), None);
        assert_eq!(allowed("http://a", None), None);
    }
}
