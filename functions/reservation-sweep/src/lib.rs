#![doc = include_str!("../README.md")]

use shared::{reservation::sweep::Sweep, start::Parts};

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "reservation-sweep";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Sweep> {
    Sweep::configured(parts)
}
