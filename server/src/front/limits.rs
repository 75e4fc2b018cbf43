//! The bounds of the front, and how they were chosen (sizes in bytes).

use std::time::Duration;

/// What one stream may have under way to us. Most requests are far smaller.
pub(super) const STREAM_WINDOW: u32 = 1024 * 1024;
/// What one connection may have under way to us. h2 allows floods of small frames up to half of it
/// before it ends a connection: with the default window, honest streams of small messages hit that.
pub(super) const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
pub(super) const MAX_FRAME: u32 = 64 * 1024;
pub(super) const MAX_HEADER_LIST: u32 = 16 * 1024;
/// What h2 buffers for one stream beyond the client's window.
pub(super) const SEND_BUFFER: usize = 1024 * 1024;
/// Streams that clients reset before they were accepted (CVE-2023-44487, "rapid reset"): what comes
/// in one read. An honest client that gives up a hundred calls at once writes all of that together.
pub(super) const PENDING_ACCEPT_RESETS: usize = 1024;
/// Errors of a client's, in the life of its connection.
pub(super) const LOCAL_ERROR_RESETS: usize = 1024;
/// Streams we reset and still remember.
pub(super) const CONCURRENT_RESETS: usize = 1024;
/// Until when a TLS handshake and the first bytes of a connection must be there.
pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Until when the head of an HTTP/1 request must be there; also how long a connection may idle.
pub(super) const HEADER_DEADLINE: Duration = Duration::from_secs(300);
/// Until when a client that is answered already must have sent the rest of its request.
pub(super) const REST_DEADLINE: Duration = Duration::from_secs(5);
/// How long calls under way may go on when the server stops.
pub(super) const STOP_GRACE: Duration = Duration::from_secs(1);
/// Accepted sockets waiting for their thread.
pub(super) const ACCEPTED_QUEUE: usize = 256;
/// Pause after a failed `accept`: file descriptors do not come back at once.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
pub(super) const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Largest head of an HTTP/1 request.
pub(super) const HTTP1_BUFFER: usize = 16 * 1024;
