//! Quoted strings: `%q` in both directions (`strconv.Quote`, `strconv.Unquote`, `Sscanf`).

use std::fmt::Write;

/// `value` in double quotes, as Go's `%q` prints it. Bytes that are not UTF-8 become `\xff`.
pub fn quote(value: &[u8]) -> String {
    let mut quoted = String::with_capacity(value.len() + 2);
    quoted.push('"');
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            push_escaped(&mut quoted, character);
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(quoted, "\\x{byte:02x}");
        }
    }
    quoted.push('"');
    quoted
}

fn push_escaped(quoted: &mut String, character: char) {
    let escape = match character {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        c if is_printable(c) => {
            quoted.push(c);
            return;
        }
        c => {
            let code = u32::from(c);
            let _ = match code {
                0..0x20 | 0x7f => write!(quoted, "\\x{code:02x}"),
                0x20..0x1_0000 => write!(quoted, "\\u{code:04x}"),
                _ => write!(quoted, "\\U{code:08x}"),
            };
            return;
        }
    };
    quoted.push_str(escape);
}

/// Whether Go would print the character as it is. Rust's own table of printable characters agrees
/// with Go's; the letter before it keeps a combining mark from being escaped for its position.
fn is_printable(character: char) -> bool {
    let text: String = ['a', character].iter().collect();
    character == '\'' || text.escape_debug().nth(1) == Some(character)
}

/// Reads one quoted string at the start of `input` after optional spaces: `"..."` with Go's
/// escapes or `` `...` `` as it stands. Returns its value and what follows.
pub(crate) fn scan_quoted(input: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let input = input.trim_ascii_start();
    match input.first()? {
        b'`' => {
            let end = 1 + input[1..].iter().position(|byte| *byte == b'`')?;
            Some((input[1..end].to_vec(), &input[end + 1..]))
        }
        b'"' => {
            let mut end = 1;
            while *input.get(end)? != b'"' {
                end += if input[end] == b'\\' { 2 } else { 1 };
            }
            Some((unescape(&input[1..end])?, &input[end + 1..]))
        }
        _ => None,
    }
}

/// Resolves the escapes of a double-quoted string, without its quotes.
fn unescape(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        if *first != b'\\' {
            value.push(*first);
            text = rest;
            continue;
        }
        let (kind, rest) = rest.split_first()?;
        text = rest;
        match kind {
            b'a' => value.push(0x07),
            b'b' => value.push(0x08),
            b'f' => value.push(0x0c),
            b'n' => value.push(b'\n'),
            b'r' => value.push(b'\r'),
            b't' => value.push(b'\t'),
            b'v' => value.push(0x0b),
            b'\\' | b'"' => value.push(*kind),
            b'x' => value.push(u8::try_from(take_digits(&mut text, 2, 16)?).ok()?),
            b'u' => push_char(&mut value, take_digits(&mut text, 4, 16)?)?,
            b'U' => push_char(&mut value, take_digits(&mut text, 8, 16)?)?,
            b'0'..=b'7' => {
                let high = u32::from(kind - b'0') * 64;
                value.push(u8::try_from(high + take_digits(&mut text, 2, 8)?).ok()?);
            }
            _ => return None,
        }
    }
    Some(value)
}

fn take_digits(text: &mut &[u8], count: usize, radix: u32) -> Option<u32> {
    let digits = std::str::from_utf8(text.get(..count)?).ok()?;
    if !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    *text = &text[count..];
    u32::from_str_radix(digits, radix).ok()
}

fn push_char(value: &mut Vec<u8>, code: u32) -> Option<()> {
    let mut buffer = [0; 4];
    value.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut buffer).as_bytes());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_go_s() {
        for (value, quoted) in [
            (&b"foo"[..], r#""foo""#),
            (b"from stdin\ntwo", r#""from stdin\ntwo""#),
            (b"a\"b\\c'd", r#""a\"b\\c'd""#),
            (b"\x00\x1f\x7f", r#""\x00\x1f\x7f""#),
            (b"\xff\xfea", r#""\xff\xfea""#),
            ("ümläut 日本 e\u{301}".as_bytes(), "\"ümläut 日本 e\u{301}\""),
            ("\u{a0}\u{feff}".as_bytes(), r#""\u00a0\ufeff""#),
        ] {
            assert_eq!(quote(value), quoted);
        }
    }

    #[test]
    fn quoted_strings_are_scanned_with_go_s_escapes() {
        let scan = |text: &'static str| scan_quoted(text.as_bytes());
        assert_eq!(scan(r#"  "k\"q") = x"#), Some((b"k\"q".to_vec(), &b") = x"[..])));
        assert_eq!(scan("`a\\b` rest"), Some((b"a\\b".to_vec(), &b" rest"[..])));
        assert_eq!(scan(r#""a\tb\x41\u00fc\101""#), Some(("a\tbAüA".into(), &b""[..])));
        assert_eq!(scan(r#""\xff""#), Some((vec![0xff], &b""[..])));
        assert_eq!(scan("key1"), None);
        assert_eq!(scan("\"open"), None);
        assert_eq!(scan("\"open\\"), None);
        assert_eq!(scan(r#""\q""#), None);
    }
}
