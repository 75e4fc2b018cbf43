//! How components reach the page's state and the engine: [`use_desk`] for what can be done,
//! [`use_slice`] for the part of the state that a component shows.

mod desk;
mod store;

pub(crate) use desk::{Desk, seed_of};
pub(crate) use store::use_slice;

use yew::prelude::*;

/// The desk of the laboratory: what the visitor can do.
#[hook]
pub(crate) fn use_desk() -> Desk {
    use_context::<Desk>().expect("the app provides the desk to all that is in it")
}
