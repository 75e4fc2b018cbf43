//! Where values come from: flags, then the environment, or else a configuration file alone.
//!
//! ETCD.md CFG-01 to CFG-03. A value is checked against the table where it is read, so that the
//! error names the flag, the variable or the key that is wrong.

use std::collections::BTreeMap;
use std::fs;

use serde_yaml_ng::Value;

use super::flags::{self, ALIASES, FLAGS, Flag, Kind};
use super::{ConfigError, Parsed};

/// Values by flag name, and what is worth a line in the log once there is one.
#[derive(Debug, Default)]
pub(super) struct Values {
    given: BTreeMap<&'static str, String>,
    pub(super) warnings: Vec<String>,
}

impl Values {
    /// The value of the flag `name`, which is in the table.
    pub(super) fn get(&self, name: &str) -> &str {
        let default = flags::find(name).map_or("", |flag| flag.default);
        self.given.get(name).map_or(default, String::as_str)
    }

    pub(super) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    fn set(&mut self, flag: &'static Flag, value: String) {
        if flag.section == flags::Section::Ignored {
            self.warnings.push(format!("--{} has no effect in this server", flag.name));
        }
        self.given.insert(flag.name, value);
    }
}

/// What the command line asks for, or the values of all sources.
pub(super) fn gather(
    arguments: &[String],
    environment: &[(String, String)],
) -> Result<Result<Values, Parsed>, ConfigError> {
    let flags = match read_flags(arguments)? {
        Ok(flags) => flags,
        Err(parsed) => return Ok(Err(parsed)),
    };
    let variable = environment.iter().find(|(name, _)| name == "ETCD_CONFIG_FILE");
    let file = flags.config_file.as_ref().or(variable.map(|(_, path)| path));
    let mut values = match file.filter(|path| !path.is_empty()) {
        Some(path) => read_file(path)?,
        None => read_environment(flags.values, environment)?,
    };
    for (alias, name) in ALIASES {
        if flags.names.iter().any(|given| given == alias) {
            values.warnings.push(format!("--{alias} is deprecated: use --{name}"));
        }
    }
    Ok(Ok(values))
}

#[derive(Default)]
struct Flags {
    values: Values,
    config_file: Option<String>,
    /// As they were written.
    names: Vec<String>,
}

/// Go's flag syntax: `-x=y`, `--x=y`, `-x y`, `--x y`, and `-x` for booleans.
fn read_flags(arguments: &[String]) -> Result<Result<Flags, Parsed>, ConfigError> {
    let mut read = Flags::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let body = argument.strip_prefix("--").or(argument.strip_prefix('-'));
        let Some(body) = body.filter(|body| !body.is_empty()) else {
            return Err(ConfigError::invalid(format!("{argument:?} is not a valid flag")));
        };
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        match name {
            "h" | "help" => return Ok(Err(Parsed::Help(flags::help()))),
            "version" => return Ok(Err(Parsed::Version)),
            _ => {}
        }
        let flag = flags::find(name);
        if flag.is_none() && name != "config-file" {
            return Err(ConfigError::usage(format!("flag provided but not defined: -{name}")));
        }
        let value = match inline {
            Some(value) => value,
            None if flag.is_some_and(|flag| flag.kind == Kind::Bool) => "true".to_owned(),
            None => arguments
                .next()
                .cloned()
                .ok_or_else(|| ConfigError::usage(format!("flag needs an argument: -{name}")))?,
        };
        let Some(flag) = flag else {
            read.config_file = Some(value);
            continue;
        };
        flag.check(&value).map_err(|error| {
            ConfigError::usage(format!("invalid value {value:?} for flag -{name}: {error}"))
        })?;
        read.names.push(name.to_owned());
        read.values.set(flag, value);
    }
    Ok(Ok(read))
}

/// Adds what `ETCD_…` says about flags that are not given.
fn read_environment(
    mut values: Values,
    environment: &[(String, String)],
) -> Result<Values, ConfigError> {
    for (variable, value) in environment {
        if !variable.starts_with("ETCD_") || value.is_empty() {
            continue;
        }
        let known = FLAGS.iter().map(|flag| (flag.variable(), flag));
        let former = ALIASES
            .iter()
            .filter_map(|(alias, name)| Some((flags::variable(alias), flags::find(name)?)));
        let Some((_, flag)) = known.chain(former).find(|(known, _)| known == variable) else {
            values.warnings.push(format!("unrecognized environment variable: {variable}"));
            continue;
        };
        if values.is_given(flag.name) {
            return Err(ConfigError::invalid(format!(
                "conflicting environment variable is shadowed by corresponding command-line flag \
                 (either unset environment variable or disable flag): {variable}"
            )));
        }
        flag.check(value).map_err(|error| {
            ConfigError::invalid(format!("invalid value {value:?} for {variable}: {error}"))
        })?;
        values.set(flag, value.clone());
    }
    Ok(values)
}

/// Reads the configuration file; flags and environment do not count then.
fn read_file(path: &str) -> Result<Values, ConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|error| ConfigError::invalid(format!("open {path}: {error}")))?;
    let parsed: Value = serde_yaml_ng::from_str(&text)
        .map_err(|error| ConfigError::invalid(format!("{path}: {error}")))?;
    let entries = match parsed {
        Value::Mapping(entries) => entries,
        Value::Null => Default::default(),
        _ => return Err(ConfigError::invalid(format!("{path}: expected flag names with values"))),
    };
    let mut values = Values::default();
    values.warnings.push(format!(
        "loaded server configuration from {path}: other configuration command line flags and \
         environment variables will be ignored if provided"
    ));
    for (key, value) in entries {
        let key = key.as_str().unwrap_or_default().to_owned();
        let Some(flag) = flags::find(&key) else {
            if matches!(key.as_str(), "client-transport-security" | "peer-transport-security")
                && !is_blank(&value)
            {
                return Err(ConfigError::invalid(format!(
                    "{path}: {key}: TLS is not supported yet"
                )));
            }
            values.warnings.push(format!("{path}: unknown key {key:?}"));
            continue;
        };
        let Some(value) = file_value(flag, value) else { continue };
        flag.check(&value).map_err(|error| {
            ConfigError::invalid(format!("{path}: invalid value {value:?} for {key}: {error}"))
        })?;
        values.set(flag, value);
    }
    Ok(values)
}

/// A value of the file in the form that the flag takes; `None` for an empty one.
fn file_value(flag: &Flag, value: Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text,
        Value::Bool(value) => value.to_string(),
        Value::Number(number) if flag.kind == Kind::Duration => format!("{number}ns"),
        Value::Number(number) => number.to_string(),
        Value::Sequence(items) => {
            let texts: Vec<_> =
                items.into_iter().filter_map(|item| file_value(flag, item)).collect();
            texts.join(",")
        }
        Value::Null | Value::Mapping(_) | Value::Tagged(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Mapping(entries) => entries.values().all(is_blank),
        _ => false,
    }
}
