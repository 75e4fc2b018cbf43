//! A web server for the built site: files of one folder, to whoever asks on this machine.
//!
//! HTTP/1.1 with one request per connection is all it takes; what needs more is a job for a real
//! web server, which any will do.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// A request line and its headers are shorter than this.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// Serves `folder` on this port of 127.0.0.1 (0: any free one) in threads of its own, as long as
/// the process lives.
pub(crate) fn serve(folder: &Path, port: u16) -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .with_context(|| format!("cannot listen on port {port} of 127.0.0.1"))?;
    let address = listener.local_addr()?;
    let folder: Arc<Path> = folder.into();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            // A browser that goes away in the middle is its own business.
            thread::spawn(move || answer(stream, &folder));
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream, folder: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(&stream).take(REQUEST_BYTES_MAX);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let mut words = request.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, kind, body) = match (method, file(folder, target)) {
        ("GET" | "HEAD", Some(path)) => ("200 OK", media_type(&path), fs::read(&path)?),
        ("GET" | "HEAD", None) => ("404 Not Found", "text/plain", b"no such file\n".to_vec()),
        _ => ("405 Method Not Allowed", "text/plain", b"only GET\n".to_vec()),
    };
    let length = body.len();
    write!(
        &stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Cache-Control: no-cache\r\nConnection: close\r\n\r\n"
    )?;
    if method != "HEAD" {
        (&stream).write_all(&body)?;
    }
    Ok(())
}

/// The file that a request's target means, if it is one of the folder's.
fn file(folder: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next()?.strip_prefix('/')?;
    let path = if path.is_empty() { "index.html" } else { path };
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
    Some(folder.join(path)).filter(|path| inside && path.is_file())
}

fn media_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()).unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "wasm" => "application/wasm",
        "json" => "application/json",
        "webmanifest" => "application/manifest+json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "txt" | "md" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{request}\r\nHost: x\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn serves_what_is_inside_and_nothing_else() {
        let folder = std::env::temp_dir().join(format!("coracle-site-{}", std::process::id()));
        fs::create_dir_all(folder.join("site")).unwrap();
        fs::write(folder.join("site/index.html"), "hello").unwrap();
        fs::write(folder.join("site/coracle.wasm"), "\0asm").unwrap();
        fs::write(folder.join("secret"), "no").unwrap();
        let address = serve(&folder.join("site"), 0).unwrap();

        assert!(ask(address, "GET / HTTP/1.1").ends_with("\r\n\r\nhello"));
        assert!(ask(address, "HEAD /index.html?a=1 HTTP/1.1").ends_with("close\r\n\r\n"));
        assert!(ask(address, "GET /coracle.wasm HTTP/1.1").contains("Type: application/wasm\r\n"));
        for target in ["/../secret", "/missing", "//etc/passwd", "secret", "/site/.."] {
            let answer = ask(address, &format!("GET {target} HTTP/1.1"));
            assert!(answer.starts_with("HTTP/1.1 404 "), "{target}: {answer}");
        }
        assert!(ask(address, "PUT / HTTP/1.1").starts_with("HTTP/1.1 405 "));
        fs::remove_dir_all(&folder).unwrap();
    }
}
