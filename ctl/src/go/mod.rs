//! Go's textual conventions, as far as etcdctl's input and output show them.
//!
//! etcdctl is a Go program and its looks are those of Go's standard library: `%q` quoting in
//! `-w fields`, `time.Duration` in `endpoint health`, `strconv`'s words when a number does not
//! parse. Scripts compare these texts, so they are written once, here, and nowhere else.

pub(crate) mod duration;
pub(crate) mod exit;
pub(crate) mod number;
pub(crate) mod quote;

pub use duration::{format_duration, parse_duration};
pub(crate) use exit::exit_text;
pub use number::{humanize_bytes, parse_bool, parse_i64, parse_u64};
pub use quote::quote;
pub(crate) use quote::scan_quoted;
