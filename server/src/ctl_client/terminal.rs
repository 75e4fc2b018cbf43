//! Reading a password from the terminal without showing it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};

/// Prompts on the controlling terminal and reads a line without echo; without a terminal, reads a
/// line of standard input.
pub(super) fn read_password(prompt: &str) -> io::Result<String> {
    let mut line = String::new();
    match OpenOptions::new().read(true).write(true).open("/dev/tty") {
        Ok(mut terminal) => {
            terminal.write_all(prompt.as_bytes())?;
            let silence = Silence::new(&terminal)?;
            BufReader::new(&terminal).read_line(&mut line)?;
            drop(silence);
            // The line break that was typed was not shown either.
            terminal.write_all(b"\n")?;
        }
        Err(_) => {
            io::stdin().lock().read_line(&mut line)?;
        }
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// A terminal without echo, until it is dropped.
struct Silence {
    terminal: RawFd,
    before: libc::termios,
}

impl Silence {
    fn new(terminal: &File) -> io::Result<Silence> {
        let terminal = terminal.as_raw_fd();
        let mut settings = MaybeUninit::uninit();
        // SAFETY: the descriptor is open, and `settings` has room for what is written to it.
        if unsafe { libc::tcgetattr(terminal, settings.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above succeeded, and so it has filled `settings`.
        let before = unsafe { settings.assume_init() };
        let silence = Silence { terminal, before };
        let mut silent = before;
        silent.c_lflag &= !libc::ECHO;
        silence.set(&silent)?;
        Ok(silence)
    }

    fn set(&self, settings: &libc::termios) -> io::Result<()> {
        // SAFETY: the descriptor is open, and `settings` is a whole termios.
        match unsafe { libc::tcsetattr(self.terminal, libc::TCSANOW, settings) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // Nothing better can be done about a terminal that does not take its own settings.
        _ = self.set(&self.before);
    }
}
