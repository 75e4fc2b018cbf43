//! Programs that a command runs: for each event of a watch, or while it holds a lock.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// Runs `command` with `variables` added to its environment. Its output is that of this process;
/// there is nothing for it to read, as an interactive watch reads its own input. Gives its exit
/// code, or the negative number of the signal that ended it; blocks.
pub(super) fn execute(
    command: Vec<String>,
    variables: Vec<(String, String)>,
) -> Result<i32, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("exec: no command".to_owned());
    };
    let mut command = Command::new(program);
    let status = command.args(arguments).envs(variables).stdin(Stdio::null()).status();
    let status = status.map_err(|error| match error.kind() {
        // As Go words it.
        ErrorKind::NotFound if !program.contains('/') => {
            format!("exec: {program:?}: executable file not found in $PATH")
        }
        ErrorKind::NotFound => format!("fork/exec {program}: no such file or directory"),
        ErrorKind::PermissionDenied => format!("fork/exec {program}: permission denied"),
        _ => format!("fork/exec {program}: {error}"),
    })?;
    Ok(status.code().unwrap_or_else(|| -status.signal().unwrap_or(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctl_02_programs_end_with_a_code_or_a_signal() {
        let run = |words: &[&str]| {
            let words = words.iter().map(|word| word.to_string()).collect();
            execute(words, vec![("GREETING".into(), "hi".into())])
        };
        assert_eq!(run(&["true"]), Ok(0));
        assert_eq!(run(&["sh", "-c", "test \"$GREETING\" = hi && exit 7"]), Ok(7));
        assert_eq!(run(&["sh", "-c", "kill -9 $$"]), Ok(-9));
        assert_eq!(run(&["sh", "-c", "test \"$(readlink /proc/self/fd/0)\" = /dev/null"]), Ok(0));
        let missing = "exec: \"no-such-program\": executable file not found in $PATH".to_owned();
        assert_eq!(run(&["no-such-program"]), Err(missing));
        let missing = "fork/exec ./none: no such file or directory".to_owned();
        assert_eq!(run(&["./none"]), Err(missing));
        let denied = "fork/exec /etc/passwd: permission denied".to_owned();
        assert_eq!(run(&["/etc/passwd"]), Err(denied));
    }
}
