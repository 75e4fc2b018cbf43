//! The laboratory's page.

mod api;
mod client;

fn main() {
    api::install(&client::Engine::start(|_| {}));
}
