//! Reading a password from the terminal without showing it. Whatever ends the process meanwhile,
//! the terminal gets its echo back first.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

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

/// Signals that end the process while it asks for a password. The interrupt is not among them: it
/// ends the command, and [`restore`] is called after that.
const ENDING: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

/// A terminal whose echo is off, and its settings before that; null while there is none.
static SILENCED: AtomicPtr<Silenced> = AtomicPtr::new(ptr::null_mut());

struct Silenced {
    terminal: RawFd,
    before: libc::termios,
}

/// Gives the terminal its echo back, if it is without. A signal handler may call this.
pub(super) fn restore() {
    // SAFETY: the pointer is null, or comes from a box that is never freed.
    let silenced = unsafe { SILENCED.load(Ordering::Acquire).as_ref() };
    if let Some(Silenced { terminal, before }) = silenced {
        // SAFETY: `before` is a whole termios. Nothing better can be done about a terminal that
        // does not take its own settings.
        _ = unsafe { libc::tcsetattr(*terminal, libc::TCSANOW, before) };
    }
}

/// Restores the terminal, and lets the signal have its way: it comes again when this returns.
extern "C" fn end(signal: libc::c_int) {
    restore();
    // SAFETY: both calls take plain numbers, and signal handlers may make them.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

/// Puts [`end`] in charge of `signal`, unless it is ignored; gives what handled it before.
fn handle(signal: libc::c_int) -> libc::sighandler_t {
    let handler: extern "C" fn(libc::c_int) = end;
    // SAFETY: the handler does only what a signal handler may do.
    let before = unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    if before == libc::SIG_IGN {
        // SAFETY: a plain number. `nohup` has it so.
        unsafe { libc::signal(signal, before) };
    }
    before
}

/// A terminal without echo, until it is dropped.
struct Silence {
    /// What handled the signals of [`ENDING`].
    handlers: [libc::sighandler_t; ENDING.len()],
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
        let mut silent = before;
        silent.c_lflag &= !libc::ECHO;
        // Never freed, as a signal handler may still look at it; passwords are asked for rarely.
        SILENCED.store(Box::into_raw(Box::new(Silenced { terminal, before })), Ordering::Release);
        let silence = Silence { handlers: ENDING.map(handle) };
        // SAFETY: the descriptor is open, and `silent` is a whole termios.
        match unsafe { libc::tcsetattr(terminal, libc::TCSANOW, &silent) } {
            0 => Ok(silence),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        restore();
        SILENCED.store(ptr::null_mut(), Ordering::Release);
        for (signal, handler) in ENDING.into_iter().zip(self.handlers) {
            // SAFETY: the handler is the one that was there before.
            unsafe { libc::signal(signal, handler) };
        }
    }
}
