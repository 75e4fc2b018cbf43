//! The browser, as far as Yew does not cover it: the only web-sys of the page's own code.
//!
//! | module | holds |
//! |---|---|
//! | [`canvas`] | drawing shapes |
//! | here | time, sizes, focus, storage, files, listeners |

pub(crate) mod canvas;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use js_sys::{Array, Math, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    Blob, Document, Element, Event, EventTarget, HtmlAnchorElement, HtmlElement, HtmlInputElement,
    HtmlSelectElement, HtmlTextAreaElement, KeyboardEvent, MouseEvent, PointerEvent,
    ResizeObserver, Url, Window,
};

use crate::state::Theme;
use crate::state::geometry::Point;

/// A page without these is not a page.
fn window() -> Window {
    web_sys::window().expect("the page runs in a window")
}

fn document() -> Document {
    window().document().expect("a window has a document")
}

fn root() -> HtmlElement {
    let root = document().document_element().expect("a document has a root");
    root.unchecked_into()
}

/// Real time in milliseconds.
pub(crate) fn now() -> f64 {
    window().performance().map_or(0.0, |performance| performance.now())
}

/// A seed for an experiment, short enough to be said aloud.
pub(crate) fn random_seed() -> u64 {
    (Math::random() * 1e6) as u64
}

pub(crate) fn element(id: &str) -> Option<Element> {
    document().get_element_by_id(id)
}

pub(crate) fn focus(id: &str) {
    if let Some(element) = element(id).and_then(|element| element.dyn_into::<HtmlElement>().ok()) {
        // An element that is not shown does not take the focus: nothing is lost.
        let _ = element.focus();
    }
}

/// Closes what was opened over the page.
pub(crate) fn close_details() {
    while let Ok(Some(open)) = document().query_selector("details[open]") {
        // It cannot stay open, or this would never end.
        if open.remove_attribute("open").is_err() {
            break;
        }
    }
}

/// Takes the focus from wherever it is, so that keys mean what the page says.
pub(crate) fn blur() {
    let active = document().active_element();
    if let Some(active) = active.and_then(|active| active.dyn_into::<HtmlElement>().ok()) {
        let _ = active.blur();
    }
}

pub(crate) fn set_attribute(element: &Element, name: &str, value: &str) {
    // Only names that are no names fail.
    let _ = element.set_attribute(name, value);
}

pub(crate) fn set_text(id: &str, text: &str) {
    if let Some(element) = element(id) {
        element.set_text_content(Some(text));
    }
}

/// Scrolls an element to its end, unless the reader has scrolled up in it.
pub(crate) fn follow_end(element: &Element) {
    element.set_scroll_top(element.scroll_height());
}

/// Whether the reader has marked text, which a click or Ctrl-C is then about.
pub(crate) fn has_selection() -> bool {
    let selection = window().get_selection().ok().flatten();
    selection.is_some_and(|selection| !selection.is_collapsed())
}

/// Whether the end of a scrolling element is in sight.
pub(crate) fn is_at_end(element: &Element) -> bool {
    element.scroll_height() - element.scroll_top() - element.client_height() < 24
}

/// The number in the field that an event is about. As the browser reads it: Rust's own way from
/// text to a fraction brings large tables.
pub(crate) fn number(event: &Event) -> Option<f64> {
    let field: HtmlInputElement = event.target()?.dyn_into().ok()?;
    Some(field.value_as_number()).filter(|number| number.is_finite())
}

/// The value of the field that an event is about.
pub(crate) fn value(event: &Event) -> String {
    let Some(target) = event.target() else { return String::new() };
    let target: JsValue = target.into();
    if let Some(field) = target.dyn_ref::<HtmlInputElement>() {
        field.value()
    } else if let Some(field) = target.dyn_ref::<HtmlTextAreaElement>() {
        field.value()
    } else if let Some(field) = target.dyn_ref::<HtmlSelectElement>() {
        field.value()
    } else {
        String::new()
    }
}

/// Whether the box that an event is about is ticked.
pub(crate) fn is_checked(event: &Event) -> bool {
    let target = event.target().and_then(|target| target.dyn_into::<HtmlInputElement>().ok());
    target.is_some_and(|field| field.checked())
}

