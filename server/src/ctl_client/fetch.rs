//! A page of a member by plain HTTP, for `check datascale`, which reads the member's memory in its
//! metrics.

use coracle_ctl::environment::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest page read, in bytes.
const LONGEST: u64 = 16 * 1024 * 1024;

/// The body of `GET path` from the first endpoint of `connection`.
pub(super) async fn get(connection: Connection, path: &str) -> Result<String, String> {
    let endpoint = connection.endpoints.first().ok_or("no endpoint is given")?;
    let address = match endpoint.split_once("://") {
        Some(("http", address)) => address,
        None => endpoint,
        Some((scheme, _)) => return Err(format!("a page cannot be read by {scheme} yet")),
    };
    let page = timeout(connection.dial_timeout * 2, read(address, path)).await;
    page.map_err(|_| format!("{endpoint} does not answer"))?
}

async fn read(address: &str, path: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    // The old protocol's answers are never in chunks.
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).await.map_err(failed)?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(format!("{address} answered {:?}", answer.lines().next().unwrap_or_default())),
    }
}
