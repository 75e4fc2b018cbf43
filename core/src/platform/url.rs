//! Peer and client URLs: `scheme://host:port`, nothing behind the port; or a unix socket's path.

/// The parts of a URL that a member listens on or is reached at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUrl {
    /// `http`, `https`, `unix` or `unixs`.
    pub scheme: String,
    /// Of a unix socket the path.
    pub host: String,
    /// 0 for a unix socket.
    pub port: u16,
}

/// Parses `url` by etcd's rules (`pkg/types.NewURLs`); the error is a sentence for the user.
pub fn parse_peer_url(url: &str) -> Result<PeerUrl, String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(format!("URL scheme must be http, https, unix, or unixs: {url}"));
    };
    if matches!(scheme, "unix" | "unixs") && !rest.is_empty() {
        return Ok(PeerUrl { scheme: scheme.to_owned(), host: rest.to_owned(), port: 0 });
    }
    if !matches!(scheme, "http" | "https") {
        return Err(format!("URL scheme must be http, https, unix, or unixs: {url}"));
    }
    if rest.contains('/') {
        return Err(format!("URL must not contain a path: {url}"));
    }
    let Some((host, port)) = rest.rsplit_once(':') else {
        return Err(format!("URL address does not have the form \"host:port\": {url}"));
    };
    let port = port
        .parse()
        .map_err(|_| format!("URL address does not have the form \"host:port\": {url}"))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Ok(PeerUrl { scheme: scheme.to_owned(), host: host.to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cl_01_urls_need_scheme_host_and_port_and_no_path() {
        for good in ["http://127.0.0.1:2380", "https://[::1]:1", "unix:///run/peer.sock"] {
            assert!(parse_peer_url(good).is_ok(), "{good}");
        }
        let bad = [
            "",
            "127.0.0.1:2380",
            "ftp://a:1",
            "http://a",
            "http://a:x",
            "http://a:1/",
            "http://a:1/b",
            "unix://",
        ];
        for bad in bad {
            assert!(parse_peer_url(bad).is_err(), "{bad}");
        }
        let parsed = parse_peer_url("http://[::1]:2380").unwrap();
        assert_eq!((parsed.host.as_str(), parsed.port), ("::1", 2380));
    }
}
