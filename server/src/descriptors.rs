//! File descriptors: as many as the system gives, and some of them never for clients.

use std::io;

/// What a member keeps for its files and peers (etcd's `reservedInternalFDNum`).
const RESERVED: u64 = 150;

/// Raises this process's limit of open files as far as it may, as Go's runtime does.
///
/// # Errors
/// If it leaves nothing for clients, in etcd's words.
pub fn raise() -> io::Result<()> {
    let mut limit = limit()?;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the structure lives during the call, which only reads it.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        tracing::warn!(error = %io::Error::last_os_error(), "the limit of open files stays");
    }
    if self::limit()?.rlim_cur <= RESERVED {
        let text = "file descriptor limit of etcd process is too low; please set higher";
        return Err(io::Error::other(text));
    }
    Ok(())
}

/// How many connections of clients a listener may have: without this bound they would take the
/// descriptors that a snapshot or a segment of the log needs, and the member would stop.
pub(crate) fn for_clients() -> usize {
    let limit = limit().map_or(u64::MAX, |limit| limit.rlim_cur);
    let most = tokio::sync::Semaphore::MAX_PERMITS;
    usize::try_from(limit.saturating_sub(RESERVED)).map_or(most, |places| places.min(most))
}

fn limit() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure lives during the call, which only writes it.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}
