//! What the conductor's worker and a node's say to each other: bytes, in buffers that move.

use js_sys::{Array, Uint8Array};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use wasm_bindgen::{JsCast, JsValue};

use crate::conductor::DiskImage;
use crate::protocol::{StepInput, StepOutput};

#[derive(Serialize, Deserialize)]
pub(super) enum ToNode {
    Boot(Boot),
    Step(StepInput),
    /// Asks for everything on the disk.
    Image,
}

/// The first thing that a node's worker is told.
#[derive(Serialize, Deserialize)]
pub(super) struct Boot {
    /// The folder of its disk in the browser's file system; `None` is a disk in memory.
    pub(super) folder: Option<String>,
    /// What the disk shall hold; `None` leaves it as it is.
    pub(super) image: Option<DiskImage>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum FromNode {
    /// Its disk is open: it takes steps now.
    Ready,
    Stepped(StepOutput),
    Image(DiskImage),
    /// It takes no further step; the sentence says why.
    Died(String),
}

/// A message; a text instead of one is a worker's cry for help.
pub(super) fn read<T: DeserializeOwned>(message: &JsValue) -> Result<T, String> {
    if let Some(text) = message.as_string() {
        return Err(text);
    }
    crate::decode(&message.dyn_ref::<Uint8Array>().ok_or("a message without bytes")?.to_vec())
}

/// A message as bytes, and the list that says that they move there instead of being copied.
pub(super) fn write<T: Serialize>(message: &T) -> Result<(Uint8Array, Array), String> {
    let array = Uint8Array::from(crate::encode(message)?.as_slice());
    let moved = Array::of1(&array.buffer());
    Ok((array, moved))
}
