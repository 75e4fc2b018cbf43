//! `completion`: a script that teaches a shell the commands and flags.
//!
//! The scripts hold the words themselves, so that pressing a key starts no process and needs no
//! cluster.

use super::{Context, Failure, ROOT};
use crate::args::{Command, GLOBAL};

pub(super) const COMMAND: Command = Command {
    name: "completion",
    usage: "[bash|zsh|fish|powershell]",
    short: "Generate completion script",
    long: "Load it into the running shell, or into every new one:\n\n\
           bash:        source <(etcdctl completion bash)\n\
           zsh:         source <(etcdctl completion zsh)\n\
           fish:        etcdctl completion fish | source\n\
           powershell:  etcdctl completion powershell | Out-String | Invoke-Expression",
    flags: &[],
    subcommands: &[],
    run: Some(|context| Box::pin(std::future::ready(completion(context)))),
};

fn completion(context: &Context<'_>) -> Result<(), Failure> {
    let script = match context.only_argument("")?.as_str() {
        "bash" => bash(),
        // zsh understands what bash is told, once it is asked to.
        "zsh" => format!("autoload -U +X bashcompinit && bashcompinit\n{}", bash()),
        "fish" => fish(),
        "powershell" => powershell(),
        other => {
            let message = format!(
                "invalid argument \"{other}\" for \"etcdctl completion\": \
                 it is bash, zsh, fish or powershell"
            );
            return Err(Failure::arguments(message));
        }
    };
    context.environment.stdout(script.as_bytes());
    Ok(())
}

/// Every command with its path below the root, the root itself first.
fn commands() -> Vec<(String, &'static Command)> {
    let mut all = vec![(String::new(), &ROOT)];
    let mut index = 0;
    while let Some((path, command)) = all.get(index).cloned() {
        for subcommand in command.subcommands {
            all.push((format!("{path} {}", subcommand.name).trim_start().to_owned(), subcommand));
        }
        index += 1;
    }
    all
}

/// What may follow a command: its subcommands, its flags, everybody's flags.
fn words(command: &Command) -> String {
    let subcommands = command.subcommands.iter().map(|command| command.name.to_owned());
    let flags = command.flags.iter().chain(&GLOBAL).map(|flag| format!("--{}", flag.name));
    subcommands.chain(flags).collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let cases = commands()
        .into_iter()
        .map(|(path, command)| format!("        \"{path}\") words=\"{}\" ;;\n", words(command)));
    let cases: String = cases.collect();
    // The path is what was typed without flags, cut from the end until it names a command.
    format!(
        "_etcdctl() {{\n    \
         local path=\"\" words=\"\" word\n    \
         for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n        \
         [[ $word == -* ]] || path=\"${{path:+$path }}$word\"\n    \
         done\n    \
         while :; do\n        \
         case \"$path\" in\n{cases}        \
         esac\n        \
         [[ -n $words || -z $path ]] && break\n        \
         [[ $path == *\" \"* ]] && path=\"${{path% *}}\" || path=\"\"\n    \
         done\n    \
         COMPREPLY=($(compgen -W \"$words\" -- \"${{COMP_WORDS[COMP_CWORD]}}\"))\n\
         }}\n\
         complete -o default -F _etcdctl etcdctl\n"
    )
}

fn fish() -> String {
    let mut script = String::new();
    for (path, command) in commands() {
        let condition = match path.as_str() {
            "" => "__fish_use_subcommand".to_owned(),
            path => format!(
                "__fish_seen_subcommand_from {}",
                path.replace(
                    ' ',
                    "; and \
                             __fish_seen_subcommand_from "
                )
            ),
        };
        for subcommand in command.subcommands {
            script += &format!(
                "complete -c etcdctl -f -n '{condition}' -a {} -d '{}'\n",
                subcommand.name,
                subcommand.short.replace('\'', "\\'")
            );
        }
        for flag in command.flags {
            script += &format!(
                "complete -c etcdctl -n '{condition}' -l {} -d '{}'\n",
                flag.name,
                flag.help.replace('\'', "\\'")
            );
        }
    }
    for flag in &GLOBAL {
        let help = flag.help.replace('\'', "\\'");
        script += &format!("complete -c etcdctl -l {} -d '{help}'\n", flag.name);
    }
    script
}

fn powershell() -> String {
    let cases = commands().into_iter().map(|(path, command)| {
        let words = words(command).replace(' ', "', '");
        format!("        '{path}' {{ @('{words}') }}\n")
    });
    let cases: String = cases.collect();
    format!(
        "Register-ArgumentCompleter -Native -CommandName etcdctl -ScriptBlock {{\n    \
         param($word, $ast, $position)\n    \
         $typed = $ast.CommandElements | Select-Object -Skip 1 | ForEach-Object {{ \"$_\" }}\n    \
         $path = ($typed | Where-Object {{ $_ -notlike '-*' -and $_ -ne $word }}) -join ' '\n    \
         $words = switch ($path) {{\n{cases}    \
         }}\n    \
         $words | Where-Object {{ $_ -like \"$word*\" }}\n\
         }}\n"
    )
}
