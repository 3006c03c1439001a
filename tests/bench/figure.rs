//! A figure: what was measured several times, shown with its spread.

use std::time::Duration;

/// Measurements of one thing, the smallest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figure(Vec<f64>);

impl Figure {
    pub(crate) fn of(measured: impl IntoIterator<Item = f64>) -> Self {
        let mut measured: Vec<f64> = measured.into_iter().collect();
        measured.sort_by(f64::total_cmp);
        Self(measured)
    }

    /// Of times, in milliseconds.
    pub(crate) fn millis(times: impl IntoIterator<Item = Duration>) -> Self {
        Self::of(times.into_iter().map(|time| time.as_secs_f64() * 1_000.0))
    }

    pub(crate) fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The smallest measurement that so many of a hundred do not exceed: always one that was really taken.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    /// From where to where nine of ten measurements lie.
    pub(crate) fn spread(&self) -> String {
        format!("{} - {}", number(self.percentile(5)), number(self.percentile(95)))
    }

    pub(crate) fn runs(&self) -> usize {
        self.0.len()
    }
}

/// A number with three digits that say something.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
