//! `completion`: scripts by which a shell completes the commands and flags.
//!
//! A script is a table of what may follow which commands, made of the tree of commands itself.

use coracle_ctl::args::Parsed;

use super::commands::{Command, ROOT};
use super::{Failure, GLOBAL, only_argument};

pub(super) fn completion(parsed: &Parsed) -> Result<String, Failure> {
    let shell = only_argument(parsed, "completion requires exactly one argument: the shell")?;
    let mut table = Vec::new();
    collect(&ROOT, ROOT.name.to_owned(), &mut table);
    match shell.as_str() {
        "bash" => Ok(bash(&table)),
        // zsh runs bash's completions.
        "zsh" => Ok(format!(
            "#compdef etcdutl\nautoload -U +X bashcompinit && bashcompinit\n{}",
            bash(&table)
        )),
        "fish" => Ok(fish(&table)),
        "powershell" => Ok(powershell(&table)),
        other => Err(Failure::arguments(format!(
            "{other:?} is none of the shells bash, zsh, fish, powershell"
        ))),
    }
}

/// The commands up to here, and the words that may follow.
type Row = (String, Vec<String>);

fn collect(command: &'static Command, path: String, table: &mut Vec<Row>) {
    let names = command.shown().map(|command| command.name.to_owned());
    let flags = command.flags.iter().chain(&GLOBAL).map(|flag| format!("--{}", flag.name));
    table.push((path.clone(), names.chain(flags).chain(["--help".to_owned()]).collect()));
    for command in command.shown() {
        collect(command, format!("{path} {}", command.name), table);
    }
}

fn bash(table: &[Row]) -> String {
    let paths: Vec<_> = table.iter().map(|(path, _)| format!("\"{path}\"")).collect();
    let mut script = format!(
        "_etcdutl() {{\n  local path=etcdutl word words\n  \
         for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n    \
         case \"$path $word\" in {}) path=\"$path $word\" ;; esac\n  done\n  case \"$path\" in\n",
        paths.join("|")
    );
    for (path, words) in table {
        script += &format!("    \"{path}\") words=\"{}\" ;;\n", words.join(" "));
    }
    script += "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\n\
               complete -o default -F _etcdutl etcdutl\n";
    script
}

fn fish(table: &[Row]) -> String {
    let mut script = String::new();
    for (path, words) in table {
        let seen: Vec<_> = path.split(' ').skip(1).collect();
        let condition = match seen.last() {
            Some(last) => format!("__fish_seen_subcommand_from {last}"),
            None => "__fish_use_subcommand".to_owned(),
        };
        let words = words.join(" ");
        script += &format!("complete -c etcdutl -n '{condition}' -a '{words}'\n");
    }
    script
}

fn powershell(table: &[Row]) -> String {
    let mut script = String::from(
        "Register-ArgumentCompleter -Native -CommandName etcdutl -ScriptBlock {\n  \
         param($word, $line, $position)\n  $table = @{\n",
    );
    for (path, words) in table {
        script += &format!("    '{path}' = '{}'\n", words.join(" "));
    }
    script += "  }\n  $path = 'etcdutl'\n  foreach ($element in $line.CommandElements) {\n    \
               if ($table.ContainsKey(\"$path $element\")) { $path = \"$path $element\" }\n  }\n  \
               $table[$path] -split ' ' | Where-Object { $_ -like \"$word*\" }\n}\n";
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(shell: &str) -> Result<String, Failure> {
        let words = [shell.as_bytes().to_vec()];
        completion(&Parsed::parse(&[&GLOBAL], &words).expect("parses"))
    }

    #[test]
    fn ctl_11_every_shell_gets_every_command() {
        for shell in ["bash", "zsh", "fish", "powershell"] {
            let script = script(shell).expect(shell);
            for word in ["defrag", "hashkv", "restore", "--bump-revision", "--write-out"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
        assert_eq!(script("tcsh").err().map(|failure| failure.exit), Some(128));
    }

    /// A real bash takes the script, and completes with it.
    #[test]
    fn ctl_11_bash_completes() {
        let mut program = script("bash").expect("a script");
        program +=
            "COMP_WORDS=(etcdutl snapshot res); COMP_CWORD=2; _etcdutl; echo \"${COMPREPLY[@]}\"";
        let output = std::process::Command::new("bash").args(["-c", &program]).output();
        assert_eq!(output.expect("bash runs").stdout, b"restore\n");
    }
}
