//! What a server process has used: CPU time and memory, from `/proc` (Linux).

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The unit of the times in `/proc/PID/stat`: `USER_HZ`, 100 per second on every Linux we run on.
/// The kernel scales these ticks to the precise run time, so only the reading is this coarse.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time of these processes so far, in user and system mode, all threads.
pub(crate) fn cpu(processes: &[u32]) -> Result<Duration> {
    let mut ticks = 0;
    for process in processes {
        let text = fs::read_to_string(format!("/proc/{process}/stat"))
            .with_context(|| format!("process {process} is gone"))?;
        // The second field is the program's name, in parentheses, with anything in it.
        let (_, fields) = text.rsplit_once(')').context("an unknown form of /proc/PID/stat")?;
        let mut times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let user = times.next().context("no user time")??;
        let system = times.next().context("no system time")??;
        ticks += user + system;
    }
    Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
}

/// Resident memory of these processes together, in bytes; mapped files count as far as resident.
pub(crate) fn memory(processes: &[u32]) -> Result<u64> {
    let mut kibibytes = 0;
    for process in processes {
        let text = fs::read_to_string(format!("/proc/{process}/status"))
            .with_context(|| format!("process {process} is gone"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        kibibytes += number.context("no VmRSS in /proc/PID/status")?.parse::<u64>()?;
    }
    Ok(kibibytes * 1024)
}
