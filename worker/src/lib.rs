//! The laboratory's engine: real nodes in virtual time.
//!
//! | module | holds |
//! |---|---|
//! | [`protocol`] | what page, conductor and nodes say to each other |
//! | `web` | the browser around it: Web Workers, the file system, messages |

#![forbid(unsafe_code)]

pub mod protocol;
#[cfg(target_arch = "wasm32")]
pub mod web;
