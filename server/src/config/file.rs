//! The configuration file (ETCD.md CFG-02): YAML, of which JSON is a part.
//!
//! Keys are flag names, but for a few groups that flags have no names for. Their case does not
//! matter, as it does not to Go's JSON.

use std::fs;

use serde_yaml_ng::{Mapping, Number, Value};

use super::flags::{self, Flag, Kind};
use super::sources::Values;
use super::{ConfigError, Warning};

/// Reads the file; flags and environment do not count then.
pub(super) fn read(path: &str) -> Result<Values, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| {
        // Go's text for the errors that are likely, without Rust's number of the error.
        let cause = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        ConfigError::verify(format!("open {path}: {cause}"))
    })?;
    let parsed: Value = serde_yaml_ng::from_str(&text)
        .map_err(|error| ConfigError::verify(format!("error converting YAML to JSON: {error}")))?;
    let mut values = Values::default();
    values.from_file = true;
    values.warnings.push(Warning::Text(format!(
        "loaded server configuration from {path}: other configuration command line flags and \
         environment variables will be ignored if provided"
    )));
    match parsed {
        Value::Mapping(entries) => take(&mut values, entries, ""),
        Value::Null => Ok(()),
        _ => Err("expected flag names with values".to_owned()),
    }
    .map_err(|error| ConfigError::verify(format!("{path}: {error}")))?;
    Ok(values)
}

/// Takes the entries of a group; the outermost has no name.
fn take(values: &mut Values, entries: Mapping, group: &str) -> Result<(), String> {
    for (key, value) in entries {
        let written = key.as_str().unwrap_or_default();
        let key = written.to_ascii_lowercase();
        if is_group(group, &key) {
            match value {
                Value::Mapping(entries) => take(values, entries, &key)?,
                Value::Null => {}
                _ => return Err(format!("invalid {written}")),
            }
            continue;
        }
        let dotted =
            if group.is_empty() { written.to_owned() } else { format!("{group}.{written}") };
        let Some(flag) = flags::find(&flag_name(group, &key)) else {
            let text = format!("unknown key {dotted:?} in the configuration file");
            values.warnings.push(Warning::Text(text));
            continue;
        };
        let Some(value) = flag_value(flag, value) else { continue };
        flag.check(&value)
            .map_err(|error| format!("invalid value {value:?} for {dotted}: {error}"))?;
        values.set(flag, value)?;
    }
    Ok(())
}

fn is_group(group: &str, key: &str) -> bool {
    match group {
        "" => matches!(
            key,
            "client-transport-security"
                | "peer-transport-security"
                | "socket-options"
                | "discovery-config"
        ),
        "discovery-config" => matches!(key, "secure" | "auth"),
        _ => false,
    }
}

/// The flag that the key of a group stands for.
fn flag_name(group: &str, key: &str) -> String {
    match (group, key) {
        ("client-transport-security", "allowed-cn" | "allowed-hostname") => {
            format!("client-cert-{key}")
        }
        ("client-transport-security", "crl-file") => "client-crl-file".to_owned(),
        ("peer-transport-security", "allowed-cn" | "allowed-hostname") => {
            format!("peer-cert-{key}")
        }
        ("peer-transport-security", _) => format!("peer-{key}"),
        ("socket-options", _) => format!("socket-{key}"),
        ("auth", "username") => "discovery-user".to_owned(),
        ("discovery-config" | "secure" | "auth", _) => format!("discovery-{key}"),
        _ => key.to_owned(),
    }
}

/// A number of the file. Where a whole one is asked for, `8e9` is one: on the way through JSON it
/// loses its form.
fn number_text(kind: Kind, number: &Number) -> String {
    let is_counted =
        matches!(kind, Kind::Number | Kind::Unsigned32 | Kind::Signed | Kind::Duration);
    let whole = |float: &f64| is_counted && number.is_f64() && float.fract() == 0.0;
    let text = match number.as_f64().filter(whole) {
        Some(float) => format!("{float:.0}"),
        None => number.to_string(),
    };
    if kind == Kind::Duration { text + "ns" } else { text }
}

/// A value of the file in the form that the flag takes; `None` for an empty one.
fn flag_value(flag: &'static Flag, value: Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text,
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number_text(flag.today().kind, &number),
        Value::Sequence(items) => {
            let texts: Vec<_> =
                items.into_iter().filter_map(|item| flag_value(flag, item)).collect();
            texts.join(",")
        }
        Value::Null | Value::Mapping(_) | Value::Tagged(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}
