//! The laboratory's engine: real nodes in virtual time.
//!
//! | module | holds |
//! |---|---|
//! | [`protocol`] | what page, conductor and nodes say to each other |
//! | [`conductor`] | virtual time, the network, the visitor's actions; no browser in it |
//! | `client` | the terminal's commands and the operator, in virtual time |
//! | [`node`] | a process with the store's node in it, as a function of its inputs |
//! | `web` | the browser around them: Web Workers, the file system, messages |

#![forbid(unsafe_code)]

mod client;
pub mod conductor;
pub mod node;
pub mod protocol;
#[cfg(target_arch = "wasm32")]
pub mod web;

/// The bytes of a message between conductor and node.
///
/// # Errors
/// If `message` holds what the format cannot (no message of [`protocol`] does).
pub fn encode<T: serde::Serialize>(message: &T) -> Result<Vec<u8>, String> {
    postcard::to_stdvec(message).map_err(|error| error.to_string())
}

/// The message of [`encode`]'s bytes.
///
/// # Errors
/// If the bytes are not those of a `T`.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    postcard::from_bytes(bytes).map_err(|error| error.to_string())
}
