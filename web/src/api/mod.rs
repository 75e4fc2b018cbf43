//! `window.coracle`: the laboratory for course pages and tests, described in
//! `docs/laboratory-api.md`.
//!
//! | module | holds |
//! |---|---|
//! | [`actions`] | the argument of `act`, and what is said about a wrong one |
//! | [`state`] | the answer of `state` |

mod actions;
mod state;

use std::future::Future;
use std::pin::Pin;

use coracle_worker::protocol::{Answer, NodeNumber, Request, Settings, Speed};
use js_sys::{Function, JSON, Object, Promise, Reflect};
use serde::{Deserialize, Serialize};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

use crate::client::Engine;

type Reply = Result<JsValue, String>;

/// Makes the engine available to scripts of this page.
pub(crate) fn install(engine: &Engine) {
    let api = Object::new();
    let ready = engine.clone();
    let ready = async move { ready.ready().await.map(|()| JsValue::UNDEFINED) };
    set(&api, "ready", &promise(Box::pin(ready)));
    method(&api, "state", engine, |engine, _, _| state(engine));
    method(&api, "act", engine, |engine, action, _| act(engine, action));
    method(&api, "exec", engine, exec);
    method(&api, "run", engine, |engine, millis, _| run(engine, millis));
    method(&api, "trace_hash", engine, |engine, _, _| text(engine, |id| Request::TraceHash { id }));
    method(&api, "save", engine, |engine, _, _| text(engine, |id| Request::Save { id }));
    method(&api, "load", engine, |engine, experiment, _| load(engine, experiment));
    method(&api, "start", engine, |engine, settings, _| start(engine, settings));
    method(&api, "speed", engine, |engine, rate, _| set_speed(engine, rate));
    method(&api, "pause", engine, |engine, _, _| speed(engine, Speed::Paused));
    method(&api, "play", engine, |engine, _, _| speed(engine, Speed::Rate(1.0)));
    method(&api, "take_over", engine, |engine, _, _| take_over(engine));
    if let Some(window) = web_sys::window() {
        set(&window, "coracle", &api);
    }
}

/// An object takes any property, unless somebody froze it.
fn set(object: &Object, name: &str, value: &JsValue) {
    let _ = Reflect::set(object, &name.into(), value);
}

/// A promise that is rejected with an `Error`.
fn promise(work: Pin<Box<dyn Future<Output = Reply>>>) -> Promise {
    future_to_promise(async { work.await.map_err(|text| js_sys::Error::new(&text).into()) })
}

fn method<F: Future<Output = Reply> + 'static>(
    api: &Object,
    name: &str,
    engine: &Engine,
    call: impl Fn(Engine, JsValue, JsValue) -> F + 'static,
) {
    let engine = engine.clone();
    let function = Closure::<dyn Fn(JsValue, JsValue) -> Promise>::new(move |first, second| {
        promise(Box::pin(call(engine.clone(), first, second)))
    });
    set(api, name, function.into_js_value().unchecked_ref::<Function>());
}

async fn state(engine: Engine) -> Reply {
    match engine.ask(|id| Request::State { id }).await? {
        Answer::State(lab) => to_js(&state::State::of(&lab)),
        _ => Err(OUT_OF_TURN.to_owned()),
    }
}

async fn act(engine: Engine, argument: JsValue) -> Reply {
    let Some(object) = argument.dyn_ref::<Object>().filter(|_| !argument.is_function()) else {
        return Err(actions::usage());
    };
    // In the order in which they are written, which a parsed JSON object forgets.
    let mut wanted = Vec::new();
    for entry in Object::entries(object).iter() {
        let name = Reflect::get_u32(&entry, 0).ok().and_then(|name| name.as_string());
        let value = Reflect::get_u32(&entry, 1).unwrap_or_default();
        let name = name.ok_or_else(actions::usage)?;
        wanted.push(actions::parse(&name, &json(&value)?)?);
    }
    if wanted.is_empty() {
        return Err(actions::usage());
    }
    for action in wanted {
        engine.ask(|id| Request::Act { id, action }).await?;
    }
    Ok(JsValue::UNDEFINED)
}

/// The second argument of `exec`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ExecOptions {
    node: Option<NodeNumber>,
    input: String,
    lines: Option<usize>,
}

#[derive(Serialize)]
struct ExecResult {
    code: i32,
    stdout: String,
    stderr: String,
}