/// Where a pointer is, from the upper left corner of the element with this id; and whether it is
/// a finger, which needs more room.
pub(crate) fn pointer(event: &PointerEvent, id: &str) -> (Point, bool) {
    (mouse(event, id), event.pointer_type() == "touch")
}

/// Where a click was, from the upper left corner of the element with this id.
pub(crate) fn mouse(event: &MouseEvent, id: &str) -> Point {
    let place = element(id).map(|element| element.get_bounding_client_rect());
    let (left, top) = place.map_or((0.0, 0.0), |place| (place.left(), place.top()));
    Point { x: f64::from(event.client_x()) - left, y: f64::from(event.client_y()) - top }
}

/// The value of an attribute of what was clicked, or of the nearest element around it that has it.
pub(crate) fn marked(event: &Event, attribute: &str) -> Option<String> {
    let target: Element = event.target()?.dyn_into().ok()?;
    target.closest(&format!("[{attribute}]")).ok()??.get_attribute(attribute)
}

/// The element goes on hearing of a pointer that leaves it.
pub(crate) fn capture(event: &PointerEvent, id: &str) {
    if let Some(element) = element(id) {
        let _ = element.set_pointer_capture(event.pointer_id());
    }
}

pub(crate) fn prefers_reduced_motion() -> bool {
    matches_media("(prefers-reduced-motion: reduce)")
}

fn matches_media(query: &str) -> bool {
    window().match_media(query).ok().flatten().is_some_and(|list| list.matches())
}

/// The value of a CSS variable as it is now.
pub(crate) fn css_variable(name: &str) -> String {
    let style = window().get_computed_style(&root()).ok().flatten();
    style.and_then(|style| style.get_property_value(name).ok()).unwrap_or_default().trim().into()
}

pub(crate) fn is_dark() -> bool {
    match root().get_attribute("data-theme").as_deref() {
        Some("dark") => true,
        Some("light") => false,
        _ => matches_media("(prefers-color-scheme: dark)"),
    }
}

const THEME: &str = "coracle-theme";

pub(crate) fn stored_theme() -> Theme {
    let storage = window().local_storage().ok().flatten();
    match storage.and_then(|storage| storage.get_item(THEME).ok().flatten()).as_deref() {
        Some("light") => Theme::Light,
        Some("dark") => Theme::Dark,
        _ => Theme::Auto,
    }
}

/// Shows a theme, and remembers it where the browser lets us.
pub(crate) fn apply_theme(theme: Theme) {
    let name = match theme {
        Theme::Auto => None,
        Theme::Light => Some("light"),
        Theme::Dark => Some("dark"),
    };
    match name {
        Some(name) => set_attribute(&root(), "data-theme", name),
        None => drop(root().remove_attribute("data-theme")),
    }
    if let Ok(Some(storage)) = window().local_storage() {
        // A full or forbidden storage forgets the choice, no more.
        let _ = match name {
            Some(name) => storage.set_item(THEME, name),
            None => storage.remove_item(THEME),
        };
    }
}

/// Offers bytes as a file to be saved.
pub(crate) fn download(name: &str, data: &[u8]) -> Result<(), JsValue> {
    let blob = Blob::new_with_u8_array_sequence(&Array::of1(&Uint8Array::from(data)))?;
    let url = Url::create_object_url_with_blob(&blob)?;
    let link: HtmlAnchorElement = document().create_element("a")?.unchecked_into();
    link.set_href(&url);
    link.set_download(name);
    link.click();
    Url::revoke_object_url(&url)
}

/// The text of the file that was chosen in a file field.
pub(crate) async fn chosen_file(event: Event) -> Option<String> {
    let field: HtmlInputElement = event.target()?.dyn_into().ok()?;
    let file = field.files()?.get(0)?;
    let text = JsFuture::from(file.text()).await.ok()?;
    // The same file can be chosen again.
    field.set_value("");
    text.as_string()
}

/// Calls back once, after so many milliseconds.
pub(crate) fn after(millis: i32, callback: impl FnOnce() + 'static) {
    let callback = Closure::once_into_js(callback);
    let callback = callback.unchecked_ref();
    let _ = window().set_timeout_with_callback_and_timeout_and_arguments_0(callback, millis);
}

