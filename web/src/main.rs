//! The laboratory's program: its page, and in a Web Worker the engine.
//!
//! One program for both, since they have much in common and a visitor downloads it once. In the
//! page, Yew draws what changes seldom; [`paint`] draws what moves. The cluster itself lives in
//! workers, which only [`client`] knows.
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
    #[cfg(target_arch = "wasm32")]
    if web_sys::window().is_none() {
        return coracle_worker::web::main();
    }
    app::start();
}
