//! Where values come from: flags, then the environment, or else a configuration file alone.
//!
//! ETCD.md CFG-01 to CFG-03. A value is checked against the table where it is read, so that the
//! error names the flag, the variable or the key that is wrong.

use std::collections::BTreeMap;

use coracle_ctl::go;

use super::flags::{self, Effect, Flag, Kind};
use super::gates::{self, FeatureGates};
use super::table::FLAGS;
use super::{ConfigError, Parsed, Warning, file};

/// Values by flag name, and what is worth a line in the log once there is one.
#[derive(Debug, Default)]
pub(super) struct Values {
    given: BTreeMap<&'static str, Given>,
    pub(super) gates: FeatureGates,
    /// The gates that were turned by flags of former times: flag, gate, value.
    former: Vec<(&'static str, &'static str, String)>,
    pub(super) from_file: bool,
    pub(super) warnings: Vec<Warning>,
}

#[derive(Debug)]
struct Given {
    /// The name that it was given by.
    by: &'static str,
    value: String,
}

impl Values {
    /// The value of the flag `name`, which is in the table.
    pub(super) fn get(&self, name: &str) -> &str {
        let default = flags::find(name).map_or("", |flag| flag.default);
        self.given.get(name).map_or(default, |given| given.value.as_str())
    }

