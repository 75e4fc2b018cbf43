//! An interval tree: which of many key intervals contain a key.
//!
//! A balanced (AVL) search tree of intervals ordered by start, then end; every node also knows how
//! far the intervals of its subtree reach, so that a search leaves out what ends too early:
//!
//! ```text
//!                 [d, k) reach z
//!               /                \
//!     [a, c) reach c          [f, z) reach z       search "e": left reaches only c: skipped;
//!                                                  [d, k) hit; right starts after "e": skipped
//! ```
//!
//! Balance is by construction, not by chance: clients choose the intervals, and a tree that they
//! could grow into a list would let one of them slow down everybody's writes. Memory is one node
//! per distinct interval, however they overlap.
//!
//! Source: Cormen et al., "Introduction to Algorithms", section 17.3 (interval trees).

use std::cmp::Ordering;

use bytes::Bytes;

use super::key_range::ends_after;

/// Values by interval. An interval without an end reaches to the last key.
pub(super) struct IntervalTree<V> {
    root: Link<V>,
}

type Link<V> = Option<Box<Node<V>>>;

struct Node<V> {
    start: Bytes,
    end: Option<Bytes>,
    /// The largest end in this subtree.
    reach: Option<Bytes>,
    height: usize,
    left: Link<V>,
    right: Link<V>,
    value: V,
}

impl<V> Default for IntervalTree<V> {
    fn default() -> IntervalTree<V> {
        IntervalTree { root: None }
    }
}

impl<V: Default> IntervalTree<V> {
    /// Changes the value of an interval, which is the default before the first change.
    pub(super) fn update(
        &mut self,
        start: &Bytes,
        end: Option<&Bytes>,
        change: &mut dyn FnMut(&mut V),
    ) {
        self.root = Some(update(self.root.take(), start, end, change));
    }

    /// Changes the value of an interval, if there is one, and removes it where `change` says so.
    pub(super) fn remove_if(
        &mut self,
        start: &Bytes,
        end: Option<&Bytes>,
        change: &mut dyn FnMut(&mut V) -> bool,
    ) {
        self.root = remove_if(self.root.take(), start, end, change);
    }

    /// Calls `visitor` with the values of all intervals that contain `key`, in order.
    pub(super) fn visit(&self, key: &[u8], visitor: &mut dyn FnMut(&V)) {
        visit(&self.root, key, visitor);
    }
}

fn visit<V>(link: &Link<V>, key: &[u8], visitor: &mut dyn FnMut(&V)) {
    let Some(node) = link else { return };
    if !ends_after(node.reach.as_ref(), key) {
        return;
    }
    visit(&node.left, key, visitor);
    if node.start <= key {
        if ends_after(node.end.as_ref(), key) {
            visitor(&node.value);
        }
        visit(&node.right, key, visitor);
    }
}

fn update<V: Default>(
    link: Link<V>,
    start: &Bytes,
    end: Option<&Bytes>,
    change: &mut dyn FnMut(&mut V),
) -> Box<Node<V>> {
    let Some(mut node) = link else {
        let (start, end) = (start.clone(), end.cloned());
        let (reach, value) = (end.clone(), V::default());
        let mut node =
            Box::new(Node { start, end, reach, height: 1, left: None, right: None, value });
        change(&mut node.value);
        return node;
    };
    match node.compare(start, end) {
        Ordering::Less => node.left = Some(update(node.left.take(), start, end, change)),
        Ordering::Greater => node.right = Some(update(node.right.take(), start, end, change)),
        Ordering::Equal => change(&mut node.value),
    }
    balanced(node)
}

fn remove_if<V>(
    link: Link<V>,
    start: &Bytes,
    end: Option<&Bytes>,
    change: &mut dyn FnMut(&mut V) -> bool,
) -> Link<V> {
    let mut node = link?;
    match node.compare(start, end) {
        Ordering::Less => node.left = remove_if(node.left.take(), start, end, change),
        Ordering::Greater => node.right = remove_if(node.right.take(), start, end, change),
        Ordering::Equal if change(&mut node.value) => return joined(node.left, node.right),
        Ordering::Equal => {}
    }
    Some(balanced(node))
}

/// One tree of two whose heights differ by one at most, all of `left` before all of `right`.
fn joined<V>(left: Link<V>, right: Link<V>) -> Link<V> {
    let Some(right) = right else { return left };
    let (mut first, rest) = take_first(right);
    first.left = left;
    first.right = rest;
    Some(balanced(first))
}

/// The first node of a tree, and the tree without it.
fn take_first<V>(mut node: Box<Node<V>>) -> (Box<Node<V>>, Link<V>) {
    match node.left.take() {
        None => {
            let rest = node.right.take();
            (node, rest)
        }
        Some(left) => {
            let (first, rest) = take_first(left);
            node.left = rest;
            (first, Some(balanced(node)))
        }
    }
}

fn height<V>(link: &Link<V>) -> usize {
    link.as_ref().map_or(0, |node| node.height)
}

