//! A figure beside what it is held against.

use crate::figure::number;

/// A figure beside its bar.
pub(crate) struct Bar {
    pub(crate) what: String,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
    pub(crate) bound: Bound,
    /// How the bar follows from other figures; empty when it is a number by itself.
    pub(crate) derived: String,
    /// What the figure can't be better than.
    pub(crate) floor: Option<f64>,
    /// Why this machine can't tell.
    pub(crate) unjudged: Option<String>,
}

/// Where the bar is.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
}

impl Bar {
    pub(crate) fn of(what: impl Into<String>, measured: f64, unit: &'static str, bound: Bound) -> Self {
        Self { what: what.into(), measured, unit, bound, derived: String::new(), floor: None, unjudged: None }
    }

    /// A bar that is so many times the best that can be.
    pub(crate) fn times(what: impl Into<String>, measured: f64, times: f64, (floor, name): (f64, &str)) -> Self {
        let derived = format!("{times} x {} ms, {name}", number(floor));
        Self { derived, floor: Some(floor), ..Self::of(what, measured, "ms", Bound::AtMost(times * floor)) }
    }

    pub(crate) fn is_met(&self) -> bool {
        match self.bound {
            Bound::AtMost(bar) => self.measured <= bar,
            Bound::Below(bar) => self.measured < bar,
            Bound::AtLeast(bar) => self.measured >= bar,
        }
    }
}