    pub(super) fn is_given(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// Takes a checked value.
    pub(super) fn set(&mut self, flag: &'static Flag, value: String) -> Result<(), String> {
        let name = flag.name;
        let mut warn = |text| self.warnings.push(Warning::Text(text));
        match flag.effect {
            Effect::Accepted(reason) => warn(format!("--{name} has no effect: {reason}")),
            Effect::Removed(reason) => warn(format!("--{name} is gone from etcd: {reason}")),
            Effect::Former(today) => warn(format!("--{name} is deprecated: use --{today}")),
            Effect::Gate(gate) => {
                warn(format!("--{name} is deprecated: use --feature-gates={gate}={value}"));
                return self.set_gate(name, gate, value);
            }
            Effect::Acts | Effect::Internal => {}
        }
        let today = flag.today();
        if let Some(earlier) = self.given.get(today.name).filter(|given| given.by != name) {
            let other = earlier.by;
            return Err(format!(
                "both --{other} and --{name} flags are set. Use only --{}",
                today.name
            ));
        }
        if today.kind == Kind::Gates {
            self.gates = gates::parse(&value)?;
            // The order of the flags does not matter.
            for (flag, gate, value) in std::mem::take(&mut self.former) {
                self.set_gate(flag, gate, value)?;
            }
        }
        self.given.insert(today.name, Given { by: name, value });
        Ok(())
    }

    /// A flag of former times that is a feature gate now.
    fn set_gate(
        &mut self,
        flag: &'static str,
        gate: &'static str,
        value: String,
    ) -> Result<(), String> {
        let on = go::parse_bool(&value)?;
        if self.gates.is_given(gate) {
            let gated = self.gates.is_enabled(gate);
            return Err(format!(
                "cannot specify both flags: --{flag}={on} and --feature-gates={gate}={gated} at \
                 the same time, please just use --feature-gates={gate}={gated}"
            ));
        }
        if let Some(gate) = gates::find(gate) {
            self.gates.set(gate, on);
        }
        self.former.push((flag, gate, value));
        Ok(())
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
    let variable = environment.iter().find(|(name, _)| name == CONFIG_FILE_VARIABLE);
    let path = flags.config_file.as_ref().or(variable.map(|(_, path)| path));
    match path.filter(|path| !path.is_empty()) {
        Some(path) => Ok(Ok(file::read(path)?)),
        None => Ok(Ok(from_flags_and_environment(flags.given, environment)?)),
    }
}

const CONFIG_FILE_VARIABLE: &str = "ETCD_CONFIG_FILE";

#[derive(Default)]
struct Flags {
    /// In the order given; of a flag that is given repeatedly the last counts.
    given: Vec<(&'static Flag, String)>,
    config_file: Option<String>,
    version: bool,
}

/// Go's flag syntax: `-x=y`, `--x=y`, `-x y`, `--x y`, and `-x` for booleans; what comes after the
/// first argument that is no flag is not looked at.
fn read_flags(arguments: &[String]) -> Result<Result<Flags, Parsed>, ConfigError> {
    let mut read = Flags::default();
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let body = argument.strip_prefix("--").or(argument.strip_prefix('-'));
        let body = match body {
            Some("") if argument == "--" => match arguments.next() {
                Some(junk) => return Err(ConfigError::verify(not_a_flag(junk))),
                None => break,
            },
            None | Some("") => return Err(ConfigError::verify(not_a_flag(argument))),
            Some(body) => body,
        };
        if body.starts_with(['-', '=']) {
            return Err(ConfigError::usage(format!("bad flag syntax: {argument}")));
        }
        let (name, inline) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (body, None),
        };
        if matches!(name, "h" | "help") {
            return Ok(Err(Parsed::Help { usage: flags::USAGE, flags: flags::help() }));
        }
        let flag = flags::find(name);
        let known = flag.is_some() || matches!(name, "config-file" | "version");
        if !known {
            return Err(ConfigError::usage(format!("flag provided but not defined: -{name}")));
        }
        let is_bool = name == "version" || flag.is_some_and(Flag::is_bool);
        let value = match inline {
            Some(value) => value,
            None if is_bool => "true".to_owned(),
            None => arguments
                .next()
                .cloned()
                .ok_or_else(|| ConfigError::usage(format!("flag needs an argument: -{name}")))?,
        };
        take_flag(&mut read, name, flag, value)?;
    }
    if read.version { Ok(Err(Parsed::Version)) } else { Ok(Ok(read)) }
}

fn take_flag(
    read: &mut Flags,
    name: &str,
    flag: Option<&'static Flag>,
    value: String,
) -> Result<(), ConfigError> {
    let invalid_bool = |error: &str| {
        ConfigError::usage(format!("invalid boolean value {value:?} for -{name}: {error}"))
    };
    let Some(flag) = flag else {
        if name == "version" {
            read.version = go::parse_bool(&value).map_err(|_| invalid_bool("parse error"))?;
        } else {
            read.config_file = Some(value);
        }
        return Ok(());
    };
    flag.check(&value).map_err(|error| {
        if flag.is_bool() {
            invalid_bool(&error)
        } else {
            ConfigError::usage(format!("invalid value {value:?} for flag -{name}: {error}"))
        }
    })?;
    read.given.retain(|(earlier, _)| earlier.name != flag.name);
    read.given.push((flag, value));
    Ok(())
}

fn not_a_flag(argument: &str) -> String {
    format!("{argument:?} is not a valid flag")
}

/// Takes the flags, and what `ETCD_…` says about those that are not given.
fn from_flags_and_environment(
    flags: Vec<(&'static Flag, String)>,
    environment: &[(String, String)],
) -> Result<Values, ConfigError> {
    let mut values = Values::default();
    let on_command_line: Vec<_> = flags.iter().map(|(flag, _)| flag.name).collect();
    for (flag, value) in flags {
        values.set(flag, value).map_err(ConfigError::verify)?;
    }
    for (variable, value) in environment {
        if !variable.starts_with("ETCD_") || variable == CONFIG_FILE_VARIABLE {
            continue;
        }
        if variable == "ETCD_VERSION" {
            values.warnings.push(Warning::SpecialVariable(value.clone()));
            continue;
        }
        let Some(flag) = FLAGS.iter().find(|flag| flags::variable(flag.name) == *variable) else {
            // Its value may be somebody's password.
            values.warnings.push(Warning::UnknownVariable(variable.clone()));
            continue;
        };
        if on_command_line.contains(&flag.name) {
            return Err(ConfigError::shadowed(variable));
        }
        if value.is_empty() {
            continue;
        }
        flag.check(value).map_err(|error| {
            ConfigError::verify(format!("invalid value {value:?} for {variable}: {error}"))
        })?;
        values.set(flag, value.clone()).map_err(ConfigError::verify)?;
    }
    Ok(values)
}
