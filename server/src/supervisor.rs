//! What tells systemd that the server is up (sd_notify(3)).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says `READY=1` to the socket that `NOTIFY_SOCKET` names, if it names one.
pub fn notify_ready() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    tracing::info!("notifying init daemon");
    match send(&socket, b"READY=1") {
        Ok(()) => tracing::info!("successfully notified init daemon"),
        Err(error) => tracing::error!(%error, "failed to notify init daemon of readiness"),
    }
}

/// A name that begins with `@` is one of the kernel's, without a file.
fn send(socket: &OsStr, message: &[u8]) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message, &address).map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn fs_02_readiness_reaches_sockets_of_both_kinds() {
        let name = format!("coracle-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        _ = std::fs::remove_file(&path);
        let abstracted = SocketAddr::from_abstract_name(&name).unwrap();
        for (address, told) in [
            (SocketAddr::from_pathname(&path).unwrap(), path.clone().into_os_string()),
            (abstracted, format!("@{name}").into()),
        ] {
            let socket = UnixDatagram::bind_addr(&address).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            send(&told, b"READY=1").unwrap();
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(send(OsStr::new("/nonexistent/socket"), b"READY=1").is_err());
    }
}
