//! The flags of the log.

use std::path::PathBuf;

use coracle_ctl::go;
use serde_json::Value;

use super::build;
use super::settings::{LogConfig, LogOutput, LogRotation};
use super::sources::Values;

const ROTATION_NEEDS_A_FILE: &str =
    "--log-outputs requires a single file path when --log-rotate-config-json is defined";

pub(super) fn log_config(values: &Values) -> Result<LogConfig, String> {
    match values.get("logger") {
        "zap" => {}
        "capnslog" => return Err("--logger=capnslog is removed in v3.5".to_owned()),
        other => return Err(format!("unknown logger option {other:?}")),
    }
    let level = values.get("log-level");
    let level = match level.to_ascii_lowercase().as_str() {
        "debug" => tracing::Level::DEBUG,
        "info" | "" => tracing::Level::INFO,
        "warn" => tracing::Level::WARN,
        "error" | "dpanic" | "panic" | "fatal" => tracing::Level::ERROR,
        _ => return Err(format!("unrecognized level: {level:?}")),
    };
    let json = match values.get("log-format") {
        "json" | "" => true,
        "console" => false,
        other => {
            return Err(format!("unknown log format: {other}, supported values json, console"));
        }
    };
    Ok(LogConfig { level, json, outputs: outputs(values)? })
}

fn outputs(values: &Values) -> Result<Vec<LogOutput>, String> {
    let mut names = build::list(values, "log-outputs");
    if names.is_empty() {
        names.push("default".to_owned());
    }
    if names.len() > 1 && names.iter().any(|name| name == "default") {
        return Err("multi logoutput for \"default\" is not supported yet".to_owned());
    }
    let rotation = rotation(values)?;
    let output = |name: String| {
        Ok(match name.as_str() {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => LogOutput::Journal,
            _ => LogOutput::File { path: file_path(&name)?, rotation },
        })
    };
    let outputs = names.into_iter().map(output).collect::<Result<Vec<_>, String>>()?;
    let files = outputs.iter().filter(|output| matches!(output, LogOutput::File { .. })).count();
    if rotation.is_some() && files != 1 {
        return Err(ROTATION_NEEDS_A_FILE.to_owned());
    }
    if outputs.contains(&LogOutput::Journal) && outputs.len() > 1 {
        return Err(format!(
            "running with systemd/journal but other '--log-outputs' values ({}) are configured \
             with 'default'; override 'default' value with something else",
            values.get("log-outputs")
        ));
    }
    Ok(outputs)
}

/// The file of an output: a path, or a URL of one, whose host can only be this one.
fn file_path(name: &str) -> Result<PathBuf, String> {
    let Some(located) = name.strip_prefix("file://") else { return Ok(PathBuf::from(name)) };
    let path = located.strip_prefix("localhost").unwrap_or(located);
    if !path.starts_with('/') {
        return Err(format!("file URLs must leave host empty or use localhost: got {name}"));
    }
    Ok(PathBuf::from(path))
}

fn rotation(values: &Values) -> Result<Option<LogRotation>, String> {
    if !build::boolean(values, "enable-log-rotation") {
        return Ok(None);
    }
    let text = values.get("log-rotation-config-json");
    let parsed: Value = serde_json::from_str(text)
        .map_err(|error| format!("improperly formatted log rotation config: {error}"))?;
    let invalid = |key: &str| {
        format!(
            "invalid log rotation config: {key} of {} has the wrong type",
            go::quote(text.as_bytes())
        )
    };
    let number = |key: &str| match &parsed[key] {
        Value::Null => Ok(0),
        value => value.as_u64().ok_or_else(|| invalid(key)),
    };
    let boolean = |key: &str| match &parsed[key] {
        Value::Null => Ok(false),
        value => value.as_bool().ok_or_else(|| invalid(key)),
    };
    Ok(Some(LogRotation {
        // 100 where nothing is said, as with lumberjack, whose configuration this is.
        max_size_megabytes: match number("maxsize")? {
            0 => 100,
            size => size,
        },
        max_age_days: number("maxage")?,
        max_backups: number("maxbackups")?,
        local_time: boolean("localtime")?,
        compress: boolean("compress")?,
    }))
}