/// Restores balance and the derived fields of `node`, whose subtrees are in order.
fn balanced<V>(mut node: Box<Node<V>>) -> Box<Node<V>> {
    if height(&node.left) > height(&node.right) + 1 {
        node.left = node.left.map(|left| {
            if height(&left.right) > height(&left.left) { rotated_left(left) } else { left }
        });
        return rotated_right(node);
    }
    if height(&node.right) > height(&node.left) + 1 {
        node.right = node.right.map(|right| {
            if height(&right.left) > height(&right.right) { rotated_right(right) } else { right }
        });
        return rotated_left(node);
    }
    node.refresh();
    node
}

/// Lifts the right child, if there is one.
fn rotated_left<V>(mut node: Box<Node<V>>) -> Box<Node<V>> {
    let Some(mut right) = node.right.take() else { return node };
    node.right = right.left.take();
    node.refresh();
    right.left = Some(node);
    right.refresh();
    right
}

/// Lifts the left child, if there is one.
fn rotated_right<V>(mut node: Box<Node<V>>) -> Box<Node<V>> {
    let Some(mut left) = node.left.take() else { return node };
    node.left = left.right.take();
    node.refresh();
    left.right = Some(node);
    left.refresh();
    left
}

impl<V> Node<V> {
    /// Where the interval from `start` to `end` stands relative to this one.
    fn compare(&self, start: &Bytes, end: Option<&Bytes>) -> Ordering {
        start.cmp(&self.start).then_with(|| compare_ends(end, self.end.as_ref()))
    }

    /// Recomputes what is derived from the children.
    fn refresh(&mut self) {
        let mut reach = &self.end;
        for child in [&self.left, &self.right].into_iter().flatten() {
            if compare_ends(child.reach.as_ref(), reach.as_ref()).is_gt() {
                reach = &child.reach;
            }
        }
        self.reach = reach.clone();
        self.height = 1 + height(&self.left).max(height(&self.right));
    }
}

/// The order of two ends; no end is after all others.
fn compare_ends(end: Option<&Bytes>, other: Option<&Bytes>) -> Ordering {
    match (end, other) {
        (Some(end), Some(other)) => end.cmp(other),
        (end, other) => end.is_none().cmp(&other.is_none()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Height and node count, after checking order, balance and reach of every node.
    fn check(link: &Link<usize>) -> (usize, usize) {
        let Some(node) = link else { return (0, 0) };
        let (left, right) = (check(&node.left), check(&node.right));
        assert_eq!(node.height, 1 + left.0.max(right.0));
        assert!(left.0.abs_diff(right.0) <= 1);
        let ends = [&node.left, &node.right].into_iter().flatten().map(|child| &child.reach);
        let reach = ends.chain([&node.end]).max_by(|a, b| compare_ends(a.as_ref(), b.as_ref()));
        assert_eq!(Some(&node.reach), reach);
        for (child, order) in [(&node.left, Ordering::Less), (&node.right, Ordering::Greater)] {
            if let Some(child) = child {
                assert_eq!(node.compare(&child.start, child.end.as_ref()), order);
            }
        }
        (node.height, 1 + left.1 + right.1)
    }

    #[test]
    fn finds_what_a_list_finds_through_random_changes() {
        let mut random = 42u64;
        let mut draw = move |bound: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) % bound
        };
        let key = |number: u64| Bytes::from(format!("{number:03}"));
        let mut tree = IntervalTree::<usize>::default();
        let mut list: Vec<(Bytes, Option<Bytes>, usize)> = Vec::new();
        for _ in 0..4000 {
            let start = draw(60);
            let end = (draw(8) > 0).then(|| key(start + 1 + draw(20)));
            let start = key(start);
            let place = list.iter().position(|(s, e, _)| (s, e) == (&start, &end));
            if draw(2) == 0 {
                tree.update(&start, end.as_ref(), &mut |count| *count += 1);
                match place {
                    Some(place) => list[place].2 += 1,
                    None => list.push((start, end, 1)),
                }
            } else {
                tree.remove_if(&start, end.as_ref(), &mut |count| {
                    *count -= 1;
                    *count == 0
                });
                if let Some(place) = place {
                    list[place].2 -= 1;
                    list.retain(|(_, _, count)| *count > 0);
                }
            }
            assert_eq!(check(&tree.root).1, list.len());
            let wanted = key(draw(85));
            let mut found = 0;
            tree.visit(&wanted, &mut |count| found += *count);
            let expected = list.iter().filter(|(start, end, _)| {
                *start <= wanted && end.as_ref().is_none_or(|end| *end > wanted)
            });
            assert_eq!(found, expected.map(|(_, _, count)| count).sum());
        }
    }

    #[test]
    fn stays_flat_when_intervals_come_in_order() {
        let mut tree = IntervalTree::<usize>::default();
        for number in 0..4096 {
            let start = Bytes::from(format!("{number:04}"));
            tree.update(&start, None, &mut |count| *count += 1);
        }
        let (height, nodes) = check(&tree.root);
        assert_eq!(nodes, 4096);
        assert!(height <= 14, "height {height}");
    }
}
