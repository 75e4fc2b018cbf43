//! etcd's range convention, written once more for the tests: an empty end is the single key, an
//! end of one zero byte is everything from the key on, otherwise the interval is half open.

use bytes::Bytes;

/// Whether `key` lies in the range `[start, end)` of the convention. An empty `start` counts as
/// the smallest key, as in a watch.
pub fn contains(start: &[u8], end: &[u8], key: &[u8]) -> bool {
    match end {
        [] if start.is_empty() => key == [0],
        [] => key == start,
        [0] => key >= start,
        _ => key >= start && key < end,
    }
}

/// The end of the range of all keys that start with `prefix`: the prefix with its last byte that
/// can grow grown by one, or "from here on" if none can.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn convention() {
        assert!(contains(b"a", b"", b"a") && !contains(b"a", b"", b"ab"));
        assert!(contains(b"a", b"\0", b"\xff") && !contains(b"b", b"\0", b"a"));
        assert!(contains(b"a", b"c", b"b") && !contains(b"a", b"c", b"c"));
        assert_eq!(prefix_end(b"a\xff"), Bytes::from_static(b"b"));
        assert_eq!(prefix_end(b"\xff\xff"), Bytes::from_static(b"\0"));
    }
}