/// Calls back before each repaint, for as long as the page lives.
pub(crate) fn each_animation_frame(mut callback: impl FnMut(f64) + 'static) {
    type Slot = Rc<RefCell<Option<Closure<dyn FnMut(f64)>>>>;
    let slot: Slot = Rc::default();
    let again = slot.clone();
    *slot.borrow_mut() = Some(Closure::new(move |real| {
        callback(real);
        request_frame(again.borrow().as_ref());
    }));
    request_frame(slot.borrow().as_ref());
}

fn request_frame(callback: Option<&Closure<dyn FnMut(f64)>>) {
    if let Some(callback) = callback {
        let _ = window().request_animation_frame(callback.as_ref().unchecked_ref());
    }
}

/// A listener that is taken off when this is dropped.
pub(crate) struct Listener {
    target: EventTarget,
    name: &'static str,
    callback: Closure<dyn FnMut(Event)>,
}

impl Listener {
    fn new(
        target: EventTarget,
        name: &'static str,
        callback: impl FnMut(Event) + 'static,
    ) -> Listener {
        let callback = Closure::new(callback);
        let function = callback.as_ref().unchecked_ref();
        let _ = target.add_event_listener_with_callback(name, function);
        Listener { target, name, callback }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let function = self.callback.as_ref().unchecked_ref();
        let _ = self.target.remove_event_listener_with_callback(self.name, function);
    }
}

/// Keys pressed anywhere but where text is written. The callback says whether it used the key.
pub(crate) fn on_key(callback: impl Fn(&str) -> bool + 'static) -> (Listener, Listener) {
    // Whether the focus is where the pointer put it, and not the Tab key.
    let is_pointed = Rc::new(Cell::new(false));
    let pointed = is_pointed.clone();
    let pointer = Listener::new(document().into(), "pointerdown", move |_| pointed.set(true));
    let keys = Listener::new(document().into(), "keydown", move |event| {
        let Ok(event) = event.dyn_into::<KeyboardEvent>() else { return };
        let key = event.key();
        if key == "Tab" {
            is_pointed.set(false);
        }
        // Space presses the button that the keyboard has reached, but not the one clicked last.
        if key == " " && is_pointed.get() && is_at(BUTTONS) {
            blur();
        }
        let has_modifier = event.ctrl_key() || event.alt_key() || event.meta_key();
        if has_modifier || belongs_to_field(&key) {
            return;
        }
        if callback(&key) {
            event.prevent_default();
        }
    });
    (pointer, keys)
}

/// Elements that text is written into, or that have their own use for letters.
const FIELDS: &str = "input:not([type=range]):not([type=checkbox]), textarea, select";
/// Elements that Space presses.
const BUTTONS: &str = "button, summary, input[type=checkbox], input[type=range]";

/// Whether what has the focus matches.
fn is_at(selector: &str) -> bool {
    let active = document().active_element();
    active.is_some_and(|active| active.matches(selector).unwrap_or(false))
}

/// Whether a key is meant for the element that has the focus, and not for the page.
fn belongs_to_field(key: &str) -> bool {
    match key {
        "Escape" => false,
        " " | "Enter" => is_at(&format!("{BUTTONS}, {FIELDS}")),
        _ => is_at(FIELDS),
    }
}

/// Calls back with the size of an element, now and whenever it changes.
pub(crate) struct SizeWatch {
    observer: ResizeObserver,
    _callback: Closure<dyn FnMut()>,
}

impl SizeWatch {
    pub(crate) fn new(
        id: &'static str,
        callback: impl Fn(f64, f64) + 'static,
    ) -> Option<SizeWatch> {
        let watched = element(id)?;
        let tell = move || {
            if let Some(element) = element(id) {
                callback(f64::from(element.client_width()), f64::from(element.client_height()));
            }
        };
        tell();
        let callback = Closure::new(tell);
        let observer = ResizeObserver::new(callback.as_ref().unchecked_ref()).ok()?;
        observer.observe(&watched);
        Some(SizeWatch { observer, _callback: callback })
    }
}

impl Drop for SizeWatch {
    fn drop(&mut self) {
        self.observer.disconnect();
    }
}
