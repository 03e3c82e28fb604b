//! Medians, spreads and percentiles.

use std::fmt;
use std::time::Duration;

/// A median with its spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Median and spread of numbers; NaN where there are none.
pub(crate) fn figure(numbers: impl Iterator<Item = f64>) -> Figure {
    let mut sorted: Vec<f64> = numbers.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    let last = sorted.len().saturating_sub(1);
    Figure {
        median: f64::midpoint(at(last / 2), at(last.div_ceil(2))),
        least: at(0),
        most: at(last),
    }
}

impl fmt::Display for Figure {
    /// A ratio: `0.56 (0.54–0.59)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.least, self.most)
    }
}

/// The value that this share of the sorted values does not exceed; zero where there are none.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}
