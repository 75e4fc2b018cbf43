//! A page of a member by plain HTTP, for `check datascale`, which reads the member's memory in its
//! metrics.

use coracle_ctl::environment::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::dial::{Dialer, Dialers};

/// The longest page read, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

/// The body of `GET path` from the first endpoint of `connection`.
pub(super) async fn get(connection: Connection, path: &str) -> Result<String, String> {
    let endpoint = connection.endpoints.first().ok_or("no endpoint is given")?;
    let dialer = Dialers::for_pages(&connection.tls)
        .and_then(|mut dialers| dialers.endpoint(endpoint))
        .map(|(_, dialer)| dialer)
        .map_err(|error| error.message)?;
    let page = timeout(connection.dial_timeout * 2, read(dialer, path)).await;
    let page = page.map_err(|_| format!("{endpoint} does not answer"))?;
    page.map_err(|error| format!("{endpoint}: {error}"))
}

async fn read(dialer: Dialer, path: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| error.to_string();
    let host = dialer.host().to_owned();
    let mut stream = dialer.dial().await.map_err(failed)?.into_inner();
    // The old protocol's answers are never in chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await.map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(format!("answered {:?}", answer.lines().next().unwrap_or_default())),
    }
}
