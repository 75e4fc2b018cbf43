//! Servers and clients that speak TLS, or over unix sockets: what the table in `tests/tests/tls.rs`
//! is made of.
//!
//! [`pki`] makes a folder of certificates, [`server`] starts one server on them, [`client`] asks it
//! with programs that others wrote and with a bare connection, [`channel`] with generated clients.

pub mod channel;
pub mod client;
pub mod pki;
pub mod server;
