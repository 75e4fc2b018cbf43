//! `node.wasm`: what runs in the laboratory's Web Workers, a node or the conductor.
//!
//! A program rather than exports of the library, since the page links the library too, for the
//! words they share: what is exported there would end up in the page.

#[cfg(target_arch = "wasm32")]
fn main() {
    coracle_worker::web::main();
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    eprintln!("This program runs in a browser: `cargo xtask www --serve` builds and serves it.");
}
