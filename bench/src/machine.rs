//! What a figure was measured on: a number without its machine says nothing.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::load::{histogram, quantile};

/// Appends of this size, each followed by a sync, measure the disk.
const APPEND: usize = 2048;
const APPENDS: usize = 200;

/// Processor, cores, memory, kernel: one line.
pub(crate) fn description() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores of {model}, {} GiB, Linux {}",
        (kibibytes as f64 / f64::from(1 << 20)).round(),
        kernel.trim().split('-').next().unwrap_or_default()
    )
}

/// Load averages over 1, 5 and 15 minutes.
pub(crate) fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// Waits until the neighbours are quiet, at most `limit`: the one-minute load average below one.
pub(crate) fn wait_until_quiet(limit: Duration) {
    let start = Instant::now();
    let busy =
        || load_average().split(' ').next().and_then(|one| one.parse::<f64>().ok()) >= Some(1.0);
    if limit.is_zero() || !busy() {
        return;
    }
    eprintln!("waiting for the machine to become quiet (load average {})", load_average());
    while busy() && start.elapsed() < limit {
        std::thread::sleep(Duration::from_secs(2));
    }
}

/// How long a small append and its `fdatasync` take in this folder: p50 and p99 in milliseconds.
pub(crate) fn sync_latency(folder: &Path) -> Result<(f64, f64)> {
    let path = folder.join("sync-probe");
    let mut file = File::create(&path).context("cannot probe the disk")?;
    let mut latency = histogram()?;
    for _ in 0..APPENDS {
        let start = Instant::now();
        file.write_all(&[0x55; APPEND])?;
        file.sync_data()?;
        latency.record(start.elapsed().as_nanos() as u64)?;
    }
    fs::remove_file(&path)?;
    Ok((quantile(&latency, 0.5), quantile(&latency, 0.99)))
}
