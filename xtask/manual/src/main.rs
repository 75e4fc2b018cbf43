//! Writes manual pages and completions into a folder: `coracle-manual FOLDER`.
//!
//! The programs read flags as Go's libraries do, not with clap; here their tables become clap's
//! commands, of which its generators make pages (`man/`) and completions (`completions/`).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use coracle_ctl::{FlagOutline, Outline};

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).context("name the folder to write to")?;
    let folder = Path::new(&folder);
    for program in programs() {
        let name = program.get_name().to_owned();
        write_pages(&program, &name, &folder.join("man"))?;
        write_completions(program, &name, &folder.join("completions"))?;
    }
    Ok(())
}

/// The program by its own name, and by etcdctl's.
fn programs() -> [Command; 2] {
    let version = env!("CARGO_PKG_VERSION");
    let ctl = command(&coracle_ctl::outline(), version);
    let program = Command::new("coracle")
        .version(version)
        .about("A key-value store that speaks etcd's API")
        .subcommand(command(&coracle_server::config::outline(), version))
        .subcommand(ctl.clone().name("ctl"));
    [program, ctl.name("etcdctl")]
}

/// The outline as clap has it.
fn command(outline: &Outline, version: &'static str) -> Command {
    let mut command = Command::new(outline.name).version(version).about(outline.short);
    // Ours has a command of this name.
    command = command.disable_help_subcommand(true);
    if !outline.long.is_empty() {
        command = command.long_about(outline.long);
    }
    if !outline.usage.is_empty() && outline.commands.is_empty() {
        // Arguments are told as etcd's usage line tells them.
        let usage = outline.usage.trim_start_matches("[options]").trim_start();
        command = command.arg(Arg::new("arguments").value_name(usage).num_args(0..));
    }
    let flags = outline.flags.iter().filter(|flag| flag.name != "help" && flag.name != "version");
    command = command.args(flags.map(argument));
    command.subcommands(outline.commands.iter().map(|below| self::command(below, version)))
}

fn argument(flag: &FlagOutline) -> Arg {
    let action = if flag.takes_value { ArgAction::Append } else { ArgAction::SetTrue };
    let mut argument = Arg::new(flag.name).long(flag.name).help(flag.help).action(action);
    if let Some(short) = flag.short {
        argument = argument.short(short);
    }
    if flag.takes_value && !flag.default.is_empty() {
        argument = argument.default_value(flag.default);
    }
    argument.global(flag.is_global)
}

/// A page for the command and one for each below it: `coracle-ctl-get.1`.
fn write_pages(command: &Command, name: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let mut page = Vec::new();
    Man::new(command.clone().name(name.to_owned())).render(&mut page)?;
    fs::write(folder.join(format!("{name}.1")), page)?;
    for below in command.get_subcommands() {
        write_pages(below, &format!("{name}-{}", below.get_name()), folder)?;
    }
    Ok(())
}

fn write_completions(mut command: Command, name: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut command, name, folder)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No name twice, no default that its flag would refuse.
    #[test]
    fn the_tables_make_sound_commands() {
        programs().into_iter().for_each(Command::debug_assert);
    }
}
