//! Running other programs, saying so, and the list of steps with their durations.

use std::env;
use std::io::ErrorKind;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::paths;

/// A cargo command at the repository's root, of the toolchain that runs us.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(paths::root());
    command
}

/// Shows the command, runs it with our standard output, fails unless it succeeds.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("    $ {}", line(command));
    let status = command.status().map_err(|error| cannot_start(command, error))?;
    finished(command, status)
}

/// Runs the command and returns what it printed; what it says of a failure goes into the error.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| cannot_start(command, error))?;
    let stdout = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("`{}` ended with {}: {stderr} {stdout}", line(command), output.status);
    }
    Ok(stdout)
}

/// Shows and runs the command like [`run`], and ends it when it takes longer than `limit`.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    println!("    $ {}", line(command));
    let mut child =
        command.stdin(Stdio::null()).spawn().map_err(|error| cannot_start(command, error))?;
    match wait_within(&mut child, limit)? {
        Some(status) => finished(command, status),
        None => {
            child.kill().context("a program that hangs cannot be ended")?;
            child.wait()?;
            bail!("`{}` had not finished after {} s", line(command), limit.as_secs())
        }
    }
}

/// Waits for the child at most `limit`; `None` when it is still running.
pub(crate) fn wait_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn finished(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

fn cannot_start(command: &Command, error: std::io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::NotFound {
        anyhow!("the program `{}` is not installed", command.get_program().to_string_lossy())
    } else {
        anyhow!("`{}` does not start: {error}", line(command))
    }
}

/// The command as it could be typed at the repository's root.
fn line(command: &Command) -> String {
    let program = command.get_program();
    let ours = env::var_os("CARGO").is_some_and(|cargo| cargo == program);
    let name = if ours { "cargo".to_owned() } else { paths::shown(program.as_ref()) };
    let arguments = command.get_args().map(|argument| paths::shown(argument.as_ref()));
    [name].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}

/// The steps of a command, in order, each with its duration: what is printed at the end.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Announces a step, does it, remembers how long it took. The error names the step.
    pub(crate) fn step<T>(
        &mut self,
        name: &str,
        purpose: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        println!("\n==> {name}: {purpose}");
        let start = Instant::now();
        let result = work();
        self.done.push((name.to_owned(), start.elapsed()));
        result.with_context(|| format!("step `{name}` failed"))
    }

    /// Prints the summary.
    pub(crate) fn print(&self) {
        println!("\nSteps:");
        let total: Duration = self.done.iter().map(|(_, duration)| *duration).sum();
        for (name, duration) in &self.done {
            println!("  {:>7.1} s  {name}", duration.as_secs_f64());
        }
        println!("  {:>7.1} s  in all", total.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_hangs_is_ended() {
        let start = Instant::now();
        let error = run_within(Command::new("sleep").arg("60"), Duration::from_millis(50));
        assert!(error.unwrap_err().to_string().contains("had not finished"));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program")).unwrap_err();
        assert_eq!(error.to_string(), "the program `no-such-program` is not installed");
    }

    #[test]
    fn the_error_of_a_step_names_it() {
        let mut steps = Steps::default();
        let error = steps.step("lint", "because", || run(&mut Command::new("false"))).unwrap_err();
        assert_eq!(error.to_string(), "step `lint` failed");
        assert_eq!(steps.done.len(), 1);
    }
}
