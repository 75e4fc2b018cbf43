//! What the operating system knows about this process, for `/metrics`. Zeroes where it does not
//! tell (anything but Linux).

use std::fs;
use std::time::Duration;

/// Clock ticks per second in `/proc` (USER_HZ, 100 on every Linux platform).
const TICKS_PER_SECOND: u64 = 100;
pub(in crate::http) const NANOS_PER_TICK: i64 = 1_000_000_000 / TICKS_PER_SECOND as i64;

#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::http) struct Process {
    pub(in crate::http) cpu: Duration,
    pub(in crate::http) resident_bytes: u64,
    pub(in crate::http) virtual_bytes: u64,
    /// The largest number where there is no limit.
    pub(in crate::http) virtual_max_bytes: u64,
    pub(in crate::http) open_fds: u64,
    pub(in crate::http) max_fds: u64,
    /// Seconds since the Unix epoch.
    pub(in crate::http) start_seconds: u64,
}

impl Process {
    pub(in crate::http) fn read() -> Process {
        let file =
            |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        let (cpu, started) = parse_stat(&file("stat")).unwrap_or_default();
        let boot = fs::read_to_string("/proc/stat").unwrap_or_default();
        let status = file("status");
        let kilobytes = |key| field(&status, key).unwrap_or(0) * 1024;
        Process {
            cpu,
            resident_bytes: kilobytes("VmRSS:"),
            virtual_bytes: kilobytes("VmSize:"),
            virtual_max_bytes: field(&file("limits"), "Max address space").unwrap_or(u64::MAX),
            // The folder being counted has a descriptor itself.
            open_fds: fs::read_dir("/proc/self/fd").map_or(0, |fds| fds.count() as u64 - 1),
            max_fds: field(&file("limits"), "Max open files").unwrap_or(0),
            start_seconds: field(&boot, "btime").map_or(0, |boot| boot + started.as_secs()),
        }
    }
}

/// User plus system time, and the start after boot, of `/proc/self/stat`.
fn parse_stat(stat: &str) -> Option<(Duration, Duration)> {
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let time = |ticks: u64| Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND);
    Some((time(ticks(11)? + ticks(12)?), time(ticks(19)?)))
}

/// The first number after `key` at the start of a line.
fn field(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_parsed() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 9 8 7 6 150 50 1 1 20 0 9 0 12345 0 0";
        let times = parse_stat(stat).unwrap();
        assert_eq!(times, (Duration::from_secs(2), Duration::from_millis(123_450)));
        assert_eq!(parse_stat("nonsense"), None);
        assert_eq!(field("VmPeak:\t 1 kB\nVmRSS:\t  42 kB\n", "VmRSS:"), Some(42));
        assert_eq!(
            field("Max open files            1024   4096  files", "Max open files"),
            Some(1024)
        );
    }
}
