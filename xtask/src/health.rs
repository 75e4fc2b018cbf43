//! Asking a member over HTTP whether it is healthy, with nothing but a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Whether the member at this client address says so of itself: `GET /health` answers
/// `{"health":"true"}` once the cluster has a leader and the member can commit through it.
pub(crate) fn is_healthy(client: SocketAddr) -> bool {
    answer(client).is_ok_and(|text| text.starts_with("HTTP/1.1 200") && text.contains("\"true\""))
}

fn answer(client: SocketAddr) -> std::io::Result<String> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&client, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    write!(stream, "GET /health HTTP/1.1\r\nHost: {client}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
