//! Where everything on the ring is drawn, in CSS pixels of the stage.
//!
//! Nodes stand on an ellipse, the first at the top, in the order of their numbers; the client, from
//! whom requests come, sits in the lower left corner. The sizes follow from the stage's, so that a
//! phone and a wall both show a whole ring.

use std::f64::consts::TAU;

use coracle_worker::protocol::{CLIENT, NodeNumber};

/// Nodes that are closer to each other than this have no room for long labels between them.
const LABEL_ROOM: f64 = 168.0;
/// Two lines of a label, with the arcs around the nodes above and below.
const LABEL_HEIGHT: f64 = 62.0;
/// The ring is an ellipse at most so much wider than high.
const STRETCH_MAX: f64 = 1.45;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
}

impl Point {
    pub(crate) fn distance(self, other: Point) -> f64 {
        ((self.x - other.x).powi(2) + (self.y - other.y).powi(2)).sqrt()
    }

    /// The point at this part of the way to `other`.
    pub(crate) fn towards(self, other: Point, part: f64) -> Point {
        Point { x: self.x + (other.x - self.x) * part, y: self.y + (other.y - self.y) * part }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Geometry {
    pub(crate) width: f64,
    pub(crate) height: f64,
    /// Of a node.
    pub(crate) radius: f64,
    /// Whether labels have to be short, and whether there is room for a single line only.
    pub(crate) is_dense: bool,
    pub(crate) is_crowded: bool,
    client: Point,
    places: Vec<(NodeNumber, Point)>,
}

impl Geometry {
    pub(crate) fn new((width, height): (f64, f64), nodes: &[NodeNumber]) -> Geometry {
        let count = nodes.len().max(1) as f64;
        let radius = (width.min(height) / (7.5 + 0.75 * count)).clamp(17.0, 72.0);
        // A crown and the arc above a node, labels below it.
        let (above, below) = (radius + 30.0, radius + 52.0);
        let vertical = ((height - above - below) / 2.0).max(20.0);
        let side = (radius + 16.0).max(if width < 480.0 { 44.0 } else { 78.0 });
        let horizontal = (width / 2.0 - side).min(vertical * STRETCH_MAX).max(20.0);
        let center = Point { x: width / 2.0, y: above + vertical };
        let place = |index: usize| {
            // Two look at each other; more begin at the top.
            let start = if nodes.len() == 2 { 0.5 } else { -0.25 };
            let angle = (start + index as f64 / count) * TAU;
            Point { x: center.x + horizontal * angle.cos(), y: center.y + vertical * angle.sin() }
        };
        let places: Vec<_> = match nodes {
            [only] => vec![(*only, center)],
            _ => nodes.iter().enumerate().map(|(index, node)| (*node, place(index))).collect(),
        };
        let closest = places.windows(2).map(|pair| pair[0].1.distance(pair[1].1));
        let closest = closest.fold(f64::MAX, f64::min);
        let is_dense = closest < LABEL_ROOM;
        let is_crowded = closest < 2.0 * radius + LABEL_HEIGHT;
        let client = Point { x: 34.0, y: height - 40.0 };
        Geometry { width, height, radius, is_dense, is_crowded, client, places }
    }

    /// The middle of a node, or of the client.
    pub(crate) fn place(&self, node: NodeNumber) -> Option<Point> {
        if node == CLIENT {
            return Some(self.client);
        }
        self.places.iter().find(|(number, _)| *number == node).map(|(_, point)| *point)
    }

    /// Both ends of the way from one node to another, at the rims of the two, and a lane to the
    /// right of the middle, so that what comes and what goes do not cover each other.
    pub(crate) fn lane(&self, from: NodeNumber, to: NodeNumber) -> Option<(Point, Point)> {
        let (start, end) = (self.place(from)?, self.place(to)?);
        let length = start.distance(end).max(1.0);
        let (along_x, along_y) = ((end.x - start.x) / length, (end.y - start.y) / length);
        let aside = (self.radius / 6.0).clamp(4.0, 8.0);
        let rim = |node| if node == CLIENT { 16.0 } else { self.radius + 6.0 };
        let shifted = |point: Point, along: f64| Point {
            x: point.x + along_x * along - along_y * aside,
            y: point.y + along_y * along + along_x * aside,
        };
        Some((shifted(start, rim(from)), shifted(end, -rim(to))))
    }

    /// The node at a point, if there is one.
    pub(crate) fn node_at(&self, point: Point) -> Option<NodeNumber> {
        let reach = self.radius + 8.0;
        let hit = self.places.iter().find(|(_, place)| place.distance(point) <= reach);
        hit.map(|(node, _)| *node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_nodes_fit_a_phone_without_touching() {
        let nodes: Vec<NodeNumber> = (1..=9).collect();
        let ring = Geometry::new((340.0, 340.0), &nodes);
        for (index, one) in nodes.iter().enumerate() {
            let place = ring.place(*one).unwrap();
            assert!(place.x - ring.radius > 0.0 && place.x + ring.radius < 340.0);
            assert!(place.y - ring.radius > 0.0 && place.y + ring.radius < 340.0);
            for other in &nodes[index + 1..] {
                assert!(place.distance(ring.place(*other).unwrap()) > 2.0 * ring.radius);
            }
        }
    }

    #[test]
    fn the_first_node_is_at_the_top_and_is_found_there() {
        let ring = Geometry::new((800.0, 600.0), &[1, 2, 3]);
        let first = ring.place(1).unwrap();
        assert!((first.x - 400.0).abs() < 1e-6);
        assert!(first.y < ring.place(2).unwrap().y);
        assert_eq!(ring.node_at(first), Some(1));
        assert_eq!(ring.node_at(Point { x: 0.0, y: 0.0 }), None);
    }

    #[test]
    fn the_two_directions_of_a_link_have_their_own_lanes() {
        let ring = Geometry::new((800.0, 600.0), &[1, 2]);
        let (start, end) = ring.lane(1, 2).unwrap();
        let (back_start, back_end) = ring.lane(2, 1).unwrap();
        assert!(start.x < end.x && back_start.x > back_end.x);
        assert!((start.y - back_end.y).abs() > 7.0);
    }
}
