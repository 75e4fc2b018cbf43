//! The help of a command, laid out as etcdctl lays it out (`etcdctl get --help`).

use std::fmt::Write;

use crate::args::{Command, Flag, GLOBAL, Kind};
use crate::commands::{API_VERSION, VERSION};

/// The help of the last command of `path`, which starts with the root.
pub(crate) fn help(path: &[&Command]) -> String {
    let Some((command, parents)) = path.split_last() else { return String::new() };
    let names: Vec<_> = path.iter().map(|command| command.name).collect();
    let is_root = parents.is_empty();
    let title = if is_root { names[0].to_string() } else { names[1..].join(" ") };

    let mut text = format!("NAME:\n\t{title} - {}\n\nUSAGE:\n\t", command.short);
    for word in names.iter().copied().chain([command.usage, "[flags]\n"]) {
        if !word.is_empty() {
            text.push_str(word);
            text.push(' ');
        }
    }
    text.truncate(text.trim_end().len());
    text.push_str("\n\n");
    if is_root {
        // Writing to a string cannot fail, here and below.
        let _ = write!(text, "VERSION:\n\t{VERSION}\n\n");
    }
    if !command.subcommands.is_empty() {
        let _ = write!(text, "API VERSION:\n\t{API_VERSION}\n\n\nCOMMANDS:\n");
        let mut rows = Vec::new();
        list_commands(command, "", is_root, &mut rows);
        rows.sort();
        text.push_str(&aligned(&rows));
        text.push('\n');
    }
    if !command.long.is_empty() {
        text.push_str("DESCRIPTION:\n");
        for line in command.long.lines() {
            let _ = writeln!(text, "\t{line}");
        }
        text.push('\n');
    }
    let (inherited, own): (Vec<_>, Vec<_>) = command.flags.iter().partition(|flag| flag.inherited);
    let globals = inherited.into_iter().chain(&GLOBAL);
    let mut options = vec![help_row(command.name)];
    options.extend(own.into_iter().map(flag_row));
    if is_root {
        options.extend(globals.map(flag_row));
        let _ = write!(text, "OPTIONS:\n{}\n", options_text(options));
    } else {
        let globals = options_text(globals.map(flag_row).collect());
        let _ = write!(text, "OPTIONS:\n{}\n", options_text(options));
        let _ = write!(text, "GLOBAL OPTIONS:\n{globals}\n");
    }
    text
}

/// The flags that every command has, with what they mean.
pub(crate) fn global_options() -> String {
    options_text(GLOBAL.iter().map(flag_row).collect())
}

/// The commands below `command`: all of them with their paths for the root, else the next level.
fn list_commands(
    command: &Command,
    path: &str,
    deep: bool,
    rows: &mut Vec<(String, &'static str)>,
) {
    for subcommand in command.subcommands {
        let name = format!("{path}{}", subcommand.name);
        if deep && !subcommand.subcommands.is_empty() {
            list_commands(subcommand, &format!("{name} "), deep, rows);
        } else {
            rows.push((format!("\t{name}"), subcommand.short));
        }
    }
}

/// A row of options: the flag's name for sorting, and the two columns.
type OptionRow = (&'static str, (String, String));

fn help_row(name: &str) -> OptionRow {
    ("help", ("  -h, --help[=false]".into(), format!("help for {name}")))
}

fn flag_row(flag: &'static Flag) -> OptionRow {
    let short = flag.short.map_or("      ".into(), |letter| format!("  -{letter}, "));
    let name = flag.name;
    let form = match flag.kind {
        Kind::Bool => format!("{short}--{name}[={}]", flag.default),
        Kind::Text => format!("{short}--{name}=\"{}\"", flag.default),
        Kind::List => format!("{short}--{name}=[{}]", flag.default),
        Kind::Int64 | Kind::Uint64 | Kind::Duration => format!("{short}--{name}={}", flag.default),
    };
    (name, (form, flag.help.into()))
}

fn options_text(mut rows: Vec<OptionRow>) -> String {
    rows.sort();
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    aligned(&rows)
}

/// Two columns apart by tabs of eight, the first as wide as its widest cell and one more.
fn aligned<L: AsRef<str>, R: AsRef<str>>(rows: &[(L, R)]) -> String {
    const TAB: usize = 8;
    // The tab that opens a row of commands is as wide as any other.
    let width = |cell: &str| cell.trim_start_matches('\t').len();
    let widest = rows.iter().map(|(left, _)| width(left.as_ref())).max().unwrap_or(0);
    let column = (widest + 1).next_multiple_of(TAB);
    let mut text = String::new();
    for (left, right) in rows {
        let tabs = (column - width(left.as_ref())).div_ceil(TAB);
        let _ = writeln!(text, "{}{}{}", left.as_ref(), "\t".repeat(tabs), right.as_ref());
    }
    text
}
