//! The little of JavaScript that all workers need: the clock, waiting, messages, errors as text.

use js_sys::{Function, Promise};
use serde::Serialize;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{DedicatedWorkerGlobalScope, ErrorEvent, Event, MessageChannel, MessageEvent};

use super::wire;

/// This worker.
pub(super) fn worker() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Milliseconds since the worker began.
pub(super) fn now() -> f64 {
    worker().performance().map_or(0.0, |clock| clock.now())
}

/// Calls `take` with each message that comes to this worker, from now on.
pub(super) fn listen(mut take: impl FnMut(JsValue) + 'static) {
    let listener = Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
        take(event.data());
    });
    worker().set_onmessage(Some(listener.as_ref().unchecked_ref()));
    // It serves as long as the worker lives.
    listener.forget();
}

/// Sends a message of ours to whoever made this worker.
pub(super) fn post<T: Serialize>(message: &T) {
    // There is nobody else to tell that it cannot be told.
    if let Ok((bytes, moved)) = wire::write(message) {
        let _ = worker().post_message_with_transfer(&bytes, &moved);
    }
}

/// Tells what happened, when this worker's instance panics.
pub(super) fn on_panic(tell: impl Fn(String) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| tell(panic.to_string())));
}

/// Waits for so many milliseconds; `wake` is handed a function that ends the wait early.
pub(super) async fn sleep(millis: f64, wake: impl FnOnce(Function)) {
    let mut wake = Some(wake);
    let promise = Promise::new(&mut |resolve, _| {
        // A worker that cannot set a timer cannot do anything else either.
        let _ = worker()
            .set_timeout_with_callback_and_timeout_and_arguments_0(&resolve, millis.ceil() as i32);
        if let Some(wake) = wake.take() {
            wake(resolve);
        }
    });
    let _ = JsFuture::from(promise).await;
}

/// Lets the worker take messages. A timer would wait for milliseconds; a message channel does not.
pub(super) async fn breathe() {
    let Ok(channel) = MessageChannel::new() else {
        return;
    };
    let promise = Promise::new(&mut |resolve, _| {
        channel.port1().set_onmessage(Some(&resolve));
        let _ = channel.port2().post_message(&JsValue::NULL);
    });
    let _ = JsFuture::from(promise).await;
    channel.port1().close();
}

/// What went wrong, as the browser puts it.
pub(super) fn text(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => format!("{}: {}", error.name(), error.message()),
        None => error.as_string().unwrap_or_else(|| "an error without a text".to_owned()),
    }
}

/// What an event of an error says. A script that cannot be run gives an event without a word.
pub(super) fn message(event: &Event) -> String {
    match event.dyn_ref::<ErrorEvent>() {
        Some(event) => event.message(),
        None => "its script does not run".to_owned(),
    }
}

/// The name of a `DOMException` or another error; empty for anything else.
pub(super) fn name(error: &JsValue) -> String {
    js_sys::Reflect::get(error, &"name".into())
        .ok()
        .and_then(|name| name.as_string())
        .unwrap_or_default()
}
