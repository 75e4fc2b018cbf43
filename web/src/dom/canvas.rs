//! The canvas over the ring: shapes in a colour, at a place.

use wasm_bindgen::JsCast;
use web_sys::{CanvasRenderingContext2d, HtmlCanvasElement, Path2d};

use crate::state::geometry::Point;

pub(crate) struct Canvas {
    element: HtmlCanvasElement,
    context: CanvasRenderingContext2d,
    scale: f64,
    size: (f64, f64),
}

/// An outline, to be drawn in many places.
pub(crate) struct Shape(Path2d);

impl Shape {
    /// From the data of an SVG path.
    pub(crate) fn new(path: &str) -> Option<Shape> {
        Path2d::new_with_path_string(path).ok().map(Shape)
    }
}

/// How a shape is drawn.
pub(crate) struct Ink<'a> {
    pub(crate) color: &'a str,
    /// What is inside an outline that is not filled.
    pub(crate) paper: &'a str,
    pub(crate) is_filled: bool,
    pub(crate) alpha: f64,
}

impl Canvas {
    /// The canvas with this id, if the page shows it.
    pub(crate) fn find(id: &str) -> Option<Canvas> {
        let element: HtmlCanvasElement = super::element(id)?.dyn_into().ok()?;
        let context = element.get_context("2d").ok()??.dyn_into().ok()?;
        Some(Canvas { element, context, scale: 1.0, size: (0.0, 0.0) })
    }

    /// Whether it is still part of the page.
    pub(crate) fn is_shown(&self) -> bool {
        self.element.is_connected()
    }

    /// Empties it, and gives it a size in CSS pixels.
    pub(crate) fn begin(&mut self, size: (f64, f64)) {
        let scale = super::window().device_pixel_ratio().clamp(1.0, 2.0);
        if size != self.size || scale != self.scale {
            self.element.set_width((size.0 * scale) as u32);
            self.element.set_height((size.1 * scale) as u32);
            (self.size, self.scale) = (size, scale);
        }
        self.place(Point::default(), 1.0);
        self.context.clear_rect(0.0, 0.0, size.0, size.1);
    }

    fn place(&self, at: Point, size: f64) {
        let Canvas { context, scale, .. } = self;
        // Fails for numbers that are no numbers only.
        let factor = scale * size;
        let _ = context.set_transform(factor, 0.0, 0.0, factor, at.x * scale, at.y * scale);
    }

    /// Draws a shape of radius 1, `size` times as large.
    pub(crate) fn draw(&self, shape: &Shape, at: Point, size: f64, ink: &Ink) {
        let context = &self.context;
        self.place(at, size);
        context.set_global_alpha(ink.alpha);
        context.set_fill_style_str(if ink.is_filled { ink.color } else { ink.paper });
        context.fill_with_path_2d(&shape.0);
        context.set_stroke_style_str(ink.color);
        context.set_line_width(1.6 / size);
        context.stroke_with_path(&shape.0);
        context.set_global_alpha(1.0);
    }
}