async fn exec(engine: Engine, line: JsValue, options: JsValue) -> Reply {
    let line = line.as_string().ok_or(
        "exec takes a command line of etcdctl's, for example exec(\"put a 1\", {node: 1})",
    )?;
    let options: ExecOptions = from_js(&options).map_err(|error| {
        format!("exec's options are {{node: 1 to 9, input: \"standard input\", lines: 3}}: {error}")
    })?;
    let ExecOptions { node, input, lines } = options;
    let (code, stdout, stderr) = engine.exec_with(&line, node, &input, lines).await?;
    to_js(&ExecResult { code, stdout, stderr })
}

async fn run(engine: Engine, millis: JsValue) -> Reply {
    let millis = millis
        .as_f64()
        .filter(|millis| *millis >= 0.0 && millis.is_finite())
        .ok_or("run takes the milliseconds of virtual time to advance, for example run(1000)")?;
    engine.ask(|id| Request::Run { id, millis }).await?;
    Ok(JsValue::UNDEFINED)
}

async fn text(engine: Engine, make: impl FnOnce(u64) -> Request) -> Reply {
    match engine.ask(make).await? {
        Answer::Text(text) => Ok(text.into()),
        _ => Err(OUT_OF_TURN.to_owned()),
    }
}

async fn load(engine: Engine, experiment: JsValue) -> Reply {
    let experiment = experiment.as_string().ok_or("load takes the text that save gave")?;
    engine.ask(|id| Request::Load { id, experiment }).await?;
    Ok(JsValue::UNDEFINED)
}

async fn start(engine: Engine, settings: JsValue) -> Reply {
    let settings: Settings = from_js(&settings).map_err(|error| {
        format!(
            "start takes settings such as {{seed: \"7\", nodes: 5, heartbeat_ms: 100, \
             election_ms: 600, network: {{delay_us: 10000, jitter_us: 4000, loss_ppm: 0, \
             duplicate_ppm: 0}}, disk_latency_us: 500, storage: \"browser\" or \"memory\"}}, all \
             of them optional: {error}"
        )
    })?;
    engine.send(Request::Start { settings });
    // It has begun when it can be asked.
    engine.ask(|id| Request::State { id }).await?;
    Ok(JsValue::UNDEFINED)
}

async fn take_over(engine: Engine) -> Reply {
    engine.send(Request::TakeOver);
    engine.ask(|id| Request::State { id }).await?;
    Ok(JsValue::UNDEFINED)
}

async fn set_speed(engine: Engine, rate: JsValue) -> Reply {
    let wanted = match (rate.as_f64(), rate.as_string().as_deref()) {
        (Some(0.0), _) => Speed::Paused,
        (Some(rate), _) if (0.001..=4.0).contains(&rate) => Speed::Rate(rate),
        (_, Some("full")) => Speed::Full,
        _ => {
            return Err("speed takes virtual seconds per real second, 0.001 to 4, or 0 for a \
                        pause, or \"full\" for as fast as it can"
                .to_owned());
        }
    };
    speed(engine, wanted).await
}

async fn speed(engine: Engine, speed: Speed) -> Reply {
    engine.send(Request::Speed(speed));
    // Answered in order: then it is so.
    engine.ask(|id| Request::State { id }).await?;
    Ok(JsValue::UNDEFINED)
}

const OUT_OF_TURN: &str = "the engine answered something else than what it was asked";

fn to_js(value: &impl Serialize) -> Reply {
    let text = serde_json::to_string(value).map_err(|error| error.to_string())?;
    JSON::parse(&text).map_err(|_| OUT_OF_TURN.to_owned())
}

/// A plain JavaScript value as text; what JSON does not know counts as nothing.
fn json(value: &JsValue) -> Result<String, String> {
    let text =
        JSON::stringify(value).map_err(|_| "write 64-bit numbers as decimal strings".to_owned())?;
    Ok(text.as_string().unwrap_or_else(|| "null".to_owned()))
}

/// An object of options; none is the default ones.
fn from_js<T: Default + for<'de> Deserialize<'de>>(value: &JsValue) -> Result<T, String> {
    if value.is_undefined() || value.is_null() {
        return Ok(T::default());
    }
    serde_json::from_str(&json(value)?).map_err(|error| error.to_string())
}
