//! The one page that is served where peers connect: `GET /version`, as on etcd's peer URLs (H-03).
//! Whoever asks for it is a person or a probe, so one request is all that a connection has.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::frame::invalid;

/// How requests of HTTP begin here; no frame is as long as these bytes would say.
pub(super) const GET: &[u8] = b"GET ";
/// Largest request, in bytes.
const MAX_REQUEST: usize = 8 * 1024;

/// The answer to the request that begins with `seen` and goes on in `stream`.
pub(super) async fn answer(
    seen: &[u8],
    stream: &mut (impl AsyncRead + Unpin),
    version: impl Fn() -> String,
) -> io::Result<String> {
    let mut request = seen.to_vec();
    // Read to its end: a client may take a connection that is closed before that for broken.
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > MAX_REQUEST || stream.read_buf(&mut request).await? == 0 {
            return Err(invalid("an HTTP request without an end".to_owned()));
        }
    }
    let path = request[GET.len()..].split(|byte| byte.is_ascii_whitespace()).next();
    let (status, kind, body) = match path {
        Some(b"/version") => ("200 OK", "application/json", version()),
        _ => ("404 Not Found", "text/plain; charset=utf-8", "404 page not found\n".to_owned()),
    };
    Ok(format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(seen: &[u8], mut rest: &[u8]) -> Option<String> {
        answer(seen, &mut rest, || "{}".to_owned()).await.ok()
    }

    #[tokio::test]
    async fn h_03_the_version_is_told_and_nothing_else() {
        let version = asked(b"GET /version HTTP/1.1\r\nHo", b"st: a\r\n\r\n").await.unwrap();
        assert!(version.starts_with("HTTP/1.1 200 OK\r\n") && version.ends_with("\r\n\r\n{}"));
        let missing = asked(b"GET /members HTTP/1.1\r\n\r\n", b"").await.unwrap();
        assert!(missing.starts_with("HTTP/1.1 404 Not Found\r\n"), "{missing}");
        assert_eq!(asked(b"GET /version HTTP/1.1\r\n", b"").await, None);
        assert_eq!(asked(b"GET /", &[b'x'; 2 * MAX_REQUEST]).await, None);
    }
}
