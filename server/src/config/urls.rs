//! URLs of members: `http://host:port`, `unix://path`, several of them separated by commas.
//!
//! The rules and sentences are etcd's (`client/pkg/types/urls.go`, `server/embed/config.go`).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// One URL to listen on or to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether TLS is spoken there: `https` and `unixs`.
    pub secure: bool,
    pub address: Address,
}

/// Where a URL points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// The host is without the brackets of an IPv6 address.
    Tcp { host: String, port: u16 },
    /// The path of a socket, relative to the working directory unless it begins with `/`.
    Unix(String),
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.secure { "s" } else { "" };
        match &self.address {
            Address::Tcp { host, port } if host.contains(':') => {
                write!(f, "http{s}://[{host}]:{port}")
            }
            Address::Tcp { host, port } => write!(f, "http{s}://{host}:{port}"),
            Address::Unix(path) => write!(f, "unix{s}://{path}"),
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
        let address = match scheme {
            "http" | "https" => Url::parse_host(text, rest)?,
            "unix" | "unixs" if rest.is_empty() => {
                return Err(format!("URL of a unix socket must contain its path: {text}"));
            }
            "unix" | "unixs" => Address::Unix(rest.to_owned()),
            _ => return Err(unsupported_scheme()),
        };
        Ok(Url { secure: scheme.ends_with('s'), address })
    }

    fn parse_host(text: &str, rest: &str) -> Result<Address, String> {
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
        Ok(Address::Tcp { host: host.to_owned(), port })
    }

    /// The URLs in `text`, sorted by how they are written; there must be one at least.
    pub fn parse_list(text: &str) -> Result<Vec<Url>, String> {
        let mut urls = text.split(',').map(Url::parse).collect::<Result<Vec<_>, _>>()?;
        urls.sort_by_key(Url::to_string);
        urls.dedup();
        Ok(urls)
    }

    /// Fails unless a socket can be bound to this URL: its host must be an address, or `localhost`.
    pub fn check_bindable(&self) -> Result<(), String> {
        match &self.address {
            Address::Tcp { host, .. } if host != "localhost" && host.parse::<IpAddr>().is_err() => {
                Err(format!("expected IP in URL for binding ({self})"))
            }
            _ => Ok(()),
        }
    }

    /// Fails if others could not dial this URL.
    pub fn check_advertisable(&self) -> Result<(), String> {
        match &self.address {
            Address::Tcp { host, .. } if host.is_empty() => {
                Err(format!("unexpected empty host ({self})"))
            }
            _ => Ok(()),
        }
    }

    /// The host that a certificate is made for and checked against.
    pub fn host(&self) -> &str {
        match &self.address {
            Address::Tcp { host, .. } => host,
            // As etcd's clients have it: the file's name, without what looks like a port.
            Address::Unix(path) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                name.split(':').next().unwrap_or_default()
            }
        }
    }
}

/// The address of `host` to listen on. `localhost` is IPv4, as with etcd.
pub(crate) fn bind_address(host: &str, port: u16) -> io::Result<SocketAddr> {
    let addresses: Vec<_> = (host, port).to_socket_addrs()?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_written() {
        for text in [
            "http://localhost:2379",
            "https://10.0.0.1:1",
            "http://[::1]:2380",
            "unix:///run/etcd.sock",
            "unixs://localhost:1234",
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        let list = Url::parse_list("http://b:1, https://a:2,http://a:9,http://b:1,http://a:10");
        assert_eq!(
            list.unwrap().iter().map(Url::to_string).collect::<Vec<_>>(),
            ["http://a:10", "http://a:9", "http://b:1", "https://a:2"]
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
            ("https://a:1/p", "URL must not contain a path: https://a:1/p"),
            ("unix://", "URL of a unix socket must contain its path: unix://"),
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
