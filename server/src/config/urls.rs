//! URLs of members: `http://host:port`, several of them separated by commas.
//!
//! The rules and sentences are etcd's (`client/pkg/types/urls.go`, `server/embed/config.go`).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// One `http` URL without a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "http://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "http://{}:{}", self.host, self.port)
        }
    }
}

impl Url {
    /// The URL in `text`, or what is wrong with it.
    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let unsupported_scheme =
            || format!("URL scheme must be http, https, unix, or unixs: {text}");
        let (scheme, rest) = text.split_once("://").ok_or_else(unsupported_scheme)?;
        match scheme {
            "http" => {}
            "https" => return Err(format!("https is not supported yet: {text}")),
            "unix" | "unixs" => return Err(format!("unix sockets are not supported yet: {text}")),
            _ => return Err(unsupported_scheme()),
        }
        let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
        let malformed = || format!("URL address does not have the form \"host:port\": {text}");
        let (host, port) = address.rsplit_once(':').ok_or_else(malformed)?;
        let host = match host.strip_prefix('[') {
            Some(host) => host.strip_suffix(']').ok_or_else(malformed)?,
            None if host.contains(':') => return Err(malformed()),
            None => host,
        };
        let port = port.parse().map_err(|_| malformed())?;
        Ok(Url { host: host.to_owned(), port })
    }

    /// The URLs in `text`, sorted; there must be one at least.
    pub fn parse_list(text: &str) -> Result<Vec<Url>, String> {
        let mut urls = text.split(',').map(Url::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort();
        urls.dedup();
        Ok(urls)
    }

    /// Fails unless a socket can be bound to this URL: its host must be an address, or `localhost`.
    pub fn check_bindable(&self) -> Result<(), String> {
        if self.host == "localhost" || self.host.parse::<IpAddr>().is_ok() {
            Ok(())
        } else {
            Err(format!("expected IP in URL for binding ({self})"))
        }
    }

    /// Fails if others could not dial this URL.
    pub fn check_advertisable(&self) -> Result<(), String> {
        if self.host.is_empty() { Err(format!("unexpected empty host ({self})")) } else { Ok(()) }
    }

    /// The address to listen on. `localhost` is IPv4, as with etcd.
    pub fn bind_address(&self) -> io::Result<SocketAddr> {
        let addresses: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
        first.copied().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for text in ["http://localhost:2379", "http://10.0.0.1:1", "http://[::1]:2380"] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        let list = Url::parse_list("http://b:1, http://a:2,http://b:1").unwrap();
        assert_eq!(
            list.iter().map(Url::to_string).collect::<Vec<_>>(),
            ["http://a:2", "http://b:1"]
        );
    }

    #[test]
    fn bad_urls_are_called_bad_in_etcds_words() {
        for (text, error) in [
            ("", "URL scheme must be http, https, unix, or unixs: "),
            ("localhost:1", "URL scheme must be http, https, unix, or unixs: localhost:1"),
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("http://a", "URL address does not have the form \"host:port\": http://a"),
            ("http://a:x", "URL address does not have the form \"host:port\": http://a:x"),
            ("http://::1:2", "URL address does not have the form \"host:port\": http://::1:2"),
            ("http://a:1/p", "URL must not contain a path: http://a:1/p"),
            ("https://a:1", "https is not supported yet: https://a:1"),
        ] {
            assert_eq!(Url::parse(text).unwrap_err(), error);
        }
        let name = Url::parse("http://example.com:2379").unwrap();
        assert_eq!(
            name.check_bindable().unwrap_err(),
            "expected IP in URL for binding (http://example.com:2379)"
        );
        assert!(Url::parse("http://:2379").unwrap().check_advertisable().is_err());
    }
}
