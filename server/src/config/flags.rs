//! What a flag is, what its values look like, and what is printed of the table.
//!
//! A flag `--a-b` is also the environment variable `ETCD_A_B` and the key `a-b` of the
//! configuration file.

use std::fmt::Write;
use std::time::Duration;

use coracle_ctl::go;

use super::gates;
use super::table::FLAGS;
use super::urls::Url;

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Bool,
    /// A whole number from 0.
    Number,
    Unsigned32,
    /// A whole number.
    Signed,
    /// A Go duration such as `1m30s`; in the configuration file a number of nanoseconds.
    Duration,
    /// Texts, separated by commas.
    List,
    /// URLs, separated by commas.
    Urls,
    /// `Name=true,Name=false`: feature gates.
    Gates,
    OneOf(&'static [&'static str]),
    /// Written as a boolean is, with any value: etcd looks at none.
    Ignored,
}

/// What a flag does in this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// What it does in etcd.
    Acts,
    /// For tests and measurements of this server; not in the help.
    Internal,
    /// Nothing, and for this reason. It is taken with a warning, so that what starts etcd starts
    /// this server.
    Accepted(&'static str),
    /// The same for a flag that etcd itself has no more.
    Removed(&'static str),
    /// Another name of this flag.
    Former(&'static str),
    /// It turns this feature gate on or off.
    Gate(&'static str),
}

/// Where a flag stands in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    Member,
    Clustering,
    Security,
    Auth,
    Monitoring,
    Logging,
    Tracing,
    Features,
    Unsafe,
    Nowhere,
}

/// One flag.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: &'static str,
    pub(super) section: Section,
    pub(super) effect: Effect,
    pub(super) help: &'static str,
}

/// The flag called `name`.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

impl Flag {
    pub(super) const fn help(self, help: &'static str) -> Flag {
        Flag { help, ..self }
    }

    /// The flag that takes the value: today's, if this is a former name.
    pub(super) fn today(&'static self) -> &'static Flag {
        match self.effect {
            Effect::Former(name) => find(name).unwrap_or(self),
            _ => self,
        }
    }

    /// Whether it stands for itself, without a value after it.
    pub(super) fn is_bool(&'static self) -> bool {
        matches!(self.today().kind, Kind::Bool | Kind::Ignored)
    }

    /// Whether `value` is one that this flag takes; if not, why, in the words of Go's flag package.
    pub(super) fn check(&'static self, value: &str) -> Result<(), String> {
        match self.today().kind {
            Kind::Text | Kind::List | Kind::Ignored => Ok(()),
            Kind::Bool => go::parse_bool(value).map(drop).map_err(parse_error),
            Kind::Number => go::parse_u64(value, 0).map(drop).map_err(parse_error),
            Kind::Signed => go::parse_i64(value, 0).map(drop).map_err(parse_error),
            Kind::Unsigned32 => {
                let number = go::parse_u64(value, 0).map_err(parse_error)?;
                u32::try_from(number).map(drop).map_err(|_| "value out of range".to_owned())
            }
            Kind::Duration => parse_duration(value).map(drop).map_err(parse_error),
            Kind::Urls if value.is_empty() => Ok(()),
            Kind::Urls => Url::parse_list(value).map(drop),
            Kind::Gates => gates::parse(value).map(drop),
            Kind::OneOf(choices) if choices.contains(&value) => Ok(()),
            Kind::OneOf(_) => Err("invalid value".to_owned()),
        }
    }
}

/// A duration as Go writes it. Less than none is none: etcd takes it, and asks of those that may be
/// left out whether they are above zero.
pub(super) fn parse_duration(value: &str) -> Result<Duration, String> {
    match value.strip_prefix('-') {
        Some(amount) => go::parse_duration(amount).map(|_| Duration::ZERO),
        None => go::parse_duration(value),
    }
}

/// Go's flag package tells no more than this of what strconv found.
fn parse_error(error: String) -> String {
    let range = "value out of range";
    if error.ends_with(range) { range.to_owned() } else { "parse error".to_owned() }
}

/// The environment variable of the flag `name`.
pub(super) fn variable(name: &str) -> String {
    format!("ETCD_{}", name.to_uppercase().replace('-', "_"))
}

/// What is printed after the sentence about a flag that is wrong, and before the flags by `--help`.
pub(super) const USAGE: &str = "\
Usage:

  coracle serve [flags]
    Start a member. Under the name 'etcd' the program needs no 'serve'.

  coracle serve --version
    Show the version.

  coracle serve -h | --help
    Show the help information.

  coracle serve --config-file
    Path to the configuration file (YAML or JSON). All other flags and variables are ignored then.

  coracle ctl [flags] command
    Talk to a cluster (etcdctl's commands).
";

const SECTIONS: &[(Section, &str)] = &[
    (Section::Member, "Member"),
    (Section::Clustering, "Clustering"),
    (Section::Security, "Security"),
    (Section::Auth, "Auth"),
    (Section::Monitoring, "Profiling and Monitoring"),
    (Section::Logging, "Logging"),
    (Section::Tracing, "Distributed tracing"),
    (Section::Features, "Features"),
    (Section::Unsafe, "Unsafe feature"),
];

/// The flags by section, as `--help` prints them.
pub(super) fn help() -> String {
    let mut text = String::new();
    for (section, title) in SECTIONS {
        // Writing to a String cannot fail.
        _ = write!(text, "\n{title}:\n");
        for flag in FLAGS.iter().filter(|flag| flag.section == *section) {
            _ = write!(text, "  --{} '{}'\n    {}\n", flag.name, flag.default, flag.help_line());
            if flag.name == "feature-gates" {
                _ = text.write_str(&gates::help());
            }
        }
    }
    text
}

/// `docs/flags.md`.
#[cfg(test)]
pub(super) fn markdown() -> String {
    let mut text = String::from(
        "# Flags\n\nGenerated from `server/src/config/table.rs`, which its test keeps in step with \
         this page.\nEvery flag `--a-b` is also the variable `ETCD_A_B` and the key `a-b` of \
         `--config-file`.\n",
    );
    let mut table = |title: &str, flags: &mut dyn Iterator<Item = &Flag>| {
        _ = write!(text, "\n## {title}\n\n| flag | default | |\n|---|---|---|\n");
        for flag in flags {
            let default = if flag.default.is_empty() { "" } else { &format!("`{}`", flag.default) };
            _ = writeln!(text, "| `{}` | {default} | {} |", flag.name, flag.help_line());
        }
    };
    for (section, title) in SECTIONS {
        table(title, &mut FLAGS.iter().filter(|flag| flag.section == *section));
    }
    let is_old = |flag: &&Flag| {
        matches!(flag.effect, Effect::Former(_) | Effect::Gate(_) | Effect::Removed(_))
    };
    table("Taken with a warning", &mut FLAGS.iter().filter(is_old));
    text
}

impl Flag {
    fn help_line(&self) -> String {
        match self.effect {
            Effect::Acts | Effect::Internal => self.help.to_owned(),
            Effect::Accepted(reason) => format!("Has no effect: {reason}."),
            Effect::Removed(reason) => format!("Gone from etcd: {reason}."),
            Effect::Former(name) => format!("Use `--{name}`."),
            Effect::Gate(name) => format!("Use `--feature-gates={name}=true`."),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_is_consistent() {
        let names: BTreeSet<_> = FLAGS.iter().map(|flag| flag.name).collect();
        assert_eq!(names.len(), FLAGS.len(), "a name occurs twice");
        for flag in FLAGS {
            if !flag.default.is_empty() {
                assert_eq!(flag.check(flag.default), Ok(()), "{}", flag.name);
            }
            match flag.effect {
                Effect::Former(name) => assert!(find(name).is_some(), "{name}"),
                Effect::Gate(name) => assert!(gates::find(name).is_some(), "{name}"),
                Effect::Acts | Effect::Internal => {
                    assert!(flag.help.ends_with('.'), "{}", flag.name);
                }
                Effect::Accepted(reason) | Effect::Removed(reason) => assert!(!reason.is_empty()),
            }
        }
    }

    #[test]
    fn help_names_every_flag_of_etcd() {
        let help = help();
        for flag in FLAGS {
            let public = flag.section != Section::Nowhere;
            assert_eq!(help.contains(&format!("  --{} '", flag.name)), public, "{}", flag.name);
        }
    }

    /// Run with `CORACLE_BLESS=1` to write the page anew.
    #[test]
    fn the_page_of_flags_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/flags.md");
        if std::env::var_os("CORACLE_BLESS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == markdown(), "docs/flags.md is old: run this test with CORACLE_BLESS=1");
    }
}
