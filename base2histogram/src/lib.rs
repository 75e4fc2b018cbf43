//! What openraft counts its batches with, in the place of the crate of this name.
//!
//! That crate makes tables for sixteen resolutions when it is first used: 26 MB of memory per
//! process, and per node in a page, for numbers that Coracle does not read. This one has what
//! openraft uses of its interface, one bucket per power of two, and no table. It takes that crate's
//! place by `[patch.crates-io]` in the workspace's `Cargo.toml`.

#![no_std]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

/// Zero, and one for each length of a number in bits.
const BUCKETS: usize = u64::BITS as usize + 1;

/// How often numbers of each magnitude were recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    buckets: [u64; BUCKETS],
    slots: PhantomData<T>,
}

/// The least numbers that the bucket at each percentile holds; all 0 of an empty histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PercentileStats { samples, p50, p90, p99, .. } = self;
        write!(out, "{samples} samples, p50 {p50}, p90 {p90}, p99 {p99}")
    }
}

impl<T> Histogram<T> {
    pub fn new() -> Histogram<T> {
        Histogram { buckets: [0; BUCKETS], slots: PhantomData }
    }

    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    pub fn record_n(&mut self, value: u64, count: u64) {
        let length = u64::BITS - value.leading_zeros();
        self.buckets[length as usize] += count;
    }

    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.buckets.iter().sum(),
            p0_1: self.at(1),
            p1: self.at(10),
            p5: self.at(50),
            p10: self.at(100),
            p50: self.at(500),
            p90: self.at(900),
            p99: self.at(990),
            p99_9: self.at(999),
        }
    }

    /// The least number in the bucket that `per_mille` of what was recorded do not exceed.
    fn at(&self, per_mille: u64) -> u64 {
        let samples: u64 = self.buckets.iter().sum();
        let rank = samples.saturating_mul(per_mille).div_ceil(1000);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += count;
            seen > 0 && seen >= rank
        });
        match bucket {
            None | Some(0) => 0,
            Some(length) => 1 << (length - 1),
        }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Histogram<T> {
        Histogram::new()
    }
}

/// Histograms below each other: a digit per bucket, the share that it has in tenths.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    rows: Vec<(String, Histogram)>,
}

impl AsciiChart {
    pub fn new() -> AsciiChart {
        AsciiChart::default()
    }

    #[allow(clippy::should_implement_trait)]
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> AsciiChart {
        self.rows.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.rows {
            write!(out, "{name:>24} ")?;
            let samples: u64 = histogram.buckets.iter().sum::<u64>().max(1);
            for count in histogram.buckets {
                write!(out, "{}", count.saturating_mul(9).div_ceil(samples))?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_least_numbers_of_their_buckets() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats(), PercentileStats::default());
        histogram.record(0);
        histogram.record_n(5, 8);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p10, stats.p50), (10, 0, 0, 4));
        assert_eq!((stats.p90, stats.p99), (4, 1 << 63));
    }
}
