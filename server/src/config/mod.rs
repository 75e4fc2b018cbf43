//! Configuration: etcd's flags, `ETCD_…` variables and configuration file, checked as etcd does.
//!
//! `table` is the table of flags, `sources` and `file` read values for it, `build` and what it
//! calls give them meaning, [`settings`] is the outcome. Everything here is a function of its
//! arguments and the configuration file: nothing is bound, created or logged.

mod auth;
mod build;
mod cluster;
mod file;
mod flags;
pub mod gates;
mod log;
mod outline;
pub mod settings;
mod sources;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod urls;

pub use self::auth::{AuthConfig, JwtConfig, TokenConfig};
pub(crate) use self::cluster::parse_initial_cluster;
pub use self::outline::outline;
pub(crate) use self::settings::HttpConfig;
pub use self::settings::{Config, TracingConfig, Warning};

/// What a command line asks for.
#[derive(Debug)]
pub enum Parsed {
    Serve(Box<Config>),
    /// Print the usage to standard error and the flags to standard output, as etcd does.
    Help {
        usage: &'static str,
        flags: String,
    },
    Version,
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Something that is no flag, or no value of one: etcd prints this and its usage, and ends with
    /// status 2.
    #[error("{0}")]
    Usage(String),
    /// Values that do not go together: a line of the log, and status 1.
    #[error("{0}")]
    Verify(String),
    /// A variable beside its own flag: a line of level `fatal`, and status 1.
    #[error(
        "conflicting environment variable is shadowed by corresponding command-line flag (either \
         unset environment variable or disable flag))"
    )]
    Shadowed { variable: String },
}

impl ConfigError {
    fn usage(text: String) -> ConfigError {
        ConfigError::Usage(text)
    }

    fn verify(text: String) -> ConfigError {
        ConfigError::Verify(text)
    }

    fn shadowed(variable: &str) -> ConfigError {
        ConfigError::Shadowed { variable: variable.to_owned() }
    }

    pub fn exit_status(&self) -> u8 {
        match self {
            ConfigError::Usage(_) => 2,
            ConfigError::Verify(_) | ConfigError::Shadowed { .. } => 1,
        }
    }
}

/// What is printed after a [`ConfigError::Usage`].
pub fn usage() -> &'static str {
    flags::USAGE
}

/// Reads and checks the configuration of `serve`.
///
/// `arguments` come after the command's name; `environment` is the whole environment.
pub fn parse(
    arguments: &[String],
    environment: &[(String, String)],
) -> Result<Parsed, ConfigError> {
    match sources::gather(arguments, environment)? {
        Ok(values) => {
            Ok(Parsed::Serve(Box::new(build::build(values).map_err(ConfigError::Verify)?)))
        }
        Err(parsed) => Ok(parsed),
    }
}
