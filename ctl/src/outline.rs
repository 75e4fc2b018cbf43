//! The commands and flags as data, for whoever describes them: manual pages, completions.

use crate::args::{self, GLOBAL, Kind};
use crate::commands::ROOT;

/// A command, with its flags and the commands below it.
#[derive(Clone, Debug)]
pub struct Outline {
    pub name: &'static str,
    /// What follows the name in the usage line.
    pub usage: &'static str,
    /// In a line.
    pub short: &'static str,
    /// At length, or empty.
    pub long: &'static str,
    pub flags: Vec<FlagOutline>,
    pub commands: Vec<Outline>,
}

/// A flag.
#[derive(Clone, Debug)]
pub struct FlagOutline {
    pub name: &'static str,
    pub short: Option<char>,
    pub help: &'static str,
    /// Empty if there is none worth a word.
    pub default: &'static str,
    /// Whether a value belongs to it; else its presence says it all.
    pub takes_value: bool,
    /// The commands below have it too.
    pub is_global: bool,
}

/// etcdctl's commands.
pub fn outline() -> Outline {
    let mut root = describe(&ROOT);
    root.flags
        .extend(GLOBAL.iter().map(|flag| FlagOutline { is_global: true, ..describe_flag(flag) }));
    root
}

fn describe(command: &args::Command) -> Outline {
    Outline {
        name: command.name,
        usage: command.usage,
        short: command.short,
        long: command.long,
        flags: command.flags.iter().map(describe_flag).collect(),
        commands: command.subcommands.iter().map(describe).collect(),
    }
}

fn describe_flag(flag: &args::Flag) -> FlagOutline {
    let takes_value = flag.kind != Kind::Bool;
    FlagOutline {
        name: flag.name,
        short: flag.short,
        help: flag.help,
        default: if takes_value { flag.default } else { "" },
        takes_value,
        is_global: false,
    }
}
