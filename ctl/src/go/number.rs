//! Numbers: `strconv.ParseInt` and its relatives, and the byte sizes of `go-humanize`.

use super::quote::quote;

/// Parses a signed integer; `radix` 0 means that a prefix (`0x`, `0o`, `0b`, `0`) chooses it.
///
/// The error is Go's text: `strconv.ParseInt: parsing "zz": invalid syntax`.
pub fn parse_i64(text: &str, radix: u32) -> Result<i64, String> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let failed = |what| error("ParseInt", text, what);
    let magnitude = magnitude(digits, radix).map_err(failed)?;
    let value = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    i64::try_from(value).map_err(|_| failed(OUT_OF_RANGE))
}

/// Parses an unsigned integer, with the rules of [`parse_i64`].
pub fn parse_u64(text: &str, radix: u32) -> Result<u64, String> {
    magnitude(text, radix).map_err(|what| error("ParseUint", text, what))
}

/// Parses a Go boolean: `1 t T true TRUE True` and their opposites.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(error("ParseBool", text, INVALID_SYNTAX)),
    }
}

const INVALID_SYNTAX: &str = "invalid syntax";
const OUT_OF_RANGE: &str = "value out of range";

fn error(function: &str, text: &str, what: &str) -> String {
    format!("strconv.{function}: parsing {}: {what}", quote(text.as_bytes()))
}

fn magnitude(digits: &str, radix: u32) -> Result<u64, &'static str> {
    let (digits, radix) = if radix == 0 { prefixed(digits) } else { (digits, radix) };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(INVALID_SYNTAX);
    }
    u64::from_str_radix(digits, radix).map_err(|_| OUT_OF_RANGE)
}

fn prefixed(digits: &str) -> (&str, u32) {
    let lower = digits.get(..2).map(str::to_ascii_lowercase);
    match lower.as_deref() {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        Some(two) if two.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    }
}

/// A size in bytes for people: `0 B`, `25 kB`, `2.1 GB` (powers of 1000).
pub fn humanize_bytes(size: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    if size < 10 {
        return format!("{size} B");
    }
    let exponent = (size.ilog10() / 3) as usize;
    let unit = 1000_f64.powi(exponent as i32);
    let value = (size as f64 / unit * 10.0 + 0.5).floor() / 10.0;
    let decimals = if value < 10.0 { 1 } else { 0 };
    format!("{value:.decimals$} {}", UNITS[exponent])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_parse_as_in_go() {
        assert_eq!(parse_i64("7d7ba204a96b4c4b", 16), Ok(0x7d7b_a204_a96b_4c4b));
        assert_eq!(parse_i64("-12", 0), Ok(-12));
        assert_eq!(parse_i64("0x1f", 0), Ok(31));
        assert_eq!(parse_i64("010", 0), Ok(8));
        assert_eq!(parse_i64("0", 0), Ok(0));
        assert_eq!(parse_i64("-9223372036854775808", 10), Ok(i64::MIN));
        assert_eq!(
            parse_i64("zz", 16),
            Err(r#"strconv.ParseInt: parsing "zz": invalid syntax"#.into())
        );
        assert_eq!(
            parse_i64("9999999999999999999", 16),
            Err(r#"strconv.ParseInt: parsing "9999999999999999999": value out of range"#.into())
        );
        assert_eq!(
            parse_u64("-1", 16),
            Err(r#"strconv.ParseUint: parsing "-1": invalid syntax"#.into())
        );
        assert_eq!(parse_u64("ffffffffffffffff", 16), Ok(u64::MAX));
        assert!(parse_bool("yes").is_err());
        assert_eq!(parse_bool("T"), Ok(true));
    }

    #[test]
    fn sizes_are_humanised_in_powers_of_a_thousand() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (20_480, "20 kB"),
            (24_576, "25 kB"),
            (2_147_483_648, "2.1 GB"),
            (999_999, "1000 kB"),
        ] {
            assert_eq!(humanize_bytes(size), text);
        }
    }
}
