//! The names of database files, and which of them count.
//!
//! `db-<16 hex digits>` is a database, complete once an (empty) file `db-<16 hex digits>.complete`
//! stands beside it. The mark is made after the database is durable and removed before it is, so
//! that at every moment of a crash exactly the marked files are whole.

use std::io;

use crate::error::Fatal;
use crate::platform::Disk;

const COMPLETE: &str = ".complete";

/// The name of database file `number`.
pub(super) fn name(number: u64) -> String {
    format!("db-{number:016x}")
}

/// The number of the database file called `name`.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("db-")?;
    if digits.len() != 16 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}

/// The highest number of any database file, complete or not; 0 if there is none.
pub(super) fn highest(disk: &dyn Disk) -> Result<u64, Fatal> {
    Ok(list(disk)?.iter().filter_map(|name| number(name)).max().unwrap_or(0))
}

/// The highest number of a complete database file. A mark without its file counts only if there is
/// no complete file: the state is lost then, which whoever opens it must be told.
pub(super) fn newest_complete(disk: &dyn Disk) -> Result<Option<u64>, Fatal> {
    let names = list(disk)?;
    let marked = names.iter().filter_map(|name| number(name.strip_suffix(COMPLETE)?));
    let whole = marked.clone().filter(|number| names.contains(&name(*number)));
    Ok(whole.max().or_else(|| marked.max()))
}

/// Makes file `number`, already durable, count.
pub(super) fn mark_complete(disk: &dyn Disk, number: u64) -> Result<(), Fatal> {
    let mark = name(number) + COMPLETE;
    disk.open(&mark, true).map_err(|source| failed("creating", &mark, source))?;
    Ok(())
}

/// Removes all database files that never became complete.
pub(super) fn remove_incomplete(disk: &dyn Disk) -> Result<(), Fatal> {
    let names = list(disk)?;
    let complete =
        |name: &str| names.iter().any(|other| other.strip_suffix(COMPLETE) == Some(name));
    for name in names.iter().filter(|name| number(name).is_some() && !complete(name)) {
        remove(disk, name)?;
    }
    Ok(())
}

/// Removes all database files but `kept`. For a start, when nobody writes another.
pub(super) fn remove_all_but(disk: &dyn Disk, kept: u64) -> Result<(), Fatal> {
    remove_all(disk, |number| number != kept)
}

/// Removes the database files that `kept` takes the place of. A higher one is being written.
pub(super) fn remove_below(disk: &dyn Disk, kept: u64) -> Result<(), Fatal> {
    remove_all(disk, |number| number < kept)
}

fn remove_all(disk: &dyn Disk, is_stale: impl Fn(u64) -> bool) -> Result<(), Fatal> {
    let names = list(disk)?;
    let stale = |name: &str| number(name).is_some_and(&is_stale);
    for mark in names.iter().filter(|name| name.strip_suffix(COMPLETE).is_some_and(stale)) {
        remove(disk, mark)?;
    }
    for name in names.iter().filter(|name| stale(name)) {
        remove(disk, name)?;
    }
    Ok(())
}

/// Removes file `name`; it is no error if it is gone already.
pub(super) fn remove(disk: &dyn Disk, name: &str) -> Result<(), Fatal> {
    match disk.remove(name) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(failed("removing", name, source))
        }
        _ => Ok(()),
    }
}

fn list(disk: &dyn Disk) -> Result<Vec<String>, Fatal> {
    disk.list().map_err(|source| failed("listing", "the data directory", source))
}

pub(super) fn failed(action: &'static str, file: &str, source: io::Error) -> Fatal {
    Fatal::Io { action, file: file.to_owned(), source }
}
