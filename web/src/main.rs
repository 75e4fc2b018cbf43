//! The laboratory's page.
//!
//! Yew draws what changes seldom; [`paint`] draws what moves. The cluster itself lives in workers,
//! which only [`client`] knows.
//!
//! | module | holds |
//! |---|---|
//! | [`api`] | `window.coracle` |
//! | [`app`] | the frame of the page |
//! | [`components`] | its parts |
//! | [`paint`], [`shapes`] | message dots, arcs, the clock |
//! | [`words`] | the trace in plain words |
//! | [`state`] | what the page knows, and how it changes |
//! | [`hooks`] | how components reach state and engine |
//! | [`dom`] | the browser |
//! | [`client`] | the engine |

mod api;
mod app;
mod client;
mod components;
mod dom;
mod hooks;
mod paint;
mod shapes;
mod state;
mod words;

fn main() {
    app::start();
}
