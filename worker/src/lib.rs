//! The laboratory's engine: real nodes in virtual time.
//!
//! | module | holds |
//! |---|---|
//! | [`protocol`] | what page, conductor and nodes say to each other |

#![forbid(unsafe_code)]

pub mod protocol;
